package engine

import (
	"slices"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// limit lends out slots. It is apart from the queues: a queue whose next job
// cannot have a slot waits here and nowhere else, so that a slot that becomes
// free looks only at those who want it.
type limit struct {
	name   string
	cfg    LimitConfig
	taken  []*job
	bucket bucket
	timer  *timer

	tasks   []*taker              // attempts that wait in TakeLimits, the longest waiting first
	waiting map[string]*queueHeap // queues that wait, by who could serve them
	n       int                   // of them
}

// The groups of queues that wait for a limit. Those whose next job is for a worker
// of this process are one; those that a waiting worker has named, and whose next job it
// can do, are another: each of them can be served. The rest are in groups by
// action, which begin with a word.
const (
	local   = ""
	awaited = "awaited"
)

// bucket counts hand-outs in the time before now.
type bucket struct {
	rate  scheduler.Rate
	times []int64 // of the last rate.Count, a ring
	at    int
}

// next is when the next one is allowed, 0 if it is now.
func (k *bucket) next(now int64) int64 {
	if k.rate.Count == 0 || len(k.times) < k.rate.Count {
		return 0
	}
	if when := k.times[k.at] + int64(k.rate.Per); when > now {
		return when
	}
	return 0
}

func (k *bucket) take(now int64) {
	switch {
	case k.rate.Count == 0:
	case len(k.times) < k.rate.Count:
		k.times = append(k.times, now)
	default:
		k.times[k.at] = now
		k.at = (k.at + 1) % len(k.times)
	}
}

// idle reports whether nothing is to be remembered.
func (k *bucket) idle(now int64) bool {
	return len(k.times) == 0 || k.times[(k.at+len(k.times)-1)%len(k.times)]+int64(k.rate.Per) <= now
}

// limit returns the limit of a name.
func (b *Engine) limit(name string) *limit {
	l := b.limits[name]
	if l == nil {
		cfg, _ := b.cfg.limit(name) // one that is no longer configured bounds nothing
		l = &limit{name: name, cfg: cfg, bucket: bucket{rate: scheduler.Rate(cfg.Rate)}, waiting: map[string]*queueHeap{}}
		b.limits[name] = l
	}
	return l
}

// free is how many could take it now.
func (l *limit) free(now int64) int {
	n := 1 << 30
	if l.cfg.Slots > 0 {
		n = l.cfg.Slots - len(l.taken)
	}
	if when := l.bucket.next(now); when != 0 {
		return 0
	}
	return n
}

// blocking returns the first of the limits that has no slot, nil if all have.
func (b *Engine) blocking(names []string) *limit {
	if len(names) == 0 {
		return nil
	}
	now := b.mono()
	for _, name := range names {
		if l := b.limit(name); l.free(now) <= 0 {
			return l
		}
	}
	return nil
}

// takeLimits gives the attempt slots that are known to be free.
func (b *Engine) takeLimits(j *job, names []string) {
	now := b.mono()
	for _, name := range names {
		l := b.limit(name)
		l.taken = append(l.taken, j)
		l.bucket.take(now)
		j.run.held = append(j.run.held, l)
	}
}

// releaseLimits takes an attempt's slots back.
func (b *Engine) releaseLimits(j *job, r *run) {
	held := r.held
	r.held = nil
	for _, l := range held {
		if i := slices.Index(l.taken, j); i >= 0 {
			l.taken = slices.Delete(l.taken, i, i+1)
		}
		b.wakeLimit(l)
	}
}

// awaitLimit lets a queue wait for a slot.
func (b *Engine) awaitLimit(q *queue, l *limit) {
	group := local
	switch {
	case !q.ready[0].remote:
	case b.waiters.named(q):
		group = awaited
	default:
		group = "action " + q.ready[0].action
	}
	h := l.waiting[group]
	if h == nil {
		h = &queueHeap{at: func(q *queue) *int32 { return &q.waitPos }}
		l.waiting[group] = h
	}
	h.push(q)
	q.waits, q.waitsIn = l, h
	l.n++
	b.rateTimer(l)
}

// rateTimer wakes those who wait when the limit's rate allows the next.
func (b *Engine) rateTimer(l *limit) {
	if when := l.bucket.next(b.mono()); when != 0 && (l.n > 0 || len(l.tasks) > 0) {
		b.setTimer(&l.timer, when, timer{limit: l})
	}
}

// stopWaiting takes a queue out of the limit for which it waits.
func (q *queue) stopWaiting() {
	if q.waits != nil {
		q.waitsIn.drop(q)
		q.waits.n--
		q.waits, q.waitsIn = nil, nil
	}
}

// wakeLimit lets as many look again as there are slots: of each group, since one
// that nobody can serve now must not be in the way of another.
func (b *Engine) wakeLimit(l *limit) {
	for len(l.tasks) > 0 {
		t := l.tasks[0]
		if on := b.blocking(t.names); on != nil {
			if on == l {
				break
			}
			l.tasks = l.tasks[1:] // it waits for another one now
			on.tasks = append(on.tasks, t)
			b.rateTimer(on)
			continue
		}
		l.tasks = l.tasks[1:]
		b.takeLimits(t.job, t.names)
		close(t.done)
	}
	free := l.free(b.mono())
	for name, h := range l.waiting {
		for n := free; n > 0 && len(h.list) > 0; n-- {
			q := h.list[0]
			q.stopWaiting()
			q.wants = []string{l.name} // or passes it on
			b.core.touchQueue(q)
		}
		if len(h.list) == 0 {
			delete(l.waiting, name)
		}
	}
	b.rateTimer(l)
	if len(l.taken) == 0 && l.n == 0 && len(l.tasks) == 0 && l.timer == nil && l.bucket.idle(b.mono()) {
		delete(b.limits, l.name)
	}
}

// taker is an attempt that waits in TakeLimits.
type taker struct {
	job   *job
	names []string
	done  chan struct{}
}

// until is how long something takes that is due at a time of the wall clock.
func until(when int64, now time.Time) time.Duration { return moment(when).Sub(now) }
