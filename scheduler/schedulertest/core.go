package schedulertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Core runs the promises of every scheduler.
func Core(t *testing.T, open Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		fn   func(b *bench)
	}{
		{"order", order},
		{"order/dependency", orderDependency},
		{"order/backoff", orderBackoff},
		{"parallel", parallel},
		{"ends", ends},
		{"ends/dependents", endsDependents},
		{"ends/accept", endsAccept},
		{"ends/expired", endsExpired},
		{"retry", retry},
		{"retry/jitter", retryJitter},
		{"retry/final", retryFinal},
		{"timeout", timeout},
		{"urgent", urgent},
		{"urgent/supersede", urgentSupersede},
		{"refused", refused},
		{"refused/own-queue", ownQueue},
		{"idempotency", idempotency},
		{"panic", panics},
		{"told", told},
		{"listed", listed},
		{"cancel", cancel},
		{"close", closes},
		{"optional", optional},
	} {
		t.Run(c.name, func(t *testing.T) { inBubble(t, open, c.fn) })
	}
	t.Run("model", func(t *testing.T) { model(t, open) })
}

func order(b *bench) {
	names := ids("j", 5)
	for _, id := range names {
		b.submit(job(id, "q", "gate"))
	}
	for i, id := range names {
		b.wantStarted(names[:i+1]...)
		b.want(id + "=running")
		b.open(id, nil)
		b.want(id + "=succeeded")
	}
	if b.most["q"] != 1 {
		b.t.Errorf("%d jobs of one queue ran side by side", b.most["q"])
	}
}

func orderDependency(b *bench) {
	b.submit(job("other", "o", "gate"))
	b.submit(job("a", "q", "gate"))
	b.submit(after(job("b", "q", "gate"), "other"))
	b.submit(job("c", "q", "gate"))
	b.open("a", nil)
	b.want("b=waiting", "c=running")
	if w := b.status("b").Waiting; !strings.Contains(w, "other") {
		b.t.Errorf("b says %q, not that it waits for the job other", w)
	}
	b.open("other", nil)
	b.want("b=waiting")
	b.open("c", nil)
	b.want("b=running")
	b.open("b", nil)
	b.wantStarted("other", "a", "c", "b")
}

func orderBackoff(b *bench) {
	j := with(job("a", "q", "flaky"), map[string]int{"until": 2})
	j.Retry = scheduler.Retry{Attempts: 2, Backoff: scheduler.Span(time.Hour), Max: scheduler.Span(2 * time.Hour)}
	b.submit(j)
	b.submit(job("b", "q", "ok"))
	b.submit(job("c", "other", "ok"))
	b.want("a=waiting", "b=waiting", "c=succeeded")
	b.pass(59 * time.Minute)
	b.want("a=waiting", "b=waiting")
	b.pass(2 * time.Minute)
	b.want("a=succeeded", "b=succeeded")
	b.wantStarted("a", "c", "a", "b")
}

func parallel(b *bench) {
	b.submit(job("a", "q1", "gate"), job("b", "q2", "gate"), job("c", "q3", "gate"))
	b.submit(job("d", "q4", "gate"))
	b.want("a=running", "b=running", "c=running", "d=running")
	for _, id := range []string{"d", "c", "b", "a"} {
		b.open(id, nil)
	}
	b.want("a=succeeded", "d=succeeded")
}

func ends(b *bench) {
	b.submit(with(job("s", "q", "ok"), map[string]int{"n": 7}))
	b.submit(job("f", "q", "fail"))
	b.want("s=succeeded", "f=failed")
	s, f := b.status("s"), b.status("f")
	if s.Result.String() != `{"n":7}` || s.Err() != nil || s.Percent != 100 || s.EndedAt.IsZero() || s.Attempt != 1 {
		b.t.Errorf("the one that succeeded: %+v", s)
	}
	var je *scheduler.JobError
	if err := f.Err(); !errors.As(err, &je) || f.Error != "boom" || !strings.Contains(err.Error(), "boom") {
		b.t.Errorf("the one that failed: %v, %+v", f.Err(), f)
	}
}

