package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// status is a job as it is now, without its attempts. The caller holds b.mu.
func (b *Engine) status(j *job) scheduler.Status {
	st := scheduler.Status{
		Job: j.call(), Package: j.pack.id, State: j.state.word(),
		Attempt: int(j.attempt), Failed: int(j.failed), Lost: int(j.lost), SubmittedAt: moment(j.submitted),
	}
	if j.state == waiting {
		st.Waiting = b.waitsFor(j)
	}
	p := j.past
	if p == nil {
		return st
	}
	st.Token, st.Percent, st.Progress = p.token, p.percent, p.progress
	st.Result, st.Error, st.Code, st.Cause = registry.TrustedDocument(p.result), p.errText, p.code, p.cause
	st.StartedAt, st.EndedAt, st.ParkedAt = moment(p.started), moment(p.ended), moment(p.parked)
	if r := j.run; r != nil {
		st.Overdue = r.overdue || r.deadline > 0 && b.mono() > r.deadline
		st.Waiting = r.waits
		if r.note != "" {
			st.Waiting = r.note
		}
		if r.remote {
			st.Worker, st.Until = r.worker, moment(r.wall)
		}
	}
	if p.err != nil {
		st = st.WithErr(p.err)
	}
	return st
}

// waitsFor says in words why a job does not run.
func (b *Engine) waitsFor(j *job) string {
	for _, d := range j.after {
		if on := b.core.table.get(d.seq); !d.met && on != nil && !on.state.ended() {
			if on.state == parked {
				return fmt.Sprintf("waiting for job %s, which is parked", on.id)
			}
			return "waiting for job " + on.id
		}
	}
	q := j.queue
	if q.modeNow() == scheduler.Paused {
		text := "queue " + q.name + " is paused"
		if why := q.reasonNow(); why != "" {
			text += ": " + why
		}
		return text
	}
	if q.holder != nil {
		return fmt.Sprintf("waiting for its turn in queue %s behind job %s", q.name, q.holder.id)
	}
	if len(q.ready) > 0 && q.ready[0] != j {
		return fmt.Sprintf("waiting for its turn in queue %s behind job %s", q.name, q.ready[0].id)
	}
	if j.backoff(b.now()) > 0 {
		return fmt.Sprintf("waiting %s before attempt %d", j.past.delay, j.attempt+1)
	}
	if q.bucket.next(b.mono()) != 0 {
		return fmt.Sprintf("waiting for the rate %s of queue %s", q.bucket.rate, q.name)
	}
	if l := b.blocking(j.limits()); l != nil {
		return "waiting for " + l.name
	}
	return "waiting for a worker"
}

// find gives the job of an ID.
func (b *Engine) find(id string) (*job, error) {
	if j := b.core.jobs[id]; j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("%w: there is no job %.64q: those that ended are kept for %s, and at most %d of them",
		scheduler.ErrNotFound, id, b.cfg.HistoryAge, b.cfg.HistoryCount)
}

// Status implements scheduler.Inspector.
func (b *Engine) Status(_ context.Context, id string) (scheduler.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.find(id)
	if err != nil {
		return scheduler.Status{}, err
	}
	st := b.status(j)
	if j.past != nil {
		st.Attempts = make([]scheduler.Attempt, len(j.past.attempts))
		for i, a := range j.past.attempts {
			st.Attempts[i] = scheduler.Attempt{Number: int(a.number), Token: a.token, Worker: a.worker, Began: moment(a.began), Ended: moment(a.ended), Outcome: a.outcome}
		}
	}
	return st, nil
}

// Log implements scheduler.Inspector.
func (b *Engine) Log(_ context.Context, id string) ([]scheduler.Line, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.find(id)
	if err != nil || j.past == nil {
		return nil, err
	}
	list := make([]scheduler.Line, len(j.past.lines))
	for i, l := range j.past.lines {
		list[i] = scheduler.Line{At: moment(l.at), Attempt: int(l.attempt), Text: l.text}
	}
	return list, nil
}

// listAtOnce is how many jobs List looks at with the engine locked.
const listAtOnce = 256

// List implements scheduler.Inspector. A job that changes while the list is read
// is in it as it was at some time.
func (b *Engine) List(ctx context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) {
		left := f.Limit
		if left <= 0 {
			left = -1
		}
		b.mu.Lock()
		cursor := b.core.seq + 1
		b.mu.Unlock()
		for done := false; !done && left != 0; {
			if err := ctx.Err(); err != nil {
				yield(scheduler.Status{}, err)
				return
			}
			var found []scheduler.Status
			b.mu.Lock()
			for range listAtOnce {
				j := b.core.older(f, cursor)
				if j == nil {
					done = true
					break
				}
				cursor = j.seq
				if !b.matches(f, j) {
					continue
				}
				found = append(found, b.status(j))
				if left--; left == 0 {
					break
				}
			}
			b.mu.Unlock()
			for _, st := range found {
				if !yield(st, nil) {
					return
				}
			}
		}
	}
}

