package schedulertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

func limitsOf() []hand {
	return []hand{
		{"limit/slots", limitSlots},
		{"limit/in-process", limitInProcess},
		{"limit/host", limitHost},
		{"limit/unknown", limitUnknown},
		{"limit/given-back", limitGivenBack},
		{"limit/together", limitTogether},
		{"limit/no-hold-up", limitNoHoldUp},
		{"limit/not-wanted", limitNotWanted},
		{"limit/rate", limitRate},
		{"limit/take", limitTake},
		{"limit/swap", limitSwap},
		{"limit/take-ends", limitTakeEnds},
		{"limit/shown", limitShown},
		{"limit/same-content", limitSameContent},
		{"queue/rate", queueRate},
	}
}

func limitSlots(h *hands) {
	for _, id := range ids("j", 5) {
		h.submit(limited(job(id, "r-"+id, "far"), "two"))
	}
	list := h.take(scheduler.Want{Max: 10})
	if got := leased(list); !slices.Equal(got, []string{"j0", "j1"}) {
		h.t.Fatalf("with two slots %v are out", got)
	}
	h.wantWaiting("j2", "waiting for two")
	for i, want := range []string{"j2", "j3", "j4"} {
		h.finish(list[i], "")
		list = append(list, h.get(want))
	}
}

// A job that is submitted again is the same one, though its limits are others by
// now, as those of a VM are that was placed meanwhile.
func limitSameContent(h *hands) {
	j := job("", "r", "far")
	j.Key = "again"
	first, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{j}})
	if err != nil {
		h.t.Fatal(err)
	}
	j = limited(j, "two")
	again, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{j}})
	if err != nil || again[0].ID != first[0].ID || len(again[0].Limits) != 0 {
		h.t.Errorf("submitted again with a limit: %+v, %v, want job %s", again, err, first[0].ID)
	}
}

func limitInProcess(h *hands) {
	for _, id := range ids("j", 4) {
		h.submit(limited(job(id, "q"+id, "gate"), "two"))
	}
	h.submit(limited(job("out", "r-out", "far"), "two"))
	h.want("j0=running", "j1=running", "j2=waiting", "j3=waiting", "out=waiting")
	h.wantWaiting("j2", "waiting for two")
	h.open("j1", nil)
	h.want("j2=running", "j3=waiting")
	h.open("j0", errBoom)
	h.want("j3=running")
	h.none("both slots are taken within")
	h.open("j2", nil)
	h.finish(h.get("out"), "")
	h.open("j3", nil)
}

func limitHost(h *hands) {
	for _, host := range []string{"h1", "h2"} {
		for i := range hostSlots + 1 {
			id := fmt.Sprint(host, i)
			h.submit(limited(job(id, id, "gate"), scheduler.HostLimit(host)))
		}
	}
	for _, host := range []string{"h1", "h2"} {
		h.want(host+"0=running", host+"1=running", host+"2=waiting")
		h.wantWaiting(host+"2", "waiting for host:"+host)
	}
	h.open("h10", nil)
	h.want("h12=running", "h22=waiting")
	for _, id := range []string{"h11", "h12", "h20", "h21", "h22"} {
		h.open(id, nil)
	}
}

func limitUnknown(h *hands) {
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("a", "r-a", "far"), limited(job("b", "r-b", "far"), "tow")}})
	h.wantErr("a limit that nobody configured", err, scheduler.ErrInvalid)
	if err == nil || !strings.Contains(err.Error(), "tow") {
		h.t.Errorf("it does not name the limit: %v", err)
	}
	_, err = h.s.Status(ctx(), "a")
	h.wantErr("a job of a package that was refused", err, scheduler.ErrNotFound)
	h.submit(with(job("t", "q", "takes"), map[string]any{"first": []string{"tow"}}))
	if st := h.status("t"); st.State != scheduler.Failed || !strings.Contains(st.Error, "tow") {
		h.t.Errorf("one that takes a limit that nobody configured: %+v", st)
	}
}

