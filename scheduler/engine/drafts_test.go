package engine

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// While a package is on its way into the log nothing is added to it and nobody cancels it;
// if that fails it goes on being built.
func TestHeldWhileItIsEnqueued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Defaults()
	cfg.Queues = map[string]QueueConfig{"*": {Remote: true}}
	b, err := Open(t.Context(), cfg, scheduler.Deps{}, Ground{Drafts: filepath.Join(dir, "building"), Boot: "one", Open: func(ctx context.Context, load journal.Loader) (Log, error) {
		return journal.Open(ctx, journal.Options{Dir: dir}, load)
	}})
	if err != nil {
		t.Fatal(err)
	}
	job := scheduler.Job{Queue: "q", Action: "do"}
	if _, err := b.NewPackage(t.Context(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job}}); err != nil {
		t.Fatal(err)
	}
	first, second := &hold{id: "p"}, &hold{id: "p"}
	for _, h := range []*hold{first, second} {
		if err := b.drafts.group.do(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := b.AddJobs(t.Context(), "p", job); !errors.Is(err, scheduler.ErrConflict) {
			t.Errorf("a job was added: %v", err)
		}
		if _, err := b.CancelPackage(t.Context(), "p"); !errors.Is(err, scheduler.ErrConflict) {
			t.Errorf("it was cancelled: %v", err)
		}
	}
	refused()
	if err := b.drafts.group.do(t.Context(), letGo{first}); err != nil {
		t.Fatal(err)
	}
	refused() // the other one still has it
	if err := b.drafts.group.do(t.Context(), letGo{second}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddJobs(t.Context(), "p", job); err != nil {
		t.Error(err)
	}
	if list, err := b.Enqueue(t.Context(), "p"); err != nil || len(list) != 2 {
		t.Errorf("enqueued %d jobs, %v", len(list), err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
