package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

func (r *opened) apply(c *core) error {
	c.store, c.epoch, c.number = r.store, max(r.epoch, c.epoch+1), 0
	var held []*job
	for _, q := range c.queues {
		switch j := q.holder; {
		case j == nil && !c.clean && len(q.ready) > 0:
			// It may have been handed out, and the record of that lost.
			head := q.ready[0]
			c.touch(head)
			if head.gap == math.MaxUint8 { // carried over, so that no number comes twice
				head.attempt, head.gap = head.attempt+uint32(head.gap), 0
			}
			head.gap++
		case j != nil && !j.run.remote && !slices.Contains(r.kept, j.run.worker):
			held = append(held, j)
		}
	}
	slices.SortFunc(held, func(a, b *job) int { return cmp.Compare(a.seq, b.seq) })
	for _, j := range held {
		c.touch(j)
		c.endAttempt(j, r.at, "lost")
		j.lost++
		if why := j.cancelling(); why != "" {
			c.end(j, cancelled, r.at, why, "")
			continue
		}
		c.giveBack(j)
	}
	c.clean = false
	return nil
}

func (r *closed) apply(c *core) error {
	c.clean, c.drafts = true, r.drafts
	return nil
}

func (r *handed) apply(c *core) error {
	j, err := c.find(r.seq)
	if err != nil {
		return err
	}
	token := trail.Token{Epoch: c.epoch, Number: r.number}
	if p := j.past; p != nil && p.token.Compare(token) >= 0 {
		return nil // a snapshot knew it already
	}
	if !j.ready() || j.queue.holder != nil {
		return misfit(j, "hands out")
	}
	c.touch(j)
	p := j.history()
	p.token, p.identity, p.started, p.said, p.ready, p.delay = token, r.identity, r.at, 0, 0, 0
	p.percent, p.progress, p.errText, p.code, p.err = 0, "", "", "", nil
	if len(p.attempts) == maxAttempts {
		p.attempts = append(p.attempts[:0], p.attempts[1:]...)
	}
	p.attempts = append(p.attempts, attempt{number: r.attempt, token: token, worker: r.worker, began: r.at})
	j.attempt, j.gap = r.attempt, 0
	j.run = &run{token: token, worker: r.worker, remote: r.remote, length: r.length}
	j.queue.take(j)
	c.setState(j, running)
	c.number = max(c.number, r.number)
	c.since.handed++
	c.change(j)
	c.touchQueue(j.queue)
	return nil
}

func (r *settled) apply(c *core) error {
	j, err := c.find(r.seq)
	switch {
	case err != nil:
		return err
	case j.state.ended():
		return nil // a record before it in the same round ended a job on which it depends
	case (r.how == howFails || r.how == howBack) && j.run == nil, r.how == howEnds && !r.state.ended():
		return misfit(j, "settles")
	}
	c.touch(j)
	p := j.history()
	if j.run != nil {
		p.said, p.percent, p.progress = r.said, r.percent, r.progress
	}
	if r.note != "" {
		p.addLine(line{at: r.at, attempt: j.attempt, text: r.note})
	}
	p.code, p.err = c.word(r.code), r.goErr
	switch {
	case r.lost:
		j.lost++
		c.since.lost++
	case r.failed:
		j.failed++
	}
	outcome := r.outcome()
	switch r.how {
	case howEnds:
		p.result, p.skipped = r.result, r.skipped
		c.endAttempt(j, r.at, outcome)
		c.end(j, r.state, r.at, r.err, r.cause)
		return nil
	case howParks:
		c.endAttempt(j, r.at, outcome)
		c.park(j, r.at, r.err)
		return nil
	case howFails:
		p.errText, p.ready, p.delay = r.err, r.ready, r.delay
	case howBack:
		p.errText = r.err
	}
	c.endAttempt(j, r.at, outcome)
	c.giveBack(j)
	return nil
}

// outcome is what is kept of the attempt.
func (r *settled) outcome() string {
	switch {
	case r.lost:
		return "lost"
	case r.how == howBack:
		return "handed back"
	case r.failed:
		return "failed: " + cut(r.err, 200)
	}
	return string(r.state.word())
}

// endAttempt closes the hand-out in force, if there is one.
func (c *core) endAttempt(j *job, at int64, outcome string) {
	if j.run == nil {
		return
	}
	c.release(j)
	p := j.past
	a := &p.attempts[len(p.attempts)-1]
	a.ended, a.outcome = at, outcome
}

func (c *core) release(j *job) {
	if j.run != nil && c.live {
		c.released = append(c.released, release{j, j.run})
	}
	j.run = nil
}