// limitGivenBack loses, gives back, fails and cancels jobs that hold the slot.
func limitGivenBack(h *hands) {
	next := func() *asker { return h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)}) }
	for i, c := range []struct {
		what string
		do   func(l scheduler.Lease)
	}{
		{"failed", func(l scheduler.Lease) { h.finish(l, "it broke") }},
		{"failed with a backoff", func(l scheduler.Lease) { h.finish(l, "it broke") }},
		{"parked", func(l scheduler.Lease) { h.finish(l, "it broke") }},
		{"cancelled", func(l scheduler.Lease) {
			if err := h.op.Cancel(ctx(), l.Job, ""); err != nil {
				h.t.Fatal(err)
			}
			h.finish(l, "stopped")
		}},
	} {
		j := limited(job(fmt.Sprint("a", i), fmt.Sprint("r-a", i), "far"), "one")
		switch i {
		case 1:
			j = retries(j, 2, time.Hour)
		case 2:
			j = parks(j)
		}
		h.submit(j)
		l := h.get(j.ID)
		h.submit(limited(job(fmt.Sprint("b", i), fmt.Sprint("r-b", i), "far"), "one"))
		a := next()
		if a.answered() {
			h.t.Fatalf("%s: two hold the one slot", c.what)
		}
		c.do(l)
		if !a.answered() || len(a.list) != 1 {
			h.t.Fatalf("the slot of one that is %s is not free", c.what)
		}
		h.finish(a.list[0], "")
	}
	// One whose worker is silent gives its slot back with the lease.
	h.submit(limited(job("s", "r-s", "far"), "one"))
	h.get("s")
	h.submit(limited(job("t", "r-t", "far"), "one"))
	h.none("the slot is taken")
	h.pass(lease + time.Millisecond)
	if list := h.take(scheduler.Want{Max: 10}); len(list) != 1 {
		h.t.Fatalf("after the lease %v hold the one slot", leased(list))
	} else {
		h.finish(list[0], "")
	}
}

// limitTogether has jobs take several limits: all or none.
func limitTogether(h *hands) {
	h.submit(limited(job("a", "r-a", "far"), "one"))
	a := h.get("a")
	h.submit(limited(job("b", "r-b", "far"), "two", "one"))
	h.submit(limited(job("c", "r-c", "far"), "two"), limited(job("d", "r-d", "far"), "two"))
	list := h.take(scheduler.Want{Max: 10})
	if len(list) != 2 {
		h.t.Fatalf("b waits for one and holds nothing, so c and d go: %v", leased(list))
	}
	h.finish(a, "")
	h.none("b needs a slot of two, and both are taken")
	h.finish(list[0], "")
	h.finish(h.get("b"), "")
	h.finish(list[1], "")
	if st, err := h.queues.Limits(ctx()); err != nil || slices.ContainsFunc(st, func(l scheduler.LimitStatus) bool { return l.Taken != 0 || l.Waiting != 0 }) {
		h.t.Errorf("all have ended, and the limits say %+v, %v", st, err)
	}
}

// limitNoHoldUp: a job that waits for a limit holds its own queue, which is in
// order, and no other.
func limitNoHoldUp(h *hands) {
	h.submit(limited(job("a", "r-a", "far"), "one"))
	a := h.get("a")
	h.submit(limited(job("b", "r-b", "far"), "one"))
	h.submit(job("b2", "r-b", "far"))
	h.submit(job("c", "r-c", "far"))
	h.finish(h.get("c"), "") // b2 keeps behind b
	h.finish(a, "")
	h.finish(h.get("b"), "")
	h.finish(h.get("b2"), "")
}

