package schedulertest

import (
	"errors"
	"strings"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

func heartbeat(h *hands) {
	h.submit(job("a", "r-q", "far"))
	l := h.get("a")
	for range 10 {
		h.pass(lease - time.Second)
		b := h.beat(l)
		if !b.Until.Equal(time.Now().Add(lease)) || b.Cancel != "" {
			h.t.Fatalf("the heartbeat is answered with %+v at %s", b, time.Now())
		}
	}
	beat := func(percent int, words string, wantPercent int, want string) {
		h.t.Helper()
		if _, err := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: l.Hold, Percent: percent, Progress: words}); err != nil {
			h.t.Fatal(err)
		}
		if st := h.status("a"); st.Percent != wantPercent || st.Progress != want {
			h.t.Errorf("after the progress %d %q it says %d %q", percent, words, st.Percent, st.Progress)
		}
	}
	beat(40, "copying", 40, "copying")
	beat(0, "", 40, "copying")
	beat(1000, "nearly", 100, "nearly")
	beat(-5, "again", 0, "again")
	h.want("a=running")
	h.pass(lease - time.Millisecond)
	h.none("its lease is not over")
	h.finish(l, "")
}

func expires(h *hands) {
	j := retries(job("a", "r-q", "far"), 2, time.Hour)
	h.submit(j)
	h.submit(job("b", "r-q", "far"))
	waiting := h.ask(ctx(), scheduler.Want{Worker: "w2", Wait: scheduler.Span(time.Minute)})
	if !waiting.answered() {
		h.t.Fatal("it waits although a is there")
	}
	first := waiting.list[0]
	next := h.ask(ctx(), scheduler.Want{Worker: "w3", Wait: scheduler.Span(time.Minute)})
	h.pass(lease - time.Millisecond)
	if next.answered() {
		h.t.Fatal("handed out while the lease is valid")
	}
	h.pass(2 * time.Millisecond)
	if !next.answered() || len(next.list) != 1 {
		h.t.Fatal("not handed out when the lease is over")
	}
	l := next.list[0]
	if l.Job != "a" || l.Attempt != 2 || l.Token.Compare(first.Token) <= 0 {
		h.t.Errorf("handed out is %s, attempt %d, token %s after %s; want a again, before b", l.Job, l.Attempt, l.Token, first.Token)
	}
	if st := h.status("a"); st.Lost != 1 || st.Failed != 0 || st.Worker != "w3" {
		h.t.Errorf("it says %+v", st)
	}
	h.stale("the one who was silent", first.Hold)
	h.finish(l, "it broke") // the lost one counts for no retry
	h.wantWaiting("a", "attempt")
	h.pass(time.Hour)
	h.finish(h.get("a"), "")
	h.finish(h.get("b"), "")
}

func lostTooOften(h *hands) {
	h.submit(job("f", "r-f", "far"), after(job("d", "r-d", "far"), "f"))
	h.submit(parks(job("p", "r-p", "far")))
	for i := range maxLost {
		if list := h.take(scheduler.Want{Max: 10}); len(list) != 2 || list[0].Attempt != i+1 {
			h.t.Fatalf("round %d: handed out %v", i, leased(list))
		}
		h.pass(lease + time.Millisecond)
	}
	h.want("f=failed", "p=parked", "d=cancelled")
	if st := h.status("f"); st.Lost != maxLost || st.Error == "" {
		h.t.Errorf("lost %d times: %+v", maxLost, st)
	}
}

func cancelWorker(h *hands) {
	h.submit(job("a", "r-q", "far"))
	h.submit(job("b", "r-q", "far"))
	h.submit(job("c", "r-q", "far"))
	l := h.get("a")
	for _, id := range []string{"b", "a"} {
		if err := h.op.Cancel(as("ann", ""), id, "not needed"); err != nil {
			h.t.Fatal(err)
		}
	}
	h.want("a=running", "b=cancelled")
	if b := h.beat(l); !strings.Contains(b.Cancel, "ann") || !strings.Contains(b.Cancel, "not needed") {
		h.t.Errorf("the worker is told %q", b.Cancel)
	}
	h.none("a runs until its worker says that it has stopped")
	if st := h.finish(l, "stopped as told"); st.State != scheduler.Cancelled || !strings.Contains(st.Error, "not needed") {
		h.t.Errorf("it ended as %+v", st)
	}
	c := h.get("c")
	if err := h.op.Cancel(as("ann", ""), "c", "too late"); err != nil {
		h.t.Fatal(err)
	}
	if st := h.finish(c, ""); st.State != scheduler.Succeeded && st.State != scheduler.Cancelled {
		h.t.Errorf("one that was done before it heard of it ended as %+v", st)
	}
}

