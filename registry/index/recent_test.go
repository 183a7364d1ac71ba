package index

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

// failingLog refuses as long as it is told to.
type failingLog struct {
	noLog
	failing bool
}

func (l *failingLog) Append([][]byte) (uint64, error) {
	if l.failing {
		return 0, errors.New("no space")
	}
	return 0, nil
}

// What could not be written is found by nobody, neither at once nor behind what
// is written after it.
func TestWhatFailedIsNotFound(t *testing.T) {
	db, err := Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	log := &failingLog{}
	db.log = log
	create := func(id, parent string) error {
		_, err := registry.Create(t.Context(), db, registry.Draft{ID: id, Name: "name-" + id, Type: "vm", Parent: parent, Keys: []string{"key-" + id}})
		return err
	}
	if err := create("host", ""); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		log.failing = true
		lost := fmt.Sprintf("lost%d", round)
		if err := create(lost, "host"); err == nil {
			t.Fatal("it was not told that nothing was written")
		}
		log.failing = false
		if err := create(fmt.Sprintf("kept%d", round), "host"); err != nil {
			t.Fatal(err)
		}
		r, err := db.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, find := range []func() (*registry.Node, error){
			func() (*registry.Node, error) { return r.Get(lost) },
			func() (*registry.Node, error) { return r.ByName("name-" + lost) },
			func() (*registry.Node, error) { return r.ByKey("key-" + lost) },
		} {
			if n, err := find(); !errors.Is(err, registry.ErrNotFound) {
				t.Fatalf("what failed is found: %v, %v", n, err)
			}
		}
		if kids, err := r.Children("host"); err != nil || len(kids.Nodes) != round+1 {
			t.Fatalf("the host has %d children, want %d: %v", len(kids.Nodes), round+1, err)
		}
	}
	if err := create("lost0", "host"); err != nil {
		t.Fatalf("the names of what failed are not free: %v", err)
	}
	if p := db.state.Load().audit(); len(p) > 0 {
		t.Fatal(p)
	}
}

// Every state finds what it holds and nothing that came later, however many
// states share a table, and whether somebody lists it before or after that.
func TestStatesFindTheirOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db, err := Memory(registry.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		type model struct{ owners, parents map[string]string }
		type old struct {
			s *state
			model
		}
		now := model{map[string]string{}, map[string]string{}}
		var olds []old
		ids := []string{"a", "b", "c", "d", "e"}
		refs := append([]string{"k1", "k2", "k3", "m1", "m2"}, ids...)
		ctx := t.Context()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id, key, parent := rapid.SampledFrom(ids).Draw(t, "id"), rapid.SampledFrom(refs[:3]).Draw(t, "key"), rapid.SampledFrom([]string{"", "a"}).Draw(t, "parent")
			name := rapid.SampledFrom([]string{id, "m1", "m2"}).Draw(t, "name")
			next := model{maps.Clone(now.owners), maps.Clone(now.parents)}
			put := func(tx registry.Tx) error {
				d := registry.Draft{ID: id, Name: name, Type: "vm", Parent: parent, Keys: []string{key}}
				n, err := tx.Get(id)
				if err != nil {
					_, err = tx.Create(d)
				} else if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
					if n.Parent() != "" {
						empty := n.Draft()
						empty.Parent = ""
						if _, err := tx.Put(empty, registry.MovingFrom(n.Parent())); err != nil {
							return err
						}
					}
					d, err = registry.Draft{}, tx.Delete(id)
				} else {
					_, err = tx.Put(d, registry.MovingFrom(n.Parent()))
				}
				if err != nil {
					return err
				}
				maps.DeleteFunc(next.owners, func(_, owner string) bool { return owner == id })
				delete(next.parents, id)
				if d.ID != "" {
					next.owners[id], next.owners[name], next.owners[key] = id, id, id
					next.parents[id] = parent
				}
				return nil
			}
			if db.Update(ctx, put) == nil {
				now = next
			}
			s := db.state.Load()
			olds = append(olds, old{s, now})
			if rapid.IntRange(0, 5).Draw(t, "list") == 0 {
				olds[rapid.IntRange(0, len(olds)-1).Draw(t, "which")].s.whole()
			}
		}
		for i, o := range olds {
			for _, ref := range refs {
				got := ""
				if n := o.s.owner(ref); n != nil {
					got = n.ID()
				}
				if got != o.owners[ref] {
					t.Fatalf("state %d: %s belongs to %q, want %q", i, ref, got, o.owners[ref])
				}
			}
			var kids, want []string
			for _, n := range (stack{base: o.s}).children("a") {
				kids = append(kids, n.ID())
			}
			for id, parent := range o.parents {
				if parent == "a" {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			if !slices.Equal(kids, want) {
				t.Fatalf("state %d: on a stand %q, want %q", i, kids, want)
			}
			if p := o.s.audit(); len(p) > 0 {
				t.Fatalf("state %d: %q", i, p)
			}
			if o.s.nodes != len(o.parents) {
				t.Fatalf("state %d says %d nodes, want %d", i, o.s.nodes, len(o.parents))
			}
		}
	})
}