func endsDependents(b *bench) {
	b.submit(job("a", "q1", "gate"), after(job("b", "q2", "ok"), "a"), after(job("c", "q3", "ok"), "b"), job("d", "q4", "gate"))
	b.open("a", errBoom)
	b.want("a=failed", "b=cancelled", "c=cancelled", "d=running")
	if x, y := b.status("b"), b.status("c"); x.Cause != "a" || y.Cause != "b" || !strings.Contains(x.Error, "a") {
		b.t.Errorf("causes %q (%s) and %q", x.Cause, x.Error, y.Cause)
	}
	// One that is submitted when it is too late ends at once too.
	b.submit(after(job("late", "q1", "ok"), "a"))
	b.want("late=cancelled")
	b.open("d", nil)
}

func endsAccept(b *bench) {
	after := func(id, on string, accept ...scheduler.State) scheduler.Job {
		j := job(id, id, "ok")
		j.After = []scheduler.Dependency{{ID: on, Accept: accept}}
		return j
	}
	b.submit(job("f", "q", "fail"),
		after("any", "f", scheduler.Failed, scheduler.Succeeded, scheduler.Cancelled, scheduler.Expired),
		after("failed", "f", scheduler.Failed), after("good", "f", scheduler.Succeeded), after("then", "good", scheduler.Cancelled))
	b.want("any=succeeded", "failed=succeeded", "good=cancelled", "then=succeeded")
}

func endsExpired(b *bench) {
	b.submit(job("a", "q", "gate"))
	j := job("b", "q", "ok")
	j.Expires = time.Now().Add(time.Minute)
	b.submit(j, after(job("c", "q2", "ok"), "b"))
	b.pass(30 * time.Second)
	b.want("b=waiting")
	b.pass(31 * time.Second)
	b.want("a=running", "b=expired", "c=cancelled")
	b.open("a", nil)
	k := job("d", "q", "gate")
	k.Expires = time.Now().Add(time.Minute)
	b.submit(k)
	b.pass(time.Hour)
	b.want("d=running") // it has begun in time
	b.open("d", nil)
	b.want("d=succeeded")
}

func retry(b *bench) {
	j := job("a", "q", "fail")
	j.Retry = scheduler.Retry{Attempts: 4, Backoff: scheduler.Span(time.Second), Max: scheduler.Span(3 * time.Second)}
	begin := time.Now()
	b.submit(j)
	for i, wait := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
		st := b.status("a")
		if st.State != scheduler.Waiting || st.Attempt != i+1 || st.Waiting == "" {
			b.t.Fatalf("after %s: %+v", time.Since(begin), st)
		}
		b.pass(wait - time.Millisecond)
		b.want("a=waiting")
		b.pass(time.Millisecond)
	}
	if st := b.status("a"); st.State != scheduler.Failed || st.Attempt != 4 {
		b.t.Errorf("at the end: %+v", st)
	}
	b.submit(job("b", "q", "ok"))
	for i, tr := range b.trails {
		if i > 0 && tr.Token.Compare(b.trails[i-1].Token) <= 0 {
			b.t.Errorf("token %s follows %s", tr.Token, b.trails[i-1].Token)
		}
		if i < 4 && tr.Attempt != i+1 {
			b.t.Errorf("attempt %d is called %d", i+1, tr.Attempt)
		}
	}
}

func retryJitter(b *bench) {
	const n = 12
	j := make([]scheduler.Job, n)
	for i, id := range ids("j", n) {
		j[i] = with(job(id, id, "flaky"), map[string]int{"until": 2})
		j[i].Retry = scheduler.Retry{Attempts: 2, Backoff: scheduler.Span(100 * time.Second), Jitter: 0.5}
	}
	b.submit(j...)
	for _, j := range j {
		b.want(j.ID + "=waiting")
	}
	b.pass(100*time.Second - time.Millisecond)
	for _, j := range j {
		b.want(j.ID + "=waiting") // a backoff is never shortened
	}
	b.pass(50*time.Second + 2*time.Millisecond)
	at := map[time.Time]bool{}
	for _, j := range j {
		b.want(j.ID + "=succeeded")
		at[b.status(j.ID).StartedAt] = true
	}
	if len(at) < n/2 {
		b.t.Errorf("%d jobs began again at only %d moments", n, len(at))
	}
}

func retryFinal(b *bench) {
	j := job("a", "q", "final")
	j.Retry = scheduler.Retry{Attempts: 5, Backoff: scheduler.Span(time.Second)}
	b.submit(j)
	if st := b.status("a"); st.State != scheduler.Failed || st.Attempt != 1 || st.Failed != 1 || st.Error != "no more: boom" {
		b.t.Errorf("after an error that is final: %+v", st)
	}
}

