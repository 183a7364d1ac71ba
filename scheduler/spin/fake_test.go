package spin_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// fake is a scheduler in a few lines: queues in order, dependencies, leases by
// its clock. Methods that are not here panic.
type fake struct {
	scheduler.Builder
	scheduler.Broker
	scheduler.Inspector

	mu      sync.Mutex
	now     time.Time
	token   trail.Token
	last    int
	packs   map[string]*scheduler.PackageStatus
	jobs    map[string]*scheduler.Status
	order   []string // of enqueued jobs
	lists   int      // calls of List
	wants   []scheduler.Want
	sources []string
	fail    error // of every verb
	handed  int   // HandBacks
	remote  bool
	onNext  func()
}

func newFake() *fake {
	return &fake{now: time.Unix(1_000, 0), token: trail.Token{Epoch: 1}, packs: map[string]*scheduler.PackageStatus{}, jobs: map[string]*scheduler.Status{}}
}

func (f *fake) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fake) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fake) id(kind string) string {
	f.last++
	return kind + strconv.Itoa(f.last)
}

func (f *fake) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources = append(f.sources, trail.From(ctx).Source)
	if f.fail != nil {
		return scheduler.PackageStatus{}, f.fail
	}
	st := &scheduler.PackageStatus{ID: f.id("p"), State: scheduler.Building}
	f.packs[st.ID] = st
	return *st, nil
}

func (f *fake) AddJobs(_ context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.packs[id]
	switch {
	case f.fail != nil:
		return nil, f.fail
	case !ok:
		return nil, fmt.Errorf("package %s: %w", id, scheduler.ErrNotFound)
	case p.State != scheduler.Building:
		return nil, fmt.Errorf("package %s is enqueued: %w", id, scheduler.ErrConflict)
	}
	var ids []string
	for _, j := range jobs {
		if j.Action == "unknown" {
			return nil, &scheduler.CheckError{Problems: []string{"there is no action unknown"}}
		}
		j.ID = f.id("j")
		f.jobs[j.ID] = &scheduler.Status{Job: j, Package: id, State: scheduler.Waiting}
		p.Jobs = append(p.Jobs, j.ID)
		ids = append(ids, j.ID)
	}
	return ids, nil
}

func (f *fake) Enqueue(_ context.Context, id string) ([]scheduler.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.packs[id]
	if !ok {
		return nil, fmt.Errorf("package %s: %w", id, scheduler.ErrNotFound)
	}
	if len(p.Jobs) == 0 {
		return nil, &scheduler.CheckError{Problems: []string{"it has no jobs"}}
	}
	if p.State == scheduler.Building {
		p.State = scheduler.Queued
		f.order = append(f.order, p.Jobs...)
	}
	var list []scheduler.Status
	for _, j := range p.Jobs {
		list = append(list, *f.jobs[j])
	}
	return list, nil
}

func (f *fake) Package(_ context.Context, id string) (scheduler.PackageStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.packs[id]
	if !ok {
		return scheduler.PackageStatus{}, fmt.Errorf("package %s: %w", id, scheduler.ErrNotFound)
	}
	st := *p
	st.Counts = map[scheduler.State]int{}
	ended := 0
	for _, j := range p.Jobs {
		st.Counts[f.jobs[j].State]++
		if f.jobs[j].State.Ended() {
			ended++
		}
	}
	if st.State == scheduler.Queued && ended == len(p.Jobs) {
		st.State = scheduler.Ended
	}
	return st, nil
}

func (f *fake) Next(_ context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	if f.onNext != nil {
		f.onNext()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wants = append(f.wants, w)
	if f.fail != nil {
		return nil, f.fail
	}
	f.expire()
	for _, id := range f.order {
		j := f.jobs[id]
		if j.Queue != w.Queues[0] {
			continue
		}
		if j.State == scheduler.Running {
			break
		}
		if j.State != scheduler.Waiting || slices.ContainsFunc(j.After, func(d scheduler.Dependency) bool { return f.jobs[d.ID].State != scheduler.Succeeded }) {
			continue
		}
		f.token.Number++
		j.State, j.Token, j.Worker, j.Until = scheduler.Running, f.token, w.Worker, f.now.Add(w.Lease.D())
		j.Attempt++
		return []scheduler.Lease{{Hold: scheduler.Hold{Job: id, Token: j.Token}, Queue: j.Queue, Action: j.Action, Params: j.Params, Attempt: j.Attempt}}, nil
	}
	return nil, nil
}

// expire takes back what is overdue.
func (f *fake) expire() {
	for _, j := range f.jobs {
		if j.State == scheduler.Running && !f.now.Before(j.Until) {
			j.State = scheduler.Waiting
		}
	}
}

func (f *fake) Complete(_ context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire()
	c := list[0]
	j, ok := f.jobs[c.Job]
	if !ok || j.Token != c.Token || j.State != scheduler.Running {
		return make([]scheduler.Status, 1), []error{scheduler.ErrStale}
	}
	j.State = scheduler.Succeeded
	if c.Error != "" {
		j.State, j.Error = scheduler.Failed, c.Error
		for _, d := range f.jobs {
			if slices.ContainsFunc(d.After, func(a scheduler.Dependency) bool { return a.ID == j.ID }) {
				d.State, d.Error, d.Cause = scheduler.Failed, "its dependency failed", j.ID
			}
		}
	}
	return []scheduler.Status{*j}, []error{nil}
}

func (f *fake) HandBack(_ context.Context, h scheduler.Hold, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handed++
	f.jobs[h.Job].State = scheduler.Waiting
	return nil
}

func (f *fake) Status(_ context.Context, id string) (scheduler.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire()
	if j, ok := f.jobs[id]; ok {
		return *j, nil
	}
	return scheduler.Status{}, scheduler.ErrNotFound
}

func (f *fake) List(_ context.Context, filter scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) {
		f.mu.Lock()
		f.lists++
		var list []scheduler.Status
		for _, j := range f.jobs {
			if filter.Matches(*j) {
				list = append(list, *j)
			}
		}
		f.mu.Unlock()
		for _, j := range list {
			if !yield(j, nil) {
				return
			}
		}
	}
}

// Queue makes the fake a part of a QueueInspector.
func (f *fake) Queue(_ context.Context, name string) (scheduler.QueueStatus, error) {
	return scheduler.QueueStatus{Name: name, Remote: f.remote}, nil
}

func (f *fake) Queues(context.Context) iter.Seq2[scheduler.QueueStatus, error] { return nil }

func (f *fake) Limits(context.Context) ([]scheduler.LimitStatus, error) { return nil, nil }

func (f *fake) Stats(context.Context) (scheduler.Stats, error) { return scheduler.Stats{}, nil }
