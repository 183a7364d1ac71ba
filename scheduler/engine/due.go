package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// dueCmd does what a timer is for.
type dueCmd struct {
	jobs  []*job
	packs []*pack
	flush bool
}

func (d *dueCmd) alone() bool { return true }

func (d *dueCmd) prepare(b *Engine, t *tx) error {
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
	if b.drafts != nil {
		return nil
	}
	return d.expire(b, t)
}

// expire discards packages that were not enqueued in time.
func (d *dueCmd) expire(b *Engine, t *tx) error {
	wall := b.now()
	for _, p := range d.packs {
		if p.build != nil && p.build.enqueues > 0 { // it may be refused
			b.setTimer(&p.build.timer, b.mono()+int64(retryWrite), timer{pack: p})
			continue
		}
		if p.build != nil && b.core.packs.byID[p.id] == p && !wall.Before(moment(p.build.expires)) {
			t.add(&discarded{p.id})
		} else {
			b.armPack(p)
		}
	}
	return nil
}

// overdue is what time does to a job now, nil if nothing.
func (b *Engine) overdue(j *job, now int64, wall time.Time) *settled {
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
func (b *Engine) due(cmd *dueCmd) {
	err := b.do(context.Background(), cmd)
	if err == nil {
		err = b.dueDrafts(cmd.packs)
	}
	if err == nil || errors.Is(err, scheduler.ErrClosed) || errors.Is(err, journal.ErrFailed) {
		return
	}
	b.log.Error("scheduler: what is due cannot be written, it is tried again", "jobs", len(cmd.jobs), "packages", len(cmd.packs), "err", err)
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
func (b *Engine) arm(j *job) {
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

func (b *Engine) armPack(p *pack) {
	if p.build != nil {
		b.setTimer(&p.build.timer, b.in(until(p.build.expires, b.now())), timer{pack: p})
	}
}
