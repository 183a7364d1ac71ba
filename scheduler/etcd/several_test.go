package etcd

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// several is a cluster's managers as one scheduler: each call goes to another one.
type several struct {
	managers []*Scheduler
	turn     atomic.Uint64
}

func (s *several) next() *Scheduler { return s.managers[s.turn.Add(1)%uint64(len(s.managers))] }

// Run runs all of them. They end together, so that none takes what another gives back.
func (s *several) Run(ctx context.Context, o scheduler.RunOptions) error {
	errs := make([]error, len(s.managers))
	given := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(given, func() {
		s.rest()
		cancel()
	})()
	var work sync.WaitGroup
	for i, m := range s.managers {
		work.Go(func() { errs[i] = m.Run(ctx, o) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// rest has whoever leads give nobody a job any more.
func (s *several) rest() {
	for _, m := range s.managers {
		if o := m.current().office; o != nil {
			o.crew.rest()
		}
	}
}

// rest lets nobody take a job any more.
func (c *crew) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hands {
		h.active = false
	}
	c.changed()
}

// Close closes them while they work. They end together here too: what one gives back
// another would begin, or what had waited for it, and give that back in turn.
func (s *several) Close() error {
	s.rest()
	for _, m := range s.managers {
		m.close()
	}
	var errs []error
	for _, m := range s.managers {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

func (s *several) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	return s.next().Submit(ctx, p)
}
func (s *several) Status(ctx context.Context, id string) (scheduler.Status, error) {
	return s.next().Status(ctx, id)
}
func (s *several) List(ctx context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return s.next().List(ctx, f)
}
func (s *several) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	return s.next().Wait(ctx, id)
}
func (s *several) Log(ctx context.Context, id string) ([]scheduler.Line, error) {
	return s.next().Log(ctx, id)
}
func (s *several) LogAfter(ctx context.Context, id string, after int) (scheduler.LogPart, error) {
	return s.next().LogAfter(ctx, id, after)
}
func (s *several) Cancel(ctx context.Context, id, reason string) error {
	return s.next().Cancel(ctx, id, reason)
}
func (s *several) Retry(ctx context.Context, id string, o scheduler.RetryOptions) ([]scheduler.Status, error) {
	return s.next().Retry(ctx, id, o)
}
func (s *several) Skip(ctx context.Context, id string) (scheduler.Status, error) {
	return s.next().Skip(ctx, id)
}
func (s *several) Done(ctx context.Context, id string, result registry.Document) (scheduler.Status, error) {
	return s.next().Done(ctx, id, result)
}
func (s *several) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (scheduler.QueueStatus, error) {
	return s.next().SetQueue(ctx, name, m)
}
func (s *several) Queue(ctx context.Context, name string) (scheduler.QueueStatus, error) {
	return s.next().Queue(ctx, name)
}
func (s *several) Queues(ctx context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return s.next().Queues(ctx)
}
func (s *several) Limits(ctx context.Context) ([]scheduler.LimitStatus, error) {
	return s.next().Limits(ctx)
}
func (s *several) Stats(ctx context.Context) (scheduler.Stats, error) { return s.next().Stats(ctx) }
func (s *several) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	return s.next().NewPackage(ctx, p)
}
func (s *several) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	return s.next().AddJobs(ctx, id, jobs...)
}
func (s *several) Enqueue(ctx context.Context, id string) ([]scheduler.Status, error) {
	return s.next().Enqueue(ctx, id)
}
func (s *several) Package(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return s.next().Package(ctx, id)
}
func (s *several) Packages(ctx context.Context) iter.Seq2[scheduler.PackageStatus, error] {
	return s.next().Packages(ctx)
}
func (s *several) CancelPackage(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return s.next().CancelPackage(ctx, id)
}
func (s *several) Cursor(ctx context.Context) (string, error) { return s.next().Cursor(ctx) }
func (s *several) Watch(ctx context.Context, cursor string, f scheduler.Filter) iter.Seq2[scheduler.Event, error] {
	return s.next().Watch(ctx, cursor, f)
}
func (s *several) Next(ctx context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	return s.next().Next(ctx, w)
}
func (s *several) Heartbeat(ctx context.Context, b scheduler.Beat) (scheduler.Beaten, error) {
	return s.next().Heartbeat(ctx, b)
}
func (s *several) AddLog(ctx context.Context, h scheduler.Hold, lines ...string) error {
	return s.next().AddLog(ctx, h, lines...)
}
func (s *several) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	return s.next().Complete(ctx, list...)
}
func (s *several) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	return s.next().HandBack(ctx, h, reason)
}
