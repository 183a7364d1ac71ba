package registrytest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// create makes a node or ends the test.
func create(t *testing.T, r registry.Registry, d registry.Draft) *registry.Node {
	t.Helper()
	if d.Name == "" {
		d.Name = d.ID
	}
	if d.Type == "" {
		d.Type = "vm"
	}
	n, err := registry.Create(t.Context(), r, d)
	if err != nil {
		t.Fatalf("create %s: %v", d.ID, err)
	}
	return n
}

func update(t *testing.T, r registry.Registry, fn func(registry.Tx) error) {
	t.Helper()
	if err := r.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, r registry.Registry) registry.Reader {
	t.Helper()
	v, err := r.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// holds compares what r holds with the drafts' idents.
func wantConflict(t *testing.T, err error, key, owner string) {
	t.Helper()
	var conflict *registry.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("the answer is %v, want a *ConflictError", err)
	}
	if conflict.Key != key || conflict.Owner != owner {
		t.Fatalf("the conflict is over %q of %q, want %q of %q", conflict.Key, conflict.Owner, key, owner)
	}
}

func testUnique(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "one", Name: "first", Keys: []string{"mac-1", "ip-1"}})
	for _, ref := range []string{"one", "first", "mac-1", "ip-1"} {
		for what, d := range map[string]registry.Draft{
			"id":   {ID: ref, Name: "other", Type: "vm"},
			"name": {ID: "other", Name: ref, Type: "vm"},
			"key":  {ID: "other", Name: "other", Type: "vm", Keys: []string{"free", ref}},
		} {
			t.Run(what+"="+ref, func(t *testing.T) {
				_, err := registry.Create(t.Context(), r, d)
				wantConflict(t, err, ref, "one")
				v := view(t, r)
				for _, free := range []string{"other", "free"} {
					if n, err := registry.Find(v, free); !errors.Is(err, registry.ErrNotFound) {
						t.Fatalf("the refused node left %q behind: %v, %v", free, n, err)
					}
				}
			})
		}
	}
	create(t, r, registry.Draft{ID: "two", Keys: []string{"mac-2"}})
	for name, change := range map[string]func() error{
		"rename to a name": func() error { _, err := registry.Rename(t.Context(), r, "two", "first"); return err },
		"claim":            func() error { _, err := registry.ClaimKeys(t.Context(), r, "two", "mac-3", "first"); return err },
	} {
		t.Run(name, func(t *testing.T) { wantConflict(t, change(), "first", "one") })
	}
	if _, err := view(t, r).ByKey("mac-3"); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("a refused claim left a key behind: %v", err)
	}
	// A node may be called as it likes by its own.
	create(t, r, registry.Draft{ID: "self", Name: "self", Keys: []string{"self"}})
}

// testUniqueRace lets many claim one word, as an ID, a name or a key.
func testUniqueRace(t *testing.T, r registry.Registry) {
	const claimants = 24
	for round := range 5 {
		word := fmt.Sprintf("word%d", round)
		errs := make([]error, claimants)
		ids := make([]string, claimants)
		var wg sync.WaitGroup
		for i := range claimants {
			id := fmt.Sprintf("c%d-%d", round, i)
			d := registry.Draft{ID: id, Name: id, Type: "vm"}
			switch i % 3 {
			case 0:
				d.ID = word
				if i > 0 {
					d.Name = id
				}
			case 1:
				d.Name = word
			default:
				d.Keys = []string{"k" + id, word}
			}
			ids[i] = d.ID
			wg.Go(func() { _, errs[i] = registry.Create(t.Context(), r, d) })
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				if winner >= 0 {
					t.Fatalf("%s and %s both hold %s", ids[winner], ids[i], word)
				}
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("nobody holds %s: %v", word, errs)
		}
		for i, err := range errs {
			if i != winner {
				wantConflict(t, err, word, ids[winner])
			}
		}
		if n, err := registry.Find(view(t, r), word); err != nil || n.ID() != ids[winner] {
			t.Fatalf("%s is held by %v, %v; want %s", word, n, err, ids[winner])
		}
	}
}

func testFreed(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a", Name: "na", Keys: []string{"k1", "k2"}})
	create(t, r, registry.Draft{ID: "b", Name: "nb", Keys: []string{"k3"}})
	// Within one Update what is given up can be taken, in a ring even.
	update(t, r, func(tx registry.Tx) error {
		for _, s := range []struct{ id, name, key string }{{"a", "tmp", "k-tmp"}, {"b", "na", "k1"}, {"a", "nb", "k3"}} {
			if _, err := registry.ModifyIn(tx, s.id, func(d *registry.Draft) error { d.Name, d.Keys = s.name, []string{s.key}; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	v := view(t, r)
	for ref, want := range map[string]string{"na": "b", "nb": "a", "k1": "b", "k3": "a", "k2": "", "tmp": "", "k-tmp": ""} {
		n, err := registry.Find(v, ref)
		if want == "" && !errors.Is(err, registry.ErrNotFound) || want != "" && (err != nil || n.ID() != want) {
			t.Fatalf("%q is held by %v, %v; want %q", ref, n, err, want)
		}
	}
	if _, err := v.ByName("k1"); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("a key is no name: %v", err)
	}
	if _, err := v.ByKey("na"); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("a name is no key: %v", err)
	}
	update(t, r, func(tx registry.Tx) error {
		if err := tx.Delete("a"); err != nil {
			return err
		}
		_, err := tx.Create(registry.Draft{ID: "a", Name: "c", Type: "hv", Keys: []string{"nb", "k3"}})
		return err
	})
	if err := registry.Delete(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"a", "c", "nb", "k3"} {
		create(t, r, registry.Draft{ID: "new-" + ref, Name: ref})
	}
}
