package engine

import (
	"time"
)

// timer is something that is due at a time. Times are those of the monotonic
// clock, so that a jump of the wall clock ends no lease.
type timer struct {
	when  int64 // nanoseconds since the engine was opened
	pos   int
	job   *job
	queue *queue
	limit *limit
	pack  *pack
	what  duty
}

// duty is what has to be done now and then.
type duty uint8

const (
	noDuty    duty = iota
	dutyFlush      // write what nobody waits for
	dutyPrune      // forget what is too old
)

// mono is the monotonic clock.
func (b *Engine) mono() int64 { return int64(time.Since(b.began)) + 1 }

// in is a time of the monotonic clock after d.
func (b *Engine) in(d time.Duration) int64 {
	const century = 100 * 365 * 24 * time.Hour
	return b.mono() + int64(min(max(d, 1), century))
}

// setTimer makes *at due, or not due at all if when is 0.
func (b *Engine) setTimer(at **timer, when int64, fill timer) {
	t := *at
	switch {
	case when == 0 && t == nil:
	case when == 0:
		b.timers.remove(t)
		*at = nil
	case t == nil:
		t = new(timer) // not &fill, which would be made in the other cases too
		*t = fill
		t.when = when
		b.timers.add(t)
		*at = t
	case t.when != when:
		t.when = when
		b.timers.fix(t)
	}
}

// setAlarm sees to it that ring is called when the first timer is due. The caller
// holds b.mu.
func (b *Engine) setAlarm() {
	if b.closed || len(b.timers) == 0 {
		if b.alarm != nil {
			b.alarm.Stop()
		}
		b.alarmAt = 0
		return
	}
	when := b.timers[0].when
	if b.alarmAt == when {
		return
	}
	b.alarmAt = when
	d := time.Duration(max(when-b.mono(), 0))
	if b.alarm == nil {
		b.alarm = time.AfterFunc(d, b.ring)
	} else {
		b.alarm.Reset(d)
	}
}

// ring does what is due.
func (b *Engine) ring() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.work.Add(1) // Close waits for it
	defer b.work.Done()
	b.alarmAt = 0
	cmd := &dueCmd{}
	for now := b.mono(); len(b.timers) > 0 && b.timers[0].when <= now; {
		t := b.timers[0]
		b.timers.remove(t)
		switch {
		case t.job != nil:
			t.job.timer = nil
			cmd.jobs = append(cmd.jobs, t.job)
		case t.pack != nil:
			if t.pack.build != nil {
				t.pack.build.timer = nil
				cmd.packs = append(cmd.packs, t.pack)
			}
		case t.queue != nil:
			t.queue.timer = nil
			b.core.touchQueue(t.queue)
		case t.limit != nil:
			t.limit.timer = nil
			b.wakeLimit(t.limit)
		case t.what == dutyFlush:
			b.flushTimer = nil
			cmd.flush = true
		case t.what == dutyPrune:
			b.pruneTimer = nil
			b.prune(1024)
		}
	}
	b.settle()
	b.mu.Unlock()
	if len(cmd.jobs) > 0 || len(cmd.packs) > 0 || cmd.flush {
		b.due(cmd)
	}
}

// timers is a heap, the first to be due in front.
type timers []*timer

func (h *timers) add(t *timer) {
	t.pos = len(*h)
	*h = append(*h, t)
	h.up(t.pos)
}

func (h *timers) remove(t *timer) {
	i, n := t.pos, len(*h)-1
	(*h)[i] = (*h)[n]
	(*h)[i].pos = i
	(*h)[n] = nil
	*h = (*h)[:n]
	if i < n {
		h.fix((*h)[i])
	}
}

func (h *timers) fix(t *timer) {
	h.up(t.pos)
	h.down(t.pos)
}

func (h timers) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if h[p].when <= h[i].when {
			return
		}
		h.swap(p, i)
		i = p
	}
}

func (h timers) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].when < h[c].when {
			c++
		}
		if h[i].when <= h[c].when {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h timers) swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].pos, h[b].pos = a, b
}
