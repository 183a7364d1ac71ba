package engine

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
)

// TakeLimits implements scheduler.Limiter.
func (t *task) TakeLimits(ctx context.Context, names ...string) error {
	b := t.b
	names = unique(names)
	for _, name := range names {
		if _, ok := b.cfg.limit(name); !ok {
			return fmt.Errorf("%w: there is no limit %.64q: name it in a section [limit.%.64s]", scheduler.ErrInvalid, name, name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.over || t.run.holds(names) {
		return ctx.Err()
	}
	if why := b.deadlock(t.j, nil, names); why != "" {
		return fmt.Errorf("%w: job %s would wait for itself: it %s: let another job do it, after this one", scheduler.ErrConflict, t.j.id, why)
	}
	b.releaseLimits(t.j, t.run)
	on := b.blocking(names)
	if on == nil {
		b.takeLimits(t.j, names)
		b.settle()
		return nil
	}
	w := &taker{job: t.j, names: names, done: make(chan struct{})}
	on.tasks = append(on.tasks, w)
	b.rateTimer(on)
	t.stopClock()
	t.run.waits, t.run.taking = "waiting for "+on.name, names
	b.runner.used--
	b.events.add(t.j)
	b.dispatch()
	b.settle()
	b.mu.Unlock()
	var err error
	select {
	case <-w.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	b.runner.used++
	t.run.waits, t.run.taking = "", nil
	b.events.add(t.j)
	if err != nil && !w.gone(b) {
		err = nil // it has got them at the same moment
	}
	t.startClock()
	return err
}

// gone takes one that waits out, and reports whether it was still waiting.
func (w *taker) gone(b *Engine) bool {
	select {
	case <-w.done:
		return false
	default:
	}
	for _, l := range b.limits {
		for i, o := range l.tasks {
			if o == w {
				l.tasks = append(l.tasks[:i:i], l.tasks[i+1:]...)
				b.wakeLimit(l)
				return true
			}
		}
	}
	return true
}

// holds reports whether the attempt holds just these limits.
func (r *run) holds(names []string) bool {
	if len(r.held) != len(names) {
		return false
	}
	for _, n := range names {
		found := false
		for _, l := range r.held {
			found = found || l.name == n
		}
		if !found {
			return false
		}
	}
	return true
}
