package etcd

import (
	"context"
	"slices"
	"strings"
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
	engines []registry.Engine
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
		Engines: slices.Clone(r.health.engines),
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

// surveyed is how many probes pass between two looks at each member of etcd.
const surveyed = 5

// survey looks at each member of etcd now and then, until ctx ends.
func (r *Registry) survey(ctx context.Context) {
	tick := time.NewTicker(surveyed * r.cfg.Probe)
	defer tick.Stop()
	for {
		engines := make([]registry.Engine, len(r.cfg.Endpoints))
		var all sync.WaitGroup
		for i, name := range r.cfg.Endpoints {
			all.Go(func() { engines[i] = r.engine(ctx, name) })
		}
		all.Wait()
		r.health.mu.Lock()
		r.health.engines = engines
		r.health.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// engine is one member of etcd.
func (r *Registry) engine(ctx context.Context, name string) registry.Engine {
	waiting, cancel := context.WithTimeout(ctx, min(r.cfg.Timeout, max(r.cfg.Probe, time.Second)))
	defer cancel()
	e := registry.Engine{Name: name}
	st, err := r.client.Status(waiting, name)
	if err != nil {
		e.Error = "it does not answer: " + err.Error()
		return e
	}
	e.Leads, e.Bytes, e.Error = st.Leader == st.Header.MemberId, st.DbSize, strings.Join(st.Errors, ", ")
	if st.RaftIndex > st.RaftAppliedIndex {
		e.Behind = st.RaftIndex - st.RaftAppliedIndex
	}
	if st.Leader == 0 {
		e.Error = "it knows no leader"
	}
	return e
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