func timeout(b *bench) {
	j := job("a", "q", "gate")
	j.Timeout = scheduler.Span(time.Minute)
	j.Retry = scheduler.Retry{Attempts: 2, Backoff: scheduler.Span(time.Second)}
	b.submit(j)
	b.pass(61 * time.Second)
	b.pass(2 * time.Second)
	if st := b.status("a"); st.State != scheduler.Running || st.Attempt != 2 {
		b.t.Fatalf("after the first timeout: %+v", st)
	}
	b.pass(2 * time.Minute)
	if st := b.status("a"); st.State != scheduler.Failed || !strings.Contains(st.Error, "1m") {
		b.t.Errorf("after the second: %+v", st)
	}
	d := job("d", "q", "deaf")
	d.Timeout = scheduler.Span(time.Minute)
	b.submit(d)
	b.submit(job("e", "q", "ok"))
	b.want("d=running")
	b.pass(2 * time.Minute)
	if st := b.status("d"); st.State != scheduler.Running || !st.Overdue {
		b.t.Errorf("one that does not listen: %+v", st)
	}
	b.want("e=waiting") // it holds its queue
	b.open("d", nil)
	b.want("d=succeeded", "e=succeeded")
	if b.status("d").Overdue {
		b.t.Error("it is still overdue")
	}
}

func urgent(b *bench) {
	for _, id := range []string{"a", "b", "c"} {
		b.submit(job(id, "q", "gate"))
	}
	b.submit(job("u1", "q", "stop"))
	b.submit(job("u2", "q", "stop"))
	b.want("a=running", "u1=waiting", "u2=waiting")
	for _, id := range []string{"a", "u1", "u2", "b", "c"} {
		b.want(id + "=running")
		b.open(id, nil)
	}
	b.wantStarted("a", "u1", "u2", "b", "c")
}

func urgentSupersede(b *bench) {
	b.submit(job("a", "q", "start"))
	b.submit(job("b", "q", "start"))
	b.submit(job("c", "q", "gate"))
	keep := job("k", "q", "stop")
	keep.KeepQueued = true
	b.submit(keep)
	b.want("a=running", "b=waiting", "c=waiting")
	b.submit(job("u", "q", "stop"))
	b.want("a=running", "b=cancelled", "c=waiting")
	if st := b.status("b"); st.Cause != "u" || !strings.Contains(st.Error, "superseded by job u") {
		b.t.Errorf("the one that was superseded: %+v", st)
	}
	b.submit(job("d", "q", "start")) // what comes later is meant
	b.want("d=waiting")
	for _, id := range []string{"a", "k", "u", "c", "d"} {
		b.open(id, nil)
	}
	b.want("d=succeeded")
	// One between two attempts waits too.
	s := job("s", "q", "start")
	s.Retry = scheduler.Retry{Attempts: 2, Backoff: scheduler.Span(time.Hour)}
	b.submit(s)
	b.open("s", errBoom)
	b.want("s=waiting")
	b.submit(job("v", "q", "stop"))
	b.want("s=cancelled", "v=running")
	b.open("v", nil)
}

