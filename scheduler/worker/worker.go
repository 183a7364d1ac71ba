package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Config says what a worker does.
type Config struct {
	Name    string   // for people; empty is the name of this machine
	Queues  []string // to take jobs from; none are all that are left to workers outside
	Actions []scheduler.Action

	// KnownOnly leaves jobs of other actions to other workers. Without it they
	// fail, so that a typing error is seen, and nobody waits for ever.
	KnownOnly bool

	Parallel int           // jobs at once; 0 is 1
	Lease    time.Duration // how long the manager waits for a worker that is silent; 0 is the manager's choice
	Wait     time.Duration // how long one question for jobs may last; 0 is 30s
	Grace    time.Duration // how long jobs may go on after the worker is told to stop; 0 is 10s
	Log      *slog.Logger  // nil is none
}

// The defaults of Config, and what it may be.
const (
	defaultWait  = 30 * time.Second
	defaultGrace = 10 * time.Second
	maxParallel  = scheduler.MaxNext
)

// Worker takes jobs and does them.
type Worker struct {
	broker  scheduler.Broker
	actions map[string]scheduler.Action
	want    scheduler.Want
	slots   chan struct{}
	grace   time.Duration
	log     *slog.Logger
	running sync.Mutex // held by Run
}

// New checks c.
func New(b scheduler.Broker, c Config) (*Worker, error) {
	w := &Worker{broker: b, actions: map[string]scheduler.Action{}, grace: c.Grace, log: c.Log}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.grace == 0 {
		w.grace = defaultGrace
	}
	w.want = scheduler.Want{Worker: c.Name, Queues: slices.Clone(c.Queues), Wait: scheduler.Span(c.Wait), Lease: scheduler.Span(c.Lease)}
	if c.Wait == 0 {
		w.want.Wait = scheduler.Span(defaultWait)
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("cannot tell this machine's name, give the worker one: %w", err)
		}
		w.want.Worker = host
	}
	if c.Parallel == 0 {
		c.Parallel = 1
	}
	problems := w.addActions(c.Actions)
	if len(c.Queues) > scheduler.MaxWantQueues {
		problems = append(problems, fmt.Sprintf("it has %d queues, at most %d are asked for at once", len(c.Queues), scheduler.MaxWantQueues))
	}
	if c.Parallel < 1 || c.Parallel > maxParallel {
		problems = append(problems, fmt.Sprintf("parallel is %d: use 1 to %d", c.Parallel, maxParallel))
	}
	if c.Lease != 0 && (c.Lease < scheduler.MinLease || c.Lease > scheduler.MaxLease) {
		problems = append(problems, fmt.Sprintf("a lease of %s: use %s to %s", c.Lease, scheduler.MinLease, scheduler.MaxLease))
	}
	if wait := w.want.Wait.D(); wait < time.Second || wait > scheduler.MaxWait {
		problems = append(problems, fmt.Sprintf("a wait of %s: use 1s to %s", wait, scheduler.MaxWait))
	}
	if w.grace < 0 {
		problems = append(problems, fmt.Sprintf("a grace of %s is negative", w.grace))
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("the worker cannot be: %s: %w", strings.Join(problems, "; "), scheduler.ErrInvalid)
	}
	if c.KnownOnly {
		w.want.Actions = slices.Sorted(maps.Keys(w.actions))
	}
	w.slots = make(chan struct{}, c.Parallel)
	return w, nil
}

func (w *Worker) addActions(list []scheduler.Action) (problems []string) {
	if len(list) == 0 {
		problems = append(problems, "it has no actions")
	}
	for _, a := range list {
		switch {
		case a.Name == "":
			problems = append(problems, "an action has no name")
		case a.Run == nil:
			problems = append(problems, fmt.Sprintf("the action %q has no function", a.Name))
		case w.actions[a.Name].Run != nil:
			problems = append(problems, fmt.Sprintf("the action %q stands twice", a.Name))
		}
		w.actions[a.Name] = a
	}
	return problems
}

// Run works until ctx ends, and then returns nil. It asks for nothing more,
// lets the running functions go on for the grace, ends their contexts, waits for
// them, and hands back the jobs that they left unfinished. No goroutine is left.
//
// While the manager is away it tries again, with growing breaks. It returns an
// error only if the manager will never give it a job, as it cannot do that or
// refuses the question.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.TryLock() {
		return errors.New("this worker runs already: make another, or raise its parallel")
	}
	defer w.running.Unlock()
	work, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var jobs sync.WaitGroup
	err := w.fetch(ctx, func(l scheduler.Lease, asked time.Time) {
		jobs.Go(func() {
			defer func() { <-w.slots }()
			w.attempt(work, l, asked)
		})
	})
	grace := time.AfterFunc(w.grace, func() { end(fmt.Errorf("the worker stops: %w", scheduler.ErrHandedBack)) })
	jobs.Wait()
	grace.Stop()
	return err
}

// fetch asks for as many jobs as there are free slots, and starts them, until
// ctx ends.
func (w *Worker) fetch(ctx context.Context, start func(scheduler.Lease, time.Time)) error {
	var away, idle backoff
	for {
		free := w.take(ctx)
		if free == 0 {
			return nil
		}
		want := w.want
		want.Max = free
		asked := time.Now()
		list, err := w.next(ctx, want)
		for range free - len(list) {
			<-w.slots
		}
		if ctx.Err() != nil {
			for _, l := range list {
				w.handBack(ctx, l.Hold, "the worker stops")
				<-w.slots
			}
			return nil
		}
		for _, l := range list {
			start(l, asked)
		}
		switch {
		case refused(err):
			return fmt.Errorf("the manager gives this worker no jobs: %w", err)
		case err != nil:
			pause := away.next(err)
			if away.tries == 1 {
				w.log.WarnContext(ctx, "cannot ask for jobs, trying again", "error", err)
			}
			sleep(ctx, pause)
		default:
			if away.tries > 0 {
				w.log.InfoContext(ctx, "the manager answers again", "after", away.tries)
			}
			away = backoff{}
			if len(list) > 0 || time.Since(asked) > time.Second {
				idle = backoff{}
			} else { // it does not wait as it was asked to
				sleep(ctx, min(idle.next(nil), time.Second))
			}
		}
	}
}

// take waits for a free slot and takes all that are free. It returns 0 when ctx
// has ended.
func (w *Worker) take(ctx context.Context) (n int) {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case w.slots <- struct{}{}:
		n = 1
	case <-ctx.Done():
		return 0
	}
	for n < cap(w.slots) {
		select {
		case w.slots <- struct{}{}:
			n++
		default:
			return n
		}
	}
	return n
}

// slack is what an answer may take beyond the time that was asked for.
const slack = 15 * time.Second

// next asks once. A manager that gives more than was asked for gets it back.
func (w *Worker) next(ctx context.Context, want scheduler.Want) ([]scheduler.Lease, error) {
	call, cancel := context.WithTimeout(ctx, want.Wait.D()+slack)
	defer cancel()
	list, err := w.broker.Next(call, want)
	if len(list) > want.Max {
		for _, l := range list[want.Max:] {
			w.handBack(ctx, l.Hold, "more than were asked for")
		}
		list = list[:want.Max]
	}
	return list, err
}

// handBack gives a job back that was not begun. If that fails its lease runs out.
func (w *Worker) handBack(ctx context.Context, h scheduler.Hold, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := w.broker.HandBack(ctx, h, reason); err != nil && !errors.Is(err, scheduler.ErrStale) {
		w.log.WarnContext(ctx, "cannot hand a job back, it waits for the end of its lease", "job", h.Job, "error", err)
	}
}
