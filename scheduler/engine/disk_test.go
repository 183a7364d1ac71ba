package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	gosync "sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// recorder is a store that keeps what is written, and refuses when it is told to.
type recorder struct {
	gosync.Mutex
	records [][]byte
	err     error
	gate    chan struct{} // nil, or what each write waits for
}

func (r *recorder) AppendBatch(_ context.Context, list [][]byte) (uint64, error) {
	r.Lock()
	gate := r.gate
	r.Unlock()
	if gate != nil {
		<-gate
	}
	r.Lock()
	defer r.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	for _, b := range list {
		r.records = append(r.records, bytes.Clone(b))
	}
	return uint64(len(r.records)), nil
}

func (r *recorder) WriteSnapshot(context.Context, uint64, iter.Seq2[[]byte, error]) error { return nil }
func (r *recorder) Stats() journal.Stats                                                  { return journal.Stats{} }
func (r *recorder) Close() error                                                          { return nil }

func (r *recorder) refuse(err error) {
	r.Lock()
	defer r.Unlock()
	r.err = err
}

// recorded is a broker over a recorder.
func recorded(cfg Config, deps scheduler.Deps) (*Engine, *recorder) {
	b, r := newEngine(cfg, deps), &recorder{}
	b.journal, b.snapEvery = r, 1<<60
	if err := b.start(); err != nil {
		panic(err)
	}
	return b, r
}

// TestFullDisk has the disk refuse: a submission leaves nothing behind, and a job
// that has ended is kept until its end can be written, and does not run again.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, gate := 0, make(chan struct{})
		b, r := recorded(testConfig(), scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) {
			runs++
			<-gate
			return map[string]int{"n": runs}, nil
		}}}})
		ctx, stop := context.WithCancel(t.Context())
		var work gosync.WaitGroup
		work.Go(func() { _ = b.Run(ctx, scheduler.RunOptions{}) })
		do := func(id string) error {
			_, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: "q", Action: "do"}}})
			return err
		}
		if err := do("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.refuse(fmt.Errorf("no space left: %w", syscall.ENOSPC))
		if err := do("b"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a submission to a full disk: %v", err)
		}
		if _, err := b.Status(ctx, "b"); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("what was refused is there: %v", err)
		}
		close(gate)
		time.Sleep(time.Minute)
		st, err := b.Status(ctx, "a")
		if err != nil || st.State != scheduler.Running || !strings.Contains(st.Waiting, "tried again") {
			t.Errorf("while its end cannot be written: %+v, %v", st, err)
		}
		r.refuse(nil)
		time.Sleep(2 * time.Second)
		if st, err := b.Status(ctx, "a"); err != nil || st.State != scheduler.Succeeded || st.Result.String() != `{"n":1}` || runs != 1 {
			t.Errorf("when there is space again: %+v, %v; it ran %d times", st, err, runs)
		}
		if err := do("b"); err != nil {
			t.Error(err)
		}
		stop()
		work.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestFailedJournal has the store fail for good: Run ends and says so, nobody is
// told of what is not on disk or gets another job, and the store that is opened
// again holds what was acknowledged.
func TestFailedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b, r := recorded(testConfig(), scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) {
			<-gate
			return nil, nil
		}}}})
		ctx := t.Context()
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx, scheduler.RunOptions{}) }()
		do := func(id, queue, action string) error {
			_, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: queue, Action: action}}})
			return err
		}
		if err := errors.Join(do("a", "q", "do"), do("b", "q", "do"), do("far", "r1", "far"), do("far2", "r1", "far")); err != nil {
			t.Fatal(err)
		}
		list, err := b.Next(ctx, scheduler.Want{})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		synctest.Wait()
		acknowledged := slices.Clone(r.records)
		r.refuse(fmt.Errorf("%w: input/output error", journal.ErrFailed))
		if _, errs := b.Complete(ctx, scheduler.Completion{Hold: list[0].Hold}); !errors.Is(errs[0], journal.ErrFailed) {
			t.Errorf("a completion: %v", errs[0])
		}
		close(gate)
		if err := <-ended; !errors.Is(err, journal.ErrFailed) || !strings.Contains(err.Error(), "open it again") {
			t.Errorf("Run: %v", err)
		}
		if err := do("c", "q", "do"); !errors.Is(err, journal.ErrFailed) {
			t.Errorf("a submission: %v", err)
		}
		if list, err := b.Next(ctx, scheduler.Want{Wait: scheduler.Span(time.Minute)}); !errors.Is(err, journal.ErrFailed) {
			t.Errorf("a worker that asks gets %v, %v", list, err)
		}
		if err := b.Run(ctx, scheduler.RunOptions{}); !errors.Is(err, journal.ErrFailed) {
			t.Errorf("Run once more: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		again := newCore(&b.cfg, b.isRemote)
		for i, rec := range acknowledged {
			if err := (&loader{core: again}).Replay(uint64(i+1), rec); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"a", "b", "far", "far2"} {
			if j := again.jobs[id]; j == nil || j.state.ended() {
				t.Errorf("job %s, which was acknowledged and not ended: %+v", id, j)
			}
		}
	})
}

