package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// opCmd is what an operator does: a function that looks at the core and says what
// is to be written.
type opCmd func(b *Engine, t *tx) error

func (opCmd) alone() bool { return true }

func (f opCmd) prepare(b *Engine, t *tx) error {
	if b.closing {
		return scheduler.ErrClosed
	}
	return f(b, t)
}

// operate checks who acts, and commits.
func (b *Engine) operate(ctx context.Context, f opCmd) error {
	if err := trail.From(ctx).Validate(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	return b.do(ctx, f)
}

// Cancel implements scheduler.Canceller.
func (b *Engine) Cancel(ctx context.Context, id, reason string) error {
	if err := (trail.Trail{Reason: reason}).Validate(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	why := by("cancelled", trail.From(ctx), reason)
	return b.operate(ctx, func(b *Engine, t *tx) error {
		j, err := b.find(id)
		if err != nil {
			return err
		}
		if j.state.ended() {
			return fmt.Errorf("%w: job %s has %s already", scheduler.ErrConflict, id, j.state.word())
		}
		b.cancel(t, j, why)
		return nil
	})
}

// cancel ends a job that does not run, and asks one that does to stop.
func (b *Engine) cancel(t *tx, j *job, why string) {
	if !t.claim(j) {
		return
	}
	if j.run != nil {
		t.add(&stopping{j.seq, why})
		return
	}
	t.add(&settled{seq: j.seq, at: b.now().UnixNano(), how: howEnds, state: cancelled, err: why, maybe: true})
}

// Retry implements scheduler.Operator.
func (b *Engine) Retry(ctx context.Context, id string, o scheduler.RetryOptions) ([]scheduler.Status, error) {
	var set []*job
	origin := trail.From(ctx)
	err := b.operate(ctx, func(b *Engine, t *tx) error {
		j, err := b.find(id)
		if err != nil {
			return err
		}
		if j.state != parked && (!j.state.ended() || j.state == succeeded) {
			return fmt.Errorf("%w: job %s is %s: only one that is parked, failed, cancelled or expired can be retried", scheduler.ErrConflict, id, j.state.word())
		}
		set = []*job{j}
		if o.WithDependents {
			set = b.because(j)
		}
		if err := b.retriable(set); err != nil {
			return err
		}
		if err := b.room(len(set), j.urgent); err != nil {
			return err
		}
		r := &retried{mine: true, at: b.now().UnixNano(), note: by("retried", origin, origin.Reason)}
		for _, j := range set {
			r.seqs = append(r.seqs, j.seq)
		}
		t.add(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]scheduler.Status, len(set))
	for i, j := range set {
		list[i] = b.status(j)
	}
	return list, nil
}

// because lists a job and those that ended because of it, and because of these.
func (b *Engine) because(j *job) []*job {
	set := []*job{j}
	seen := map[*job]bool{j: true}
	for i := 0; i < len(set); i++ {
		for _, e := range set[i].dependents {
			d := e.job
			if !seen[d] && d.state == cancelled && d.past.cause == set[i].id && b.core.jobs[d.id] == d {
				seen[d] = true
				set = append(set, d)
			}
		}
	}
	return set
}

// retriable refuses to bring back a job that would end at once, because of one
// that is not brought back.
func (b *Engine) retriable(set []*job) error {
	in := make(map[*job]bool, len(set))
	for _, j := range set {
		in[j] = true
	}
	for _, j := range set {
		for _, d := range j.after {
			if on := b.core.table.get(d.seq); !d.met && on != nil && on.state.ended() && !in[on] && !d.accept.takes(on) {
				return fmt.Errorf("%w: job %s depends on job %s, which %s: retry that one with its dependents", scheduler.ErrConflict, j.id, on.id, on.state.word())
			}
		}
	}
	return nil
}

// Skip implements scheduler.Operator.
func (b *Engine) Skip(ctx context.Context, id string) (scheduler.Status, error) {
	origin := trail.From(ctx)
	return b.decide(ctx, id, func(r *settled) {
		r.state, r.skipped, r.err = cancelled, true, by("skipped", origin, origin.Reason)
	})
}

// Done implements scheduler.Operator.
func (b *Engine) Done(ctx context.Context, id string, result registry.Document) (scheduler.Status, error) {
	origin := trail.From(ctx)
	return b.decide(ctx, id, func(r *settled) {
		r.state, r.note = succeeded, by("marked as done", origin, origin.Reason)
		if !result.IsEmpty() {
			r.result = result.String()
		}
	})
}

// decide ends a parked job.
func (b *Engine) decide(ctx context.Context, id string, fill func(*settled)) (st scheduler.Status, err error) {
	var j *job
	err = b.operate(ctx, func(b *Engine, t *tx) error {
		if j, err = b.find(id); err != nil {
			return err
		}
		if j.state != parked {
			return fmt.Errorf("%w: job %s is %s, and only a parked one waits for an operator", scheduler.ErrConflict, id, j.state.word())
		}
		t.claim(j)
		r := &settled{seq: j.seq, at: b.now().UnixNano(), how: howEnds}
		fill(r)
		t.add(r)
		return nil
	})
	if err != nil {
		return st, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status(j), nil
}

// SetQueue implements scheduler.Operator.
func (b *Engine) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (scheduler.QueueStatus, error) {
	if err := checkName("queue", name); err != nil {
		return scheduler.QueueStatus{}, err
	}
	if !slices.Contains([]scheduler.QueueMode{scheduler.Open, scheduler.Paused, scheduler.Draining}, m) {
		return scheduler.QueueStatus{}, fmt.Errorf("%w: a queue is %s, %s or %s, not %.32q", scheduler.ErrInvalid, scheduler.Open, scheduler.Paused, scheduler.Draining, m)
	}
	origin := trail.From(ctx)
	reason := ""
	if m != scheduler.Open {
		reason = origin.Reason
		if origin.Source != "" {
			reason = by(string(m), origin, reason)
		}
	}
	if err := b.operate(ctx, func(_ *Engine, t *tx) error {
		t.add(&moded{name, string(m), reason})
		return nil
	}); err != nil {
		return scheduler.QueueStatus{}, err
	}
	return b.Queue(ctx, name)
}
