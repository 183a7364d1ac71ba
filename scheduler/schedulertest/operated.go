package schedulertest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

func operated() []hand {
	return []hand{
		{"park", park},
		{"park/for", parkedFor},
		{"park/retry", parkRetry},
		{"park/skip", parkSkip},
		{"park/done", parkDone},
		{"park/refused", parkRefused},
		{"retry/with-dependents", retryDependents},
		{"retry/same-queue", retrySameQueue},
		{"queue/pause", queuePause},
		{"queue/drain", queueDrain},
		{"queue/configured", queueConfigured},
		{"queue/paused-time", queuePausedTime},
		{"queue/status", queueStatus},
		{"stats", stats},
	}
}

// breaks has a worker take the job and fail.
func (h *hands) breaks(id string) scheduler.Status {
	h.t.Helper()
	return h.finish(h.get(id), "it broke")
}

func park(h *hands) {
	h.submit(parks(retries(job("a", "r-q", "far"), 2, time.Second)))
	h.submit(after(job("d", "r-d", "far"), "a"))
	h.submit(job("b", "r-q", "far"))
	h.breaks("a")
	h.wantWaiting("a", "attempt")
	h.pass(time.Second)
	if st := h.breaks("a"); st.State != scheduler.Parked || !st.ParkedAt.Equal(time.Now()) || !st.EndedAt.IsZero() || !strings.Contains(st.Error, "it broke") || st.Attempt != 2 {
		h.t.Fatalf("after its last attempt: %+v", st)
	}
	h.wantWaiting("d", "a")
	if w := h.status("d").Waiting; !strings.Contains(w, "parked") {
		h.t.Errorf("the dependent does not say that a is parked: %q", w)
	}
	h.finish(h.get("b"), "") // its queue goes on
	// In the scheduler's own lane, too.
	h.submit(parks(job("x", "q", "fail")))
	h.submit(job("y", "q", "ok"))
	h.want("x=parked", "y=succeeded")
	h.submit(parks(job("z", "q", "final")))
	h.want("z=parked")
}

func parkedFor(h *hands) {
	h.submit(parks(job("a", "r-q", "far")), after(job("d", "r-d", "far"), "a"))
	h.breaks("a")
	h.pass(parkFor - time.Minute)
	h.want("a=parked", "d=waiting")
	h.pass(2 * time.Minute)
	h.want("a=failed", "d=cancelled")
	if st := h.status("d"); st.Cause != "a" {
		h.t.Errorf("its dependent: %+v", st)
	}
}

