package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

func watched() []hand {
	return []hand{{"watch", watch}, {"watch/too-late", watchTooLate}, {"watch/log", watchLog}}
}

// reader is one who follows a log.
type reader struct {
	done chan struct{}
	part scheduler.LogPart
	err  error
}

func (h *hands) read(ctx context.Context, id string, after int) *reader {
	h.t.Helper()
	f, ok := h.s.(scheduler.LogFollower)
	if !ok {
		h.t.Fatal("it is no LogFollower")
	}
	r := &reader{done: make(chan struct{})}
	h.leave.Go(func() {
		defer close(r.done)
		r.part, r.err = f.LogAfter(ctx, id, after)
	})
	return r
}

// has checks what a reader has been answered when all is at rest; nothing if
// state is empty.
func (h *hands) has(r *reader, state scheduler.State, next int, lines ...string) {
	h.t.Helper()
	synctest.Wait()
	select {
	case <-r.done:
	default:
		if state != "" {
			h.t.Fatalf("whoever follows the log is not woken: want %q", lines)
		}
		return
	}
	var got []string
	for _, l := range r.part.Lines {
		got = append(got, l.Text)
	}
	if r.err != nil || r.part.State != state || r.part.Next != next || !slices.Equal(got, lines) {
		h.t.Fatalf("whoever follows the log is told %+v, %v; want %s, %d and %q", r.part, r.err, state, next, lines)
	}
}

// watchLog follows logs of jobs of workers outside and within.
func watchLog(h *hands) {
	h.submit(job("a", "r-a", "far"), parks(job("p", "r-p", "far")))
	r := h.read(ctx(), "a", 0)
	l := h.takeFrom("r-a")
	h.has(r, "", 0)
	say := func(lines ...string) {
		h.t.Helper()
		if err := h.broker.AddLog(ctx(), l.Hold, lines...); err != nil {
			h.t.Fatal(err)
		}
	}
	say("one")
	h.has(r, scheduler.Running, 1, "one")
	r = h.read(ctx(), "a", 1)
	h.has(r, "", 0)
	say("two", "three")
	h.has(r, scheduler.Running, 3, "two", "three")
	h.has(h.read(ctx(), "a", 0), scheduler.Running, 3, "one", "two", "three")
	short, cancel := context.WithCancel(ctx())
	defer cancel()
	r = h.read(short, "a", 3)
	h.has(r, "", 0)
	h.beat(l)
	time.Sleep(lease / 2)
	cancel()
	h.has(r, scheduler.Running, 3)
	r = h.read(ctx(), "a", 3)
	h.finish(l, "")
	h.has(r, scheduler.Succeeded, 3)
	h.has(h.read(ctx(), "a", 17), scheduler.Succeeded, 3)

	r = h.read(ctx(), "p", 0)
	h.finish(h.takeFrom("r-p"), "it broke")
	h.has(r, scheduler.Parked, 0)

	h.submit(job("in", "q", "says"))
	h.want("in=running")
	h.has(h.read(ctx(), "in", 0), scheduler.Running, 1, "begun")
	r = h.read(ctx(), "in", 1)
	h.has(r, "", 0)
	h.open("in", nil)
	h.has(r, scheduler.Succeeded, 1)

	for id, after := range map[string]int{"nobody": 0, "a": -1} {
		if r := h.read(ctx(), id, after); r.fails() == nil {
			h.t.Errorf("the log of %s after line %d is told: %+v", id, after, r.part)
		}
	}
}

// fails is how an answer that comes at once was refused.
func (r *reader) fails() error {
	<-r.done
	return r.err
}

// listener keeps what a watcher is told.
type listener struct {
	mu     sync.Mutex
	events []scheduler.Event
	err    error
	over   bool
}

// listen watches until the test ends it.
func (h *hands) listen(ctx context.Context, cursor string, f scheduler.Filter) *listener {
	l := &listener{}
	h.leave.Go(func() {
		for ev, err := range h.watcher.Watch(ctx, cursor, f) {
			l.mu.Lock()
			if err != nil {
				l.err = err
			} else {
				l.events = append(l.events, ev)
			}
			l.mu.Unlock()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.over = true
	})
	synctest.Wait()
	return l
}

// states is what was told, as "id=state", without what was said twice in a row.
func (l *listener) states() (list []string) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range l.events {
		if s := ev.Job.ID + "=" + string(ev.Job.State); len(list) == 0 || list[len(list)-1] != s {
			list = append(list, s)
		}
	}
	return list
}

