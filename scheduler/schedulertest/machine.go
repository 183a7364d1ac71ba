package schedulertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// The state machine does to a scheduler, and to a model made of lists and
// loops, whatever submitters, workers, operators and time can do. The model
// decides nothing: it says whether what the scheduler did was allowed.

// machineRuns is how often rapid plays a plan.
const machineRuns = 100

// act is one step of a plan: what is meant depends on what is there then.
type act struct {
	kind string
	n    int // which one
	jobs []wish
}

// wish is a job of a plan.
type wish struct {
	queue, action, attempts, limits int
	after                           []int
	accept, park, expires           bool
}

func machineActs(reopen bool) []string {
	kinds := []string{
		"submit", "submit", "submit", "submit", "next", "next", "next", "next", "complete", "complete", "complete", "fail", "fail", "final",
		"late", "beat", "hand-back", "cancel", "cancel", "open", "open", "open", "break", "break", "pass", "pass", "pass", "pause", "resume", "resume", "retry", "retry", "skip", "done",
	}
	if reopen {
		kinds = append(kinds, "reopen")
	}
	return kinds
}

func machinePlans(steps int, reopen bool) *rapid.Generator[[]act] {
	few := rapid.IntRange(0, 9)
	wishes := rapid.Custom(func(t *rapid.T) wish {
		return wish{
			queue: rapid.IntRange(0, 3).Draw(t, "queue"), action: few.Draw(t, "action"), attempts: rapid.IntRange(0, 2).Draw(t, "attempts"),
			limits: few.Draw(t, "limits"), after: rapid.SliceOfN(rapid.IntRange(1, 6), 0, 2).Draw(t, "after"),
			accept: few.Draw(t, "accept") < 3, park: few.Draw(t, "park") < 5, expires: few.Draw(t, "expires") < 1,
		}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		a := act{kind: rapid.SampledFrom(machineActs(reopen)).Draw(t, "kind"), n: rapid.IntRange(0, 99).Draw(t, "n")}
		if a.kind == "submit" {
			a.jobs = rapid.SliceOfN(wishes, 1, 3).Draw(t, "jobs")
		}
		return a
	}), steps, steps)
}

