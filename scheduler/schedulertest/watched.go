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
	return []hand{{"watch", watch}, {"watch/too-late", watchTooLate}}
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
