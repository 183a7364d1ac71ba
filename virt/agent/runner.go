package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// runQueue works on the jobs of a queue, one after the other, and ends when
// there is none, or when the agent is being stopped. Whoever queues a job writes
// it before he wakes the queue; so who finds none looks once more where he says
// that he ends, and no job is left to nobody.
func (a *Agent) runQueue(r *run, queue string) {
	for {
		st := a.store.head(queue)
		a.mu.Lock()
		if r.soft.Err() != nil && !a.held[queue] || st == nil && a.store.head(queue) == nil {
			delete(a.runners, queue)
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		if st != nil && !a.runJob(r, st) {
			a.mu.Lock()
			delete(a.runners, queue)
			a.mu.Unlock()
			return
		}
	}
}

// runJob brings a job to its end. It is false if the agent was stopped before.
func (a *Agent) runJob(r *run, st *state) bool {
	p := a.actions[st.Action]
	if _, there := p.now(st); !there {
		return a.settle(r, st, func() *change {
			next := *st
			err := fmt.Errorf("what is done for %s was changed in the config since the job was queued, and stage %s is not there any more", st.Action, st.Stage)
			if st.Undo != nil {
				err = fmt.Errorf("%w; what stage %s had made, which failed (%s), may still be there: look, and delete the guest", err, st.Undo.Stage, st.Undo.Cause)
			}
			next.fail(err)
			return &change{jobs: []*state{&next}}
		}) != nil
	}
	for st != nil && !st.Status.Ended() {
		at, _ := p.now(st)
		if st.Status == mistify.JobRunning {
			if !a.takeHeld(st.queue()) && at.service.acquire(r.hard) != nil {
				return false
			}
		} else if st = a.start(r, st, at); st == nil {
			return false
		}
		out, err := a.callStage(r.hard, p, at, st)
		if err != nil && r.hard.Err() != nil {
			a.settle(r, st, func() *change { return &change{jobs: []*state{a.interrupted(st)}} })
			return false
		}
		st = a.settle(r, st, func() *change { return a.after(r, p, st, out, err) })
	}
	return st != nil
}

// start waits until a stage may be called, takes a place for it, and writes that
// it runs. It is nil if the agent is being stopped.
func (a *Agent) start(r *run, st *state, at step) *state {
	if wait := time.UnixMilli(st.RetryAt).Sub(a.now()); st.RetryAt > 0 && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.soft.Done():
			return nil
		}
	}
	if r.soft.Err() != nil || at.service.acquire(r.soft) != nil {
		return nil
	}
	now := a.settle(r, st, func() *change {
		next := a.fresh(st)
		next.Status, next.UpdatedAt = mistify.JobRunning, since(a.now())
		if next.StartedAt.IsZero() {
			next.StartedAt = next.UpdatedAt
		}
		return &change{jobs: []*state{&next}}
	})
	if now == nil {
		at.service.release()
	}
	return now
}

// settle writes what became of a job, with the guest's lock held while that is
// decided and written. What cannot be written is tried again until it can, or
// until the agent is given up: then it is nil, and the job is what it was.
func (a *Agent) settle(r *run, st *state, decide func() *change) *state {
	wait := 50 * time.Millisecond
	for told := false; ; told = true {
		leave, err := a.locks.enter(context.Background(), st.queue())
		if err == nil {
			c := decide()
			err = a.store.do(context.Background(), c)
			leave()
			if err == nil {
				a.tell(c)
				return c.jobs[0]
			}
		}
		if !told {
			a.log.Error("agent: what became of a job cannot be written, and is tried again", "job", st.ID, "err", err, "trail", st.Trail)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.hard.Done():
			timer.Stop()
			return nil
		case <-a.store.failed:
			timer.Stop()
			return nil
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// tell logs the ends of jobs.
func (a *Agent) tell(c *change) {
	for _, st := range c.jobs {
		switch st.Status {
		case mistify.JobComplete:
			a.log.Info("agent: a job is complete", "job", st.ID, "guest", st.GuestID, "action", st.Action, "took", st.UpdatedAt.Sub(st.StartedAt).Round(time.Microsecond), "trail", st.Trail)
		case mistify.JobQueued, mistify.JobRunning:
			if st.Undo != nil {
				a.log.Warn("agent: a stage failed, and what the job made is removed", "job", st.ID, "guest", st.GuestID, "action", st.Action, "failed", st.Undo.Stage, "stage", st.Stage, "err", st.Message, "trail", st.Trail)
			}
		case mistify.JobError:
			a.log.Warn("agent: a job failed", "job", st.ID, "guest", st.GuestID, "action", st.Action, "stage", st.Stage, "err", st.Message, "trail", st.Trail)
		}
	}
}

// hold takes a place for the next stage, if it need not wait for one. A place
// that was held for a change that could not be written is the next one's.
func (a *Agent) hold(r *run, queue string, at step) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.soft.Err() != nil && !a.held[queue] {
		return false
	}
	if !a.held[queue] && !at.service.tryAcquire() {
		return false
	}
	a.held[queue] = true
	return true
}

// begin marks a job as one that runs, before it is written, if nothing is before
// it and its first stage can be called at once. That saves a sync.
func (a *Agent) begin(st *state, p *pipeline, queue string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.run == nil || a.run.soft.Err() != nil || !p.stages[0].service.tryAcquire() {
		return false
	}
	a.held[queue] = true
	st.Status, st.StartedAt = mistify.JobRunning, st.QueuedAt
	return true
}

// takeHeld reports whether the first job of the queue has its place already; it
// is the caller's then.
func (a *Agent) takeHeld(queue string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	had := a.held[queue]
	delete(a.held, queue)
	return had
}