// watch compares what is told with what happens.
func watch(h *hands) {
	until, stop := context.WithCancel(ctx())
	defer stop()
	f := scheduler.Filter{Queue: "r-q"}
	here, err := h.watcher.Cursor(ctx())
	if err != nil {
		h.t.Fatal(err)
	}
	live, all := h.listen(until, "", f), h.listen(until, "", scheduler.Filter{})
	h.submit(job("elsewhere", "r-p", "far"))
	h.submit(retries(job("a", "r-q", "far"), 2, time.Second))
	l := h.takeFrom("r-q")
	h.finish(l, "it broke")
	h.pass(time.Second)
	h.finish(h.takeFrom("r-q"), "")
	h.submit(job("b", "r-q", "far"))
	if err := h.op.Cancel(ctx(), "b", ""); err != nil {
		h.t.Fatal(err)
	}
	want := []string{"a=waiting", "a=running", "a=waiting", "a=running", "a=succeeded", "b=waiting", "b=cancelled"}
	if got := live.states(); !slices.Equal(got, want) {
		h.t.Errorf("told was %v, happened has %v", got, want)
	}
	if got := all.states(); !slices.Contains(got, "elsewhere=waiting") {
		h.t.Errorf("one without a filter was told %v", got)
	}
	cursors := map[string]bool{}
	for _, ev := range all.events {
		if ev.Cursor == "" || cursors[ev.Cursor] {
			h.t.Errorf("the cursor %q is empty or was there before", ev.Cursor)
		}
		cursors[ev.Cursor] = true
	}
	// From a cursor on the rest is told again: the states as they are now, at least.
	again := h.listen(until, live.events[0].Cursor, f)
	if got := again.states(); len(got) == 0 || got[len(got)-1] != want[len(want)-1] || len(again.events) != len(live.events)-1 {
		h.t.Errorf("told again was %v (%d events), want all but the first of %d", got, len(again.events), len(live.events))
	}
	// From the place before all of it everything is told.
	if fromHere := h.listen(until, here, f); len(fromHere.events) != len(live.events) {
		h.t.Errorf("from the cursor before it %d events are told, want %d", len(fromHere.events), len(live.events))
	}
	quiet := h.listen(until, "", scheduler.Filter{})
	h.pass(time.Minute)
	if len(quiet.events) > 0 {
		h.t.Errorf("told of %+v although nothing happens", quiet.events)
	}
	stop()
	synctest.Wait()
	for _, l := range []*listener{live, all, again, quiet} {
		if !l.over || l.err != nil && !errors.Is(l.err, context.Canceled) {
			h.t.Errorf("at the end of its context it says %v, over %t", l.err, l.over)
		}
	}
}

// watchTooLate has a reader that comes with a cursor of nobody, and one that
// reads nothing while very much happens.
func watchTooLate(h *hands) {
	var failure error
	for _, err := range h.watcher.Watch(ctx(), "no-cursor-of-this-store", scheduler.Filter{}) {
		failure = err
		break
	}
	if !errors.Is(failure, scheduler.ErrCompacted) && !errors.Is(failure, scheduler.ErrInvalid) {
		h.t.Errorf("a cursor that is none: %v", failure)
	}
	sleeping, wake := make(chan struct{}), make(chan struct{})
	seen := make(chan error, 1)
	last := map[string]scheduler.State{}
	h.leave.Go(func() {
		for ev, err := range h.watcher.Watch(ctx(), "", scheduler.Filter{}) {
			if err != nil {
				seen <- err
				return
			}
			if len(last) == 0 {
				close(sleeping)
				<-wake
			}
			if last[ev.Job.ID] = ev.Job.State; ev.Job.ID == "last" && ev.Job.State == scheduler.Succeeded {
				seen <- nil
				return
			}
		}
	})
	synctest.Wait()
	h.submit(job("first", "q", "ok"))
	<-sleeping
	const many = 20
	for i := range many {
		var list []scheduler.Job
		for k := range 1_000 {
			list = append(list, job(fmt.Sprintf("j%d-%d", i, k), "q", "ok"))
		}
		h.submit(list...)
	}
	h.submit(job("last", "q", "ok"))
	close(wake)
	if err := <-seen; err == nil {
		for i := range many { // then it has missed nothing
			if id := fmt.Sprintf("j%d-%d", i, i); last[id] != scheduler.Succeeded {
				h.t.Fatalf("a slow reader was told everything but the end of %s", id)
			}
		}
	} else if !errors.Is(err, scheduler.ErrCompacted) {
		h.t.Errorf("a slow reader: %v", err)
	}
}