func machine(t *testing.T, open Opener, reopen bool) {
	steps := max(testlong.Count(t, 20_000)/machineRuns, 1)
	plans := machinePlans(steps, reopen)
	rapid.Check(t, func(rt *rapid.T) {
		plan := plans.Draw(rt, "plan")
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, open.with(standard()))
			failure = newPlayer(newHands(b)).play(plan)
			b.close()
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// player plays a plan with a scheduler and its model.
type player struct {
	*hands
	m       *world
	history []string
	problem string
	leases  []scheduler.Lease // all that were ever handed out and not completed
}

func newPlayer(h *hands) *player {
	return &player{hands: h, m: &world{queues: map[string]*worldQueue{}}}
}

func (p *player) play(plan []act) string {
	for _, a := range plan {
		p.step(a)
		p.elapse()
		if p.problem == "" {
			p.compare()
		}
		if p.problem != "" {
			return strings.Join(p.history, "\n") + "\n" + p.problem
		}
	}
	return ""
}

func (p *player) note(format string, args ...any) {
	p.history = append(p.history, fmt.Sprintf(format, args...))
}

func (p *player) fail(format string, args ...any) {
	if p.problem == "" {
		p.problem = fmt.Sprintf(format, args...)
	}
}

func pick[T any](list []T, n int) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[n%len(list)], true
}

func (p *player) step(a act) {
	m := p.m
	m.at = time.Now()
	switch a.kind {
	case "submit":
		p.submits(a)
	case "next":
		p.next(a)
	case "complete", "fail", "final", "late", "beat", "hand-back":
		if l, ok := pick(p.leases, a.n); ok {
			p.answer(a.kind, l)
		}
	case "cancel":
		if j, ok := pick(m.in(scheduler.Waiting, scheduler.Running, scheduler.Parked), a.n); ok {
			p.note("cancel %s", j.id)
			if err := p.op.Cancel(ctx(), j.id, "not needed"); err != nil {
				p.fail("cannot cancel %s: %v", j.id, err)
			}
			synctest.Wait()
			if j.state == scheduler.Running && j.remote {
				j.cancelled = true
			} else {
				m.end(j, scheduler.Cancelled)
			}
		}
	case "open", "break":
		j, ok := pick(slices.DeleteFunc(m.in(scheduler.Running), func(j *worldJob) bool { return j.remote }), a.n)
		if !ok {
			return
		}
		p.note("%s %s", a.kind, j.id)
		if a.kind == "open" {
			p.open(j.id, nil)
			m.end(j, scheduler.Succeeded)
		} else {
			p.open(j.id, errBoom)
			m.broke(j, false)
		}
	case "pass":
		d := []time.Duration{time.Second, 7 * time.Second, 11 * time.Second, 31 * time.Second, 5 * time.Minute}[a.n%5]
		p.note("pass %s", d)
		p.pass(d + time.Millisecond)
	case "pause", "resume":
		q := m.queue(worldQueues()[a.n%4])
		q.paused = a.kind == "pause"
		p.note("%s %s", a.kind, q.name)
		mode := scheduler.Open
		if q.paused {
			mode = scheduler.Paused
		}
		if _, err := p.op.SetQueue(ctx(), q.name, mode); err != nil {
			p.fail("cannot %s %s: %v", a.kind, q.name, err)
		}
		synctest.Wait()
	case "retry", "skip", "done":
		p.operate(a)
	case "reopen":
		p.note("reopen")
		p.reopen()
		*p.hands = *newHands(p.bench)
		m.at = time.Now()
		m.reopened()
	}
}

// worldQueues are two of the scheduler's own workers, and two of those outside.
func worldQueues() []string { return []string{"q0", "q1", "r-0", "r-1"} }

func (p *player) submits(a act) {
	var jobs []scheduler.Job
	var list []*worldJob
	from := len(p.m.jobs)
	for i, w := range a.jobs {
		j := job(fmt.Sprintf("j%d", from+i), worldQueues()[w.queue], "gate")
		remote := w.queue > 1
		switch {
		case w.action < 2:
			j.Action = "start"
		case w.action == 2:
			j.Action = "stop"
		case remote:
			j.Action = "far"
		}
		j.Retry = scheduler.Retry{Attempts: w.attempts, Backoff: scheduler.Span(10 * time.Second), Park: w.park && j.Action != "start"}
		if w.limits < 3 {
			j.Limits = [][]string{{"one"}, {"two"}, {"one", "two"}}[w.limits]
		}
		if w.expires {
			j.Expires = time.Now().Add(20*time.Second + time.Duration(from+i)*time.Microsecond) // none at the same moment
		}
		for _, back := range w.after {
			on := from + i - back
			if on < 0 || on < from && p.m.jobs[on].skipped || slices.ContainsFunc(j.After, func(d scheduler.Dependency) bool { return d.ID == fmt.Sprint("j", on) }) {
				continue
			}
			d := scheduler.Dependency{ID: fmt.Sprint("j", on)}
			if w.accept {
				d.Accept = []scheduler.State{scheduler.Succeeded, scheduler.Failed, scheduler.Cancelled, scheduler.Expired}
			}
			j.After = append(j.After, d)
		}
		jobs = append(jobs, j)
		list = append(list, &worldJob{id: j.ID, job: j, remote: remote, urgent: j.Action == "stop", state: scheduler.Waiting, met: map[string]bool{}})
	}
	p.note("submit %+v", jobs)
	if _, err := p.s.Submit(ctx(), scheduler.Package{Jobs: jobs}); err != nil {
		p.fail("refused: %v", err)
		return
	}
	synctest.Wait()
	p.m.submit(list)
}

func (p *player) next(a act) {
	w := scheduler.Want{Worker: "w", Max: 1 + a.n%3}
	switch a.n % 4 {
	case 1:
		w.Queues = []string{"r-0"}
	case 2:
		w.Queues = []string{"r-1"}
	}
	list, err := p.broker.Next(ctx(), w)
	if err != nil {
		p.fail("next: %v", err)
		return
	}
	synctest.Wait()
	p.note("next %v max %d: %v", w.Queues, w.Max, leased(list))
	if len(list) > w.Max {
		p.fail("%d jobs are handed out", len(list))
	}
	for _, l := range list {
		j := p.m.job(l.Job)
		if j == nil || !j.remote || w.Queues != nil && !slices.Contains(w.Queues, j.job.Queue) {
			p.fail("%s is handed out to a worker that cannot have it", l.Job)
			return
		}
		p.begins(j, l.Attempt, scheduler.Status{Token: l.Token})
		j.until = p.m.at.Add(lease)
		if !l.Until.Equal(j.until) {
			p.fail("the lease of %s is until %s, want %s", l.Job, l.Until, j.until)
		}
		p.leases = append(p.leases, l)
	}
	if len(list) < w.Max {
		for _, j := range p.m.eligible() {
			if j.remote && p.m.sure(j) && (w.Queues == nil || slices.Contains(w.Queues, j.job.Queue)) {
				p.fail("%s is not handed out although nothing is in its way", j.id)
			}
		}
	}
}

// begins checks that the job may begin now, and lets it.
func (p *player) begins(j *worldJob, attempt int, st scheduler.Status) {
	if !slices.Contains(p.m.eligible(), j) {
		p.fail("%s began, which may not: %s", j.id, p.m.why(j))
	}
	if attempt <= j.attempt {
		p.fail("attempt %d of %s follows %d", attempt, j.id, j.attempt)
	}
	q := p.m.queue(j.job.Queue)
	if st.Token.Compare(q.token) <= 0 {
		p.fail("token %s of queue %s follows %s", st.Token, q.name, q.token)
	}
	q.token, q.last = st.Token, j
	j.attempt, j.token, j.state = attempt, st.Token, scheduler.Running
}

// elapse does to the model what time has done: it ends leases, backoffs and jobs
// that nobody began in time, one after the other, and lets it follow what the
// scheduler's own workers began meanwhile.
func (p *player) elapse() {
	m, end := p.m, time.Now()
	for {
		j, when := m.nextEvent(end)
		if j == nil {
			break
		}
		switch m.at, m.since = when, when; {
		case j.state == scheduler.Running:
			m.lost(j)
		case !j.job.Expires.IsZero() && !j.job.Expires.After(when):
			m.end(j, scheduler.Expired)
		}
		p.follow()
	}
	m.at, m.since = end, end
	p.follow()
}

// follow lets the model begin what the scheduler's own workers began.
func (p *player) follow() {
	p.m.settle()
	for again := true; again; {
		again = false
		for _, j := range p.m.eligible() {
			if j.remote {
				continue
			}
			if st := p.status(j.id); st.State == scheduler.Running && st.Attempt > j.attempt && !st.StartedAt.After(p.m.at) {
				p.begins(j, st.Attempt, st)
				again = true
				break
			}
		}
	}
}

func (p *player) answer(kind string, l scheduler.Lease) {
	j := p.m.job(l.Job)
	held := j.state == scheduler.Running && j.token == l.Token
	p.note("%s %s token %s (held %t)", kind, l.Job, l.Token, held)
	var err error
	switch kind {
	case "late":
		l.Token.Number += 1_000_000
		held = false
		_, err = p.complete(scheduler.Completion{Hold: l.Hold})
	case "complete":
		_, err = p.complete(scheduler.Completion{Hold: l.Hold, Result: result(map[string]int{"n": 1})})
	case "fail", "final":
		_, err = p.complete(scheduler.Completion{Hold: l.Hold, Error: "it broke", Final: kind == "final"})
	case "beat":
		var b scheduler.Beaten
		if b, err = p.broker.Heartbeat(ctx(), scheduler.Beat{Hold: l.Hold}); err == nil && held && (b.Cancel != "") != j.cancelled {
			p.fail("the worker of %s is told %q", j.id, b.Cancel)
		}
	case "hand-back":
		err = p.broker.HandBack(ctx(), l.Hold, "stopping")
	}
	synctest.Wait()
	if held != (err == nil) || err != nil && !errors.Is(err, scheduler.ErrStale) {
		p.fail("it is answered with %v", err)
	}
	if !held {
		return
	}
	if kind != "beat" {
		p.leases = slices.DeleteFunc(p.leases, func(o scheduler.Lease) bool { return o.Hold == l.Hold })
	}
	switch state := p.status(j.id).State; {
	case kind == "beat":
		j.until = p.m.at.Add(lease)
	case kind == "complete" && (!j.cancelled || state == scheduler.Succeeded):
		p.m.end(j, scheduler.Succeeded)
	case j.cancelled:
		p.m.end(j, scheduler.Cancelled)
	case kind == "hand-back":
		j.state = scheduler.Waiting
	default:
		p.m.broke(j, kind == "final")
	}
}

func (p *player) operate(a act) {
	states := []scheduler.State{scheduler.Parked}
	if a.kind == "retry" {
		states = append(states, scheduler.Failed)
	}
	j, ok := pick(p.m.in(states...), a.n)
	if !ok {
		return
	}
	if a.kind == "retry" && (p.m.accepted(j) || p.m.busy(j.job.Queue) || j.urgent || j.job.Action == "start") {
		return // whether those who went on wait for it again, and who overtakes it at the head, is nobody's promise
	}
	p.note("%s %s", a.kind, j.id)
	var err error
	switch a.kind {
	case "retry":
		_, err = p.op.Retry(ctx(), j.id, scheduler.RetryOptions{})
		p.m.retry(j)
	case "skip":
		_, err = p.op.Skip(ctx(), j.id)
		j.skipped = true
		p.m.end(j, scheduler.Cancelled)
	case "done":
		_, err = p.op.Done(ctx(), j.id, registry.Document{})
		p.m.end(j, scheduler.Succeeded)
	}
	synctest.Wait()
	if err != nil {
		p.fail("%s %s: %v", a.kind, j.id, err)
	}
}