func refused(b *bench) {
	at := func(i int) []scheduler.Dependency { return []scheduler.Dependency{{Index: &i}} }
	dep := func(j scheduler.Job, d []scheduler.Dependency) scheduler.Job { j.After = d; return j }
	good := job("good", "q", "ok")
	for _, c := range []struct {
		what string
		jobs []scheduler.Job
		want string
	}{
		{"nothing", nil, "no jobs"},
		{"an unknown action", []scheduler.Job{good, job("", "q", "oek")}, `job 1: there is no action "oek" (did you mean "ok"?)`},
		{"no queue", []scheduler.Job{good, job("", "", "ok")}, "job 1 (ok): its queue"},
		{"a queue that is no name", []scheduler.Job{good, job("", "../x", "ok")}, "job 1"},
		{"an ID that is no name", []scheduler.Job{good, job("-o", "q", "ok")}, "job 1"},
		{"an ID twice", []scheduler.Job{good, job("good", "q", "ok")}, "that of job 0 too"},
		{"a parameter too few", []scheduler.Job{good, job("", "q", "types")}, `job 1 (types): the parameter "s" (string) is missing`},
		{"a parameter too many", []scheduler.Job{good, with(job("", "q", "ok"), map[string]any{"m": 1})}, `unknown parameter "m" (did you mean "n"?)`},
		{"a string for an integer", []scheduler.Job{good, with(job("", "q", "ok"), map[string]any{"n": "1"})}, `"n" must be of type integer, not string`},
		{"a fraction for an integer", []scheduler.Job{good, with(job("", "q", "ok"), map[string]any{"n": 1.5})}, `"n" must be of type integer`},
		{"a number for a string", []scheduler.Job{good, with(job("", "q", "types"), map[string]any{"s": 1})}, `"s" must be of type string`},
		{"null", []scheduler.Job{good, with(job("", "q", "types"), map[string]any{"s": nil})}, `"s" must be of type string, not null`},
		{"no duration", []scheduler.Job{good, with(job("", "q", "types"), map[string]any{"s": "x", "d": "30"})}, `"d" must be a duration`},
		{"a list for an object", []scheduler.Job{good, with(job("", "q", "types"), map[string]any{"s": "x", "o": []int{}})}, `"o" must be of type object`},
		{"an unknown dependency", []scheduler.Job{good, after(job("", "q", "ok"), "nobody")}, "nobody"},
		{"a dependency on itself", []scheduler.Job{good, dep(job("", "q", "ok"), at(1))}, "itself"},
		{"a dependency beyond the end", []scheduler.Job{good, dep(job("", "q", "ok"), at(7))}, "jobs 0 to 1"},
		{"a circle", []scheduler.Job{good, dep(job("", "q", "ok"), at(2)), dep(job("", "q", "ok"), at(3)), dep(job("", "q", "ok"), at(1))}, "wait for each other"},
		{"an end that is none", []scheduler.Job{good, {Queue: "q", Action: "ok", After: []scheduler.Dependency{{ID: "good", Accept: []scheduler.State{"running"}}}}}, "no end"},
		{"a negative timeout", []scheduler.Job{good, {Queue: "q", Action: "ok", Timeout: -1}}, "timeout"},
		{"too many attempts", []scheduler.Job{good, {Queue: "q", Action: "ok", Retry: scheduler.Retry{Attempts: 1 << 30}}}, "attempts"},
		{"a forged log line", []scheduler.Job{good, {Queue: "q", Action: "ok", Trail: trail.Trail{Reason: "a\nb"}}}, "reason"},
		{"too many jobs", make([]scheduler.Job, scheduler.MaxJobs+1), "10001 jobs"},
	} {
		_, err := b.s.Submit(context.Background(), scheduler.Package{Jobs: c.jobs})
		if !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			b.t.Errorf("%s: %v, want one with %s", c.what, err, c.want)
		}
	}
	b.wantStarted()
	if _, err := b.s.Status(context.Background(), "good"); !errors.Is(err, scheduler.ErrNotFound) {
		b.t.Errorf("a job of a package that was refused is known: %v", err)
	}
	b.submit(with(job("types", "q", "types"), map[string]any{"s": "x", "i": -3, "f": 1.5, "b": true, "o": map[string]any{}, "a": []int{1}, "d": "1m30s"}))
	b.want("types=succeeded")
	if _, err := b.s.Submit(context.Background(), scheduler.Package{Jobs: []scheduler.Job{job("types", "q", "ok")}}); !errors.Is(err, scheduler.ErrConflict) {
		b.t.Errorf("an ID that is known: %v", err)
	}
}

func ownQueue(b *bench) {
	b.submit(with(job("a", "q", "nest"), map[string]string{"queue": "q"}))
	if st := b.status("a"); st.State != scheduler.Failed || !strings.Contains(st.Error, "wait for itself") {
		b.t.Errorf("a job that waits for its own queue: %+v", st)
	}
	b.submit(with(job("b", "q", "nest"), map[string]string{"queue": "elsewhere"}))
	b.want("b=succeeded")
}

