package sync

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCore(t *testing.T) {
	schedulertest.Core(t, func(_ *testing.T, deps scheduler.Deps) scheduler.Scheduler { return New(Defaults(), deps) })
}

// start returns a scheduler with one action, do.
func start(t *testing.T, cfg Config, run scheduler.Handler) *Scheduler {
	t.Helper()
	s := New(cfg, scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: run}}})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func jobs(queues ...string) scheduler.Package {
	var p scheduler.Package
	for _, q := range queues {
		p.Jobs = append(p.Jobs, scheduler.Job{Queue: q, Action: "do"})
	}
	return p
}

func TestSubmitReturnsTheEnd(t *testing.T) {
	boom := errors.New("boom")
	s := start(t, Defaults(), func(context.Context, scheduler.Task) (any, error) { return nil, boom })
	list, err := s.Submit(t.Context(), jobs("q"))
	if err != nil || len(list) != 1 || list[0].State != scheduler.Failed || !errors.Is(list[0].Err(), boom) {
		t.Fatalf("%+v %v", list, err)
	}
}

func TestWhatItCannotDoIsRefused(t *testing.T) {
	s := start(t, Defaults(), func(context.Context, scheduler.Task) (any, error) { return nil, nil })
	for _, j := range []scheduler.Job{
		{Queue: "q", Action: "do", Retry: scheduler.Retry{Attempts: 2, Park: true}},
		{Queue: "q", Action: "do", Limits: []string{"host:h1"}},
	} {
		if _, err := s.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{j}}); !errors.Is(err, scheduler.ErrUnsupported) {
			t.Errorf("%+v: %v", j, err)
		}
	}
}

func TestCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Defaults(), func(ctx context.Context, _ scheduler.Task) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		list, err := s.Submit(ctx, jobs("q", "q", "r"))
		if err != nil {
			t.Fatal(err)
		}
		for i, st := range list {
			if st.State != scheduler.Cancelled || !strings.Contains(st.Error, "its caller has gone") || !errors.Is(st.Err(), context.DeadlineExceeded) {
				t.Errorf("job %d: %+v", i, st)
			}
		}
		if list[1].Attempt != 0 {
			t.Error("the one that waited was begun")
		}
	})
}

func TestGoexitFailsTheJob(t *testing.T) {
	s := start(t, Defaults(), func(context.Context, scheduler.Task) (any, error) {
		runtime.Goexit()
		return nil, nil
	})
	list, err := s.Submit(t.Context(), jobs("q"))
	if err != nil || list[0].State != scheduler.Failed {
		t.Fatal(list, err)
	}
}

// TestWaitingInACircleIsRefused lets two handlers submit to each other's queue.
func TestWaitingInACircleIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Scheduler
		s = start(t, Defaults(), func(ctx context.Context, task scheduler.Task) (any, error) {
			to := map[string]string{"q1": "q2", "q2": "q1"}[task.Job().Queue]
			if task.Job().Trail.Reason == "inner" || to == "" {
				return nil, nil
			}
			time.Sleep(time.Second) // until both are here
			p := jobs(to)
			p.Jobs[0].Trail.Reason = "inner"
			list, err := s.Submit(ctx, p)
			if err != nil {
				return nil, err
			}
			return nil, list[0].Err()
		})
		list, err := s.Submit(t.Context(), jobs("q1", "q2"))
		if err != nil {
			t.Fatal(err)
		}
		good, bad := list[0], list[1]
		if good.State != scheduler.Succeeded {
			good, bad = bad, good
		}
		if good.State != scheduler.Succeeded || bad.State != scheduler.Failed || !strings.Contains(bad.Error, "would wait for itself") {
			t.Fatalf("%+v\n%+v", good, bad)
		}
	})
}

// TestHandlersThatWaitTakeNoSlot would hang if they did.
func TestHandlersThatWaitTakeNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Scheduler
		s = start(t, Config{Remember: 100, Parallel: 1}, func(ctx context.Context, task scheduler.Task) (any, error) {
			if task.Job().Queue != "outer" {
				return nil, nil
			}
			list, err := s.Submit(ctx, jobs("second"))
			if err != nil {
				return nil, err
			}
			return nil, list[0].Err()
		})
		list, err := s.Submit(t.Context(), jobs("outer", "second"))
		if err != nil || list[0].Err() != nil || list[1].Err() != nil {
			t.Fatal(list, err)
		}
	})
}

func TestRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Config{Remember: 10, Parallel: 4}, func(context.Context, scheduler.Task) (any, error) { return nil, nil })
		keyed := jobs("q")
		keyed.Jobs[0].Key = "k"
		first, err := s.Submit(t.Context(), keyed)
		if err != nil {
			t.Fatal(err)
		}
		var last scheduler.Status
		for range 100 {
			list, err := s.Submit(t.Context(), jobs("q"))
			if err != nil {
				t.Fatal(err)
			}
			last = list[0]
		}
		count := 0
		for _, err := range s.List(t.Context(), scheduler.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count < 10 || count > 14 {
			t.Errorf("it remembers %d jobs, want about 10", count)
		}
		if _, err := s.Status(t.Context(), last.ID); err != nil {
			t.Error("the last one is forgotten:", err)
		}
		if _, err := s.Status(t.Context(), first[0].ID); err != nil {
			t.Error("one with a key is forgotten within a day:", err)
		}
		time.Sleep(25 * time.Hour)
		for range 100 {
			if _, err := s.Submit(t.Context(), jobs("q")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Status(t.Context(), first[0].ID); !errors.Is(err, scheduler.ErrNotFound) {
			t.Error("one with a key is kept for ever:", err)
		}
		if len(s.keys) != 0 || len(s.queues) != 0 {
			t.Errorf("%d keys and %d queues are left", len(s.keys), len(s.queues))
		}
	})
}

// TestManyCallers races callers for few queues; run it with -race.
func TestManyCallers(t *testing.T) {
	var mu gosync.Mutex
	in, done := map[string]bool{}, 0
	s := start(t, Defaults(), func(_ context.Context, task scheduler.Task) (any, error) {
		q := task.Job().Queue
		mu.Lock()
		if in[q] {
			t.Error("two jobs of queue", q)
		}
		in[q] = true
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		in[q] = false
		done++
		mu.Unlock()
		return nil, nil
	})
	var wg gosync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 50 {
				list, err := s.Submit(t.Context(), jobs(fmt.Sprint("q", (i+n)%5), fmt.Sprint("q", n%3)))
				if err != nil || list[0].Err() != nil || list[1].Err() != nil {
					t.Error(list, err)
				}
			}
		})
	}
	wg.Wait()
	if done != 16*50*2 {
		t.Errorf("%d jobs ran", done)
	}
}

func BenchmarkSubmit(b *testing.B) {
	s := New(Defaults(), scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil }}}})
	defer func() { _ = s.Close() }()
	p := jobs("q")
	for b.Loop() {
		if _, err := s.Submit(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
}
