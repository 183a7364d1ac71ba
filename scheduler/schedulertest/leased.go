package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// hand is a subtest of Leased.
type hand struct {
	name string
	fn   func(h *hands)
}

// Leased runs the promises of schedulers that hand jobs to workers outside and
// let people operate queues.
func Leased(t *testing.T, open Opener) {
	t.Helper()
	for _, list := range [][]hand{leases(), waits(), operated(), limitsOf(), packages(), watched(), prevented()} {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) { inHands(t, open, standard(), c.fn) })
		}
	}
	t.Run("too-many", func(t *testing.T) {
		s := standard()
		s.MaxQueued = 10
		inHands(t, open, s, tooMany)
	})
	t.Run("history", func(t *testing.T) {
		s := standard()
		s.HistoryCount, s.HistoryAge = 20, time.Hour
		inHands(t, open, s, history)
	})
	t.Run("machine", func(t *testing.T) { machine(t, open, false) })
}

func leases() []hand {
	return []hand{
		{"lease", leaseSays},
		{"lease/one", leaseOne},
		{"lease/lanes", leaseLanes},
		{"lease/actions", leaseActions},
		{"lease/length", leaseLength},
		{"lease/stale", leaseStale},
		{"lease/in-process", leaseInProcess},
		{"lease/identity", leaseIdentity},
		{"lease/repeat", leaseRepeat},
		{"lease/each-alone", leaseEachAlone},
		{"heartbeat", heartbeat},
		{"expiry", expires},
		{"expiry/too-often", lostTooOften},
		{"cancel/worker", cancelWorker},
		{"cancel/silent", cancelSilent},
		{"hand-back", handBack},
		{"hand-back/stop", handBackStop},
		{"attempt/timeout", attemptTimeout},
		{"attempt/retry", attemptRetry},
		{"attempt/outcomes", attemptOutcomes},
		{"urgent/worker", urgentWorker},
		{"run/once", runOnce},
	}
}

func leaseSays(h *hands) {
	j := with(job("a", "r-q", "far"), map[string]int{"n": 7})
	j.Timeout = scheduler.Span(time.Hour)
	at := time.Now()
	h.submitAs(as("ann", "because"), j)
	h.wantWaiting("a", "worker")
	l := h.get("a")
	want := trail.Trail{Transaction: "t", Source: "ann", Reason: "because", Job: "a", Attempt: 1, Token: l.Token}
	switch {
	case l.Queue != "r-q", l.Action != "far", l.Params.String() != `{"n":7}`, l.Attempt != 1, l.Token.IsZero(), l.Trail != want,
		l.Length.D() != lease, !l.Until.Equal(at.Add(lease)), !l.Deadline.Equal(at.Add(time.Hour)), l.Package != h.status("a").Package:
		h.t.Errorf("the lease says %+v", l)
	}
	st := h.status("a")
	if st.State != scheduler.Running || st.Worker != "w1" || !st.Until.Equal(l.Until) || st.Attempt != 1 || st.Token != l.Token || !st.StartedAt.Equal(at) {
		h.t.Errorf("the job says %+v", st)
	}
	if err := h.broker.AddLog(ctx(), l.Hold, "one", "two"); err != nil {
		h.t.Fatal(err)
	}
	got, err := h.complete(scheduler.Completion{Hold: l.Hold, Result: result(map[string]int{"answer": 42})})
	if err != nil || got.State != scheduler.Succeeded || got.Result.String() != `{"answer":42}` || got.Percent != 100 || !got.Until.IsZero() {
		h.t.Errorf("completed: %+v, %v", got, err)
	}
	lines, err := h.s.Log(ctx(), "a")
	if err != nil || len(lines) != 2 || lines[0].Text != "one" || lines[1].Text != "two" || lines[0].Attempt != 1 || !lines[0].At.Equal(at) {
		h.t.Errorf("its log: %+v, %v", lines, err)
	}
}