// limitNotWanted: who waited longest for a slot may not want it any more when it is
// free. Then the next gets it.
func limitNotWanted(h *hands) {
	for i, c := range []struct {
		what string
		lose func(first string)
	}{
		{"another job is before it", func(string) {}},
		{"its queue is paused", func(first string) { h.mode("q-"+first, scheduler.Paused) }},
		{"it was cancelled", func(first string) {
			if err := h.op.Cancel(ctx(), first, ""); err != nil {
				h.t.Fatal(err)
			}
		}},
		{"it expires at that moment", func(string) { h.pass(10 * time.Second) }},
	} {
		holds, before, first, second := fmt.Sprint("holds", i), fmt.Sprint("before", i), fmt.Sprint("first", i), fmt.Sprint("second", i)
		h.submit(limited(job(holds, "r-"+holds, "far"), "one"))
		l := h.get(holds)
		if i == 0 {
			h.submit(after(job(before, "q-"+first, "gate"), holds)) // it is ready when the slot is free
		}
		j := limited(job(first, "q-"+first, "gate"), "one")
		if i == 3 {
			j.Expires = time.Now().Add(10 * time.Second)
		}
		h.submit(j)
		h.submit(limited(job(second, "q-"+second, "gate"), "one"))
		c.lose(first)
		h.want(second + "=waiting")
		h.finish(l, "")
		if st := h.status(second); st.State != scheduler.Running {
			h.t.Errorf("%s: the slot is free and %s is %s (%s)", c.what, second, st.State, st.Waiting)
		}
		h.open(second, nil)
		if i == 0 {
			h.open(before, nil)
			h.open(first, nil)
		}
	}
}

// limitRate counts hand-outs of a limit with a rate.
func limitRate(h *hands) {
	var list []scheduler.Job
	for _, id := range ids("j", 8) {
		list = append(list, limited(job(id, "r-"+id, "far"), "slow"))
	}
	h.submit(list...)
	h.paced(len(list), time.Second)
}

func queueRate(h *hands) {
	for _, id := range ids("j", 8) {
		h.submit(job(id, "r-rated", "far"))
	}
	h.paced(8, time.Second/2)
}

// paced takes n jobs as they come: hardly faster than one every so often, and
// hardly slower.
func (h *hands) paced(n int, every time.Duration) {
	h.t.Helper()
	var at []time.Time
	begin := time.Now()
	for range n {
		a := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)})
		for i := 0; !a.answered(); i++ {
			h.pass(10 * time.Millisecond)
			if i == 500 {
				h.t.Fatalf("after %d jobs none comes any more", len(at))
			}
		}
		if len(a.list) != 1 {
			h.t.Fatalf("%v, %v", leased(a.list), a.err)
		}
		at = append(at, time.Now())
		h.finish(a.list[0], "")
	}
	// A burst of a second's worth is allowed at the begin.
	burst := max(int(time.Second/every), 1)
	for i := burst; i < n; i++ {
		if least := time.Duration(i-burst+1)*every - 20*time.Millisecond; at[i].Sub(begin) < least {
			h.t.Errorf("hand-out %d came after %s, not before %s is allowed", i, at[i].Sub(begin), least)
		}
	}
	if all := at[n-1].Sub(begin); all > time.Duration(n+1)*every {
		h.t.Errorf("%d hand-outs took %s", n, all)
	}
}

func (h *hands) takesJob(id string, first, then []string) scheduler.Job {
	return with(job(id, "q-"+id, "takes"), map[string]any{"first": append([]string{}, first...), "then": append([]string{}, then...)})
}

// limitTake: what it waits while it takes limits counts for no timeout.
func limitTake(h *hands) {
	h.submit(limited(job("a", "r-a", "far"), "one"))
	l := h.get("a")
	j := h.takesJob("t", []string{"one"}, []string{"two"})
	j.Timeout = scheduler.Span(time.Minute)
	h.submit(j)
	if st := h.status("t"); !strings.Contains(st.Waiting, "waiting for one") {
		h.t.Errorf("it does not show what it waits for: %+v", st)
	}
	for range 5 * 60 / 20 {
		h.pass(20 * time.Second)
		h.beat(l)
	}
	if st := h.status("t"); st.Overdue || st.Attempt != 1 || st.State.Ended() {
		h.t.Errorf("while it waits: %+v", st)
	}
	h.finish(l, "")
	if st := h.status("t"); st.State != scheduler.Running || st.Waiting != "" {
		h.t.Errorf("when it has its limits: %+v", st)
	}
	h.pass(50 * time.Second)
	h.want("t=running")
	h.open("t", nil)
	h.submit(limited(job("b", "r-b", "far"), "one")) // it gave one back for two
	h.finish(h.get("b"), "")
	h.pass(20 * time.Second)
	if st := h.status("t"); st.State != scheduler.Failed || !strings.Contains(st.Error, "1m") {
		h.t.Errorf("its own time is up: %+v", st)
	}
	if st, err := h.queues.Limits(ctx()); err != nil || slices.ContainsFunc(st, func(l scheduler.LimitStatus) bool { return l.Taken != 0 }) {
		h.t.Errorf("all have ended, and the limits say %+v, %v", st, err)
	}
}

