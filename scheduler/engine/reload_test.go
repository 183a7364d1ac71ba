package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Jobs that wait go by the sections that were reloaded, not by those under which
// they were submitted.
func TestReload(t *testing.T) {
	queues := func(paused bool, slots int) Config {
		return Config{
			Queues: map[string]QueueConfig{"far-*": {Remote: true, Paused: paused, Reason: "not yet"}},
			Limits: map[string]LimitConfig{"disk": {Slots: slots}},
		}
	}
	b := Memory(queues(true, 1), scheduler.Deps{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var pack scheduler.Package
	for _, q := range []string{"far-1", "far-2"} {
		pack.Jobs = append(pack.Jobs, scheduler.Job{Queue: q, Action: "copy", Limits: []string{"disk"}})
	}
	if _, err := b.Submit(ctx, pack); err != nil {
		t.Fatal(err)
	}
	next := func(want int) {
		t.Helper()
		list, err := b.Next(ctx, scheduler.Want{Max: 10})
		if err != nil || len(list) != want {
			t.Errorf("%d leases, want %d; %v", len(list), want, err)
		}
	}
	next(0) // they are paused
	waiting := make(chan []scheduler.Lease, 1)
	var worker sync.WaitGroup
	worker.Go(func() {
		list, _ := b.Next(ctx, scheduler.Want{Max: 10, Wait: scheduler.Span(15 * time.Second)})
		waiting <- list
	})
	if err := b.Reload(ctx, queues(false, 1)); err != nil {
		t.Fatal(err)
	}
	if list := <-waiting; len(list) != 1 {
		t.Errorf("the worker that waits was given %d jobs", len(list))
	}
	worker.Wait()
	next(0) // the other waits for the limit
	if err := b.Reload(ctx, queues(false, 2)); err != nil {
		t.Fatal(err)
	}
	next(1)
	limits, err := b.Limits(ctx)
	if err != nil || len(limits) != 1 || limits[0].Slots != 2 || limits[0].Taken != 2 {
		t.Errorf("the limits are %+v, %v", limits, err)
	}

	// What an operator has set comes before the section.
	if _, err := b.SetQueue(ctx, "far-3", scheduler.Paused); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(ctx, queues(false, 3)); err != nil {
		t.Fatal(err)
	}
	if q, err := b.Queue(ctx, "far-3"); err != nil || q.Mode != scheduler.Paused {
		t.Errorf("the queue is %s, %v", q.Mode, err)
	}
}

// A rate counts anew, and a slower one holds at once.
func TestReloadRate(t *testing.T) {
	rated := func(n int) Config {
		return Config{Queues: map[string]QueueConfig{"q": {Remote: true, Rate: Rate{Count: n, Per: time.Hour}}}}
	}
	b := Memory(rated(1), scheduler.Deps{})
	defer func() { _ = b.Close() }()
	for range 4 {
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "a"}}}); err != nil {
			t.Fatal(err)
		}
	}
	hand := func() int {
		n := 0
		for {
			list, err := b.Next(t.Context(), scheduler.Want{})
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				return n
			}
			if _, errs := b.Complete(t.Context(), scheduler.Completion{Hold: list[0].Hold}); errs[0] != nil {
				t.Fatal(errs[0])
			}
			n++
		}
	}
	if n := hand(); n != 1 {
		t.Errorf("at 1/h %d jobs were handed out", n)
	}
	if err := b.Reload(t.Context(), rated(2)); err != nil {
		t.Fatal(err)
	}
	if n := hand(); n != 2 {
		t.Errorf("at 2/h %d more jobs were handed out", n)
	}
	if err := b.Reload(t.Context(), rated(2)); err != nil {
		t.Fatal(err)
	}
	if n := hand(); n != 0 {
		t.Errorf("a reload that changes nothing let %d jobs through", n)
	}
}

// What cannot be taken changes nothing.
func TestReloadRefuses(t *testing.T) {
	was := Config{Queues: map[string]QueueConfig{"far": {Remote: true}}, Limits: map[string]LimitConfig{"disk": {Slots: 1}}}
	b := Memory(was, scheduler.Deps{})
	for name, cfg := range map[string]Config{
		"no longer remote": {Limits: map[string]LimitConfig{"disk": {Slots: 9}}},
		"newly remote":     {Queues: map[string]QueueConfig{"far": {Remote: true}, "near": {Remote: true}}, Limits: map[string]LimitConfig{"disk": {Slots: 9}}},
		"a short lease":    {Queues: map[string]QueueConfig{"far": {Remote: true, Lease: time.Millisecond}}, Limits: map[string]LimitConfig{"disk": {Slots: 9}}},
	} {
		if err := b.Reload(t.Context(), cfg); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if l, err := b.Limits(t.Context()); err != nil || len(l) != 1 || l[0].Slots != 1 {
		t.Errorf("the limits are %+v, %v", l, err)
	}
	// Submitting meanwhile is no race.
	var side sync.WaitGroup
	side.Go(func() {
		for range 100 {
			_ = b.Reload(t.Context(), was)
		}
	})
	for range 100 {
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{Queue: "far", Action: "a", Limits: []string{"disk"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	side.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context(), was); !errors.Is(err, scheduler.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
