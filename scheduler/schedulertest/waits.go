package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

func waits() []hand {
	return []hand{
		{"wait/nothing", waitNothing},
		{"wait/woken", waitWoken},
		{"wait/gone", waitGone},
		{"wait/only-whom-it-concerns", waitConcerned},
		{"wait/fair", waitFair},
		{"wait/expires", waitExpires},
	}
}

func waitNothing(h *hands) {
	begin := time.Now()
	if list := h.take(scheduler.Want{}); len(list) > 0 || time.Since(begin) > 0 {
		h.t.Errorf("with nothing to do and no time to wait: %v after %s", leased(list), time.Since(begin))
	}
	a := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(20 * time.Second)})
	h.pass(20*time.Second - time.Millisecond)
	if a.answered() {
		h.t.Errorf("it did not wait: %v", a.err)
	}
	h.pass(2 * time.Millisecond)
	if !a.answered() || a.err != nil || len(a.list) > 0 {
		h.t.Errorf("after its wait: %v, %v", leased(a.list), a.err)
	}
}

// waitWoken lets each thing happen that makes a job ready, and sees that the one
// who waits gets it at that moment.
func waitWoken(h *hands) {
	h.submit(job("holds", "r-lim", "far"))
	h.submit(limited(job("slot", "r-slot", "far"), "one"))
	slot := h.takeFrom("r-slot")
	holds := h.get("holds")
	for _, c := range []struct {
		what  string
		first func()
		then  func()
		after time.Duration
	}{
		{"a submission", func() {}, func() { h.submit(job("a", "r-a", "far")) }, 0},
		{"an urgent submission", func() {}, func() { h.submit(job("a2", "r-a2", "stop")) }, 0},
		{"the end of the one before", func() { h.submit(job("b", "r-lim", "far")) }, func() { h.finish(holds, "") }, 0},
		{"the end of a dependency", func() {
			h.submit(job("in", "q", "gate"))
			h.submit(after(job("c", "r-c", "far"), "in"))
		}, func() { h.open("in", nil) }, 0},
		{"a slot that is free", func() { h.submit(limited(job("d", "r-d", "far"), "one")) }, func() { h.finish(slot, "") }, 0},
		{"the end of a pause", func() {
			if _, err := h.op.SetQueue(ctx(), "r-e", scheduler.Paused); err != nil {
				h.t.Fatal(err)
			}
			h.submit(job("e", "r-e", "far"))
		}, func() {
			if _, err := h.op.SetQueue(ctx(), "r-e", scheduler.Open); err != nil {
				h.t.Fatal(err)
			}
		}, 0},
		{"the cancellation of the one before", func() {
			h.submit(retries(job("f", "r-f", "far"), 2, time.Hour))
			h.finish(h.get("f"), "it broke")
			h.submit(job("f2", "r-f", "far"))
		}, func() {
			if err := h.op.Cancel(ctx(), "f", ""); err != nil {
				h.t.Fatal(err)
			}
		}, 0},
		{"an expiry of the one before", func() {
			j := retries(job("g", "r-g", "far"), 2, time.Hour)
			j.Expires = time.Now().Add(10 * time.Second)
			h.submit(j)
			h.finish(h.get("g"), "it broke")
			h.submit(job("g2", "r-g", "far"))
		}, func() {}, 10 * time.Second},
		{"the end of a backoff", func() {
			h.submit(retries(job("i", "r-i", "far"), 2, 10*time.Second))
			h.finish(h.get("i"), "it broke")
		}, func() {}, 10 * time.Second},
		{"a package that is enqueued", func() {
			if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("k", "r-k", "far")}}); err != nil {
				h.t.Fatal(err)
			}
		}, func() {
			if _, err := h.builder.Enqueue(ctx(), "p"); err != nil {
				h.t.Fatal(err)
			}
		}, 0},
	} {
		c.first()
		a := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)})
		if a.answered() {
			h.t.Fatalf("%s: it does not wait: %v, %v", c.what, leased(a.list), a.err)
		}
		begin := time.Now()
		c.then()
		if c.after > 0 {
			h.pass(c.after - time.Millisecond)
			if a.answered() {
				h.t.Fatalf("%s: too early: %v", c.what, leased(a.list))
			}
			h.pass(2 * time.Millisecond)
		}
		if !a.answered() || a.err != nil || len(a.list) != 1 {
			h.t.Fatalf("%s: the one who waits is not woken (%s)", c.what, time.Since(begin))
		}
		h.finish(a.list[0], "")
	}
}

