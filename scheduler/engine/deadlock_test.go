package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// waitsBench is a broker with an action that takes the limits it is told, waits for
// the job it is told, and keeps what it was answered.
func waitsBench(t *testing.T, slots map[string]int, submit func(b *Engine, gate chan struct{}), check func(b *Engine, answers map[string]error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var b *Engine
		gate := make(chan struct{})
		var mu gosync.Mutex
		answers := map[string]error{}
		answered := func(id string, err error) {
			mu.Lock()
			defer mu.Unlock()
			answers[id] = err
		}
		run := func(ctx context.Context, task scheduler.Task) (any, error) {
			var p struct{ Take, Wait string }
			if err := scheduler.DecodeParams(task, &p); err != nil {
				return nil, err
			}
			if p.Wait != "" {
				_, err := b.Wait(ctx, p.Wait)
				answered(task.Job().ID, err)
				return nil, err
			}
			if p.Take == "" {
				return nil, nil
			}
			<-gate
			err := task.(scheduler.Limiter).TakeLimits(ctx, strings.Fields(p.Take)...) //nolint:forcetypeassert // it is one of ours
			answered(task.Job().ID, err)
			return nil, err
		}
		cfg := Defaults()
		cfg.Limits = map[string]LimitConfig{}
		for name, n := range slots {
			cfg.Limits[name] = LimitConfig{Slots: n}
		}
		b = Memory(cfg, scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: run, Params: []scheduler.Param{
			{Name: "take", Type: scheduler.String}, {Name: "wait", Type: scheduler.String},
		}}}})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx, scheduler.RunOptions{}) }()
		synctest.Wait()
		submit(b, gate)
		synctest.Wait()
		close(gate)
		synctest.Wait()
		check(b, answers)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func doing(id, params string, limits ...string) scheduler.Job {
	return scheduler.Job{ID: id, Queue: "q-" + id, Action: "do", Params: registry.TrustedDocument(params), Limits: limits}
}

func submitAll(t *testing.T, b *Engine, jobs ...scheduler.Job) {
	t.Helper()
	if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: jobs}); err != nil {
		t.Fatal(err)
	}
}

func mustEnd(t *testing.T, b *Engine, want map[string]scheduler.State) {
	t.Helper()
	for id, state := range want {
		if st, err := b.Status(t.Context(), id); err != nil || st.State != state {
			t.Errorf("%s is %s (%s), not %s: %v", id, st.State, st.Waiting, state, err)
		}
	}
}

// A job that holds the last slot and waits for one that needs it is refused.
func TestWaitForOwnSlot(t *testing.T) {
	waitsBench(t, map[string]int{"one": 1}, func(b *Engine, _ chan struct{}) {
		submitAll(t, b, doing("a", `{"wait":"b"}`, "one"), doing("b", `{}`, "one"))
	}, func(b *Engine, answers map[string]error) {
		if err := answers["a"]; !errors.Is(err, scheduler.ErrConflict) || !strings.Contains(err.Error(), "limit one") {
			t.Errorf("the wait was answered %v", err)
		}
		mustEnd(t, b, map[string]scheduler.State{"a": scheduler.Failed, "b": scheduler.Succeeded})
	})
}

