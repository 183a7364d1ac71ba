package worker_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

var errAway = errors.New("connection refused")

// fake is a manager: one list of jobs, leases by the clock of its bubble.
type fake struct {
	mu            sync.Mutex
	news          chan struct{} // closed when something changed
	jobs          []*job
	length        time.Duration
	away          bool // nothing is answered
	deaf          bool // it answers nothing, and the caller waits
	wants         []scheduler.Want
	told          []scheduler.Completion // all that came, also what was refused
	beats         int
	onTell        func() // before a completion is taken
	refuse        error  // of Next
	extra         int    // jobs handed out beyond what was asked for
	noWait        bool
	invalidResult bool
}

type job struct {
	scheduler.Lease
	state   scheduler.State
	back    []string
	lines   []string
	percent int
	words   string
	cancel  string
	end     scheduler.Completion
	timeout time.Duration
}

func newFake() *fake { return &fake{news: make(chan struct{}), length: 30 * time.Second} }

// submit queues a job.
func (f *fake) submit(action, params string) *job {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, err := registry.ParseDocument([]byte(params))
	if err != nil {
		panic(err)
	}
	j := &job{state: scheduler.Waiting}
	j.Job, j.Queue, j.Action, j.Params = "j"+strconv.Itoa(len(f.jobs)+1), "q", action, doc
	j.Trail = trail.Trail{Source: "somebody"}
	f.jobs = append(f.jobs, j)
	f.changed()
	return j
}

func (f *fake) changed() {
	close(f.news)
	f.news = make(chan struct{})
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.changed()
}

// look returns a copy.
func (f *fake) look(j *job) job {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := *j
	c.back, c.lines = slices.Clone(j.back), slices.Clone(j.lines)
	return c
}

// here is for the holder of mu, and lets go of it while nothing is answered.
func (f *fake) here(ctx context.Context) error {
	for f.deaf {
		news := f.news
		f.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-news:
		}
		f.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if f.away {
		return errAway
	}
	return ctx.Err()
}

func (f *fake) Next(ctx context.Context, w scheduler.Want) (list []scheduler.Lease, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wants = append(f.wants, w)
	wait := time.NewTimer(w.Wait.D())
	defer wait.Stop()
	for {
		if err := f.here(ctx); err != nil {
			return nil, err
		}
		if f.refuse != nil {
			return nil, f.refuse
		}
		f.expire()
		for _, j := range f.jobs {
			if j.state != scheduler.Waiting || len(list) == w.Max+f.extra {
				continue
			}
			j.state = scheduler.Running
			j.Attempt++
			j.Token = trail.Token{Epoch: 1, Number: j.Token.Number + 1}
			j.Length, j.Until = scheduler.Span(f.length), time.Now().Add(f.length)
			if j.timeout > 0 {
				j.Deadline = time.Now().Add(j.timeout)
			}
			l := j.Lease
			l.Until, l.Deadline = l.Until.Add(time.Hour), addHour(l.Deadline) // its clock is an hour ahead
			list = append(list, l)
		}
		if len(list) > 0 || f.noWait {
			return list, nil
		}
		news := f.news
		f.mu.Unlock()
		select {
		case <-news:
		case <-wait.C:
			f.mu.Lock()
			return nil, nil
		case <-ctx.Done():
		}
		f.mu.Lock()
	}
}

func addHour(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(time.Hour)
}

func (f *fake) expire() {
	for _, j := range f.jobs {
		if j.state == scheduler.Running && !time.Now().Before(j.Until) {
			j.state = scheduler.Waiting
		}
	}
}

// held finds the job of a lease that is valid.
func (f *fake) held(ctx context.Context, h scheduler.Hold) (*job, error) {
	if err := f.here(ctx); err != nil {
		return nil, err
	}
	f.expire()
	for _, j := range f.jobs {
		if j.Job == h.Job && j.Token == h.Token && j.state == scheduler.Running {
			return j, nil
		}
	}
	return nil, scheduler.ErrStale
}

func (f *fake) Heartbeat(ctx context.Context, b scheduler.Beat) (scheduler.Beaten, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beats++
	j, err := f.held(ctx, b.Hold)
	if err != nil {
		return scheduler.Beaten{}, err
	}
	j.Until = time.Now().Add(f.length)
	if b.Progress != "" || b.Percent != 0 {
		j.percent, j.words = b.Percent, b.Progress
	}
	return scheduler.Beaten{Until: j.Until, Cancel: j.cancel}, nil
}

func (f *fake) AddLog(ctx context.Context, h scheduler.Hold, lines ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.held(ctx, h)
	if err == nil {
		j.lines = append(j.lines, lines...)
	}
	return err
}

func (f *fake) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onTell != nil {
		f.onTell()
	}
	c := list[0]
	f.told = append(f.told, c)
	j, err := f.held(ctx, c.Hold)
	switch {
	case err != nil:
	case f.invalidResult && c.Error == "":
		err = scheduler.ErrInvalid
	default:
		j.end, j.state = c, scheduler.Succeeded
		if c.Error != "" {
			j.state = scheduler.Failed
		}
	}
	return make([]scheduler.Status, 1), []error{err}
}

func (f *fake) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.held(ctx, h)
	if err == nil {
		j.state, j.back = scheduler.Waiting, append(j.back, reason)
		f.changed()
	}
	return err
}

// asked returns the questions for jobs so far.
func (f *fake) asked() []scheduler.Want {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.wants)
}

// beaten returns how many heartbeats came.
func (f *fake) beaten() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.beats
}