func parkRetry(h *hands) {
	h.submit(parks(retries(job("a", "r-q", "far"), 2, time.Hour)), after(job("d", "r-d", "far"), "a"))
	h.breaks("a")
	h.pass(time.Hour)
	h.breaks("a")
	for _, id := range []string{"b", "c"} {
		h.submit(job(id, "r-q", "far"))
	}
	b := h.get("b")
	list, err := h.op.Retry(as("ann", "repaired"), "a", scheduler.RetryOptions{})
	if err != nil || len(list) != 1 || list[0].ID != "a" || list[0].State != scheduler.Waiting || list[0].Failed != 0 || !list[0].ParkedAt.IsZero() {
		h.t.Fatalf("retry: %+v, %v", list, err)
	}
	h.none("b runs")
	h.finish(b, "")
	l := h.get("a") // before c
	if l.Attempt != 3 {
		h.t.Errorf("attempt %d follows 2", l.Attempt)
	}
	h.finish(l, "it broke") // another round: two may fail again
	h.want("a=waiting", "d=waiting")
	h.pass(time.Hour)
	h.breaks("a")
	h.want("a=parked")
	h.finish(h.get("c"), "")
	if _, err := h.op.Retry(ctx(), "a", scheduler.RetryOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.finish(h.get("a"), "")
	h.finish(h.get("d"), "")
}

func parkSkip(h *hands) {
	h.submit(parks(job("a", "r-q", "far")), after(job("d", "r-d", "far"), "a"))
	h.breaks("a")
	if st, err := h.op.Skip(as("ann", "not needed"), "a"); err != nil || st.State != scheduler.Cancelled || st.EndedAt.IsZero() {
		h.t.Fatalf("skip: %+v, %v", st, err)
	}
	h.finish(h.get("d"), "")
	h.none("a was skipped")
}

func parkDone(h *hands) {
	h.submit(parks(job("a", "r-q", "far")), after(job("d", "r-d", "far"), "a"))
	h.breaks("a")
	if st, err := h.op.Done(as("ann", "by hand"), "a", result(map[string]int{"x": 1})); err != nil || st.State != scheduler.Succeeded || st.Result.String() != `{"x":1}` || st.Err() != nil {
		h.t.Fatalf("done: %+v, %v", st, err)
	}
	h.finish(h.get("d"), "")
}

func parkRefused(h *hands) {
	h.submit(job("w", "r-q", "far"), job("s", "q", "ok"))
	for id, want := range map[string]error{"w": scheduler.ErrConflict, "s": scheduler.ErrConflict, "nobody": scheduler.ErrNotFound} {
		_, skip := h.op.Skip(ctx(), id)
		_, done := h.op.Done(ctx(), id, registry.Document{})
		_, retry := h.op.Retry(ctx(), id, scheduler.RetryOptions{})
		h.wantErr("skip "+id, skip, want)
		h.wantErr("done "+id, done, want)
		h.wantErr("retry "+id, retry, want)
	}
	h.want("w=waiting", "s=succeeded")
}

// retryDependents brings back what ended because of a failure.
func retryDependents(h *hands) {
	h.submit(job("a", "r-a", "far"), after(job("b", "r-b", "far"), "a"), after(job("c", "r-c", "far"), "b"),
		after(job("other", "r-o", "far"), "a", "x"), job("x", "r-x", "far"))
	h.submit(after(job("gone", "r-g", "far"), "a"))
	if err := h.op.Cancel(ctx(), "gone", "not because of a"); err != nil {
		h.t.Fatal(err)
	}
	list := h.take(scheduler.Want{Max: 10})
	if len(list) != 2 {
		h.t.Fatal(leased(list))
	}
	for _, l := range list {
		h.finish(l, map[string]string{"a": "it broke"}[l.Job])
	}
	h.want("a=failed", "b=cancelled", "c=cancelled", "other=cancelled", "x=succeeded", "gone=cancelled")
	got, err := h.op.Retry(as("ann", "repaired"), "a", scheduler.RetryOptions{WithDependents: true})
	if err != nil {
		h.t.Fatal(err)
	}
	var again []string
	for _, st := range got {
		again = append(again, st.ID)
		if st.State != scheduler.Waiting || st.Error != "" || st.Cause != "" || !st.EndedAt.IsZero() {
			h.t.Errorf("brought back: %+v", st)
		}
	}
	slices.Sort(again)
	if !slices.Equal(again, []string{"a", "b", "c", "other"}) {
		h.t.Errorf("brought back are %v", again)
	}
	h.want("gone=cancelled", "x=succeeded")
	h.finish(h.get("a"), "")
	for _, l := range h.take(scheduler.Want{Max: 10}) {
		h.finish(l, "")
	}
	h.finish(h.get("c"), "")
	h.want("a=succeeded", "b=succeeded", "c=succeeded", "other=succeeded")
	// Without its dependents they stay as they are.
	h.submit(job("e", "r-a", "far"), after(job("f", "r-b", "far"), "e"))
	h.breaks("e")
	if got, err := h.op.Retry(ctx(), "e", scheduler.RetryOptions{}); err != nil || len(got) != 1 {
		h.t.Fatal(got, err)
	}
	h.want("e=waiting", "f=cancelled")
	// One that was brought back alone, while what it depends on has failed, has nothing to wait for.
	h.breaks("e")
	if _, err := h.op.Retry(ctx(), "f", scheduler.RetryOptions{}); err == nil {
		if st := h.status("f"); st.State == scheduler.Running {
			h.t.Errorf("it runs although e failed: %+v", st)
		}
		h.none("e has failed")
	}
}

func (h *hands) mode(name string, m scheduler.QueueMode) scheduler.QueueStatus {
	h.t.Helper()
	st, err := h.op.SetQueue(as("ann", "the disk is full"), name, m)
	if err != nil || st.Mode != m || st.Name != name {
		h.t.Fatalf("%s %s: %+v, %v", m, name, st, err)
	}
	return st
}

// retrySameQueue brings back a job whose queue had nothing left to do: it stands
// in the same queue as what came meanwhile.
func retrySameQueue(h *hands) {
	h.submit(job("a", "r-q", "far"))
	h.breaks("a")
	h.pass(time.Hour)
	h.submit(job("b", "r-q", "far"))
	b := h.get("b")
	if _, err := h.op.Retry(ctx(), "a", scheduler.RetryOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.none("b has their queue")
	var list []string
	for st, err := range h.s.List(ctx(), scheduler.Filter{Queue: "r-q"}) {
		if err != nil {
			h.t.Fatal(err)
		}
		list = append(list, st.ID)
	}
	if !slices.Equal(list, []string{"b", "a"}) {
		h.t.Errorf("the queue lists %v, want b and a", list)
	}
	h.finish(b, "")
	h.finish(h.get("a"), "")
}

func queuePause(h *hands) {
	h.submit(job("a", "r-q", "far"), job("in", "q", "gate"))
	a := h.get("a")
	for _, q := range []string{"r-q", "q"} {
		if st := h.mode(q, scheduler.Paused); !strings.Contains(st.Reason, "the disk is full") {
			h.t.Errorf("the reason is lost: %+v", st)
		}
	}
	h.submit(job("b", "r-q", "far"))
	h.submit(job("in2", "q", "ok"))
	u := job("u", "r-q", "far")
	u.Urgent = true
	h.submit(u)
	if b := h.beat(a); b.Cancel != "" {
		h.t.Errorf("one that runs is told to stop: %q", b.Cancel)
	}
	h.finish(a, "")
	h.open("in", nil)
	h.want("a=succeeded", "in=succeeded", "in2=waiting")
	h.none("the queue is paused")
	h.wantWaiting("b", "paused")
	h.wantWaiting("in2", "paused")
	h.mode("r-q", scheduler.Open)
	h.mode("q", scheduler.Open)
	h.pass(0)
	h.want("in2=succeeded")
	h.finish(h.get("u"), "")
	h.finish(h.get("b"), "")
	h.mode("r-never-seen", scheduler.Paused)
	h.submit(job("n", "r-never-seen", "far"))
	h.none("the queue was paused before it had a job")
	_, err := h.op.SetQueue(ctx(), "r-q", "sideways")
	h.wantErr("an unknown mode", err, scheduler.ErrInvalid)
	_, err = h.op.SetQueue(ctx(), "no such\nname", scheduler.Paused)
	h.wantErr("a name that is none", err, scheduler.ErrInvalid)
}

func queueDrain(h *hands) {
	h.submit(job("a", "r-q", "far"))
	h.submit(after(job("b", "r-q", "far"), "a"))
	h.mode("r-q", scheduler.Draining)
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("x", "r-p", "far"), job("y", "r-q", "far")}})
	if err == nil || !strings.Contains(err.Error(), "r-q") || !errors.Is(err, scheduler.ErrConflict) && !errors.Is(err, scheduler.ErrInvalid) {
		h.t.Errorf("a submission to a queue that is drained: %v", err)
	}
	if _, err := h.s.Status(ctx(), "x"); !errors.Is(err, scheduler.ErrNotFound) {
		h.t.Errorf("half of that package is there: %v", err)
	}
	h.finish(h.get("a"), "")
	h.finish(h.get("b"), "")
	h.mode("r-q", scheduler.Open)
	h.submit(job("z", "r-q", "far"))
	h.finish(h.get("z"), "")
}