// older is the last job before the number seq that may match: of the package or
// the queue that is asked for, or of all.
func (c *core) older(f scheduler.Filter, seq uint64) *job {
	at := c.table.get(seq)
	switch {
	case f.Package != "":
		p := c.packs.byID[f.Package]
		if p == nil {
			return nil
		}
		i := len(p.jobs)
		if at != nil && at.pack == p {
			i = int(at.index)
		}
		for i--; i >= 0; i-- {
			if j := p.jobs[i]; j != nil && j.seq < seq {
				return j
			}
		}
		return nil
	case f.Queue != "":
		if at != nil && at.queue.name == f.Queue {
			return at.older
		}
		q := c.queues[f.Queue]
		if q == nil {
			return nil
		}
		j := q.newest // what was found before is forgotten
		for j != nil && j.seq >= seq {
			j = j.older
		}
		return j
	}
	return c.table.before(seq)
}

// matches is f.Matches before the status is made.
func (b *Engine) matches(f scheduler.Filter, j *job) bool {
	return f.Matches(scheduler.Status{Job: scheduler.Job{Queue: j.queue.name, Action: j.action}, Package: j.pack.id, State: j.state.word()})
}

// Wait implements scheduler.Inspector. A handler that would wait for itself is
// refused; while one waits it takes none of the places that the workers of this
// process share.
func (b *Engine) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.find(id)
	if err != nil {
		return scheduler.Status{}, err
	}
	if self := b.caller(ctx); self != nil && self.run != nil && !j.state.ended() {
		if chain := b.circle(self, []*job{j}); chain != "" {
			return scheduler.Status{}, fmt.Errorf("%w: job %s would wait for itself: %s waits for %s: let another job do it, after this one",
				scheduler.ErrConflict, self.id, self.id, chain)
		}
		if why := b.deadlock(self, j, nil); why != "" {
			return scheduler.Status{}, fmt.Errorf("%w: job %s would wait for itself: %s waits for %s, which %s: let another job do it, after this one",
				scheduler.ErrConflict, self.id, self.id, j.id, why)
		}
		defer b.awaiting(self, j)()
	}
	for !j.state.ended() {
		if b.closed {
			return scheduler.Status{}, fmt.Errorf("job %s has not ended yet: %w", id, scheduler.ErrClosed)
		}
		ch := b.waits[j]
		if ch == nil {
			ch = make(chan struct{})
			b.waits[j] = ch
		}
		b.mu.Unlock()
		select {
		case <-ch:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			return scheduler.Status{}, fmt.Errorf("job %s has not ended yet: %w", id, context.Cause(ctx))
		}
	}
	return b.status(j), nil
}

// awaiting notes that the function of self waits for j, until what it returns is
// called.
func (b *Engine) awaiting(self, j *job) func() {
	if b.awaits[self] == nil {
		b.awaits[self] = map[*job]int{}
	}
	b.awaits[self][j]++
	b.runner.used--
	b.settle()
	b.dispatch()
	b.settle()
	return func() {
		b.runner.used++
		if b.awaits[self][j]--; b.awaits[self][j] == 0 {
			delete(b.awaits[self], j)
		}
		if len(b.awaits[self]) == 0 {
			delete(b.awaits, self)
		}
	}
}

// tell lets those know who wait for a job or watch.
func (b *Engine) tell(j *job) {
	b.arm(j)
	b.events.add(j)
	b.wakeLog(j)
	if why := j.cancelling(); why != "" && j.run != nil && j.run.task != nil {
		j.run.task.cancel(errors.New(why))
	}
	if ch := b.waits[j]; ch != nil && j.state.ended() {
		delete(b.waits, j)
		close(ch)
	}
}

// released is called when an attempt is over.
func (b *Engine) released(j *job, r *run) {
	b.releaseLimits(j, r)
	if b.crew != nil && !r.remote {
		b.crew.Over(r.worker, j.id, r.token)
	}
}

func trimLine(s string) string { return strings.TrimRight(s, "\n") }

// by is who does something, and why, from the trail of ctx.
func by(what string, t trail.Trail, reason string) string {
	if t.Source != "" {
		what += " by " + t.Source
	}
	if reason != "" {
		what += ": " + reason
	}
	return what
}