// leaseOne lets workers ask again and again: of each queue only one job is out.
func leaseOne(h *hands) {
	for i := range 4 {
		for q := range 3 {
			h.submit(job(fmt.Sprintf("q%d-%d", q, i), fmt.Sprintf("r-%d", q), "far"))
		}
	}
	for i := range 4 {
		first := h.take(scheduler.Want{Worker: "w1", Max: 2})
		second := h.take(scheduler.Want{Worker: "w2", Max: 100})
		if len(first) != 2 || len(second) != 1 {
			h.t.Fatalf("round %d: %v and %v are out at once, want one of each of three queues", i, leased(first), leased(second))
		}
		h.none("each queue has one out")
		out := map[string]bool{}
		for _, l := range append(first, second...) {
			if l.Job != fmt.Sprintf("q%s-%d", strings.TrimPrefix(l.Queue, "r-"), i) || out[l.Queue] {
				h.t.Errorf("round %d: queue %s hands out %s", i, l.Queue, l.Job)
			}
			out[l.Queue] = true
			h.finish(l, "")
		}
	}
	h.none("all have ended")
}

func leaseLanes(h *hands) {
	h.submit(job("in", "q", "gate"))                                                                                                   // the scheduler's own workers have this one,
	h.submit(job("out", "q2", "far"))                                                                                                  // workers outside this one, for its action,
	h.submit(job("gate", "r-1", "gate"))                                                                                               // and these, for their queue:
	h.submit(with(job("any", "r-2", "nobody-knows-it"), map[string]any{"whatever": []int{1}}))                                         // what is not declared the worker knows,
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{with(job("bad", "r-3", "far"), map[string]string{"n": "x"})}}) // what is, is checked
	h.wantErr("a parameter that is no number", err, scheduler.ErrInvalid)
	_, err = h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("bad", "q", "nobody-knows-it")}})
	h.wantErr("an unknown action in a queue of the manager's", err, scheduler.ErrInvalid)
	h.want("in=running", "out=waiting", "gate=waiting", "any=waiting")
	if list := h.take(scheduler.Want{Max: 10, Queues: []string{"q", "r-1"}}); len(list) != 1 || list[0].Job != "gate" {
		h.t.Errorf("of the queues q and r-1 a worker outside gets %v, want gate", leased(list))
	}
	if list := h.take(scheduler.Want{Max: 10}); len(list) != 2 {
		h.t.Errorf("a worker outside gets %v, want out and any", leased(list))
	}
	h.wantStarted("in")
	h.open("in", nil)
}

func leaseActions(h *hands) {
	h.submit(job("a", "r-q", "one"))
	h.submit(job("b", "r-q", "two"))
	h.submit(job("c", "r-p", "two"))
	list := h.take(scheduler.Want{Max: 10, Actions: []string{"two"}})
	if len(list) != 1 || list[0].Job != "c" {
		h.t.Fatalf("one that can do two gets %v, want c alone: b stands behind a", leased(list))
	}
	late := h.ask(ctx(), scheduler.Want{Actions: []string{"two", "three"}, Wait: scheduler.Span(time.Minute)})
	if late.answered() {
		h.t.Fatalf("it did not wait: %v, %v", leased(late.list), late.err)
	}
	h.finish(h.get("a"), "")
	if !late.answered() || len(late.list) != 1 || late.list[0].Job != "b" {
		h.t.Fatal("the one who waits for b does not get it when a has ended")
	}
}

func leaseLength(h *hands) {
	for _, id := range []string{"a", "b"} {
		h.submit(job(id, "r-"+id, "far"))
	}
	h.submit(job("c", "r-long-c", "far"))
	at := time.Now()
	for _, c := range []struct {
		queue string
		asked time.Duration
		want  time.Duration
	}{{"r-a", 0, lease}, {"r-b", 5 * time.Second, 5 * time.Second}, {"r-long-c", 0, time.Hour}} {
		list := h.take(scheduler.Want{Queues: []string{c.queue}, Lease: scheduler.Span(c.asked)})
		if len(list) != 1 || list[0].Length.D() != c.want || !list[0].Until.Equal(at.Add(c.want)) {
			h.t.Errorf("a lease of %s where the worker wants %s: %+v", c.queue, c.asked, list)
		}
	}
	for _, d := range []time.Duration{time.Millisecond, 25 * time.Hour, -1} {
		_, err := h.broker.Next(ctx(), scheduler.Want{Lease: scheduler.Span(d)})
		h.wantErr("a lease of "+d.String(), err, scheduler.ErrInvalid)
	}
}

