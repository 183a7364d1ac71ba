package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// storm lets many do everything to the same few jobs at once. Whatever they are
// answered, the store must open again, also as it would have been found at any
// moment between, and hold then what it held.
func storm(t *testing.T, open Opener) {
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	dir, copies := inMemory(t), inMemory(t)
	for round := range testlong.Count(t, 100) {
		v := mustOpen(t, open, dir, standard())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		if r, ok := v.Scheduler.(scheduler.Runner); ok {
			wg.Go(func() {
				if err := r.Run(ctx, scheduler.RunOptions{}); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		var deeds sync.WaitGroup
		for w := range 8 {
			seed := rnd.Int63()
			deeds.Go(func() { stormy(t, v, rand.New(rand.NewSource(seed)), round, w) }) //nolint:gosec // a test's choices
		}
		copied := filepath.Join(copies, "copy")
		killed := copyStore(dir, copied)
		deeds.Wait()
		cancel()
		wg.Wait()
		want := whole(t, v)
		closeOf(t, v)
		if killed == nil {
			settled(t, open, copied)
		}
		v = mustOpen(t, open, dir, standard())
		if d := differ(whole(t, v), want); d != "" {
			t.Fatalf("round %d: opened again: %s", round, d)
		}
		closeOf(t, v)
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
}

// copyStore copies the files one after the other while they are written, so that
// what comes out may be from different moments. An error says that a file went
// meanwhile.
func copyStore(dir, to string) error { return os.CopyFS(to, os.DirFS(dir)) }

// settled opens a copy that may be from different moments: it is refused as
// damaged, or works.
func settled(t *testing.T, open Opener, dir string) {
	t.Helper()
	v, err := openShelf(t, open, dir, standard())
	if err != nil {
		return
	}
	whole(t, v)
	closeOf(t, v)
}

// stormy does this and that, most of which will be refused.
func stormy(t *testing.T, v *shelf, rnd *rand.Rand, round, w int) {
	var held []scheduler.Lease
	id := func() string {
		return fmt.Sprintf("s%d-%d-%d-%d", max(0, round-rnd.Intn(2)), rnd.Intn(8), rnd.Intn(6), rnd.Intn(3))
	}
	for n := range 60 {
		var err error
		switch rnd.Intn(14) {
		case 0, 1, 2:
			err = v.stormSubmit(rnd, fmt.Sprintf("s%d-%d-%d", round, w, n%6), id)
		case 3, 4:
			var list []scheduler.Lease
			list, err = v.Next(ctx(), scheduler.Want{Max: 1 + rnd.Intn(5), Wait: scheduler.Span(rnd.Int63n(2) * 1e6)})
			held = append(held, list...)
		case 5, 6, 7:
			var done []scheduler.Completion
			for _, l := range held {
				done = append(done, scheduler.Completion{Hold: l.Hold, Error: []string{"", "it broke"}[rnd.Intn(2)], Final: rnd.Intn(4) == 0})
			}
			held = nil
			_, errs := v.Complete(ctx(), done...)
			err = errors.Join(errs...)
		case 8:
			if len(held) > 0 {
				err = v.HandBack(ctx(), held[0].Hold, "stopping")
				held = held[1:]
			}
		case 9:
			err = v.Cancel(ctx(), id(), "not needed")
		case 10:
			_, err = v.Retry(ctx(), id(), scheduler.RetryOptions{WithDependents: rnd.Intn(2) == 0})
		case 11:
			_, err = v.Skip(ctx(), id())
		case 12:
			_, err = v.Done(ctx(), id(), registry.Document{})
		case 13:
			_, err = v.SetQueue(ctx(), fmt.Sprint([]string{"r-", "q-"}[rnd.Intn(2)], rnd.Intn(3)), []scheduler.QueueMode{scheduler.Open, scheduler.Open, scheduler.Paused}[rnd.Intn(3)])
		}
		known := errors.Is(err, scheduler.ErrConflict) || errors.Is(err, scheduler.ErrNotFound) || errors.Is(err, scheduler.ErrStale) || errors.Is(err, scheduler.ErrInvalid) || errors.Is(err, scheduler.ErrTooMany)
		if err != nil && !known {
			t.Errorf("refused for no reason that is known: %v", err)
		}
	}
	for _, l := range held {
		if err := v.HandBack(ctx(), l.Hold, "stopping"); err != nil && !errors.Is(err, scheduler.ErrStale) {
			t.Error(err)
		}
	}
}

// stormSubmit submits a package of three jobs, whole or step by step, or cancels
// it.
func (v *shelf) stormSubmit(rnd *rand.Rand, name string, id func() string) error {
	var jobs []scheduler.Job
	for k := range 3 {
		j := job(fmt.Sprintf("%s-%d", name, k), fmt.Sprint([]string{"r-", "q-"}[rnd.Intn(2)], rnd.Intn(3)), []string{"ok", "fail", "start", "stop", "ok"}[rnd.Intn(5)])
		if j.Queue[0] == 'q' && (j.Action == "start" || j.Action == "stop") {
			j.Action = "ok"
		}
		j = retries(j, 1+rnd.Intn(2), 1e6)
		j.Retry.Park = rnd.Intn(3) == 0
		if rnd.Intn(3) == 0 {
			j.Limits = []string{[]string{"one", "two", "host:h"}[rnd.Intn(3)]}
		}
		if rnd.Intn(2) == 0 {
			j = after(j, id())
		}
		if k > 0 {
			j.After = append(j.After, scheduler.Dependency{Index: index(k - 1), Accept: []scheduler.State{scheduler.Succeeded, scheduler.Failed}})
		}
		jobs = append(jobs, j)
	}
	p := scheduler.Package{ID: name, Jobs: jobs}
	if rnd.Intn(2) == 0 {
		_, err := v.Submit(ctx(), p)
		return err
	}
	if _, err := v.NewPackage(ctx(), p); err != nil {
		return err
	}
	if rnd.Intn(4) == 0 {
		_, err := v.CancelPackage(ctx(), name)
		return err
	}
	_, err := v.Enqueue(ctx(), name)
	return err
}
