package engine

import (
	"context"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Heartbeat implements scheduler.Broker.
func (b *Engine) Heartbeat(_ context.Context, beat scheduler.Beat) (scheduler.Beaten, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return scheduler.Beaten{}, scheduler.ErrClosed
	}
	j, err := b.held(beat.Hold, false)
	if err != nil {
		return scheduler.Beaten{}, err
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
func (b *Engine) AddLog(_ context.Context, h scheduler.Hold, list ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return scheduler.ErrClosed
	}
	j, err := b.held(h, false)
	if err != nil {
		return err
	}
	b.addLines(j, list...)
	b.settle()
	return nil
}

// addLines adds to a job's log; what is beyond the bounds is neither kept nor
// written.
func (b *Engine) addLines(j *job, list ...string) {
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
		b.wakeLog(j)
	}
}

// progress keeps how far an attempt is.
func (b *Engine) progress(j *job, percent int, words string) {
	b.core.touch(j)
	j.past.percent, j.past.progress = min(max(percent, 0), 100), cut(words, maxText)
	if now := b.mono(); now-j.run.told >= int64(100*time.Millisecond) || j.past.percent == 100 {
		j.run.told = now
		b.events.add(j)
	}
}