func leaseStale(h *hands) {
	h.submit(retries(job("a", "r-q", "far"), 9, time.Hour))
	h.submit(job("b", "r-q", "far"))
	h.submit(job("c", "r-c", "far"))
	h.stale("one who never had it", scheduler.Hold{Job: "a", Token: trail.Token{Epoch: 1, Number: 1}})
	h.stale("one without a token", scheduler.Hold{Job: "a"})
	h.stale("one with a job that does not exist", scheduler.Hold{Job: "nobody", Token: trail.Token{Epoch: 1, Number: 1}})
	list := h.take(scheduler.Want{Max: 2, Worker: "w1"})
	if len(list) != 2 {
		h.t.Fatalf("handed out: %v", leased(list))
	}
	a, c := list[0], list[1]
	if a.Job != "a" {
		a, c = c, a
	}
	for _, tok := range []trail.Token{
		{}, {Epoch: a.Token.Epoch, Number: a.Token.Number + 1}, {Epoch: a.Token.Epoch + 1, Number: a.Token.Number},
		{Epoch: a.Token.Epoch - 1, Number: a.Token.Number}, {Epoch: a.Token.Epoch, Number: a.Token.Number - 1}, c.Token,
	} {
		h.stale("one with the token "+tok.String(), scheduler.Hold{Job: "a", Token: tok})
	}
	h.stale("one with the token of a for another job", scheduler.Hold{Job: "b", Token: a.Token})
	h.stale("one with a job that does not exist", scheduler.Hold{Job: "nobody", Token: a.Token})
	h.finish(a, "it broke")
	h.stale("one who failed already", a.Hold)
	h.pass(lease + time.Millisecond)
	h.stale("one who was silent too long", c.Hold)
	h.finish(h.takeFrom("r-c"), "")
	h.stale("one who was silent too long, after the end", c.Hold)
	h.pass(time.Hour)
	again := h.get("a")
	h.stale("one whose attempt is over, while the next runs", a.Hold)
	h.finish(again, "")
	h.stale("one whose attempt is over, after the end", a.Hold)
	h.stale("one who completed already", again.Hold)
	h.want("a=succeeded", "c=succeeded", "b=waiting")
}

// leaseInProcess has somebody outside show the token of a job that a function of
// the process does: readers can see it.
func leaseInProcess(h *hands) {
	h.submit(job("in", "q", "gate"))
	h.want("in=running")
	h.stale("one outside, of a job that runs in the process", scheduler.Hold{Job: "in", Token: h.status("in").Token})
	h.want("in=running")
	h.open("in", nil)
	h.want("in=succeeded")
}

// leaseIdentity has others come with a token that they have seen somewhere.
func leaseIdentity(h *hands) {
	h.actAs("disk1")
	h.submit(retries(job("a", "r-a", "far"), 2, time.Minute))
	l := h.get("a")
	h.actAs("disk2")
	h.stale("another worker that knows job and token", others(l.Hold, "disk2"))
	h.actAs("disk1")
	h.beat(l)
	h.finish(l, "it broke")
	h.actAs("disk2")
	_, err := h.complete(scheduler.Completion{Hold: others(l.Hold, "disk2"), Error: "it broke"})
	h.wantErr("another worker that says the same again", err, scheduler.ErrStale)
	h.actAs("disk1")
	h.finish(l, "it broke") // the one that lost the answer may
	h.pass(time.Minute)
	h.actAs("disk2")
	second := h.get("a")
	h.actAs("disk1")
	h.stale("the worker of the attempt before, with the token of this one", others(second.Hold, "disk1"))
	h.actAs("") // somebody of this machine, who might as well be the one
	second.Identity = ""
	h.finish(second, "")
	h.want("a=succeeded")
}

// others is the same hold shown by somebody else.
func others(h scheduler.Hold, identity string) scheduler.Hold {
	h.Identity = identity
	return h
}