// Who lists an earlier state makes its lists from what the writer makes later
// ones from.
func TestListingBesideBatches(t *testing.T) {
	db, _ := fill(t, 2000)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := db.state.Load()
				n := 0
				for _, err := range (stack{base: s}).list(t.Context(), registry.Query{}) {
					if err != nil {
						t.Error(err)
					}
					n++
				}
				if n != s.nodes {
					t.Errorf("%d nodes are listed, want %d", n, s.nodes)
				}
			}
		})
	}
	for i := range 500 {
		d := registrytest.Sample(2000 + i)
		d.Parent = ""
		if _, err := registry.Create(t.Context(), db, d); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
	if p := db.state.Load().audit(); len(p) > 0 {
		t.Fatal(p)
	}
}

// A table that fills grows, and holds what the smaller one did.
func TestATableGrows(t *testing.T) {
	const before, more = 12000, 700
	db, _ := fill(t, before)
	small := 0
	for i := range more {
		d := registrytest.Sample(before + i)
		d.Parent = ""
		if _, err := registry.Create(t.Context(), db, d); err != nil {
			t.Fatal(err)
		}
		if s := db.state.Load(); i == 0 {
			small = len(s.recent.heads)
		} else if len(s.late) != i+1 {
			t.Fatalf("after %d changes %d are recent", i+1, len(s.late))
		}
	}
	s := db.state.Load()
	if len(s.recent.heads) <= small || s.recent.room(0) > len(s.recent.heads) {
		t.Fatalf("for %d changes the table has room for %d mentions, as it had %d", more, len(s.recent.heads), small)
	}
	for i := range more {
		d := registrytest.Sample(before + i)
		for _, ref := range append(d.Keys, d.ID, d.Name) {
			if n := s.owner(ref); n == nil || n.ID() != d.ID {
				t.Fatalf("%s is not found", ref)
			}
		}
	}
}

// What a batch says about a node is not forgotten for what an earlier one said,
// while the table grows, and while what stands in it goes over to the trees and is
// forgotten.
func TestTheLastWordHolds(t *testing.T) {
	for _, nodes := range []int{10, 5000, 12000} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			t.Parallel()
			db, _ := fill(t, nodes)
			rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // only a choice
			keys := map[string]string{}        // by key: the owner
			const ids = 20
			rounds := 4*mostRecent(nodes) + 100
			for round := range rounds {
				err := db.Update(t.Context(), func(tx registry.Tx) error {
					for range 1 + rng.IntN(3) {
						id, key := fmt.Sprint("x", rng.IntN(ids)), fmt.Sprint("key", rng.IntN(ids))
						if owner, held := keys[key]; held { // taken from whoever has it
							if err := tx.Delete(owner); err != nil {
								return err
							}
							maps.DeleteFunc(keys, func(_, o string) bool { return o == owner })
						}
						n, err := tx.Get(id)
						if err != nil {
							_, err = tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", Keys: []string{key}})
						} else {
							d := n.Draft()
							d.Keys, d.State = []string{key}, fmt.Sprint("s", round)
							_, err = tx.Put(d)
						}
						if err != nil {
							return err
						}
						maps.DeleteFunc(keys, func(_, o string) bool { return o == id })
						keys[key] = id
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				s := db.state.Load()
				for i := range ids {
					key, got := fmt.Sprint("key", i), ""
					if n := s.owner(key); n != nil {
						got = n.ID()
					}
					if got != keys[key] {
						t.Fatalf("after %d batches %s belongs to %q, want %q", round+1, key, got, keys[key])
					}
				}
			}
			if p := db.state.Load().audit(); len(p) > 0 {
				t.Fatal(p)
			}
		})
	}
}

// Close leaves nobody behind who still makes what it has been told to.
func TestCloseWaitsForTheTrees(t *testing.T) {
	db, err := Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range mostRecent(0) {
		if _, err := registry.Create(t.Context(), db, registry.Draft{ID: fmt.Sprint("n", i), Type: "vm", Name: fmt.Sprint("n", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if s := db.state.Load(); s.fold == nil || !s.fold.done() {
		t.Fatalf("after %d changes the trees were not made, or are being made after Close", len(s.late))
	}
}

// However slow whoever brings the trees up to date is, the changes that they lack
// are bounded: the batch that would exceed it waits, or does it itself.
func TestTheTreesAreWaitedFor(t *testing.T) {
	tables, err := newTables()
	if err != nil {
		t.Fatal(err)
	}
	s, most := newState(tables, newFinder(), 0, 0), 0
	const nodes = 4000
	for i := range nodes {
		d := registrytest.Sample(i)
		d.Parent = ""
		n := registry.MakeNode(d.Parts(registry.Stamp{Revision: uint64(i + 1)}))
		l := newLayer(1)
		l.nodes[d.ID] = entry{after: n}
		s = prepared(tables, s, l).state(tables, s, uint64(i+1), 0) // nobody begins what it asks for
		most = max(most, len(s.late))
	}
	// As many as are made at once and as many again, each with the batch that makes them enough.
	if limit := 2*mostRecent(nodes) + 2; most < mostRecent(0) || most > limit {
		t.Errorf("the trees lacked up to %d changes, want %d to %d", most, mostRecent(0), limit)
	}
	if p := s.audit(); len(p) > 0 || s.nodes != nodes {
		t.Errorf("%d nodes, want %d: %q", s.nodes, nodes, p)
	}
}