func queueConfigured(h *hands) {
	h.submit(job("a", "r-shut", "far"))
	h.none("the queue is configured as paused")
	if st, err := h.queues.Queue(ctx(), "r-shut"); err != nil || st.Mode != scheduler.Paused || st.Reason != "until it is repaired" || !st.Remote {
		h.t.Errorf("it says %+v, %v", st, err)
	}
	h.mode("r-shut", scheduler.Open)
	h.finish(h.get("a"), "")
}

// queuePausedTime lets a job wait in a paused queue longer than its timeout.
func queuePausedTime(h *hands) {
	for _, j := range []scheduler.Job{job("a", "r-q", "far"), job("in", "q", "gate")} {
		h.mode(j.Queue, scheduler.Paused)
		j.Timeout = scheduler.Span(time.Minute)
		h.submit(j)
	}
	h.pass(time.Hour)
	h.want("a=waiting", "in=waiting")
	h.mode("r-q", scheduler.Open)
	h.mode("q", scheduler.Open)
	l := h.get("a")
	if !l.Deadline.Equal(time.Now().Add(time.Minute)) {
		h.t.Errorf("at %s the attempt has until %s", time.Now(), l.Deadline)
	}
	h.pass(29 * time.Second)
	h.beat(l)
	h.pass(29 * time.Second)
	h.want("a=running", "in=running")
	h.finish(l, "")
	h.open("in", nil)
	h.want("in=succeeded")
}