// leaseRepeat lets answers get lost, so that workers say it again.
func leaseRepeat(h *hands) {
	h.submit(retries(job("a", "r-a", "far"), 2, time.Minute))
	h.submit(parks(job("p", "r-p", "far")))
	say := func(c scheduler.Completion, want scheduler.State) {
		h.t.Helper()
		if st, err := h.complete(c); err != nil || st.State != want {
			h.t.Fatalf("the first time: %s, %v", st.State, err)
		}
		h.pass(time.Second)
		before := h.picture(c.Job)
		for range 2 {
			if st, err := h.complete(c); err != nil || st.State != want || st.ID != c.Job {
				h.t.Errorf("said again: job %s is %s, %v; want %s", st.ID, st.State, err, want)
			}
		}
		other := c
		other.Result, other.Error = result(map[string]int{"other": 1}), ""
		_, err := h.complete(other)
		h.wantErr("something else said with the same token", err, scheduler.ErrStale)
		if after := h.picture(c.Job); after != before {
			h.t.Errorf("it has changed the job from\n%s\nto\n%s", before, after)
		}
	}
	list := h.take(scheduler.Want{Max: 2})
	if len(list) != 2 {
		h.t.Fatal(leased(list))
	}
	for _, l := range list {
		state := map[string]scheduler.State{"a": scheduler.Waiting, "p": scheduler.Parked}[l.Job]
		say(scheduler.Completion{Hold: l.Hold, Error: "it broke", Code: "broken"}, state)
	}
	if st := h.status("a"); st.Failed != 1 || st.Attempt != 1 {
		h.t.Errorf("a failure that was told three times counts %d", st.Failed)
	}
	h.pass(time.Minute)
	first := list[0]
	if first.Job != "a" {
		first = list[1]
	}
	second := h.get("a")
	_, err := h.complete(scheduler.Completion{Hold: first.Hold, Error: "it broke", Code: "broken"})
	h.wantErr("said again when the next attempt runs", err, scheduler.ErrStale)
	say(scheduler.Completion{Hold: second.Hold, Result: result(map[string]int{"x": 1})}, scheduler.Succeeded)
}

func leaseEachAlone(h *hands) {
	var list []scheduler.Completion
	for _, id := range ids("j", 3) {
		h.submit(job(id, "r-"+id, "far"))
		list = append(list, scheduler.Completion{Hold: h.get(id).Hold})
	}
	list[1].Token.Number += 100
	got, errs := h.broker.Complete(ctx(), append(list, list[0])...)
	if len(got) != 4 || len(errs) != 4 || errs[0] != nil || !errors.Is(errs[1], scheduler.ErrStale) || errs[2] != nil || errs[3] != nil {
		h.t.Fatalf("%d states, errors %v; want the second refused alone", len(got), errs)
	}
	for i, id := range map[int]string{0: "j0", 2: "j2", 3: "j0"} {
		if got[i].ID != id || got[i].State != scheduler.Succeeded {
			h.t.Errorf("answer %d is job %s, %s; want %s", i, got[i].ID, got[i].State, id)
		}
	}
	h.want("j0=succeeded", "j1=running", "j2=succeeded")
	if got, errs := h.broker.Complete(ctx()); len(got) != 0 || len(errs) != 0 {
		h.t.Errorf("no completions are answered with %v, %v", got, errs)
	}
}

func urgentWorker(h *hands) {
	for _, id := range []string{"a", "b", "c"} {
		h.submit(job(id, "r-q", "start"))
	}
	a := h.get("a")
	h.submit(job("keep", "r-q", "far"))
	h.submit(job("u", "r-q", "stop"))
	j := job("v", "r-q", "any")
	j.Urgent = true
	h.submit(j)
	h.want("a=running", "b=cancelled", "c=cancelled", "keep=waiting", "u=waiting", "v=waiting")
	if st := h.status("b"); st.Cause != "u" || !strings.Contains(st.Error, "superseded by job u") {
		h.t.Errorf("the one that was superseded: %+v", st)
	}
	if b := h.beat(a); b.Cancel != "" {
		h.t.Errorf("one that runs is told to stop: %s", b.Cancel)
	}
	h.finish(a, "")
	for _, id := range []string{"u", "v", "keep"} {
		h.finish(h.get(id), "")
	}
	h.none("all have ended")
}

func runOnce(h *hands) {
	r, ok := h.s.(scheduler.Runner)
	if !ok {
		h.t.Skip("this scheduler has no workers of its own")
	}
	short, cancel := context.WithTimeout(ctx(), time.Second)
	defer cancel()
	h.pass(0)
	if err := r.Run(short, scheduler.RunOptions{}); err == nil || short.Err() != nil {
		h.t.Errorf("a second Run beside the first: %v, %v", err, short.Err())
	}
	h.submit(job("a", "q", "ok"))
	h.want("a=succeeded")
}
