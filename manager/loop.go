package manager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// leastGap is how long the data directory is free at least between two rounds
// of Loop, however long they take: many times what a process that waits for the
// lock sleeps between two attempts.
const leastGap = 200 * time.Millisecond

// Loop polls now and then every so often until ctx ends, which is no error: a
// monitor without a daemon.
//
// The data directory is locked only during a round, so that other commands run
// in between. What the monitor remembers from one round to the next, such as how
// often a VM was missing, stays, as it is opened once. Rounds never overlap; one
// that takes longer than every is followed by the next after a short gap. A
// round that fails, because another process has the lock or the disk is full,
// is told to each, as are the reports of the others, and the loop goes on.
func Loop(ctx context.Context, s *Settings, o Options, every time.Duration, each func(monitor.Report, error)) error {
	if every <= 0 {
		return fmt.Errorf("cannot poll every %s: give a time above 0", every)
	}
	o = o.withDefaults()
	r := &rounds{}
	mon, err := s.monitor.Open(ctx, monitor.Deps{Cluster: r, Jobs: r, Log: o.Log, Now: o.Now, Polled: o.Polled})
	if err != nil {
		return fmt.Errorf("cannot open monitor %s: %w", s.monitor.Kind, err)
	}
	for ctx.Err() == nil {
		began := time.Now()
		report, err := r.round(ctx, s, o, mon)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			break // the round was given up, it did not fail
		}
		each(report, err)
		pause(ctx, max(every-time.Since(began), min(every, leastGap)))
	}
	if err := mon.Close(); err != nil {
		return fmt.Errorf("cannot close monitor %s: %w", s.monitor.Kind, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// rounds is the cluster that the monitor of a Loop sees: that of the current
// round or, between two, the closed one of the last, which refuses.
type rounds struct{ m atomic.Pointer[Manager] }

func (r *rounds) round(ctx context.Context, s *Settings, o Options, mon monitor.Monitor) (rep monitor.Report, err error) {
	if t := trail.From(ctx); t.Source != "" {
		ctx = trail.With(ctx, trail.New(t.Source, t.Reason)) // each round is a transaction of its own
	} else {
		ctx = trail.With(ctx, trail.New("monitor", t.Reason))
	}
	m, err := openParts(ctx, s, o)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	r.m.Store(m)
	return mon.Poll(ctx)
}

// Parts implements virt.Cluster.
func (r *rounds) Parts() virt.Parts {
	if m := r.m.Load(); m != nil {
		return m.Parts()
	}
	return virt.Parts{}
}

// errNoRound: a monitor asked before its first poll.
var errNoRound = fmt.Errorf("%w: no round of polling has begun", scheduler.ErrClosed)

// Status implements scheduler.Inspector.
func (r *rounds) Status(ctx context.Context, id string) (scheduler.Status, error) {
	if m := r.m.Load(); m != nil {
		return m.Scheduler.Status(ctx, id)
	}
	return scheduler.Status{}, errNoRound
}

// Queue is that of scheduler.QueueInspector, if the scheduler is one.
func (r *rounds) Queue(ctx context.Context, name string) (scheduler.QueueStatus, error) {
	m := r.m.Load()
	if m == nil {
		return scheduler.QueueStatus{}, errNoRound
	}
	if q, ok := m.Scheduler.(scheduler.QueueInspector); ok {
		return q.Queue(ctx, name)
	}
	return scheduler.QueueStatus{}, fmt.Errorf("%w: it does not tell of its queues", scheduler.ErrUnsupported)
}

// List implements scheduler.Inspector.
func (r *rounds) List(ctx context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	if m := r.m.Load(); m != nil {
		return m.Scheduler.List(ctx, f)
	}
	return func(yield func(scheduler.Status, error) bool) { yield(scheduler.Status{}, errNoRound) }
}

// Wait implements scheduler.Inspector.
func (r *rounds) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	if m := r.m.Load(); m != nil {
		return m.Scheduler.Wait(ctx, id)
	}
	return scheduler.Status{}, errNoRound
}

// Log implements scheduler.Inspector.
func (r *rounds) Log(ctx context.Context, id string) ([]scheduler.Line, error) {
	if m := r.m.Load(); m != nil {
		return m.Scheduler.Log(ctx, id)
	}
	return nil, errNoRound
}