// slow makes every write wait until the next call of what it returns.
func (r *recorder) slow() (goOn func()) {
	r.Lock()
	defer r.Unlock()
	gate := make(chan struct{})
	r.gate = gate
	return func() {
		r.Lock()
		r.gate = nil
		r.Unlock()
		close(gate)
		synctest.Wait()
	}
}

// TestNothingBeforeItIsOnDisk stops the disk in the middle of each kind of change,
// and sees that nobody knows of it, and nothing is handed out that it could
// contradict.
func TestNothingBeforeItIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b, r := recorded(testConfig(), scheduler.Deps{})
		defer b.Close()
		var work gosync.WaitGroup
		submit := func(id, queue string, urgent bool) {
			_, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: queue, Action: "far", Urgent: urgent}}})
			if err != nil {
				t.Error(err)
			}
		}
		var got []scheduler.Lease
		next := func() {
			list, err := b.Next(ctx, scheduler.Want{Max: 10})
			if err != nil {
				t.Error(err)
			}
			got = append(got, list...)
		}
		during := func(what string, change func(), want ...string) {
			t.Helper()
			got = nil
			goOn := r.slow()
			work.Go(change)
			synctest.Wait()
			work.Go(next)
			synctest.Wait()
			early := len(got)
			goOn()
			work.Wait()
			var ids []string
			for _, l := range got {
				ids = append(ids, l.Job)
			}
			if early > 0 || !slices.Equal(ids, want) {
				t.Errorf("%s: %d jobs were handed out before it was on disk, at the end %v; want none and %v", what, early, ids, want)
			}
		}
		during("a submission", func() {
			submit("a", "r1", false)
			if _, err := b.Status(ctx, "a"); err != nil {
				t.Error(err)
			}
		})
		next()
		submit("b", "r1", false)
		a := got[0]
		during("an end", func() {
			if _, errs := b.Complete(ctx, scheduler.Completion{Hold: a.Hold}); errs[0] != nil {
				t.Error(errs[0])
			}
		})
		submit("c", "r2", false)
		during("a cancellation", func() {
			if err := b.Cancel(ctx, "c", ""); err != nil {
				t.Error(err)
			}
		}, "b")
		submit("d", "r3", false)
		during("an urgent job", func() { submit("u", "r3", true) }, "u")
		during("a pause", func() {
			submit("e", "r4", false)
			if _, err := b.SetQueue(ctx, "r4", scheduler.Paused); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestLateHeartbeat comes while the end of the lease is being written.
func TestLateHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := recorded(testConfig(), scheduler.Deps{})
		defer b.Close()
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: "a", Queue: "r", Action: "far"}}}); err != nil {
			t.Fatal(err)
		}
		list, err := b.Next(t.Context(), scheduler.Want{})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		time.Sleep(2 * time.Second) // the hand-out is written
		goOn := r.slow()
		time.Sleep(time.Minute)
		if _, err := b.Heartbeat(t.Context(), scheduler.Beat{Hold: list[0].Hold}); !errors.Is(err, scheduler.ErrStale) {
			t.Errorf("a heartbeat after the lease: %v", err)
		}
		goOn()
		if st, err := b.Status(t.Context(), "a"); err != nil || st.State != scheduler.Waiting || st.Lost != 1 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