func idempotency(b *bench) {
	who := func(source string) context.Context {
		return trail.With(context.Background(), trail.Trail{Transaction: "t", Source: source})
	}
	keyed := func(n int) scheduler.Job {
		j := with(job("", "q", "ok"), map[string]int{"n": n})
		j.Key = "k1"
		return j
	}
	submit := func(source string, n int) (scheduler.Status, error) {
		list, err := b.s.Submit(who(source), scheduler.Package{Jobs: []scheduler.Job{keyed(n)}})
		if err != nil {
			return scheduler.Status{}, err
		}
		return b.s.Wait(context.Background(), list[0].ID)
	}
	first, err := submit("ann", 1)
	if err != nil {
		b.t.Fatal(err)
	}
	if again, err := submit("ann", 1); err != nil || again.ID != first.ID {
		b.t.Errorf("the same content gives job %s and %v, want job %s", again.ID, err, first.ID)
	}
	if _, err := submit("ann", 2); !errors.Is(err, scheduler.ErrConflict) {
		b.t.Errorf("other content: %v", err)
	}
	if other, err := submit("bob", 2); err != nil || other.ID == first.ID {
		b.t.Errorf("another source: %s, %v", other.ID, err)
	}
	b.pass(23 * time.Hour)
	if again, err := submit("ann", 1); err != nil || again.ID != first.ID {
		b.t.Errorf("within a day: %s, %v", again.ID, err)
	}
	b.wantStarted(first.ID, b.started[len(b.started)-1])
}

func panics(b *bench) {
	b.submit(job("p", "q", "panic"), job("a", "q2", "gate"))
	b.submit(job("b", "q", "ok"))
	b.want("p=failed", "a=running", "b=succeeded")
	if st := b.status("p"); !strings.Contains(st.Error, "the sky") || strings.Contains(st.Error, ".go:") {
		b.t.Errorf("it says %q", st.Error)
	}
	b.open("a", nil)
}

func told(b *bench) {
	tr := trail.Trail{Transaction: "t-1", Source: "ann", Reason: "because"}
	b.submitAs(trail.With(context.Background(), tr), job("a", "q", "talk"))
	if st := b.status("a"); st.Percent != 100 || st.Progress != "nearly" || st.Trail.Source != "ann" {
		b.t.Errorf("while it runs: %+v", st)
	}
	b.open("a", nil)
	lines, err := b.s.Log(context.Background(), "a")
	if err != nil || len(lines) != 2 || lines[0].Text != "one" || lines[1].Text != "two" || lines[0].Attempt != 1 {
		b.t.Errorf("its log: %+v, %v", lines, err)
	}
	if st := b.status("a"); st.Result.String() != `{"answer":42}` {
		b.t.Errorf("its result: %s", st.Result)
	}
	got := b.trails[0]
	if got.Transaction != "t-1" || got.Source != "ann" || got.Reason != "because" || got.Job != "a" || got.Attempt != 1 || got.Token.IsZero() {
		b.t.Errorf("its trail: %+v", got)
	}
	if _, err := b.s.Log(context.Background(), "nobody"); !errors.Is(err, scheduler.ErrNotFound) {
		b.t.Errorf("the log of nobody: %v", err)
	}
}

func listed(b *bench) {
	for _, id := range ids("j", 4) {
		b.submit(job(id, "q", "ok"))
	}
	b.submit(job("f", "r", "fail"))
	b.submit(job("g", "r", "gate"))
	list := func(f scheduler.Filter) (found []string) {
		for st, err := range b.s.List(context.Background(), f) {
			if err != nil {
				b.t.Fatal(err)
			}
			found = append(found, st.ID)
		}
		return found
	}
	for _, c := range []struct {
		f    scheduler.Filter
		want []string
	}{
		{scheduler.Filter{}, []string{"g", "f", "j3", "j2", "j1", "j0"}},
		{scheduler.Filter{Queue: "q", Limit: 2}, []string{"j3", "j2"}},
		{scheduler.Filter{Action: "fail"}, []string{"f"}},
		{scheduler.Filter{States: []scheduler.State{scheduler.Running, scheduler.Failed}}, []string{"g", "f"}},
		{scheduler.Filter{Package: b.status("j1").Package}, []string{"j1"}},
	} {
		if got := list(c.f); !slices.Equal(got, c.want) {
			b.t.Errorf("%+v lists %v, want %v", c.f, got, c.want)
		}
	}
	waited := make(chan scheduler.Status, 1)
	b.leave.Go(func() {
		st, err := b.s.Wait(context.Background(), "g")
		if err != nil {
			st.Error = err.Error()
		}
		waited <- st
	})
	synctest.Wait()
	short, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if _, err := b.s.Wait(short, "g"); !errors.Is(err, context.DeadlineExceeded) {
		b.t.Errorf("waiting for a second: %v", err)
	}
	b.open("g", nil)
	if st := <-waited; st.State != scheduler.Succeeded {
		b.t.Errorf("waiting for g gave %+v", st)
	}
	if _, err := b.s.Wait(context.Background(), "nobody"); !errors.Is(err, scheduler.ErrNotFound) {
		b.t.Errorf("waiting for nobody: %v", err)
	}
}