func queueStatus(h *hands) {
	if st, err := h.queues.Queue(ctx(), "r-q"); err != nil || st.Mode != scheduler.Open || st.Depth != 0 || st.Name != "r-q" {
		h.t.Errorf("a queue of which nothing is known: %+v, %v", st, err)
	}
	begin := time.Now()
	h.submit(job("blocks", "r-o", "far"))
	h.submit(job("a", "r-q", "far"))
	h.pass(time.Second)
	h.submit(after(job("b", "r-q", "far"), "blocks"), job("c", "r-q", "far"))
	h.submit(parks(job("p", "r-p", "far")))
	list := h.take(scheduler.Want{Max: 10})
	for _, l := range list {
		if l.Job == "p" {
			h.finish(l, "it broke")
		}
	}
	st, err := h.queues.Queue(ctx(), "r-q")
	if err != nil || st.Depth != 2 || st.Blocked != 1 || !slices.Equal(st.BlockedBy, []string{"blocks"}) || st.Running != "a" || !st.Oldest.Equal(begin.Add(time.Second)) || !st.Remote {
		h.t.Errorf("the queue says %+v, %v", st, err)
	}
	if st, err := h.queues.Queue(ctx(), "r-p"); err != nil || st.Parked != 1 || st.Depth != 0 {
		h.t.Errorf("the queue with one that is parked says %+v, %v", st, err)
	}
	var names []string
	for st, err := range h.queues.Queues(ctx()) {
		if err != nil {
			h.t.Fatal(err)
		}
		names = append(names, st.Name)
	}
	if !slices.IsSorted(names) {
		h.t.Errorf("the queues are not in order: %v", names)
	}
	for _, want := range []string{"r-o", "r-p", "r-q", "r-shut"} {
		if !slices.Contains(names, want) {
			h.t.Errorf("%s is not among the queues %v", want, names)
		}
	}
	for _, l := range list {
		if l.Job == "a" {
			h.finish(l, "")
		}
	}
	if st, err := h.queues.Queue(ctx(), "r-q"); err != nil || st.Running != "" || st.Depth != 2 {
		h.t.Errorf("after a the queue says %+v, %v", st, err)
	}
}

func stats(h *hands) {
	h.submit(job("a", "r-a", "far"), job("b", "r-b", "far"), after(job("c", "r-c", "far"), "b"), parks(job("p", "r-p", "far")))
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "building"}); err != nil {
		h.t.Fatal(err)
	}
	for _, l := range h.take(scheduler.Want{Max: 10, Queues: []string{"r-a", "r-p"}}) {
		h.finish(l, map[string]string{"p": "it broke"}[l.Job])
	}
	h.take(scheduler.Want{Max: 10})
	st, err := h.queues.Stats(ctx())
	if err != nil || st.Waiting != 1 || st.Blocked != 1 || st.Running != 1 || st.Parked != 1 || st.History != 1 || st.Building != 1 ||
		st.Submitted != 4 || st.HandedOut != 3 || st.Lost != 0 || st.Ended[scheduler.Succeeded] != 1 {
		h.t.Errorf("it says %+v, %v", st, err)
	}
	h.pass(lease + time.Millisecond)
	if st, err := h.queues.Stats(ctx()); err != nil || st.Running != 0 || st.Waiting != 2 || st.Lost != 1 {
		h.t.Errorf("after a lease ran out it says %+v, %v", st, err)
	}
}
