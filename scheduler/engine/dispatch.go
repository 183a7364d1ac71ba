package engine

import (
	"slices"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// run is a hand-out in force.
type run struct {
	token    trail.Token
	worker   string
	remote   bool
	length   time.Duration
	until    int64    // when a remote lease ends, by the monotonic clock
	wall     int64    // the same by the wall clock, for people
	deadline int64    // of a remote attempt, by the monotonic clock; 0 is none
	overdue  bool     // past it
	said     uint64   // the answer that is being written
	note     string   // why its end is not taken yet
	waits    string   // the limit that its function waits for, in words
	taking   []string // the limits that its function waits for
	task     *task    // of a worker of this process
	held     []*limit
	told     int64 // when its progress was last told to those who watch
}

// queueHeap holds queues whose next job could begin, ordered by that job's place:
// urgent ones first, then as submitted. The place is that of the moment at which
// the queue came in, since several queues may have changed before the first of
// them is looked at again.
type queueHeap struct {
	list []*queue
	at   func(*queue) *int32
}

func (h *queueHeap) push(q *queue) {
	q.key = q.ready[0].place
	*h.at(q) = int32(len(h.list))
	h.list = append(h.list, q)
	h.up(len(h.list) - 1)
}

func (h *queueHeap) drop(q *queue) {
	i, n := int(*h.at(q)), len(h.list)-1
	h.swap(i, n)
	h.list[n] = nil
	h.list = h.list[:n]
	*h.at(q) = -1
	if i < n {
		h.up(i)
		h.down(i)
	}
}

func (h *queueHeap) less(a, b int) bool {
	return h.list[a].key < h.list[b].key
}

func (h *queueHeap) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *queueHeap) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h.list) {
			return
		}
		if c+1 < len(h.list) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h *queueHeap) swap(a, b int) {
	h.list[a], h.list[b] = h.list[b], h.list[a]
	*h.at(h.list[a]), *h.at(h.list[b]) = int32(a), int32(b)
}

// lanes are the queues whose next job could begin now, for workers of this process
// and for those outside; the latter also by the action of that job.
type lanes struct {
	local, remote queueHeap
	byAction      map[string]*queueHeap
	fresh         []*queue // remote ones that came since the waiting workers were last looked at
}

func newLanes() lanes {
	at := func(q *queue) *int32 { return &q.lane }
	return lanes{local: queueHeap{at: at}, remote: queueHeap{at: at}, byAction: map[string]*queueHeap{}}
}

// settle does what follows from changes: it tells those who watch and wait, gives
// limits back, and hands out what can be handed out. The caller holds b.mu.
func (b *Engine) settle() {
	c := b.core
	for len(c.changed) > 0 || len(c.dirty) > 0 || len(c.released) > 0 {
		for i := 0; i < len(c.released); i++ {
			b.released(c.released[i].job, c.released[i].run)
		}
		c.released = c.released[:0]
		for i := 0; i < len(c.changed); i++ {
			b.tell(c.changed[i])
		}
		clear(c.changed)
		c.changed = c.changed[:0]
		for i := 0; i < len(c.dirty); i++ {
			q := c.dirty[i]
			q.dirty = false
			b.evaluate(q)
		}
		clear(c.dirty)
		c.dirty = c.dirty[:0]
		b.dispatch()
	}
	b.setAlarm()
}

// withdraw takes a queue out of wherever it waits for a worker, a limit or a
// time.
func (b *Engine) withdraw(q *queue) {
	if q.lane >= 0 {
		if q.head != nil {
			b.lanes.remote.drop(q)
			q.head.drop(q)
			q.head = nil
		} else {
			b.lanes.local.drop(q)
		}
	}
	q.wants = nil
	q.stopWaiting()
	b.setTimer(&q.timer, 0, timer{})
}

// evaluate puts a queue where it belongs after a change.
func (b *Engine) evaluate(q *queue) {
	wanted := q.wants
	b.place(q)
	b.passOn(q, wanted)
	b.count(q)
}

// count keeps the queues that are not idle at hand: those of the history are many
// more.
func (b *Engine) count(q *queue) {
	switch idle := q.idle(); {
	case !idle && q.busy < 0:
		q.busy = len(b.busy)
		b.busy = append(b.busy, q)
	case idle && q.busy >= 0:
		n := len(b.busy) - 1
		b.busy[q.busy] = b.busy[n]
		b.busy[q.busy].busy = q.busy
		b.busy[n] = nil
		b.busy, q.busy = b.busy[:n], -1
	}
}

// passOn gives slots that the queue was offered, and does not want, to others.
func (b *Engine) passOn(q *queue, offered []string) {
	for _, name := range offered {
		if l := b.limits[name]; l != nil && !slices.Contains(q.wants, name) {
			b.wakeLimit(l)
		}
	}
}

