package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// target is who does what is asked: the engine, or the way to it.
type target interface {
	scheduler.Submitter
	scheduler.Inspector
	scheduler.Operator
	scheduler.Broker
	scheduler.QueueInspector
	scheduler.Builder
	scheduler.Watcher
	scheduler.LogFollower
}

// ask has who leads answer.
func ask[T any](ctx context.Context, s *Scheduler, h how, f func(context.Context, target) (T, error)) (T, error) {
	var answer, none T
	if s.closing.Err() != nil {
		return none, scheduler.ErrClosed
	}
	err := s.do(ctx, h, func(ctx context.Context, t target) (err error) {
		answer, err = f(ctx, t)
		return err
	})
	if err != nil {
		return none, err
	}
	return answer, nil
}

// list is ask for what comes one by one. When who leads changes amid it, it ends with
// an error.
func list[T any](ctx context.Context, s *Scheduler, f func(context.Context, target) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if s.closing.Err() != nil {
			yield(none, scheduler.ErrClosed)
			return
		}
		begun, enough := false, false
		err := s.do(ctx, repeatable, func(ctx context.Context, t target) error {
			for v, err := range f(ctx, t) {
				if err != nil {
					return err
				}
				begun = true
				if enough = !yield(v, nil); enough {
					return nil
				}
			}
			return nil
		}, func() bool { return begun })
		if err != nil && !enough {
			yield(none, err)
		}
	}
}

// Submit implements scheduler.Submitter. It returns when the package is in etcd.
func (s *Scheduler) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	// With IDs of its own it is known again if the answer is lost.
	if p.ID == "" {
		p.ID = newID()
	}
	p.Jobs = slices.Clone(p.Jobs)
	for i := range p.Jobs {
		if p.Jobs[i].ID == "" {
			p.Jobs[i].ID = newID()
		}
	}
	again := false
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) ([]scheduler.Status, error) {
		list, err := t.Submit(ctx, p)
		if again && errors.Is(err, scheduler.ErrConflict) {
			if list, ok := taken(ctx, t, p); ok {
				return list, nil
			}
		}
		again = true
		return list, err
	})
}

// taken gives the jobs of a package if just these were taken before.
func taken(ctx context.Context, t target, p scheduler.Package) ([]scheduler.Status, bool) {
	st, err := t.Package(ctx, p.ID)
	if err != nil || len(st.Jobs) != len(p.Jobs) {
		return nil, false
	}
	var list []scheduler.Status
	for i, id := range st.Jobs {
		j, err := t.Status(ctx, id)
		if err != nil || id != p.Jobs[i].ID {
			return nil, false
		}
		list = append(list, j)
	}
	return list, true
}

func newID() string {
	id, err := uuid.NewV7() // sorts by time
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}

// Status implements scheduler.Inspector.
func (s *Scheduler) Status(ctx context.Context, id string) (scheduler.Status, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (scheduler.Status, error) { return t.Status(ctx, id) })
}

// List implements scheduler.Inspector.
func (s *Scheduler) List(ctx context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return list(ctx, s, func(ctx context.Context, t target) iter.Seq2[scheduler.Status, error] { return t.List(ctx, f) })
}

// Wait implements scheduler.Inspector.
func (s *Scheduler) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) (scheduler.Status, error) { return t.Wait(ctx, id) })
}

// Log implements scheduler.Inspector.
func (s *Scheduler) Log(ctx context.Context, id string) ([]scheduler.Line, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) ([]scheduler.Line, error) { return t.Log(ctx, id) })
}

// LogAfter implements scheduler.LogFollower.
func (s *Scheduler) LogAfter(ctx context.Context, id string, after int) (scheduler.LogPart, error) {
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) (scheduler.LogPart, error) { return t.LogAfter(ctx, id, after) })
}

// Cancel implements scheduler.Canceller.
func (s *Scheduler) Cancel(ctx context.Context, id, reason string) error {
	_, err := ask(ctx, s, once, func(ctx context.Context, t target) (bool, error) { return true, t.Cancel(ctx, id, reason) })
	return err
}

// Retry implements scheduler.Operator.
func (s *Scheduler) Retry(ctx context.Context, id string, o scheduler.RetryOptions) ([]scheduler.Status, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) ([]scheduler.Status, error) { return t.Retry(ctx, id, o) })
}

// Skip implements scheduler.Operator.
func (s *Scheduler) Skip(ctx context.Context, id string) (scheduler.Status, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) (scheduler.Status, error) { return t.Skip(ctx, id) })
}

// Done implements scheduler.Operator.
func (s *Scheduler) Done(ctx context.Context, id string, result registry.Document) (scheduler.Status, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) (scheduler.Status, error) { return t.Done(ctx, id, result) })
}

// SetQueue implements scheduler.Operator.
func (s *Scheduler) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (scheduler.QueueStatus, error) {
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) (scheduler.QueueStatus, error) { return t.SetQueue(ctx, name, m) })
}

// Queue implements scheduler.QueueInspector.
func (s *Scheduler) Queue(ctx context.Context, name string) (scheduler.QueueStatus, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (scheduler.QueueStatus, error) { return t.Queue(ctx, name) })
}

// Queues implements scheduler.QueueInspector.
func (s *Scheduler) Queues(ctx context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return list(ctx, s, func(ctx context.Context, t target) iter.Seq2[scheduler.QueueStatus, error] { return t.Queues(ctx) })
}

// Limits implements scheduler.QueueInspector.
func (s *Scheduler) Limits(ctx context.Context) ([]scheduler.LimitStatus, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) ([]scheduler.LimitStatus, error) { return t.Limits(ctx) })
}

