package engine

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/scheduler"
)

// Bounds of what is shown of a queue or limit.
const (
	someJobs  = 5
	someLooks = 1000
)

// Queue implements scheduler.QueueInspector.
func (b *Engine) Queue(_ context.Context, name string) (scheduler.QueueStatus, error) {
	if err := checkName("queue", name); err != nil {
		return scheduler.QueueStatus{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queueStatus(name), nil
}

func (b *Engine) queueStatus(name string) scheduler.QueueStatus {
	q := b.core.queues[name]
	if q == nil {
		q = &queue{name: name, cfg: b.cfg.queue(name)}
	}
	st := scheduler.QueueStatus{
		Name: name, Mode: q.modeNow(), Reason: q.reasonNow(), Remote: q.cfg.Remote, Depth: q.waiting, Parked: q.parked, Blocked: q.blocked,
		Rate: q.cfg.Rate.String(),
	}
	if q.holder != nil {
		st.Running = q.holder.id
	} else if len(q.ready) > 0 {
		st.Waiting = b.waitsFor(q.ready[0])
	} else if q.first != nil {
		st.Waiting = b.waitsFor(q.first)
	}
	look := someLooks
	for j := q.first; j != nil && look > 0; j = j.next {
		look--
		if j.state != waiting {
			continue
		}
		if st.Oldest.IsZero() {
			st.Oldest = moment(j.submitted)
		}
		if j.blockers == 0 {
			continue
		}
		for _, d := range j.after {
			if on := b.core.table.get(d.seq); !d.met && on != nil && !on.state.ended() && len(st.BlockedBy) < someJobs && !slices.Contains(st.BlockedBy, on.id) {
				st.BlockedBy = append(st.BlockedBy, on.id)
			}
		}
		if len(st.BlockedBy) >= someJobs {
			break
		}
	}
	return st
}

// Queues implements scheduler.QueueInspector.
func (b *Engine) Queues(ctx context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return func(yield func(scheduler.QueueStatus, error) bool) {
		names := map[string]bool{}
		for name := range b.cfg.named.Load().queues {
			if !strings.HasSuffix(name, "*") {
				names[name] = true
			}
		}
		b.mu.Lock()
		for _, q := range b.busy {
			names[q.name] = true
		}
		b.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if err := ctx.Err(); err != nil {
				yield(scheduler.QueueStatus{}, err)
				return
			}
			b.mu.Lock()
			st := b.queueStatus(name)
			b.mu.Unlock()
			if !yield(st, nil) {
				return
			}
		}
	}
}

// Limits implements scheduler.QueueInspector.
func (b *Engine) Limits(_ context.Context) ([]scheduler.LimitStatus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := map[string]bool{}
	for name := range b.cfg.named.Load().limits {
		if !strings.HasSuffix(name, "*") {
			names[name] = true
		}
	}
	for name := range b.limits {
		names[name] = true
	}
	list := make([]scheduler.LimitStatus, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		cfg, _ := b.cfg.limit(name)
		st := scheduler.LimitStatus{Name: name, Slots: cfg.Slots, Rate: cfg.Rate.String()}
		if l := b.limits[name]; l != nil {
			st.Taken, st.Waiting = len(l.taken), l.n+len(l.tasks)
			for _, j := range l.taken[:min(len(l.taken), someJobs)] {
				st.Holders = append(st.Holders, j.id)
			}
		}
		list = append(list, st)
	}
	return list, nil
}

// Stats implements scheduler.QueueInspector.
func (b *Engine) Stats(_ context.Context) (scheduler.Stats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.core
	st := scheduler.Stats{
		Waiting: c.count[waiting], Blocked: *c.block, Running: c.count[running], Parked: c.count[parked],
		History: c.ended.n, Building: c.packs.building, Workers: b.waiters.n,
		Submitted: c.since.submitted, HandedOut: c.since.handed, Lost: c.since.lost, Ended: map[scheduler.State]uint64{},
	}
	for s := succeeded; s <= expired; s++ {
		st.Ended[s.word()] = c.since.ended[s]
	}
	if b.journal != nil {
		s := b.journal.Stats()
		st.Records, st.Syncs, st.Bytes = s.Records, s.Syncs, s.Bytes
	}
	return st, nil
}
