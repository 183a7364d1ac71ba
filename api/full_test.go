package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	schedsync "github.com/vagoth/vagoth/scheduler/sync"
	"github.com/vagoth/vagoth/trail"
)

// full is a scheduler with every capability, each as simple as it can be: it
// shows what comes through the handler and back.
type full struct {
	*schedsync.Scheduler

	mu       sync.Mutex
	calls    []asked  // what it was asked to do, and by whom
	limits   []string // that submitted jobs named
	modes    map[string]scheduler.QueueMode
	packages []*pack
	offered  []scheduler.Lease // what Next hands out
	held     map[string]scheduler.Lease
	refuse   error // of the next call
	events   []scheduler.Event
	lost     int   // events before this are gone
	silent   error // why it tells of nothing now
	silenced int   // how many Watches were told so
	news     chan struct{}
	entered  chan struct{} // told when Next begins to wait
}

type asked struct {
	what  string
	trail trail.Trail
}

type pack struct {
	scheduler.Package
	enqueued []scheduler.Status
}

var _ interface {
	scheduler.Broker
	scheduler.Operator
	scheduler.QueueInspector
	scheduler.Builder
	scheduler.Watcher
} = (*full)(nil)

func newFull(d scheduler.Deps) *full {
	return &full{Scheduler: schedsync.New(schedsync.Defaults(), d), modes: map[string]scheduler.QueueMode{}, held: map[string]scheduler.Lease{}, news: make(chan struct{}), entered: make(chan struct{}, 100)}
}

func (f *full) called(ctx context.Context, format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, asked{fmt.Sprintf(format, args...), trail.From(ctx)})
	err := f.refuse
	f.refuse = nil
	return err
}

func (f *full) last() asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return asked{}
	}
	return f.calls[len(f.calls)-1]
}

func (f *full) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	if err := f.called(ctx, "submit %d", len(p.Jobs)); err != nil {
		return nil, err
	}
	for i := range p.Jobs {
		f.mu.Lock()
		f.limits = append(f.limits, p.Jobs[i].Limits...)
		f.mu.Unlock()
		p.Jobs[i].Limits = nil // the one below shares nothing out
	}
	list, err := f.Scheduler.Submit(ctx, p)
	for _, st := range list {
		f.tell(st)
	}
	return list, err
}

// tell makes an event.
func (f *full) tell(st scheduler.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, scheduler.Event{Cursor: strconv.Itoa(len(f.events) + 1), Job: st})
	close(f.news)
	f.news = make(chan struct{})
}

func (f *full) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = len(f.events)
}

// unwatched ends every Watch with an error, once if that says that something is gone, and
// until it is nil otherwise.
func (f *full) unwatched(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = err
	close(f.news)
	f.news = make(chan struct{})
}

// wasSilent is how many Watches ended so.
func (f *full) wasSilent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.silenced
}

func (f *full) Cursor(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strconv.Itoa(len(f.events)), nil
}