// cancelSilent cancels a job whose worker does not listen, and one that is
// given back.
func cancelSilent(h *hands) {
	h.submit(job("a", "r-a", "far"))
	h.submit(job("b", "r-b", "far"))
	list := h.take(scheduler.Want{Max: 2})
	for _, l := range list {
		if err := h.op.Cancel(ctx(), l.Job, "not needed"); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, l := range list {
		if l.Job == "b" {
			if err := h.broker.HandBack(ctx(), l.Hold, "stopping"); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	h.want("a=running", "b=cancelled")
	h.pass(lease + time.Millisecond)
	h.none("both were cancelled")
	h.want("a=cancelled")
}

func handBack(h *hands) {
	h.submit(job("a", "r-q", "far"))
	h.submit(job("b", "r-q", "far"))
	first := h.get("a")
	next := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)})
	if err := h.broker.HandBack(ctx(), first.Hold, "I am stopped"); err != nil {
		h.t.Fatal(err)
	}
	if !next.answered() || len(next.list) != 1 || next.list[0].Job != "a" || next.list[0].Attempt != 2 {
		h.t.Fatalf("after it was given back %v is handed out, want a again at once", leased(next.list))
	}
	if st := h.status("a"); st.Failed != 0 || st.Lost != 0 {
		h.t.Errorf("giving back counts: %+v", st)
	}
	h.stale("the one who gave it back", first.Hold)
	h.finish(next.list[0], "")
	h.finish(h.get("b"), "")
}

// handBackStop stops the scheduler's own workers and starts them again.
func handBackStop(h *hands) {
	h.submit(job("a", "q", "gate"))
	h.submit(job("b", "q", "gate"))
	h.submit(job("t", "q2", "takes")) // it answers with the cause
	deaf := retries(job("d", "q3", "deaf"), 1, 0)
	h.submit(deaf)
	h.want("a=running", "t=running", "d=running")
	gone := make(chan struct{})
	h.leave.Go(func() {
		h.idle()
		close(gone)
	})
	h.pass(time.Minute)
	select {
	case <-gone:
		h.t.Fatal("it did not wait for what runs")
	default:
	}
	h.open("d", nil)
	<-gone
	h.want("a=waiting", "b=waiting", "t=waiting", "d=succeeded")
	h.submit(job("later", "q4", "gate"))
	h.want("later=waiting") // nobody is there
	before := h.status("a")
	h.work(scheduler.RunOptions{})
	h.pass(0)
	h.want("a=running", "b=waiting", "t=running", "later=running")
	for _, id := range []string{"a", "t"} {
		if st := h.status(id); st.Attempt != 2 || st.Failed != 0 || st.Lost != 0 || id == "a" && st.Token.Compare(before.Token) <= 0 {
			h.t.Errorf("after it was handed back: %+v", st)
		}
	}
	for _, id := range []string{"a", "b", "t", "t", "later"} {
		h.open(id, nil)
	}
	h.want("a=succeeded", "b=succeeded", "t=succeeded", "later=succeeded")
}

