package memdb

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

func add(t *testing.T, db registry.Registry, d registry.Draft) <-chan error {
	if d.Name == "" {
		d.Name = d.ID
	}
	d.Type = "vm"
	done := make(chan error, 1)
	go func() { _, err := registry.Create(t.Context(), db, d); done <- err }()
	return done
}

// An Update that writes nothing does not touch the journal.
func TestNothingWrittenNothingSynced(t *testing.T) {
	db, kept := openDisk(t, t.TempDir())
	defer db.Close()
	if err := <-add(t, db, registry.Draft{ID: "a", State: "on", Tags: map[string]string{"x": "1"}}); err != nil {
		t.Fatal(err)
	}
	before, disk := db.Stats(), kept.j.Stats()
	for range 10 {
		if _, err := registry.SetState(t.Context(), db, "a", "on"); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.SetTags(t.Context(), db, "a", map[string]string{"x": "1"}); err != nil {
			t.Fatal(err)
		}
	}
	if db.Stats() != before {
		t.Fatalf("the figures went from %+v to %+v", before, db.Stats())
	}
	if after := kept.j.Stats(); after != disk {
		t.Fatalf("the journal's went from %+v to %+v", disk, after)
	}
}

// Snapshots are written beside the work, and bound the journal.
func TestSnapshotsBoundTheJournal(t *testing.T) {
	dir := t.TempDir()
	db, kept := openDisk(t, dir)
	doc, err := registry.NewDocument(map[string]string{"x": strings.Repeat("y", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				if err := <-add(t, db, registry.Draft{ID: fmt.Sprintf("n%d-%d", w, i), Definition: doc}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := kept.j.Stats(); s.SnapshotIndex == 0 {
		t.Fatalf("there was no snapshot: %+v", s)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := Check(t.Context(), dir, 0)
	if err != nil || found.Nodes != 800 || len(found.Problems) > 0 {
		t.Fatal(found, err)
	}
}

func TestKindDescribesItself(t *testing.T) {
	k := Kind()
	open, problems := k.Decode(component.Source{File: "vagoth.ini"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r, err := open(t.Context(), registry.Deps{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Context(), registry.Deps{}); err == nil {
		t.Fatal("a store without a place was opened")
	}
}