func (f *full) Watch(ctx context.Context, cursor string, flt scheduler.Filter) iter.Seq2[scheduler.Event, error] {
	return func(yield func(scheduler.Event, error) bool) {
		at, err := strconv.Atoi(cursor)
		if cursor != "" && err != nil {
			yield(scheduler.Event{}, scheduler.ErrInvalid)
			return
		}
		for {
			f.mu.Lock()
			gone, list, news, silent := at < f.lost, f.events[min(at, len(f.events)):], f.news, f.silent
			if silent != nil {
				f.silenced++
			}
			if errors.Is(silent, scheduler.ErrCompacted) {
				f.silent = nil
			}
			f.mu.Unlock()
			if silent != nil {
				yield(scheduler.Event{}, silent)
				return
			}
			if gone {
				yield(scheduler.Event{}, scheduler.ErrCompacted)
				return
			}
			for _, e := range list {
				if flt.Matches(e.Job) && !yield(e, nil) {
					return
				}
			}
			at += len(list)
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *full) Retry(ctx context.Context, id string, o scheduler.RetryOptions) ([]scheduler.Status, error) {
	if err := f.called(ctx, "retry %s %v", id, o.WithDependents); err != nil {
		return nil, err
	}
	st, err := f.Status(ctx, id)
	return []scheduler.Status{st}, err
}

func (f *full) Skip(ctx context.Context, id string) (scheduler.Status, error) {
	if err := f.called(ctx, "skip %s", id); err != nil {
		return scheduler.Status{}, err
	}
	return f.Status(ctx, id)
}

func (f *full) Done(ctx context.Context, id string, result registry.Document) (scheduler.Status, error) {
	if err := f.called(ctx, "done %s %s", id, result); err != nil {
		return scheduler.Status{}, err
	}
	return f.Status(ctx, id)
}

func (f *full) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (scheduler.QueueStatus, error) {
	err := f.called(ctx, "%s %s", m, name)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modes[name] = m
	return scheduler.QueueStatus{Name: name, Mode: m, Reason: trail.From(ctx).Reason}, err
}

func (f *full) Queue(_ context.Context, name string) (scheduler.QueueStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.modes[name]; ok {
		return scheduler.QueueStatus{Name: name, Mode: m}, nil
	}
	return scheduler.QueueStatus{Name: name, Mode: scheduler.Open}, nil
}

func (f *full) Queues(context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return func(yield func(scheduler.QueueStatus, error) bool) {
		f.mu.Lock()
		names := []string{}
		for name := range f.modes {
			names = append(names, name)
		}
		f.mu.Unlock()
		slices.Sort(names)
		for _, name := range names {
			if !yield(scheduler.QueueStatus{Name: name, Mode: f.modes[name], Depth: 2, Oldest: time.Now().Add(-time.Minute)}, nil) {
				return
			}
		}
	}
}

func (f *full) Limits(context.Context) ([]scheduler.LimitStatus, error) {
	return []scheduler.LimitStatus{{Name: "host:h1", Slots: 8, Taken: 1}}, nil
}

func (f *full) Stats(ctx context.Context) (scheduler.Stats, error) {
	f.mu.Lock()
	err := f.refuse
	f.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	return scheduler.Stats{Waiting: 3, Running: 1, Submitted: 7, Ended: map[scheduler.State]uint64{scheduler.Succeeded: 4}, Syncs: 9, Bytes: 1000}, err
}

func (f *full) find(id string) (*pack, error) {
	for _, p := range f.packages {
		if p.ID == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("package %s: %w", id, scheduler.ErrNotFound)
}

func (p *pack) status() scheduler.PackageStatus {
	st := scheduler.PackageStatus{ID: p.ID, State: scheduler.Building, Jobs: []string{}}
	for _, j := range p.Jobs {
		st.Jobs = append(st.Jobs, j.ID)
	}
	if p.enqueued != nil {
		st.State = scheduler.Ended
	}
	return st
}

func (f *full) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	err := f.called(ctx, "new %d", len(p.Jobs))
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.ID == "" {
		p.ID = fmt.Sprintf("p%04d", len(f.packages))
	}
	made := &pack{Package: p}
	f.packages = append(f.packages, made)
	return made.status(), err
}

func (f *full) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	err := f.called(ctx, "add %s %d", id, len(jobs))
	f.mu.Lock()
	defer f.mu.Unlock()
	p, missing := f.find(id)
	if missing != nil {
		return nil, missing
	}
	ids := []string{}
	for i := range jobs {
		jobs[i].ID = fmt.Sprintf("%s-%d", id, len(p.Jobs))
		p.Jobs = append(p.Jobs, jobs[i])
		ids = append(ids, jobs[i].ID)
	}
	return ids, err
}

func (f *full) Enqueue(ctx context.Context, id string) ([]scheduler.Status, error) {
	f.mu.Lock()
	p, err := f.find(id)
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if p.enqueued == nil {
		p.enqueued, err = f.Submit(ctx, p.Package)
	}
	return p.enqueued, err
}

func (f *full) Package(_ context.Context, id string) (scheduler.PackageStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.find(id)
	if err != nil {
		return scheduler.PackageStatus{}, err
	}
	return p.status(), nil
}

func (f *full) Packages(context.Context) iter.Seq2[scheduler.PackageStatus, error] {
	return func(yield func(scheduler.PackageStatus, error) bool) {
		f.mu.Lock()
		list := slices.Clone(f.packages)
		f.mu.Unlock()
		for _, p := range slices.Backward(list) {
			if !yield(p.status(), nil) {
				return
			}
		}
	}
}

func (f *full) CancelPackage(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	if err := f.called(ctx, "cancel package %s", id); err != nil {
		return scheduler.PackageStatus{}, err
	}
	return f.Package(ctx, id)
}

func (f *full) offer(l ...scheduler.Lease) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offered = append(f.offered, l...)
	close(f.news)
	f.news = make(chan struct{})
}

func (f *full) Next(ctx context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	if err := f.called(ctx, "next %s", w.Worker); err != nil {
		return nil, err
	}
	timeout, cancel := context.WithTimeout(ctx, w.Wait.D())
	defer cancel()
	for told := false; ; told = true {
		f.mu.Lock()
		n := min(len(f.offered), max(w.Max, 1))
		list, news := f.offered[:n:n], f.news
		f.offered = f.offered[n:]
		for _, l := range list {
			f.held[l.Job] = l
		}
		f.mu.Unlock()
		if n > 0 {
			return list, nil
		}
		if !told {
			f.entered <- struct{}{}
		}
		select {
		case <-news:
		case <-timeout.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *full) hold(h scheduler.Hold) error {
	if l, ok := f.held[h.Job]; !ok || l.Token != h.Token {
		return fmt.Errorf("job %s: %w", h.Job, scheduler.ErrStale)
	}
	return nil
}

func (f *full) Heartbeat(ctx context.Context, b scheduler.Beat) (scheduler.Beaten, error) {
	err := f.called(ctx, "beat %s %d %s", b.Job, b.Percent, b.Progress)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.hold(b.Hold)
	}
	return scheduler.Beaten{Cancel: "stop it"}, err
}

func (f *full) AddLog(ctx context.Context, h scheduler.Hold, lines ...string) error {
	err := f.called(ctx, "log %s %d", h.Job, len(lines))
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.hold(h)
	}
	return err
}

func (f *full) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	_ = f.called(ctx, "complete %d", len(list))
	f.mu.Lock()
	defer f.mu.Unlock()
	statuses, errs := make([]scheduler.Status, len(list)), make([]error, len(list))
	for i, e := range list {
		if errs[i] = f.hold(e.Hold); errs[i] == nil {
			delete(f.held, e.Job)
			statuses[i] = scheduler.Status{Job: scheduler.Job{ID: e.Job}, State: scheduler.Succeeded, Result: e.Result, Error: e.Error, Code: e.Code}
		}
	}
	return statuses, errs
}

func (f *full) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	err := f.called(ctx, "return %s %s", h.Job, reason)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.hold(h)
	}
	delete(f.held, h.Job)
	return err
}
