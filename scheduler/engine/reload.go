package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vagoth/vagoth/scheduler"
)

// Reload takes the sections [queue.NAME] and [limit.NAME] of cfg in the place of
// those that it has, for jobs that wait as for those to come; the rest of cfg is
// taken when the engine is opened again. What an operator has set of a queue
// still comes before its section. A rate that has changed begins to count anew.
//
// Whether a queue is left to workers outside does not change while it is open:
// what asks for that is refused, and then nothing has changed.
func (b *Engine) Reload(_ context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return scheduler.ErrClosed
	}
	was := b.cfg.named.Load()
	for _, name := range slices.Sorted(maps.Keys(cfg.Queues)) {
		if err := sameRemote(was.queues, cfg.Queues, name); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was.queues)) {
		if err := sameRemote(was.queues, cfg.Queues, name); err != nil {
			return err
		}
	}
	b.cfg.named.Store(&named{queues: cfg.Queues, limits: cfg.Limits})
	for name, q := range b.core.queues {
		q.cfg = b.cfg.queue(name)
		if rate := scheduler.Rate(q.cfg.Rate); rate != q.bucket.rate {
			q.bucket = bucket{rate: rate}
		}
		if q.busy >= 0 {
			b.core.touchQueue(q)
		}
	}
	for name, l := range maps.Clone(b.limits) {
		l.cfg, _ = b.cfg.limit(name)
		if rate := scheduler.Rate(l.cfg.Rate); rate != l.bucket.rate {
			l.bucket = bucket{rate: rate}
		}
		b.wakeLimit(l)
	}
	b.settle()
	return nil
}

// sameRemote refuses a change of who works on a queue, or on all of a pattern.
func sameRemote(was, next map[string]QueueConfig, name string) error {
	a, _ := match(was, name)
	z, _ := match(next, name)
	if a.Remote != z.Remote {
		return fmt.Errorf("[queue.%s] remote: who works on a queue does not change while the scheduler is open: start vagoth again", name)
	}
	return nil
}
