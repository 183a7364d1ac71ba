package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Next implements scheduler.Broker.
func (b *Engine) Next(ctx context.Context, want scheduler.Want) ([]scheduler.Lease, error) {
	w, err := newWaiter(want)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	for b.frozen && !b.closing {
		b.thawed.Wait()
	}
	switch {
	case b.closing:
		b.mu.Unlock()
		return nil, scheduler.ErrClosed
	case b.broken != nil: // no end of it could be taken
		defer b.mu.Unlock()
		return nil, b.broken
	case ctx.Err() != nil:
		b.mu.Unlock()
		return nil, ctx.Err()
	}
	if b.fill(w); len(w.leases) > 0 || want.Wait == 0 {
		b.settle()
		b.mu.Unlock()
		return b.handed(ctx, w)
	}
	w.done = make(chan struct{})
	b.waiters.add(w)
	b.regroup(w)
	b.settle()
	b.mu.Unlock()

	patience := time.NewTimer(want.Wait.D())
	defer patience.Stop()
	select {
	case <-w.done:
	case <-patience.C:
		b.ring() // something may be due at this moment
		b.leave(w)
	case <-ctx.Done():
		if b.leave(w) {
			return nil, ctx.Err()
		}
	}
	return b.handed(ctx, w)
}

// handed is what a worker is told: with a crew, when that is in the log.
func (b *Engine) handed(ctx context.Context, w *waiter) ([]scheduler.Lease, error) {
	if w.err != nil || b.crew == nil || len(w.leases) == 0 {
		return w.leases, w.err
	}
	if err := b.recorded(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return w.leases, nil
}

// leave takes a worker out that waits no longer. It is false if it has got
// something at the same moment, which it must take with it: nobody else will.
func (b *Engine) leave(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.done:
		return false
	default:
		b.waiters.remove(w)
		b.regroup(w)
		b.settle()
		return true
	}
}

// newWaiter checks what a worker asks for.
func newWaiter(want scheduler.Want) (*waiter, error) {
	refuse := func(format string, args ...any) (*waiter, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{scheduler.ErrInvalid}, args...)...)
	}
	switch {
	case want.Max < 0 || want.Max > scheduler.MaxNext:
		return refuse("%d jobs at once: use 1 to %d", want.Max, scheduler.MaxNext)
	case want.Wait < 0 || want.Wait.D() > scheduler.MaxWait:
		return refuse("a wait of %s: use 0 to %s, and ask again", want.Wait, scheduler.MaxWait)
	case want.Lease != 0 && (want.Lease.D() < scheduler.MinLease || want.Lease.D() > scheduler.MaxLease):
		return refuse("a lease of %s: use %s to %s", want.Lease, scheduler.MinLease, scheduler.MaxLease)
	case len(want.Queues) > scheduler.MaxWantQueues || len(want.Actions) > scheduler.MaxWantQueues:
		return refuse("%d queues and %d actions: name at most %d of each", len(want.Queues), len(want.Actions), scheduler.MaxWantQueues)
	case want.Identity != "" && registry.CheckTag("identity", want.Identity) != nil:
		return refuse("the identity %.64q: use a short line of text", want.Identity)
	case want.Worker != "" && registry.CheckTag("worker", want.Worker) != nil:
		return refuse("the worker's name %.64q: use a short line of text", want.Worker)
	}
	w := &waiter{worker: want.Worker, identity: want.Identity, queues: unique(want.Queues), max: max(want.Max, 1), length: want.Lease.D()}
	for _, q := range want.Queues {
		if err := checkName("queue", q); err != nil {
			return nil, err
		}
	}
	if len(want.Actions) > 0 {
		w.actions = make(map[string]bool, len(want.Actions))
		for _, a := range want.Actions {
			w.actions[a] = true
		}
	}
	return w, nil
}

// all are the workers that wait.
func (l *waiters) all() []*waiter {
	seen := map[*waiter]bool{}
	list := append([]*waiter(nil), l.any...)
	for _, m := range []map[string][]*waiter{l.byQueue, l.byAction} {
		for _, ws := range m {
			for _, w := range ws {
				if !seen[w] {
					seen[w] = true
					list = append(list, w)
				}
			}
		}
	}
	return list
}
