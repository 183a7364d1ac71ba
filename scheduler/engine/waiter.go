package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// waiter is a worker outside that waits for a job.
type waiter struct {
	number   uint64 // the longest waiting has the smallest
	worker   string
	identity string
	queues   []string
	actions  map[string]bool // nil is all
	max      int
	length   time.Duration
	leases   []scheduler.Lease
	done     chan struct{} // closed when there are leases, or nothing more will come
	err      error
}

func (w *waiter) can(action string) bool { return w.actions == nil || w.actions[action] }

// waiters are the workers that wait, in the order in which they came: by queue
// for those who named queues, else by action for those who named actions.
type waiters struct {
	last     uint64
	n        int
	any      []*waiter
	byQueue  map[string][]*waiter
	byAction map[string][]*waiter
}

// lists calls f with each list in which w stands.
func (l *waiters) lists(w *waiter, f func(list []*waiter) []*waiter) {
	in := func(m map[string][]*waiter, key string) {
		if list := f(m[key]); len(list) > 0 {
			m[key] = list
		} else {
			delete(m, key)
		}
	}
	switch {
	case len(w.queues) > 0:
		for _, q := range w.queues {
			in(l.byQueue, q)
		}
	case w.actions != nil:
		for a := range w.actions {
			in(l.byAction, a)
		}
	default:
		l.any = f(l.any)
	}
}

func (l *waiters) add(w *waiter) {
	l.last++
	w.number = l.last
	l.n++
	l.lists(w, func(list []*waiter) []*waiter { return append(list, w) })
}

func (l *waiters) remove(w *waiter) {
	l.n--
	l.lists(w, func(list []*waiter) []*waiter {
		i, ok := slices.BinarySearchFunc(list, w.number, func(o *waiter, n uint64) int { return cmp.Compare(o.number, n) })
		if !ok {
			return list
		}
		if i == 0 {
			list[0] = nil
			return list[1:]
		}
		return slices.Delete(list, i, i+1)
	})
}

// find is the one that has waited longest of those who can have the next job of
// q.
func (l *waiters) find(q *queue) *waiter {
	action := q.ready[0].action
	var best *waiter
	for _, list := range [][]*waiter{l.any, l.byAction[action]} {
		if len(list) > 0 && (best == nil || list[0].number < best.number) {
			best = list[0]
		}
	}
	for _, w := range l.byQueue[q.name] {
		if best != nil && best.number < w.number {
			break
		}
		if w.can(action) {
			return w
		}
	}
	return best
}

// named reports whether one waits who has named q and can have its next job.
func (l *waiters) named(q *queue) bool {
	for _, w := range l.byQueue[q.name] {
		if w.can(q.ready[0].action) {
			return true
		}
	}
	return false
}

// serve gives a waiting worker all that it can have now.
func (b *Engine) serve(w *waiter) {
	b.fill(w)
	if len(w.leases) > 0 {
		b.waiters.remove(w)
		b.regroup(w)
		close(w.done)
	}
}

// regroup is called when a worker begins to wait, or ends. The queues that it has
// named wait for their limits among others then; and those of them that were
// offered a slot, and that nobody else has asked for, are not to keep it from the
// queues behind.
func (b *Engine) regroup(w *waiter) {
	for _, name := range w.queues {
		q := b.core.queues[name]
		switch {
		case q == nil:
		case q.waits != nil:
			b.core.touchQueue(q)
		case q.head != nil:
			for _, name := range q.wants {
				b.wakeLimit(b.limit(name))
			}
		}
	}
}

// fill hands jobs to a worker as long as there are some and it takes more.
func (b *Engine) fill(w *waiter) {
	if len(w.queues) > 0 {
		var open []*queue
		for _, name := range w.queues {
			q := b.core.queues[name]
			if q != nil && q.waits != nil && b.blocking(q.ready[0].limits()) == nil {
				b.evaluate(q) // there is a slot for it, which others were offered
			}
			if q != nil && q.head != nil && w.can(q.ready[0].action) {
				open = append(open, q)
			}
		}
		slices.SortFunc(open, func(a, b *queue) int { return cmp.Compare(a.ready[0].place, b.ready[0].place) })
		for _, q := range open {
			if len(w.leases) < w.max && q.head != nil {
				b.give(w, q)
			}
		}
		return
	}
	for len(w.leases) < w.max {
		q := b.first(w)
		if q == nil {
			return
		}
		b.give(w, q)
	}
}

// first is the queue with the first job that w can have.
func (b *Engine) first(w *waiter) *queue {
	if w.actions == nil {
		if list := b.lanes.remote.list; len(list) > 0 {
			return list[0]
		}
		return nil
	}
	var best *queue
	for a := range w.actions {
		if h := b.lanes.byAction[a]; h != nil && len(h.list) > 0 && (best == nil || h.list[0].key < best.key) {
			best = h.list[0]
		}
	}
	return best
}

func (b *Engine) give(w *waiter, q *queue) {
	if j := b.handOut(q, w); j != nil {
		w.leases = append(w.leases, b.lease(j))
	}
}
