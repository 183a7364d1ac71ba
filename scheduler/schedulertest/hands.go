package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// hands is a bench with the hands of workers outside and of an operator.
type hands struct {
	*bench
	broker  scheduler.Broker
	op      scheduler.Operator
	queues  scheduler.QueueInspector
	builder scheduler.Builder
	watcher scheduler.Watcher

	identity string // of the workers outside, as credentials say it
}

// actAs lets the workers outside be somebody else from now on.
func (h *hands) actAs(identity string) { h.identity = identity }

// inHands runs fn with a fresh scheduler in fake time, and closes it.
func inHands(t *testing.T, open Opener, s Settings, fn func(h *hands)) {
	t.Helper()
	inBubble(t, open.with(s), func(b *bench) { fn(newHands(b)) })
}

func newHands(b *bench) *hands {
	b.t.Helper()
	h := &hands{bench: b}
	var ok [5]bool
	h.broker, ok[0] = b.s.(scheduler.Broker)
	h.op, ok[1] = b.s.(scheduler.Operator)
	h.queues, ok[2] = b.s.(scheduler.QueueInspector)
	h.builder, ok[3] = b.s.(scheduler.Builder)
	h.watcher, ok[4] = b.s.(scheduler.Watcher)
	if slices.Contains(ok[:], false) {
		b.t.Fatalf("this suite is for schedulers that are Broker, Operator, QueueInspector, Builder and Watcher: this one is %v", ok)
	}
	return h
}

func ctx() context.Context { return context.Background() }

// as is a context in which somebody acts.
func as(who, why string) context.Context {
	return trail.With(ctx(), trail.Trail{Transaction: "t", Source: who, Reason: why})
}

// take asks for all that workers outside can have now.
func (h *hands) take(w scheduler.Want) []scheduler.Lease {
	h.t.Helper()
	w.Identity = h.identity
	list, err := h.broker.Next(ctx(), w)
	if err != nil {
		h.t.Fatalf("next %+v: %v", w, err)
	}
	synctest.Wait()
	return list
}

// get takes the one job that there must be.
func (h *hands) get(id string) scheduler.Lease {
	h.t.Helper()
	list := h.take(scheduler.Want{Worker: "w1", Max: 10})
	if len(list) != 1 || list[0].Job != id {
		h.t.Fatalf("handed out is %v, want %s", leased(list), id)
	}
	return list[0]
}

// none checks that nothing is handed out.
func (h *hands) none(why string) {
	h.t.Helper()
	if list := h.take(scheduler.Want{Worker: "w9", Max: 100}); len(list) > 0 {
		h.t.Fatalf("handed out is %v although %s", leased(list), why)
	}
}

func leased(list []scheduler.Lease) []string {
	ids := make([]string, len(list))
	for i, l := range list {
		ids[i] = l.Job
	}
	return ids
}

// finish completes a lease, with the error's words if there is one.
func (h *hands) finish(l scheduler.Lease, failure string) scheduler.Status {
	h.t.Helper()
	st, err := h.complete(scheduler.Completion{Hold: l.Hold, Error: failure})
	if err != nil {
		h.t.Fatalf("completing %s with token %s: %v", l.Job, l.Token, err)
	}
	return st
}

func (h *hands) complete(c scheduler.Completion) (scheduler.Status, error) {
	h.t.Helper()
	list, errs := h.broker.Complete(ctx(), c)
	if len(list) != 1 || len(errs) != 1 {
		h.t.Fatalf("one completion is answered with %d states and %d errors", len(list), len(errs))
	}
	synctest.Wait()
	return list[0], errs[0]
}

func (h *hands) beat(l scheduler.Lease) scheduler.Beaten {
	h.t.Helper()
	b, err := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: l.Hold})
	if err != nil {
		h.t.Fatalf("the heartbeat of %s: %v", l.Job, err)
	}
	return b
}

// asker is a worker that waits for a job.
type asker struct {
	done chan struct{}
	list []scheduler.Lease
	err  error
	at   time.Time
}

func (h *hands) ask(ctx context.Context, w scheduler.Want) *asker {
	a := &asker{done: make(chan struct{})}
	h.leave.Go(func() {
		defer close(a.done)
		a.list, a.err = h.broker.Next(ctx, w)
		a.at = time.Now()
	})
	return a
}

// answered reports whether a has its answer when all is at rest.
func (a *asker) answered() bool {
	synctest.Wait()
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// stale checks that a worker that does not have the lease is told so by every
// verb, and that nothing changes.
func (h *hands) stale(what string, hold scheduler.Hold) {
	h.t.Helper()
	before := h.picture(hold.Job)
	_, errComplete := h.complete(scheduler.Completion{Hold: hold, Result: scheduler.MustParams(map[string]string{"from": what})})
	_, errFail := h.complete(scheduler.Completion{Hold: hold, Error: what, Final: true})
	_, errBeat := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: hold, Percent: 77, Progress: what})
	for verb, err := range map[string]error{
		"complete": errComplete, "fail": errFail, "heartbeat": errBeat,
		"log": h.broker.AddLog(ctx(), hold, what), "hand back": h.broker.HandBack(ctx(), hold, what),
	} {
		if !errors.Is(err, scheduler.ErrStale) {
			h.t.Errorf("%s of %s: %v, want ErrStale", verb, what, err)
		}
	}
	if after := h.picture(hold.Job); after != before {
		h.t.Errorf("%s has changed the job from\n%s\nto\n%s", what, before, after)
	}
}

// picture is all that is to be seen of a job.
func (h *hands) picture(id string) string {
	h.t.Helper()
	st, err := h.s.Status(ctx(), id)
	if err != nil {
		return err.Error()
	}
	lines, err := h.s.Log(ctx(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("%+v %v", st, lines)
}

func (h *hands) wantErr(what string, err, want error) {
	h.t.Helper()
	if !errors.Is(err, want) {
		h.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantWaiting checks that a job waits, and names what for.
func (h *hands) wantWaiting(id, what string) {
	h.t.Helper()
	if st := h.status(id); st.State != scheduler.Waiting || !strings.Contains(st.Waiting, what) {
		h.t.Errorf("job %s is %s, %q; want it to wait for %s", id, st.State, st.Waiting, what)
	}
}

func result(v any) registry.Document { return scheduler.MustParams(v) }

func retries(j scheduler.Job, attempts int, backoff time.Duration) scheduler.Job {
	j.Retry.Attempts, j.Retry.Backoff, j.Retry.Max = attempts, scheduler.Span(backoff), scheduler.Span(24*time.Hour)
	return j
}

func parks(j scheduler.Job) scheduler.Job {
	j.Retry.Park = true
	return j
}

func limited(j scheduler.Job, limits ...string) scheduler.Job {
	j.Limits = limits
	return j
}
