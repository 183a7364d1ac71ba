package registrytest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// testGuards looks for write skew: pairs of Updates of which each reads what the
// other writes. With guards one of them sees the other, whatever it read by.
func testGuards(t *testing.T, r registry.Registry) {
	free := func(err error) (bool, error) {
		if errors.Is(err, registry.ErrNotFound) {
			return true, nil
		}
		return false, err
	}
	for name, g := range map[string]struct {
		// unseen reads and reports whether the other has not acted yet; act acts.
		unseen func(tx registry.Tx, other string) (bool, error)
		act    func(tx registry.Tx, self string) error
	}{
		"Get": {
			func(tx registry.Tx, other string) (bool, error) {
				n, err := tx.Get(other)
				return err == nil && n.State() == "on", err
			},
			func(tx registry.Tx, self string) error {
				_, err := registry.ModifyIn(tx, self, func(d *registry.Draft) error { d.State = "off"; return nil })
				return err
			},
		},
		"Get of nothing": {
			func(tx registry.Tx, other string) (bool, error) { _, err := tx.Get("new-" + other); return free(err) },
			func(tx registry.Tx, self string) error {
				_, err := tx.Create(registry.Draft{ID: "new-" + self, Name: "new-" + self, Type: "vm"})
				return err
			},
		},
		"ByName": {
			func(tx registry.Tx, other string) (bool, error) {
				_, err := tx.ByName("name-" + other)
				return free(err)
			},
			func(tx registry.Tx, self string) error {
				_, err := registry.ModifyIn(tx, self, func(d *registry.Draft) error { d.Name = "name-" + self; return nil })
				return err
			},
		},
		"ByKey": {
			func(tx registry.Tx, other string) (bool, error) { _, err := tx.ByKey("key-" + other); return free(err) },
			func(tx registry.Tx, self string) error {
				_, err := registry.ModifyIn(tx, self, func(d *registry.Draft) error { d.Keys = []string{"key-" + self}; return nil })
				return err
			},
		},
		"Blob": {
			func(tx registry.Tx, other string) (bool, error) { _, err := tx.Blob(other, "b"); return free(err) },
			func(tx registry.Tx, self string) error { return tx.PutBlob(self, "b", []byte("x")) },
		},
		"Children": {
			func(tx registry.Tx, other string) (bool, error) {
				kids, err := tx.Children(other)
				return len(kids.Nodes) == 0, err
			},
			func(tx registry.Tx, self string) error {
				_, err := tx.Create(registry.Draft{ID: "kid-" + self, Name: "kid-" + self, Type: "vm", Parent: self})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 15 {
				pair := []string{fmt.Sprintf("%.3s%d-a", name[len(name)-3:], i), fmt.Sprintf("%.3s%d-b", name[len(name)-3:], i)}
				for _, id := range pair {
					create(t, r, registry.Draft{ID: id, State: "on"})
				}
				acted := make([]bool, 2)
				var wg sync.WaitGroup
				for me := range pair {
					wg.Go(func() {
						err := r.Update(t.Context(), func(tx registry.Tx) error {
							acted[me] = false
							unseen, err := g.unseen(tx, pair[1-me])
							if err != nil || !unseen {
								return err
							}
							acted[me] = true
							return g.act(tx, pair[me])
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if acted[0] == acted[1] {
					t.Fatalf("round %d: acted %v, want exactly one of two that each read what the other writes", i, acted)
				}
			}
		})
	}
	t.Run("capacity", func(t *testing.T) {
		const room, guests = 5, 20
		create(t, r, registry.Draft{ID: "host"})
		errFull := errors.New("full")
		var wg sync.WaitGroup
		for i := range guests {
			wg.Go(func() {
				err := r.Update(t.Context(), func(tx registry.Tx) error {
					kids, err := tx.Children("host")
					if err != nil {
						return err
					}
					if len(kids.Nodes) >= room {
						return errFull
					}
					id := fmt.Sprintf("guest%d", i)
					_, err = tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", Parent: "host"})
					return err
				})
				if err != nil && err != errFull { //nolint:errorlint // it comes back as it is
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if kids, err := view(t, r).Children("host"); err != nil || len(kids.Nodes) != room {
			t.Fatalf("%d guests were placed, %v; there is room for %d", len(kids.Nodes), err, room)
		}
	})
}
