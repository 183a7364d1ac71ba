package sync

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	gosync "sync"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Config is the section [scheduler] of the ini file.
type Config struct {
	Remember int `ini:"remember" help:"results kept to be asked for" min:"1" max:"1000000"`
	Parallel int `ini:"parallel" help:"jobs of one package that run side by side" min:"1" max:"1000"`
}

// Defaults is the Config that an empty section gives.
func Defaults() Config { return Config{Remember: 1000, Parallel: 16} }

// Kind is this scheduler on a menu.
func Kind() component.Kind[scheduler.Deps, scheduler.Scheduler] {
	return component.Define("runs jobs in the caller, which waits for them", Defaults(),
		func(_ context.Context, cfg Config, deps scheduler.Deps) (scheduler.Scheduler, error) {
			return New(cfg, deps), nil
		})
}

// keepKeys is how long an idempotency key is kept at least.
const keepKeys = 24 * time.Hour

// Scheduler is the scheduler.
type Scheduler struct {
	cfg     Config
	actions map[string]scheduler.Action
	slog    *slog.Logger
	now     func() time.Time
	epoch   uint64
	callers gosync.WaitGroup // in Submit

	mu     gosync.Mutex
	closed bool
	number uint64             // of the last token
	jobs   map[string]*job    // by ID
	order  []*job             // as submitted; those that were forgotten are taken out now and then
	ended  int                // how many of order have ended
	queues map[string]*queue  // those with jobs that have not ended
	keys   map[[2]string]*job // by source and idempotency key
}

var (
	_ scheduler.Scheduler = (*Scheduler)(nil)
	_ scheduler.Canceller = (*Scheduler)(nil)
)

// New returns a scheduler.
func New(cfg Config, deps scheduler.Deps) *Scheduler {
	s := &Scheduler{
		cfg: cfg, actions: deps.Actions, slog: deps.Log, now: deps.Now,
		jobs: map[string]*job{}, queues: map[string]*queue{}, keys: map[[2]string]*job{},
	}
	if s.slog == nil {
		s.slog = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.cfg.Remember, s.cfg.Parallel = max(s.cfg.Remember, 1), max(s.cfg.Parallel, 1)
	s.epoch = uint64(max(s.now().UnixNano(), 1))
	return s
}

// Submit runs p and returns when all of it has ended. When ctx ends its jobs
// are cancelled; Submit still waits for the functions that run.
func (s *Scheduler) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	if err := s.refuse(p); err != nil {
		return nil, err
	}
	resolved := scheduler.Resolve(s.actions, p, trail.From(ctx))
	k, earlier, err := s.take(ctx, resolved)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return s.waitFor(ctx, earlier)
	}
	defer s.callers.Done()
	k.drive(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return k.statuses(), nil
}

// refuse checks what can be checked without looking at other jobs.
func (s *Scheduler) refuse(p scheduler.Package) error {
	if err := scheduler.Check(s.actions, p); err != nil {
		return err
	}
	for i, j := range p.Jobs {
		if j.Retry.Park {
			return fmt.Errorf("%w: job %d (%s) is to be parked: with `use = sync` nobody is there to look after it later", scheduler.ErrUnsupported, i, j.Action)
		}
		if s.actions[j.Action].Remote {
			return fmt.Errorf("%w: job %d (%s) is for a worker outside: `use = sync` has none", scheduler.ErrUnsupported, i, j.Action)
		}
		if len(j.Limits) > 0 {
			return fmt.Errorf("%w: job %d (%s) takes a slot of the limit %s: `use = sync` has none", scheduler.ErrUnsupported, i, j.Action, j.Limits[0])
		}
	}
	return nil
}

// waitFor answers a submission whose idempotency keys are known.
func (s *Scheduler) waitFor(ctx context.Context, earlier []*job) ([]scheduler.Status, error) {
	list := make([]scheduler.Status, len(earlier))
	for i, j := range earlier {
		st, err := s.wait(ctx, j)
		if err != nil {
			return nil, err
		}
		list[i] = st
	}
	return list, nil
}