func (b *Engine) place(q *queue) {
	b.withdraw(q)
	if q.holder != nil || len(q.ready) == 0 {
		now := b.mono()
		if q.idle() && !q.bucket.idle(now) {
			b.setTimer(&q.timer, now+int64(q.bucket.rate.Per), timer{queue: q})
		}
		b.core.tidy(q, now)
		return
	}
	j := q.ready[0]
	if b.closing || q.modeNow() == scheduler.Paused {
		return
	}
	if left := j.backoff(b.now()); left > 0 {
		b.setTimer(&q.timer, b.mono()+int64(left), timer{queue: q})
		return
	}
	if when := q.bucket.next(b.mono()); when != 0 {
		b.setTimer(&q.timer, when, timer{queue: q})
		return
	}
	if l := b.blocking(j.limits()); l != nil {
		b.awaitLimit(q, l)
		return
	}
	switch {
	case j.remote:
		b.lanes.remote.push(q)
		h := b.lanes.byAction[j.action]
		if h == nil {
			h = &queueHeap{at: func(q *queue) *int32 { return &q.byHead }}
			b.lanes.byAction[j.action] = h
		}
		h.push(q)
		q.head = h
		b.lanes.fresh = append(b.lanes.fresh, q)
	case b.runner.takes(j):
		b.lanes.local.push(q)
	default:
		return
	}
	q.wants = j.limits()
}

// dispatch hands out what there is a worker for. It does nothing while a record is
// being written that a hand-out could contradict.
func (b *Engine) dispatch() {
	if b.frozen || b.closing || b.broken != nil {
		return
	}
	for b.runner.free() && len(b.lanes.local.list) > 0 {
		q := b.lanes.local.list[0]
		if j := b.handOut(q, &waiter{}); j != nil {
			b.runner.start(j, false)
		}
	}
	for i := 0; i < len(b.lanes.fresh); i++ {
		q := b.lanes.fresh[i]
		if q.head == nil {
			continue
		}
		if w := b.waiters.find(q); w != nil {
			b.serve(w)
			b.lanes.fresh = append(b.lanes.fresh, q) // it may still be there
		}
	}
	clear(b.lanes.fresh)
	b.lanes.fresh = b.lanes.fresh[:0]
}

// handOut gives the next job of a queue in a lane to a worker. It is nil if the
// job cannot begin after all.
func (b *Engine) handOut(q *queue, w *waiter) *job {
	j, now := q.ready[0], b.now()
	if e := j.expires(); e != 0 && !now.Before(moment(e)) {
		wanted := q.wants
		b.withdraw(q) // its timer ends it
		b.passOn(q, wanted)
		return nil
	}
	if b.blocking(j.limits()) != nil || q.bucket.next(b.mono()) != 0 {
		b.evaluate(q)
		return nil
	}
	length := w.length
	if length == 0 {
		length = q.cfg.Lease
	}
	b.withdraw(q)
	worker := w.worker
	if b.crew != nil && !j.remote {
		worker = b.crew.Choose(q.name)
	}
	r := &handed{
		seq: j.seq, number: b.core.number + 1, attempt: j.attempt + uint32(j.gap) + 1, at: now.UnixNano(),
		worker: worker, identity: w.identity, remote: j.remote, length: length,
	}
	b.note(r)
	q.bucket.take(b.mono())
	b.takeLimits(j, j.limits())
	if j.remote {
		j.run.until, j.run.wall = b.mono()+int64(length), now.Add(length).UnixNano()
		if t := j.timeout(); t > 0 {
			j.run.deadline = b.mono() + int64(t)
		}
	}
	return j
}

// lease is what a worker outside is given.
func (b *Engine) lease(j *job) scheduler.Lease {
	r := j.run
	l := scheduler.Lease{
		Hold: scheduler.Hold{Job: j.id, Token: r.token, Identity: j.past.identity}, Queue: j.queue.name, Action: j.action, Params: registry.TrustedDocument(j.params),
		Package: j.pack.id, Attempt: int(j.attempt), Length: scheduler.Span(r.length), Until: moment(r.wall), Trail: j.trail(),
	}
	if t := j.timeout(); t > 0 {
		l.Deadline = moment(j.past.started).Add(t)
	}
	return l
}

// trail is that of the attempt.
func (j *job) trail() trail.Trail {
	t := trail.Trail{Transaction: j.transaction, Source: j.source, Job: j.id, Attempt: int(j.attempt), Token: j.past.token}
	if j.more != nil {
		t.Reason = j.more.reason
	}
	return t
}