// waitGone lets workers go while they wait: a job is not handed to them.
func waitGone(h *hands) {
	gone, cancel := context.WithCancel(ctx())
	var askers []*asker
	for range 5 {
		askers = append(askers, h.ask(gone, scheduler.Want{Wait: scheduler.Span(time.Minute)}))
	}
	synctest.Wait()
	if st, err := h.queues.Stats(ctx()); err != nil || st.Workers != 5 {
		h.t.Errorf("%d workers wait, %v; want 5", st.Workers, err)
	}
	cancel()
	for _, a := range askers {
		if !a.answered() {
			h.t.Fatal("a worker that is gone still waits")
		}
		if len(a.list) > 0 || a.err != nil && !errors.Is(a.err, context.Canceled) {
			h.t.Errorf("one that is gone got %v, %v", leased(a.list), a.err)
		}
	}
	if st, err := h.queues.Stats(ctx()); err != nil || st.Workers != 0 {
		h.t.Errorf("%d workers wait, %v; want none", st.Workers, err)
	}
	h.submit(job("a", "r-q", "far"))
	if l := h.get("a"); l.Attempt != 1 {
		h.t.Errorf("it is handed out for the %d. time", l.Attempt)
	}
	// Next after the end of its context takes nothing with it.
	h.submit(job("b", "r-p", "far"))
	if list, err := h.broker.Next(gone, scheduler.Want{}); len(list) > 0 || err != nil && !errors.Is(err, context.Canceled) {
		h.t.Errorf("a call whose context is over got %v, %v", leased(list), err)
	}
	h.finish(h.get("b"), "")
	closing := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)})
	synctest.Wait()
	begin := time.Now()
	if err := h.s.Close(); err != nil {
		h.t.Fatal(err)
	}
	if !closing.answered() || time.Since(begin) > 0 {
		h.t.Error("Close does not end those who wait")
	}
	_, err := h.broker.Next(ctx(), scheduler.Want{})
	h.wantErr("Next after Close", err, scheduler.ErrClosed)
}

// waitConcerned has many workers wait: a job wakes one that can have it.
func waitConcerned(h *hands) {
	const n = 200
	askers := make([]*asker, n)
	for i := range n {
		askers[i] = h.ask(ctx(), scheduler.Want{Queues: []string{fmt.Sprintf("r-%d", i)}, Wait: scheduler.Span(time.Minute)})
	}
	any1 := h.ask(ctx(), scheduler.Want{Actions: []string{"special"}, Wait: scheduler.Span(time.Minute)})
	synctest.Wait()
	h.submit(job("a", "r-7", "far"))
	h.submit(job("b", "r-none", "special"))
	h.submit(job("in", "q", "ok"))
	for i, a := range askers {
		if a.answered() != (i == 7) {
			h.t.Errorf("the worker of r-%d: answered %t", i, i != 7)
		}
	}
	if !any1.answered() || len(any1.list) != 1 || any1.list[0].Job != "b" {
		h.t.Error("the one for special jobs has none")
	}
	h.pass(time.Minute)
	for i, a := range askers {
		if !a.answered() || i != 7 && (len(a.list) > 0 || a.err != nil) {
			h.t.Errorf("the worker of r-%d: %v, %v", i, leased(a.list), a.err)
		}
	}
}

// waitFair gives the first job to the one who has waited longest.
func waitFair(h *hands) {
	var askers []*asker
	for range 4 {
		askers = append(askers, h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)}))
		synctest.Wait()
		h.pass(time.Second)
	}
	for i := range askers {
		h.submit(job(fmt.Sprint("j", i), fmt.Sprint("r-", i), "far"))
		for k, a := range askers {
			if a.answered() != (k <= i) {
				h.t.Fatalf("after %d jobs the worker that came as number %d is answered: %t", i+1, k, k > i)
			}
		}
	}
}

func waitExpires(h *hands) {
	h.submit(job("a", "r-q", "far"))
	l := h.get("a")
	j := job("b", "r-q", "far")
	j.Expires = time.Now().Add(10 * time.Second)
	h.submit(j, after(job("c", "r-c", "far"), "b"))
	h.pass(10 * time.Second)
	h.want("a=running", "b=expired", "c=cancelled")
	h.finish(l, "")
	h.none("b has expired")
	// Jobs that depend on each other may expire at the same moment.
	var list []scheduler.Job
	for i, id := range ids("e", 5) {
		j := job(id, "r-"+id, "far")
		if j.Expires = time.Now().Add(10 * time.Second); i > 0 {
			j = after(j, list[0].ID, list[i-1].ID)
		}
		list = append(list, j)
	}
	h.submit(list...)
	h.pass(10 * time.Second)
	for _, j := range list {
		if st := h.status(j.ID); st.State != scheduler.Expired && st.State != scheduler.Cancelled {
			h.t.Errorf("after its time job %s is %s", j.ID, st.State)
		}
	}
	h.want("e0=expired")
}
