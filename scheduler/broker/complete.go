package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// answer is how an attempt ended, as its worker says.
type answer struct {
	scheduler.Completion
	back   bool   // it is given back
	reason string // why
	goErr  error  // the error itself, of a function of this process

	job *job
	err error // it is refused
}

// completeCmd ends attempts. Each answer stands alone.
type completeCmd struct{ list []*answer }

func (c *completeCmd) alone() bool { return false }

func (c *completeCmd) prepare(b *Broker, t *tx) error {
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
		j, err := b.held(a.Hold)
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

// held finds the job of a lease that is valid.
func (b *Broker) held(h scheduler.Hold) (*job, error) {
	j := b.core.jobs[h.Job]
	if j == nil || j.run == nil || j.run.token != h.Token || j.run.remote && b.mono() >= j.run.until {
		return nil, stale(h)
	}
	return j, nil
}

func stale(h scheduler.Hold) error {
	return fmt.Errorf("%w: the token %s of job %.64s is not that of an attempt that runs: drop what it has done and ask for the next job", scheduler.ErrStale, h.Token, h.Job)
}

// saidBefore finds the job of an answer that was taken already, so that a worker
// whose connection broke may say it again.
func (b *Broker) saidBefore(a *answer) *job {
	j := b.core.jobs[a.Job]
	if j == nil || j.run != nil || j.past == nil || j.past.token != a.Token || j.past.said == 0 || a.back || j.past.said != saidHash(a.Completion) {
		return nil
	}
	return j
}

// judge decides what follows an attempt.
func (b *Broker) judge(j *job, a *answer) *settled {
	now := b.now()
	p := j.past
	r := &settled{
		seq: j.seq, at: now.UnixNano(), how: howEnds, said: saidHash(a.Completion), percent: p.percent, progress: p.progress,
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
func (b *Broker) fail(r *settled, j *job, final bool) {
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
func (b *Broker) unlessExpired(r *settled, j *job) {
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
func (b *Broker) giveUp(r *settled, j *job) {
	if j.retry().Park {
		r.how = howParks
	} else {
		r.how, r.state = howEnds, failed
	}
}

// lose is the end of an attempt whose lease ran out.
func (b *Broker) lose(j *job) *settled {
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
func (b *Broker) complete(ctx context.Context, list []*answer) ([]scheduler.Status, []error) {
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
func (b *Broker) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	if len(list) == 0 {
		return nil, nil
	}
	answers := make([]*answer, len(list))
	for i, c := range list {
		answers[i] = &answer{Completion: c}
	}
	return b.complete(ctx, answers)
}

// HandBack implements scheduler.Broker.
func (b *Broker) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	_, errs := b.complete(ctx, []*answer{{Completion: scheduler.Completion{Hold: h}, back: true, reason: reason}})
	return errs[0]
}

// Heartbeat implements scheduler.Broker.
func (b *Broker) Heartbeat(_ context.Context, beat scheduler.Beat) (scheduler.Beaten, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return scheduler.Beaten{}, scheduler.ErrClosed
	}
	j, err := b.held(beat.Hold)
	if err != nil || !j.run.remote {
		return scheduler.Beaten{}, stale(beat.Hold)
	}
	r, now := j.run, b.mono()
	if beat.Progress != "" {
		b.progress(j, beat.Percent, beat.Progress)
	}
	late := r.deadline > 0 && now > r.deadline
	if !late {
		r.until, r.wall = now+int64(r.length), b.now().Add(r.length).UnixNano()
		b.arm(j)
	}
	answer := scheduler.Beaten{Until: moment(r.wall), Cancel: j.cancelling()}
	if late && answer.Cancel == "" {
		r.overdue = true
		answer.Cancel = tooLong(j.timeout())
	}
	b.setAlarm()
	return answer, nil
}

// AddLog implements scheduler.Broker.
func (b *Broker) AddLog(_ context.Context, h scheduler.Hold, list ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return scheduler.ErrClosed
	}
	j, err := b.held(h)
	if err != nil {
		return err
	}
	b.addLines(j, list...)
	b.settle()
	return nil
}

// addLines adds to a job's log; what is beyond the bounds is neither kept nor
// written.
func (b *Broker) addLines(j *job, list ...string) {
	p := j.history()
	if len(p.lines) > maxLines || p.logBytes > maxLogBytes {
		return
	}
	r := &lines{seq: j.seq, first: p.logCount}
	at := b.now().UnixNano()
	for _, text := range list[:min(len(list), maxLines+1)] {
		r.list = append(r.list, line{at: at, attempt: j.attempt, text: cut(trimLine(text), maxText)})
	}
	if len(r.list) > 0 {
		b.note(r)
	}
}

// progress keeps how far an attempt is.
func (b *Broker) progress(j *job, percent int, words string) {
	b.core.touch(j)
	j.past.percent, j.past.progress = min(max(percent, 0), 100), cut(words, maxText)
	if now := b.mono(); now-j.run.told >= int64(100*time.Millisecond) || j.past.percent == 100 {
		j.run.told = now
		b.events.add(j)
	}
}

// dueCmd does what a timer is for.
type dueCmd struct {
	jobs  []*job
	packs []*pack
	flush bool
}

func (d *dueCmd) alone() bool { return true }

func (d *dueCmd) prepare(b *Broker, t *tx) error {
	t.flush = d.flush
	now, wall := b.mono(), b.now()
	for _, j := range d.jobs {
		if b.core.jobs[j.id] != j {
			continue
		}
		switch r := b.overdue(j, now, wall); {
		case r != nil && t.claim(j):
			r.maybe = true
			t.add(r)
		case r == nil:
			b.arm(j)
		}
	}
	for _, p := range d.packs {
		if p.build != nil && b.core.packs.byID[p.id] == p && !wall.Before(moment(p.build.expires)) {
			t.add(&discarded{p.id})
		} else {
			b.armPack(p)
		}
	}
	return nil
}

// overdue is what time does to a job now, nil if nothing.
func (b *Broker) overdue(j *job, now int64, wall time.Time) *settled {
	at := wall.UnixNano()
	switch e := j.expires(); {
	case j.state == waiting && e != 0 && !wall.Before(moment(e)):
		last := ""
		if j.past != nil {
			last = j.past.errText
		}
		return &settled{seq: j.seq, at: at, how: howEnds, state: expired, err: expiredText(e, last)}
	case j.ready() && int(j.lost) >= b.cfg.MaxLost:
		r := &settled{seq: j.seq, at: at, err: fmt.Sprintf("%d attempts ended without an answer", j.lost)}
		b.giveUp(r, j)
		return r
	case j.state == running && j.run.remote && now >= j.run.until:
		return b.lose(j)
	case j.state == parked && wall.Sub(moment(j.past.parked)) >= b.cfg.ParkFor:
		return &settled{seq: j.seq, at: at, how: howEnds, state: failed, err: fmt.Sprintf("it was parked for %s: %s", b.cfg.ParkFor, j.past.errText), code: j.past.code}
	}
	return nil
}

// due commits what time has done. If the disk takes nothing it is tried again.
func (b *Broker) due(cmd *dueCmd) {
	err := b.do(context.Background(), cmd)
	if err == nil || errors.Is(err, scheduler.ErrClosed) {
		return
	}
	b.log.Error("broker: what is due cannot be written, it is tried again", "jobs", len(cmd.jobs), "packages", len(cmd.packs), "err", err)
	b.mu.Lock()
	defer b.mu.Unlock()
	again := b.mono() + int64(retryWrite)
	for _, j := range cmd.jobs {
		if b.core.jobs[j.id] == j && !j.state.ended() && j.timer == nil {
			b.setTimer(&j.timer, again, timer{job: j})
		}
	}
	for _, p := range cmd.packs {
		if p.build != nil && p.build.timer == nil {
			b.setTimer(&p.build.timer, again, timer{pack: p})
		}
	}
	if cmd.flush && b.flushTimer == nil {
		b.setTimer(&b.flushTimer, again, timer{what: dutyFlush})
	}
	b.setAlarm()
}

// retryWrite is the time between two attempts to write what must be written.
const retryWrite = time.Second

// arm makes the timer of a job, by its state.
func (b *Broker) arm(j *job) {
	var when int64
	switch j.state {
	case waiting:
		if e := j.expires(); e != 0 {
			when = b.in(until(e, b.now()))
		}
	case running:
		if j.run.remote {
			when = j.run.until
		}
	case parked:
		when = b.in(b.cfg.ParkFor - b.now().Sub(moment(j.past.parked)))
	}
	b.setTimer(&j.timer, when, timer{job: j})
}

func (b *Broker) armPack(p *pack) {
	if p.build != nil {
		b.setTimer(&p.build.timer, b.in(until(p.build.expires, b.now())), timer{pack: p})
	}
}