// giveBack returns a job whose attempt is over to its place.
func (c *core) giveBack(j *job) {
	c.setState(j, waiting)
	j.queue.giveBack(j)
	c.change(j)
	c.touchQueue(j.queue)
}

// leaveQueue takes a job that has not ended out of its queue, and out of the
// hands of its worker.
func (c *core) leaveQueue(j *job) {
	c.release(j)
	if j.state == parked {
		j.queue.parked--
	} else {
		j.queue.leave(j)
	}
	c.touchQueue(j.queue)
}

func (c *core) park(j *job, at int64, why string) {
	c.leaveQueue(j)
	c.setState(j, parked)
	j.queue.parked++
	p := j.past
	p.parked, p.errText = at, why
	c.change(j)
	for _, e := range j.dependents {
		c.change(e.job) // they say so
	}
}

// end gives a job its end, lets those go on that accept it, and ends those that
// do not, and so on.
func (c *core) end(j *job, s state, at int64, why, cause string) {
	c.endOne(j, s, at, why, cause)
	c.endDependents(j, at)
}

// endDependents does for those that depend on j, and on those that end because
// of it, what j's end means for them.
func (c *core) endDependents(j *job, at int64) {
	for todo := []*job{j}; len(todo) > 0; {
		on := todo[0]
		todo = todo[1:]
		if len(on.dependents) == 0 {
			continue
		}
		c.touch(on)
		kept := on.dependents[:0]
		for _, e := range on.dependents {
			d := e.job
			if e.accept.takes(on) {
				c.touch(d)
				d.after[e.at].met = true
				if d.state == waiting {
					if d.blockers--; d.blockers == 0 {
						d.queue.unblock(d)
						c.touchQueue(d.queue)
						c.change(d)
					}
				}
				continue
			}
			kept = append(kept, e)
			if d.state == waiting && d.blockers > 0 {
				c.endBlocked(d, on, at)
				todo = append(todo, d)
			}
		}
		clear(on.dependents[len(kept):])
		if on.dependents = kept; len(kept) == 0 {
			on.dependents = nil
		}
	}
}

// endBlocked ends a job that can never begin.
func (c *core) endBlocked(j, on *job, at int64) {
	c.endOne(j, cancelled, at, fmt.Sprintf("it depends on job %s (%s), which %s", on.id, on.action, on.state.word()), on.id)
}

func (c *core) endOne(j *job, s state, at int64, why, cause string) {
	c.touch(j)
	c.leaveQueue(j)
	c.setState(j, s)
	c.order++
	p := j.history()
	p.ended, p.order, p.errText, p.cause, p.ready, p.delay = at, c.order, why, cause, 0, 0
	if s == succeeded {
		p.percent, p.errText = 100, ""
	}
	j.blockers = 0
	if j.more != nil {
		j.more.cancel = ""
	}
	c.remember(j)
	j.pack.open--
	c.since.ended[s]++
	c.change(j)
}

func (r *stopping) apply(c *core) error {
	j, err := c.find(r.seq)
	if err != nil {
		return err
	}
	if j.run == nil {
		return misfit(j, "asks to stop")
	}
	c.touch(j)
	j.wants().cancel = r.why
	c.change(j)
	return nil
}

func (r *moded) apply(c *core) error {
	q := c.queue(r.queue)
	mode, reason := scheduler.QueueMode(r.mode), r.reason
	if !q.cfg.Paused && mode == scheduler.Open {
		mode, reason = "", ""
	}
	c.setMode(q, mode, reason)
	c.touchQueue(q)
	return nil
}

func (r *lines) apply(c *core) error {
	j, err := c.find(r.seq)
	if err != nil {
		return err
	}
	p := j.history()
	if skip := p.logCount - r.first; skip >= 0 && skip < len(r.list) {
		c.touch(j)
		before := p.logBytes
		for _, l := range r.list[skip:] {
			p.addLine(l)
		}
		if j.state.ended() {
			c.weight += int64(p.logBytes - before)
		}
	}
	return nil
}

// addLine keeps a line, within bounds.
func (p *past) addLine(l line) {
	p.logCount++
	switch {
	case len(p.lines) > maxLines || p.logBytes > maxLogBytes:
		return
	case len(p.lines) == maxLines || p.logBytes+len(l.text) > maxLogBytes:
		l.text = "further lines are not kept"
		p.logBytes = maxLogBytes
	}
	p.lines = append(p.lines, l)
	p.logBytes += len(l.text) + 1
}

// backoff is what is left before the next attempt may begin.
func (j *job) backoff(now time.Time) time.Duration {
	if j.past == nil || j.past.ready == 0 || j.state != waiting {
		return 0
	}
	return max(moment(j.past.ready).Sub(now), 0)
}