// attemptTimeout has a worker that beats on and on after its time.
func attemptTimeout(h *hands) {
	j := retries(job("a", "r-q", "far"), 2, time.Second)
	j.Timeout = scheduler.Span(time.Minute)
	h.submit(j)
	for i := range 2 {
		l := h.get("a")
		if l.Attempt != i+1 || !l.Deadline.Equal(time.Now().Add(time.Minute)) {
			h.t.Fatalf("attempt %d has the deadline %s at %s", l.Attempt, l.Deadline, time.Now())
		}
		told := false
		for range 5 {
			h.pass(15 * time.Second)
			b, err := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: l.Hold})
			late := !time.Now().Before(l.Deadline)
			if err == nil && !late && b.Cancel != "" {
				h.t.Fatalf("told to stop (%s) within its time", b.Cancel)
			}
			if err != nil && (!late || !errors.Is(err, scheduler.ErrStale)) {
				h.t.Fatalf("its heartbeat: %v", err)
			}
			told = told || late && (err != nil || strings.Contains(b.Cancel, "1m"))
		}
		if !told {
			h.t.Errorf("attempt %d was not told that its time is over", i+1)
		}
		if _, err := h.complete(scheduler.Completion{Hold: l.Hold, Error: "stopped as told"}); err != nil && !errors.Is(err, scheduler.ErrStale) {
			h.t.Error(err)
		}
		h.pass(2 * time.Second)
	}
	if st := h.status("a"); st.State != scheduler.Failed || st.Failed != 2 || !strings.Contains(st.Error, "1m") {
		h.t.Errorf("after two timeouts: %+v", st)
	}
}

func attemptRetry(h *hands) {
	h.submit(retries(job("a", "r-q", "far"), 3, time.Minute))
	h.submit(job("b", "r-q", "far"))
	h.finish(h.get("a"), "it broke")
	h.none("a is in backoff and holds its queue")
	if st := h.status("a"); st.Failed != 1 || !strings.Contains(st.Error, "it broke") {
		h.t.Errorf("after a failure: %+v", st)
	}
	begin := time.Now()
	h.pass(time.Second)
	next := h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)})
	h.pass(59 * time.Second)
	if !next.answered() || len(next.list) != 1 || next.list[0].Job != "a" || next.at.Sub(begin) != time.Minute {
		h.t.Fatalf("after a minute of backoff: %v after %s", leased(next.list), next.at.Sub(begin))
	}
	h.finish(next.list[0], "it broke")
	h.pass(2*time.Minute - time.Millisecond)
	h.none("the second backoff is twice as long")
	h.pass(time.Millisecond)
	if st, err := h.complete(scheduler.Completion{Hold: h.get("a").Hold, Error: "boom", Code: "broken"}); err != nil || st.State != scheduler.Failed || st.Attempt != 3 || st.Code != "broken" || st.Error != "boom" {
		h.t.Errorf("after the last: %+v, %v", st, err)
	}
	h.finish(h.get("b"), "")
	h.submit(retries(job("c", "r-q", "far"), 9, time.Minute))
	if st, err := h.complete(scheduler.Completion{Hold: h.get("c").Hold, Error: "never", Final: true}); err != nil || st.State != scheduler.Failed {
		h.t.Errorf("after one that is final: %+v, %v", st, err)
	}
}

// attemptOutcomes looks at the list of attempts.
func attemptOutcomes(h *hands) {
	h.submit(retries(job("a", "r-q", "far"), 5, time.Second))
	h.finish(h.get("a"), "it broke")
	h.pass(time.Second)
	h.get("a")
	h.pass(lease)
	if err := h.broker.HandBack(ctx(), h.get("a").Hold, "stopping"); err != nil {
		h.t.Fatal(err)
	}
	h.finish(h.get("a"), "")
	got := h.status("a").Attempts
	if len(got) != 4 {
		h.t.Fatalf("%d attempts are known, want 4: %+v", len(got), got)
	}
	for i, want := range []string{"failed", "lost", "handed back", "succeeded"} {
		a := got[i]
		if a.Number != i+1 || !strings.Contains(a.Outcome, want) || a.Worker != "w1" || a.Began.IsZero() || a.Ended.IsZero() || a.Ended.Before(a.Began) {
			h.t.Errorf("attempt %d: %+v, want %s", i+1, a, want)
		}
		if i > 0 && a.Token.Compare(got[i-1].Token) <= 0 {
			h.t.Errorf("token %s follows %s", a.Token, got[i-1].Token)
		}
	}
}