// limitSwap has two jobs each hold what the other wants.
func limitSwap(h *hands) {
	h.submit(h.takesJob("x", []string{"one"}, []string{"host:h1", "one"}), h.takesJob("y", []string{"host:h1"}, []string{"one", "host:h1"}))
	h.submit(limited(job("fill", "r-fill", "far"), "host:h1"))
	fill := h.get("fill") // with y the host is full
	h.open("x", nil)
	h.open("y", nil)
	h.finish(fill, "")
	for range 3 { // they go on in any order, one after the other
		for _, id := range []string{"x", "y"} {
			if st := h.status(id); st.State == scheduler.Running && st.Waiting == "" {
				h.open(id, nil)
			}
		}
	}
	h.want("x=succeeded", "y=succeeded")
	// The same limits again are there at once, also while others wait for them.
	h.submit(h.takesJob("a", []string{"one", "two"}, []string{"two", "one"}))
	h.submit(h.takesJob("b", []string{"one"}, nil))
	h.open("a", nil)
	if st := h.status("a"); st.State != scheduler.Running || st.Waiting != "" {
		h.t.Errorf("it holds them and waits: %+v", st)
	}
	h.open("a", nil)
	h.open("b", nil)
	h.open("b", nil)
	h.want("a=succeeded", "b=succeeded")
}

func limitTakeEnds(h *hands) {
	h.submit(limited(job("a", "r-a", "far"), "one"))
	l := h.get("a")
	h.submit(h.takesJob("t", []string{"one"}, nil), h.takesJob("u", []string{"one"}, nil))
	if err := h.op.Cancel(ctx(), "t", "not needed"); err != nil {
		h.t.Fatal(err)
	}
	h.pass(0)
	h.want("t=cancelled")
	h.finish(l, "")
	if st := h.status("u"); st.State != scheduler.Running || st.Waiting != "" {
		h.t.Errorf("the slot went to the one that was cancelled: %+v", st)
	}
	h.open("u", nil)
	h.open("u", nil)
	h.want("u=succeeded")
	if err := scheduler.TakeLimits(context.Background(), nil, "one"); err != nil {
		h.t.Errorf("a task of a scheduler without limits: %v", err)
	}
}

func limitShown(h *hands) {
	h.submit(limited(job("a", "r-a", "far"), "one", "host:h1"))
	h.get("a")
	h.submit(limited(job("b", "r-b", "far"), "one"), limited(job("c", "r-c", "far"), "one"))
	h.none("the slot is taken")
	list, err := h.queues.Limits(ctx())
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]scheduler.LimitStatus{}
	var names []string
	for _, l := range list {
		found[l.Name] = l
		names = append(names, l.Name)
	}
	if !slices.IsSorted(names) {
		h.t.Errorf("the limits are not in order: %v", names)
	}
	if l := found["one"]; l.Slots != 1 || l.Taken != 1 || !slices.Equal(l.Holders, []string{"a"}) || l.Waiting != 2 {
		h.t.Errorf("one: %+v", l)
	}
	if l := found["host:h1"]; l.Slots != hostSlots || l.Taken != 1 {
		h.t.Errorf("host:h1: %+v", l)
	}
	if l := found["slow"]; l.Rate != "1/s" || l.Taken != 0 {
		h.t.Errorf("slow: %+v", l)
	}
}
