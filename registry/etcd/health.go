package etcd

import (
	"context"
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// health is what is known of etcd.
type health struct {
	mu      sync.Mutex
	contact time.Time
	head    uint64 // the last commit that etcd has told of
	err     error  // of the last probe, or of the watch; nil if all is well
	cancel  context.CancelFunc
}

// good reports whether etcd answered when it was last asked.
func (h *health) good() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err == nil
}

func (h *health) broken(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) answered(at time.Time, head uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contact, h.head, h.err = at, head, nil
}

// watching remembers how to end the watch.
func (h *health) watching(cancel context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancel = cancel
}

// restart ends the watch, so that another begins.
func (h *health) restart() {
	h.mu.Lock()
	cancel := h.cancel
	h.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// Health implements registry.Remote.
func (r *Registry) Health() registry.Health {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	return registry.Health{
		Engine: "etcd", Contact: r.health.contact, Err: r.health.err,
		Revision: r.rep.Revision(), Head: r.health.head, Members: r.members.list(),
	}
}

// probe looks again and again whether etcd answers and whether the watch has kept
// up, until ctx ends.
func (r *Registry) probe(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Probe)
	defer tick.Stop()
	var missed uint64 // the commit that the watch had not told of at the last tick
	for ticked := true; ; {
		head, err := r.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.health.broken(err)
		default:
			r.health.answered(r.now(), head)
			if seen := r.rep.Revision(); ticked && missed > 0 && seen < missed {
				r.log.Warn("registry: the watch on etcd does not tell of all changes", "seen", seen, "committed", missed)
				r.health.restart()
			}
			if seen := r.rep.Revision(); ticked && head > seen {
				missed = head
			} else if ticked || seen >= missed {
				missed = 0
			}
			r.session.keep(ctx, r)
			if err := r.meet(ctx); err != nil && ctx.Err() == nil {
				r.log.Debug("registry: cannot read who shares the store", "err", err)
			}
		}
		select {
		case <-tick.C:
			ticked = true
		case <-r.hurry:
			ticked = false
		case <-ctx.Done():
			return
		}
	}
}

// ask asks which commit is the last.
func (r *Registry) ask(ctx context.Context) (head uint64, err error) {
	waiting, cancel := context.WithTimeout(ctx, min(r.cfg.Timeout, max(r.cfg.Probe, time.Second)))
	defer cancel()
	resp, err := r.client.Do(waiting, r.where())
	if err != nil {
		return 0, r.unread(ctx, err)
	}
	return headOf(resp.Get().Kvs), nil
}
