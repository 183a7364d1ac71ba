package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// gate is a journal that lets through, refuses, or holds up a batch.
type gate struct {
	noLog
	arrived chan int // records of the batch that waits
	verdict chan error
}

func newGate() *gate { return &gate{arrived: make(chan int), verdict: make(chan error)} }

func (g *gate) Append(records [][]byte) (uint64, error) {
	g.arrived <- len(records)
	return 0, <-g.verdict
}

func gated(t *testing.T) (*DB, *gate) {
	t.Helper()
	db, err := Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	db.log = g
	return db, g
}

func add(t *testing.T, db *DB, d registry.Draft) <-chan error {
	if d.Name == "" {
		d.Name = d.ID
	}
	d.Type = "vm"
	done := make(chan error, 1)
	go func() { _, err := registry.Create(t.Context(), db, d); done <- err }()
	return done
}

// Nobody sees what has not been synced, not even through an Update that writes
// nothing or one that fails; what gathers meanwhile shares the next sync.
func TestNothingUnsyncedIsSeen(t *testing.T) {
	db, g := gated(t)
	first := add(t, db, registry.Draft{ID: "a", Keys: []string{"k"}})
	<-g.arrived
	if _, err := registry.Get(t.Context(), db, "a"); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("a view shows what is not synced: %v", err)
	}
	looked := make(chan error, 1)
	go func() {
		looked <- db.Update(t.Context(), func(tx registry.Tx) error { _, err := tx.Get("a"); return err })
	}()
	taken := add(t, db, registry.Draft{ID: "b", Keys: []string{"k"}}) // in conflict with what is not synced
	for _, c := range []<-chan error{looked, taken} {
		select {
		case err := <-c:
			t.Fatalf("an Update ended on what is not synced: %v", err)
		default:
		}
	}
	g.verdict <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := <-looked; err != nil {
		t.Fatal(err)
	}
	if err := <-taken; !errors.Is(err, registry.ErrConflict) {
		t.Fatal(err)
	}
}

// gathered waits until n Updates have written into the gathering batch.
func gathered(db *DB, n int) {
	for {
		db.turn <- struct{}{}
		has := 0
		if db.gathering != nil {
			has = len(db.gathering.commits)
		}
		<-db.turn
		if has == n {
			return
		}
	}
}

func TestUpdatesShareASync(t *testing.T) {
	db, g := gated(t)
	first := add(t, db, registry.Draft{ID: "first"})
	<-g.arrived
	var others []<-chan error
	for i := range 20 {
		others = append(others, add(t, db, registry.Draft{ID: fmt.Sprint("n", i), Parent: "first"}))
	}
	gathered(db, 20)
	g.verdict <- nil
	if n := <-g.arrived; n != 20 {
		t.Fatalf("%d Updates share a sync, want 20", n)
	}
	g.verdict <- nil
	for _, c := range append(others, first) {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
	if s := db.Stats(); s.Commits != 21 || s.Syncs != 2 || s.Nodes != 21 {
		t.Fatalf("the figures are %+v", s)
	}
}

// When a sync fails, what was in it is gone from memory as well, and so is what
// was built on it; reads and later Updates go on.
func TestAFailedSyncLeavesNothing(t *testing.T) {
	db, g := gated(t)
	first := add(t, db, registry.Draft{ID: "a"})
	<-g.arrived
	kid := add(t, db, registry.Draft{ID: "kid", Parent: "a"})
	gathered(db, 1)
	errDisk := fmt.Errorf("%w: the disk is gone", registry.ErrUnknownOutcome)
	g.verdict <- errDisk
	if err := <-first; !errors.Is(err, registry.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	if err := <-kid; !errors.Is(err, registry.ErrUnavailable) {
		t.Fatal(err)
	}
	if nodes, err := registry.Collect(t.Context(), db, registry.Query{}); err != nil || len(nodes) > 0 {
		t.Fatal(nodes, err)
	}
	again := add(t, db, registry.Draft{ID: "a"})
	<-g.arrived
	g.verdict <- nil
	if err := <-again; err != nil {
		t.Fatal(err)
	}
}

// Check names what does not fit together.
func TestCheckFindsWhatDoesNotFit(t *testing.T) {
	db, _ := fill(t, 100)
	if p := db.state.Load().audit(); len(p) > 0 {
		t.Fatal(p)
	}
	state := db.state.Load()
	x := newEdits(state.find, mostLate)
	vms := x.posting(attr{kind: attrType, a: "vm"})
	first, _ := state.find.keys.whole().first()
	owner := state.node(first.id)
	vms.drop(owner)
	x.find.refs.remove(x.edit, owner.Name())
	x.find.keys.remove(first)
	x.find.names.set(owned{"stray", owner.ID()}, true)
	txn := db.tables.Txn(true)
	if err := txn.Insert(edgesTable, &edgeRow{"nobody", 7}); err != nil {
		t.Fatal(err)
	}
	txn.Commit()
	db.publish(x.done(), 1, 0)
	p := db.state.Load().audit()
	for _, want := range []string{
		"not listed under", "the lists hold", "not found as", "the references hold", "not listed as", "the ordered keys hold",
		"the ordered names hold", "nobody",
	} {
		if !slices.ContainsFunc(p, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("none of the problems says %q: %q", want, p)
		}
	}
	if len(p) != 8 {
		t.Errorf("there are %d problems, want 8: %q", len(p), p)
	}
}