// Stats implements scheduler.QueueInspector: those of the manager that leads.
func (s *Scheduler) Stats(ctx context.Context) (scheduler.Stats, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (scheduler.Stats, error) { return t.Stats(ctx) })
}

// NewPackage implements scheduler.Builder.
func (s *Scheduler) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) (scheduler.PackageStatus, error) { return t.NewPackage(ctx, p) })
}

// AddJobs implements scheduler.Builder.
func (s *Scheduler) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) ([]string, error) { return t.AddJobs(ctx, id, jobs...) })
}

// Enqueue implements scheduler.Builder.
func (s *Scheduler) Enqueue(ctx context.Context, id string) ([]scheduler.Status, error) {
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) ([]scheduler.Status, error) { return t.Enqueue(ctx, id) })
}

// Package implements scheduler.Builder.
func (s *Scheduler) Package(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (scheduler.PackageStatus, error) { return t.Package(ctx, id) })
}

// Packages implements scheduler.Builder.
func (s *Scheduler) Packages(ctx context.Context) iter.Seq2[scheduler.PackageStatus, error] {
	return list(ctx, s, func(ctx context.Context, t target) iter.Seq2[scheduler.PackageStatus, error] { return t.Packages(ctx) })
}

// CancelPackage implements scheduler.Builder.
func (s *Scheduler) CancelPackage(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return ask(ctx, s, once, func(ctx context.Context, t target) (scheduler.PackageStatus, error) { return t.CancelPackage(ctx, id) })
}

// Cursor implements scheduler.Watcher.
func (s *Scheduler) Cursor(ctx context.Context) (string, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (string, error) { return t.Cursor(ctx) })
}

// Watch implements scheduler.Watcher. It ends with ErrCompacted when another manager
// has come to lead.
func (s *Scheduler) Watch(ctx context.Context, cursor string, f scheduler.Filter) iter.Seq2[scheduler.Event, error] {
	var err error
	if cursor == "" {
		cursor, err = s.Cursor(ctx)
	}
	return func(yield func(scheduler.Event, error) bool) {
		if err != nil {
			yield(scheduler.Event{}, err)
			return
		}
		for e, err := range list(ctx, s, func(ctx context.Context, t target) iter.Seq2[scheduler.Event, error] { return t.Watch(ctx, cursor, f) }) {
			if errors.Is(err, errGone) || errors.Is(err, errMaybe) {
				err = fmt.Errorf("%w: another manager has come to lead: list the jobs and watch from now on", scheduler.ErrCompacted)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Next implements scheduler.Broker.
func (s *Scheduler) Next(ctx context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	return ask(ctx, s, repeatable, func(ctx context.Context, t target) ([]scheduler.Lease, error) { return t.Next(ctx, w) })
}

// Heartbeat implements scheduler.Broker.
func (s *Scheduler) Heartbeat(ctx context.Context, b scheduler.Beat) (scheduler.Beaten, error) {
	return ask(ctx, s, reads, func(ctx context.Context, t target) (scheduler.Beaten, error) { return t.Heartbeat(ctx, b) })
}

// AddLog implements scheduler.Broker.
func (s *Scheduler) AddLog(ctx context.Context, h scheduler.Hold, lines ...string) error {
	_, err := ask(ctx, s, once, func(ctx context.Context, t target) (bool, error) { return true, t.AddLog(ctx, h, lines...) })
	return err
}

// Complete implements scheduler.Broker.
func (s *Scheduler) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	type answer struct {
		states []scheduler.Status
		errs   []error
	}
	got, err := ask(ctx, s, repeatable, func(ctx context.Context, t target) (answer, error) {
		states, errs := t.Complete(ctx, list...)
		for _, err := range errs { // said again, those that were taken are answered again
			if errors.Is(err, scheduler.ErrClosed) || errors.Is(err, journal.ErrFailed) || errors.Is(err, errGone) || errors.Is(err, errMaybe) {
				return answer{}, err
			}
		}
		return answer{states, errs}, nil
	})
	if err != nil {
		return make([]scheduler.Status, len(list)), slices.Repeat([]error{err}, len(list))
	}
	return got.states, got.errs
}

// HandBack implements scheduler.Broker.
func (s *Scheduler) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	_, err := ask(ctx, s, once, func(ctx context.Context, t target) (bool, error) { return true, t.HandBack(ctx, h, reason) })
	return err
}

// What an attempt that runs here for another manager says to it, whoever that is by
// then.

func (s *Scheduler) tell(ctx context.Context, at ref, list []told) error {
	v, err := s.leader(ctx)
	if err != nil {
		return err
	}
	if v.office != nil {
		v.office.crew.tells(at, list)
		return nil
	}
	return v.link.tell(ctx, at, list)
}

func (s *Scheduler) answer(ctx context.Context, name string, at ref, a *answer) error {
	v, err := s.leader(ctx)
	switch {
	case err != nil:
		return err
	case v.office == nil:
		return v.link.answer(ctx, name, at, a)
	}
	return v.office.crew.answered(ctx, name, at, a)
}

func (s *Scheduler) takeLimits(ctx context.Context, at ref, names []string) error {
	return s.do(context.WithValue(ctx, inner{}, true), repeatable, func(ctx context.Context, _ target) error {
		v, err := s.leader(ctx)
		switch {
		case err != nil:
			return err
		case v.office == nil:
			return v.link.limits(ctx, at, names)
		}
		return v.office.crew.limits(ctx, at, names)
	})
}
