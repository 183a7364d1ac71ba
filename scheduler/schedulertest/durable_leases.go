package schedulertest

import (
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// tokensGrow compares every hand-out of a queue with the one before.
func tokensGrow(h *hands, again func()) {
	h.submit(job("in", "q", "gate"), retries(job("a", "r-q", "far"), 9, 0))
	var last, lastIn scheduler.Status
	for round := range maxLost { // one more, and the job in the process is lost too often
		l := h.get2("r-q", "a")
		st, in := h.status("a"), h.status("in")
		if round > 0 && (l.Token.Epoch <= last.Token.Epoch || l.Attempt <= last.Attempt) {
			h.t.Errorf("outside attempt %d, token %s follows %d, %s", l.Attempt, l.Token, last.Attempt, last.Token)
		}
		if in.State != scheduler.Running || round > 0 && (in.Token.Epoch <= lastIn.Token.Epoch || in.Attempt <= lastIn.Attempt) {
			h.t.Errorf("within attempt %d, token %s follows %d, %s; %s", in.Attempt, in.Token, lastIn.Attempt, lastIn.Token, in.State)
		}
		if st.Token != l.Token {
			h.t.Errorf("the job says token %s, its lease %s", st.Token, l.Token)
		}
		last, lastIn = st, in
		h.finish(l, "it broke")
		again()
		h.pass(time.Millisecond)
		if got := h.status("a"); got.Attempt < last.Attempt {
			h.t.Errorf("it came back with attempt %d, had %d", got.Attempt, last.Attempt)
		}
	}
}

// restored goes back to a copy of a store that went on after it was made, and was
// opened more often: what it hands out is newer than all that was.
func restored(h *hands) {
	h.submit(retries(job("a", "r-q", "far"), 99, 0))
	copied := h.backup()
	var last scheduler.Status
	for range 3 {
		h.again("closed")
		h.finish(h.get2("r-q", "a"), "it broke")
		last = h.status("a")
		h.pass(time.Second) // to open one takes longer than the clock that epochs are taken from needs to move
	}
	h.openAt(copied)
	if l := h.get2("r-q", "a"); l.Token.Epoch <= last.Token.Epoch {
		h.t.Errorf("the copy hands out %s, before it %s was", l.Token, last.Token)
	}
}

func inProcessAtOnce(h *hands, again func()) {
	j := job("a", "q", "gate")
	j.Timeout = scheduler.Span(time.Minute)
	h.submit(j)
	h.submit(job("b", "q", "gate"))
	h.want("a=running", "b=waiting")
	h.pass(50 * time.Second)
	begin := time.Now()
	again()
	// Managers that begin together may look twice for the one who leads.
	if st := h.status("a"); st.State != scheduler.Running || st.Attempt < 2 || st.Failed != 0 || time.Since(begin) > time.Second {
		h.t.Errorf("after %s it is %+v", time.Since(begin), st)
	}
	h.pass(50 * time.Second) // its time begins anew
	h.want("a=running", "b=waiting")
	h.open("a", nil)
	h.want("a=succeeded", "b=running")
	h.open("b", nil)
}

func outsideFull(h *hands, again func()) {
	h.submit(job("a", "r-q", "far"))
	h.submit(job("b", "r-q", "far"))
	l := h.get("a")
	h.submit(job("c", "q", "ok")) // the hand-out is on disk with what comes next
	h.pass(lease - 10*time.Second)
	again()
	begin := time.Now()
	if st := h.status("a"); st.State != scheduler.Running || !st.Until.Equal(begin.Add(lease)) || st.Token != l.Token || st.Worker != "w1" {
		h.t.Errorf("its lease came back as %+v, at %s", st, begin)
	}
	h.pass(lease - time.Second)
	h.none("the lease of a is valid")
	h.beat(l) // the worker goes on with its token
	h.pass(lease - time.Second)
	h.finish(l, "")
	b := h.get("b")
	h.submit(job("e", "q", "ok"))
	again()
	h.pass(lease + time.Millisecond)
	h.stale("one that was silent", b.Hold)
	h.finish(h.get("b"), "")
}

// outsideUnrecorded has a worker get a job, and nothing else happens: after a
// crash the lease is valid as it was, or is over and the job comes with a higher
// attempt. Never are there two.
func outsideUnrecorded(h *hands, again func()) {
	h.submit(job("a", "r-q", "far"))
	first := h.get("a")
	for range 3 {
		again()
		_, err := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: first.Hold})
		list := h.take(scheduler.Want{Max: 10})
		if valid := err == nil; valid == (len(list) == 1) {
			h.t.Fatalf("the first lease is valid: %t (%v); handed out is %v", valid, err, leased(list))
		}
		if len(list) == 1 {
			if list[0].Attempt <= first.Attempt || list[0].Token.Compare(first.Token) <= 0 {
				h.t.Errorf("attempt %d, token %s follows %d, %s", list[0].Attempt, list[0].Token, first.Attempt, first.Token)
			}
			h.stale("the one before", first.Hold)
			first = list[0]
		}
	}
	h.finish(first, "")
}