func cancel(b *bench) {
	c, ok := b.s.(scheduler.Canceller)
	if !ok {
		b.t.Skip("this scheduler cancels nothing")
	}
	ctx := trail.With(context.Background(), trail.Trail{Source: "ann"})
	b.submit(job("a", "q", "gate"))
	b.submit(job("b", "q", "gate"), after(job("d", "r", "ok"), "b"))
	b.submit(job("c", "q", "gate"))
	for _, id := range []string{"b", "a"} {
		if err := c.Cancel(ctx, id, "not needed"); err != nil {
			b.t.Fatal(err)
		}
	}
	synctest.Wait()
	b.want("a=cancelled", "b=cancelled", "d=cancelled", "c=running")
	if st := b.status("a"); !strings.Contains(st.Error, "ann") || !strings.Contains(st.Error, "not needed") {
		b.t.Errorf("it says %q", st.Error)
	}
	if err := c.Cancel(ctx, "a", ""); !errors.Is(err, scheduler.ErrConflict) {
		b.t.Errorf("cancelling what has ended: %v", err)
	}
	if err := c.Cancel(ctx, "nobody", ""); !errors.Is(err, scheduler.ErrNotFound) {
		b.t.Errorf("cancelling nobody: %v", err)
	}
	r := job("r", "q2", "fail")
	r.Retry = scheduler.Retry{Attempts: 9, Backoff: scheduler.Span(time.Hour)}
	b.submit(r)
	if err := c.Cancel(ctx, "r", ""); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
	b.want("r=cancelled")
	b.open("c", nil)
}

func closes(b *bench) {
	b.submit(job("a", "q", "gate"), job("d", "q2", "deaf"))
	b.submit(job("b", "q", "gate"))
	closed := make(chan struct{})
	b.leave.Go(func() {
		_ = b.s.Close()
		close(closed)
	})
	synctest.Wait()
	select {
	case <-closed:
		b.t.Error("it did not wait for what runs")
	default:
	}
	b.open("d", nil)
	<-closed
	synctest.Wait()
	for id, n := range b.running {
		if n != 0 {
			b.t.Errorf("a job of queue %s still runs", id)
		}
	}
	if _, err := b.s.Submit(context.Background(), scheduler.Package{Jobs: []scheduler.Job{job("x", "q", "ok")}}); !errors.Is(err, scheduler.ErrClosed) {
		b.t.Errorf("a submission after Close: %v", err)
	}
}

// optional checks that what a scheduler takes it can also bring to an end.
func optional(b *bench) {
	ctx := context.Background()
	taken := func(what string, change func(j *scheduler.Job)) bool {
		j := job(what, what, "ok")
		change(&j)
		_, err := b.s.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{j}})
		if err != nil && !errors.Is(err, scheduler.ErrUnsupported) {
			b.t.Errorf("%s: %v, want ErrUnsupported or none", what, err)
		}
		if _, there := b.s.Status(ctx, what); (there == nil) != (err == nil) {
			b.t.Errorf("%s: submitting it says %v, asking for it %v", what, err, there)
		}
		return err == nil
	}
	if taken("park", func(j *scheduler.Job) { j.Retry.Park = true }) {
		if _, ok := b.s.(scheduler.Operator); !ok {
			b.t.Error("it parks jobs, and nobody can retry, skip or end them")
		}
	}
	if taken("limits", func(j *scheduler.Job) { j.Limits = []string{scheduler.HostLimit("h1")} }) {
		if _, ok := b.s.(scheduler.QueueInspector); !ok {
			b.t.Error("it has limits, and nobody can look at them")
		}
	}
	if taken("remote", func(j *scheduler.Job) { j.Action = "far" }) {
		if _, ok := b.s.(scheduler.Broker); !ok {
			b.t.Error("it takes jobs of workers outside, and they cannot get them")
		}
	}
	// TakeLimits works under every scheduler.
	b.submit(with(job("t", "q", "takes"), map[string]any{"first": []string{"host:h1"}, "then": []string{"host:h2"}}))
	b.want("t=running")
	b.open("t", nil)
	b.open("t", nil)
	b.want("t=succeeded")
}
