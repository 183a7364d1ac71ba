package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// answer is how an attempt ended, as its worker says.
type answer struct {
	scheduler.Completion
	inside bool   // a function of this process says so
	back   bool   // it is given back
	lost   bool   // of a function: there is no answer
	reason string // why
	goErr  error  // the error itself, of a function of this process

	job *job
	err error   // it is refused
	rec settled // what follows
}

// completeCmd ends attempts. Each answer stands alone.
type completeCmd struct{ list []*answer }

func (c *completeCmd) alone() bool { return false }

func (c *completeCmd) prepare(b *Engine, t *tx) error {
	if b.closed {
		return scheduler.ErrClosed
	}
	for _, a := range c.list { // all or none in this round, so that no answer is taken twice
		if j := b.core.jobs[a.Job]; j != nil && j.pending {
			return errLater
		}
	}
	for _, a := range c.list {
		a.job, a.err = nil, nil
		j, err := b.held(a.Hold, a.inside)
		if err != nil {
			if a.job = b.saidBefore(a); a.job == nil {
				a.err = err
			}
			continue
		}
		a.job = j
		if !t.claim(j) {
			if a.back || j.run.said != saidHash(a.Completion) {
				a.job, a.err = nil, stale(a.Hold) // an answer before it in this list has ended the attempt
			}
			continue
		}
		j.run.said = saidHash(a.Completion)
		t.add(b.judge(j, a))
	}
	return nil
}

// held finds the job of a lease that is valid, and of whom says so: a function of
// this process, or a worker outside.
func (b *Engine) held(h scheduler.Hold, inside bool) (*job, error) {
	j := b.core.jobs[h.Job]
	if j == nil || j.run == nil || j.run.token != h.Token || j.run.remote == inside || j.run.remote && b.mono() >= j.run.until || !j.past.takenBy(h) {
		return nil, stale(h)
	}
	return j, nil
}

// takenBy reports whether who shows the hold of the last attempt may speak of it.
func (p *past) takenBy(h scheduler.Hold) bool { return h.Identity == "" || h.Identity == p.identity }

func stale(h scheduler.Hold) error {
	return fmt.Errorf("%w: the token %s of job %.64s is not that of an attempt that runs, or not yours: drop what it has done and ask for the next job", scheduler.ErrStale, h.Token, h.Job)
}

// saidBefore finds the job of an answer that was taken already, so that a worker
// whose connection broke may say it again.
func (b *Engine) saidBefore(a *answer) *job {
	j := b.core.jobs[a.Job]
	if j == nil || j.run != nil || j.past == nil || j.past.token != a.Token || j.past.said == 0 || a.back || !j.past.takenBy(a.Hold) || j.past.said != saidHash(a.Completion) {
		return nil
	}
	return j
}

// judge decides what follows an attempt.
func (b *Engine) judge(j *job, a *answer) *settled {
	if a.lost {
		return b.lose(j)
	}
	now := b.now()
	p := j.past
	r := &a.rec
	*r = settled{
		seq: j.seq, at: now.UnixNano(), how: howEnds, said: j.run.said, percent: p.percent, progress: p.progress,
		code: cut(a.Code, 200), goErr: a.goErr,
	}
	if a.Error == "" && !a.back {
		r.state = succeeded
		if !a.Result.IsEmpty() {
			r.result = a.Result.String()
		}
		return r
	}
	r.err = cut(a.Error, maxError)
	switch why := j.cancelling(); {
	case why != "":
		r.state, r.err = cancelled, why
		if a.Error != "" {
			r.note = fmt.Sprintf("attempt %d was cancelled, it answered: %s", j.attempt, cut(a.Error, 500))
		}
		return r
	case a.back:
		r.how, r.err, r.said = howBack, "", 0
		b.unlessExpired(r, j)
		r.note = fmt.Sprintf("attempt %d was handed back", j.attempt)
		if a.reason != "" {
			r.note += ": " + cut(a.reason, 500)
		}
		return r
	case j.run.remote && j.run.deadline > 0 && b.mono() > j.run.deadline:
		r.err = tooLong(j.timeout()) + ": " + r.err
	}
	b.fail(r, j, a.Final)
	return r
}