func (s *Scheduler) find(id string) (*job, error) {
	if j, ok := s.jobs[id]; ok {
		return j, nil
	}
	return nil, fmt.Errorf("%w: there is no job %.64q: the last %d that ended in this process are remembered", scheduler.ErrNotFound, id, s.cfg.Remember)
}

// Status implements scheduler.Inspector.
func (s *Scheduler) Status(_ context.Context, id string) (scheduler.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(id)
	if err != nil {
		return scheduler.Status{}, err
	}
	return j.now(), nil
}

// Log implements scheduler.Inspector.
func (s *Scheduler) Log(_ context.Context, id string) ([]scheduler.Line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return append([]scheduler.Line(nil), j.lines...), nil
}

// List implements scheduler.Inspector.
func (s *Scheduler) List(_ context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) {
		s.mu.Lock()
		var found []scheduler.Status
		for i := len(s.order) - 1; i >= 0 && (f.Limit == 0 || len(found) < f.Limit); i-- {
			if st := s.order[i].now(); f.Matches(st) {
				found = append(found, st)
			}
		}
		s.mu.Unlock()
		for _, st := range found {
			if !yield(st, nil) {
				return
			}
		}
	}
}

// Wait implements scheduler.Inspector. A handler that would wait for itself is
// refused.
func (s *Scheduler) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	s.mu.Lock()
	j, err := s.find(id)
	s.mu.Unlock()
	if err != nil {
		return scheduler.Status{}, err
	}
	return s.wait(ctx, j)
}

func (s *Scheduler) wait(ctx context.Context, j *job) (scheduler.Status, error) {
	self := s.caller(ctx)
	s.mu.Lock()
	if self != nil && !j.status.State.Ended() {
		self.awaits[j]++
		if chain := circle(self); chain != "" {
			self.stopsWaiting(j)
			s.mu.Unlock()
			return scheduler.Status{}, fmt.Errorf("%w: job %s would wait for itself: %s", scheduler.ErrConflict, self.status.ID, chain)
		}
		defer func() {
			s.mu.Lock()
			self.stopsWaiting(j)
			s.mu.Unlock()
		}()
	}
	s.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		return scheduler.Status{}, fmt.Errorf("job %s has not ended yet: %w", j.status.ID, context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return j.now(), nil
}

// Cancel implements scheduler.Canceller.
func (s *Scheduler) Cancel(ctx context.Context, id, reason string) error {
	if err := (trail.Trail{Reason: reason}).Validate(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(id)
	if err != nil {
		return err
	}
	if j.status.State.Ended() {
		return fmt.Errorf("%w: job %s has %s already", scheduler.ErrConflict, id, j.status.State)
	}
	text := "cancelled"
	if by := trail.From(ctx).Source; by != "" {
		text += " by " + by
	}
	if reason != "" {
		text += ": " + reason
	}
	s.cancel(j, errors.New(text))
	return nil
}

// Close ends every job and returns when all callers of Submit have gone. It is
// not to be called by a handler.
func (s *Scheduler) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, j := range slices.Clone(s.order) {
		if !j.status.State.Ended() {
			s.cancel(j, scheduler.ErrClosed)
		}
	}
	s.mu.Unlock()
	s.callers.Wait()
	return nil
}

// forget drops ended jobs beyond those that are to be remembered. It runs when
// there is a quarter too many, so that its cost is shared.
func (s *Scheduler) forget() {
	excess := s.ended - s.cfg.Remember
	if excess <= s.cfg.Remember/4 {
		return
	}
	old := s.now().Add(-keepKeys)
	kept := s.order[:0]
	for _, j := range s.order {
		gone := excess > 0 && j.status.State.Ended() && (j.status.Key == "" || j.status.EndedAt.Before(old))
		if !gone {
			kept = append(kept, j)
			continue
		}
		excess--
		s.ended--
		delete(s.jobs, j.status.ID)
		if k := j.idempotency(); s.keys[k] == j {
			delete(s.keys, k)
		}
	}
	clear(s.order[len(kept):])
	s.order = kept
}

// encode makes a result a document.
func encode(result any) (registry.Document, error) {
	if result == nil {
		return registry.Document{}, nil
	}
	d, err := registry.NewDocument(result)
	if err != nil {
		return d, fmt.Errorf("the action's result cannot be kept: %w", err)
	}
	return d, nil
}