// keepsIdentity opens the store again while a worker has a job, and once more
// after it has ended.
func keepsIdentity(h *hands, again func()) {
	h.actAs("disk1")
	h.submit(job("a", "r-a", "far"))
	l := h.get("a")
	h.submit(job("c", "q", "ok")) // the hand-out is on disk with what comes next
	for range 2 {
		again()
		h.stale("another worker that knows job and token", others(l.Hold, "disk2"))
		h.beat(l)
	}
	h.finish(l, "")
	again()
	_, err := h.complete(scheduler.Completion{Hold: others(l.Hold, "disk2")})
	h.wantErr("another worker that says the same again", err, scheduler.ErrStale)
	h.finish(l, "")
}

func keepsSlots(h *hands, again func()) {
	h.submit(limited(job("a", "r-a", "far"), "one"))
	l := h.get("a")
	h.submit(limited(job("b", "r-b", "far"), "one"), limited(job("c", "q", "gate"), "one"))
	again()
	h.none("a holds the one slot")
	h.want("c=waiting")
	h.finish(l, "")
	if st := h.status("c"); st.State == scheduler.Running {
		h.open("c", nil)
	}
	h.finish(h.get("b"), "")
	h.pass(0)
	if st := h.status("c"); st.State == scheduler.Running {
		h.open("c", nil)
	}
	h.want("c=succeeded")
}

func keepsAnswers(h *hands, again func()) {
	h.submit(job("a", "r-a", "far"), parks(job("p", "r-p", "far")))
	a, p := h.get2("r-a", "a"), h.get2("r-p", "p")
	done := scheduler.Completion{Hold: a.Hold, Result: result(map[string]int{"x": 1})}
	broke := scheduler.Completion{Hold: p.Hold, Error: "it broke", Code: "broken"}
	for range 3 {
		if st, err := h.complete(done); err != nil || st.State != scheduler.Succeeded {
			h.t.Errorf("%+v, %v", st, err)
		}
		if st, err := h.complete(broke); err != nil || st.State != scheduler.Parked || st.Failed != 1 {
			h.t.Errorf("%+v, %v", st, err)
		}
		again()
	}
	_, err := h.complete(scheduler.Completion{Hold: a.Hold, Error: "it broke"})
	h.wantErr("something else", err, scheduler.ErrStale)
}

func expiresMeanwhile(h *hands, again func()) {
	j := job("a", "r-q", "far")
	j.Expires = time.Now().Add(time.Hour)
	h.submit(j, after(job("d", "r-d", "far"), "a"))
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("x", "r-x", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	again()
	h.want("a=waiting")
	h.closedFor(expiry + time.Minute)
	h.pass(time.Second)
	h.want("a=expired", "d=cancelled")
	_, err := h.builder.Enqueue(ctx(), "p")
	h.wantErr("a package that has expired", err, scheduler.ErrNotFound)
}

// runSubmitted has a command run its own jobs, in the store of a daemon that is
// not there.
func runSubmitted(h *hands, again func()) {
	h.idle()
	h.submit(job("theirs", "q", "gate"), job("other", "q2", "ok"))
	again()
	h.idle() // again has started workers for everybody
	before := h.status("theirs")
	h.again("closed")
	h.idle()
	h.shut()
	h.s = h.opener(h.t, h.deps)
	*h = *newHands(h.bench)
	h.work(scheduler.RunOptions{Submitted: true})
	h.submit(job("mine", "q3", "ok"), job("behind", "q", "ok"))
	h.pass(time.Minute)
	h.want("mine=succeeded", "theirs=waiting", "behind=waiting")
	if st := h.status("theirs"); st.Attempt < before.Attempt {
		h.t.Errorf("its attempts went from %d to %d", before.Attempt, st.Attempt)
	}
	h.idle()
	h.work(scheduler.RunOptions{})
	h.pass(0)
	h.want("theirs=running")
	h.open("theirs", nil)
	h.want("behind=succeeded")
}