// Of several slots, the holder whose wait would close the circle is refused, and
// the others come to their end.
func TestWaitForEachOthersSlots(t *testing.T) {
	waitsBench(t, map[string]int{"two": 2}, func(b *Engine, _ chan struct{}) {
		submitAll(t, b, doing("a", `{"wait":"c"}`, "two"), doing("b", `{"wait":"d"}`, "two"), doing("c", `{}`, "two"),
			scheduler.Job{ID: "d", Queue: "q-c", Action: "do"})
	}, func(b *Engine, answers map[string]error) {
		refused := 0
		for _, err := range answers {
			if errors.Is(err, scheduler.ErrConflict) {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("the waits were answered %v", answers)
		}
		mustEnd(t, b, map[string]scheduler.State{"c": scheduler.Succeeded, "d": scheduler.Succeeded})
	})
}

// A slot that somebody else will give back is waited for.
func TestWaitForSlotOfOthers(t *testing.T) {
	waitsBench(t, map[string]int{"two": 2, "far": 1}, func(b *Engine, _ chan struct{}) {
		submitAll(t, b, doing("a", `{"wait":"c"}`, "two"), doing("b", `{"take":"far"}`, "two"), doing("c", `{}`, "two"))
	}, func(b *Engine, answers map[string]error) {
		mustEnd(t, b, map[string]scheduler.State{"a": scheduler.Succeeded, "b": scheduler.Succeeded, "c": scheduler.Succeeded})
	})
}

// One that takes limits later is refused what only those hold who wait for it; what
// it holds itself it may take again.
func TestTakeSlotOfWhoWaits(t *testing.T) {
	waitsBench(t, map[string]int{"one": 1, "two": 1}, func(b *Engine, _ chan struct{}) {
		submitAll(t, b, doing("a", `{"take":"one"}`), doing("b", `{"wait":"a"}`, "one"), doing("c", `{"take":"two one"}`, "two"))
	}, func(b *Engine, answers map[string]error) {
		if err := answers["a"]; !errors.Is(err, scheduler.ErrConflict) || !strings.Contains(err.Error(), "limit one") {
			t.Errorf("taking was answered %v", err)
		}
		mustEnd(t, b, map[string]scheduler.State{"a": scheduler.Failed, "b": scheduler.Succeeded, "c": scheduler.Succeeded})
	})
}

// lookers is how many queues look for a slot of a limit that is full, and how many
// would if it had one more.
func lookers(b *Engine, limit string) (none, one int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.limits[limit]
	b.wakeLimit(l)
	none = len(b.core.dirty)
	l.cfg.Slots++
	b.wakeLimit(l)
	one = len(b.core.dirty)
	l.cfg.Slots--
	b.settle()
	return none, one
}

// A slot that becomes free wakes one of those who wait for it, however many workers
// have named queues of their own, and those come in order of their jobs.
func TestFreedSlotWakesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		cfg := testConfig()
		cfg.Queues = map[string]QueueConfig{"own-*": {Remote: true}}
		cfg.Limits = map[string]LimitConfig{"one": {Slots: 1}}
		b := Memory(cfg, scheduler.Deps{})
		defer b.Close()
		got := make(chan scheduler.Lease, n)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		for i := range n {
			submitAll(t, b, scheduler.Job{ID: fmt.Sprintf("j%03d", i), Queue: fmt.Sprint("own-", i), Action: "far", Limits: []string{"one"}})
		}
		for i := range n {
			go func() {
				list, _ := b.Next(ctx, scheduler.Want{Queues: []string{fmt.Sprint("own-", i)}, Wait: scheduler.Span(scheduler.MaxWait)})
				for _, l := range list {
					got <- l
				}
			}()
		}
		synctest.Wait()
		var order []string
		for range n {
			l := <-got
			order = append(order, l.Job)
			none, one := lookers(b, "one")
			if none != 0 || one > 1 {
				t.Fatalf("%d queues look for a slot when there is none, %d when there is one", none, one)
			}
			if _, errs := b.Complete(ctx, scheduler.Completion{Hold: l.Hold}); errs[0] != nil {
				t.Fatal(errs[0])
			}
			synctest.Wait()
		}
		if !slices.IsSorted(order[1:]) { // the first one went to whoever asked first
			t.Errorf("they were handed out in the order %v", order)
		}
	})
}

// What stands behind a job in its queue, and could begin before it, is not waited
// for: the job comes first as soon as what it waits for itself has ended.
func TestWaitForJobBeforeWhoWantsSlot(t *testing.T) {
	waitsBench(t, map[string]int{"one": 1, "far": 1}, func(b *Engine, _ chan struct{}) {
		behind := doing("behind", `{}`, "one")
		behind.Queue = "q-first"
		first := doing("first", `{}`)
		first.After = []scheduler.Dependency{{ID: "open"}}
		submitAll(t, b, doing("a", `{"wait":"first"}`, "one"), doing("open", `{"take":"far"}`), first, behind)
	}, func(b *Engine, answers map[string]error) {
		if err := answers["a"]; err != nil {
			t.Errorf("the wait was answered %v", err)
		}
		mustEnd(t, b, map[string]scheduler.State{"a": scheduler.Succeeded, "first": scheduler.Succeeded, "behind": scheduler.Succeeded})
	})
}

// A queue that was offered a slot because a worker had named it passes the slot on
// when that worker has got another job.
func TestSlotOfWhoTookAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Queues = map[string]QueueConfig{"own-*": {Remote: true}}
		cfg.Limits = map[string]LimitConfig{"one": {Slots: 1}, "two": {Slots: 1}}
		b := Memory(cfg, scheduler.Deps{})
		defer b.Close()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		submitAll(t, b, scheduler.Job{ID: "both", Queue: "own-0", Action: "far", Limits: []string{"one", "two"}})
		both, err := b.Next(ctx, scheduler.Want{})
		if err != nil || len(both) != 1 {
			t.Fatal(both, err)
		}
		for i, limit := range []string{"one", "two", "two"} {
			submitAll(t, b, scheduler.Job{ID: fmt.Sprint("j", i+1), Queue: fmt.Sprint("own-", i+1), Action: "far", Limits: []string{limit}})
		}
		got := make(chan string, 3)
		for _, queues := range [][]string{{"own-1", "own-2"}, {"own-3"}} {
			go func() {
				list, _ := b.Next(ctx, scheduler.Want{Queues: queues, Wait: scheduler.Span(scheduler.MaxWait)})
				for _, l := range list {
					got <- l.Job
				}
			}()
		}
		synctest.Wait()
		if _, errs := b.Complete(ctx, scheduler.Completion{Hold: both[0].Hold}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		synctest.Wait()
		if len(got) != 2 {
			t.Fatalf("%d of two workers have got a job: a slot of limit two is free, and its queue waits", len(got))
		}
		if a, b := <-got, <-got; min(a, b) != "j1" || max(a, b) != "j3" {
			t.Errorf("they got %s and %s", a, b)
		}
	})
}