func tooLong(d time.Duration) string { return fmt.Sprintf("the attempt took longer than %s", d) }

// fail decides between another attempt and the end.
func (b *Engine) fail(r *settled, j *job, final bool) {
	r.failed = true
	retry := j.retry()
	if final || int(j.failed)+1 >= retry.Attempts {
		b.giveUp(r, j)
		return
	}
	r.how = howFails
	r.delay = retry.Delay(int(j.failed)+1, rand.Float64())
	r.ready = r.at + int64(r.delay)
	r.note = fmt.Sprintf("attempt %d failed: %s; the next follows in %s", j.attempt, cut(r.err, 500), r.delay)
	b.unlessExpired(r, j)
}

// unlessExpired ends a job that is too late for another attempt.
func (b *Engine) unlessExpired(r *settled, j *job) {
	if e := j.expires(); e != 0 && r.at >= e {
		r.how, r.state, r.ready, r.delay = howEnds, expired, 0, 0
		r.err = expiredText(e, r.err)
	}
}

func expiredText(e int64, last string) string {
	text := "it did not begin before " + moment(e).Format(time.RFC3339)
	if last != "" {
		text = fmt.Sprintf("it expired at %s, before its next attempt; the last one failed: %s", moment(e).Format(time.RFC3339), last)
	}
	return text
}

// giveUp parks the job, or ends it.
func (b *Engine) giveUp(r *settled, j *job) {
	if j.retry().Park {
		r.how = howParks
	} else {
		r.how, r.state = howEnds, failed
	}
}

// lose is the end of an attempt whose lease ran out.
func (b *Engine) lose(j *job) *settled {
	p := j.past
	r := &settled{seq: j.seq, at: b.now().UnixNano(), percent: p.percent, progress: p.progress, lost: true}
	switch why := j.cancelling(); {
	case why != "":
		r.how, r.state, r.err = howEnds, cancelled, why
	case j.run.deadline > 0 && b.mono() > j.run.deadline && j.run.overdue:
		r.lost = false
		r.err = tooLong(j.timeout()) + ", and its worker said nothing"
		b.fail(r, j, false)
	case int(j.lost)+1 >= b.cfg.MaxLost:
		r.err = fmt.Sprintf("%d attempts ended without an answer", j.lost+1)
		b.giveUp(r, j)
	default:
		r.how = howBack
		r.note = fmt.Sprintf("attempt %d ended without an answer of its worker %s", j.attempt, j.run.worker)
		b.unlessExpired(r, j)
	}
	return r
}

// complete takes answers, and gives the jobs as they are then.
func (b *Engine) complete(ctx context.Context, list []*answer) ([]scheduler.Status, []error) {
	err := b.do(ctx, &completeCmd{list: list})
	states, errs := make([]scheduler.Status, len(list)), make([]error, len(list))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, a := range list {
		switch {
		case a.err != nil:
			errs[i] = a.err
		case err != nil:
			errs[i] = err
		case a.job != nil:
			states[i] = b.status(a.job)
		}
	}
	return states, errs
}

// Complete implements scheduler.Broker.
func (b *Engine) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	if len(list) == 0 {
		return nil, nil
	}
	room, answers := make([]answer, len(list)), make([]*answer, len(list))
	for i, c := range list {
		room[i].Completion = c
		answers[i] = &room[i]
	}
	return b.complete(ctx, answers)
}

// HandBack implements scheduler.Broker.
func (b *Engine) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	_, errs := b.complete(ctx, []*answer{{Completion: scheduler.Completion{Hold: h}, back: true, reason: reason}})
	return errs[0]
}
