package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Open makes a scheduler that is to be tested. The suite closes it.
type Open func(t *testing.T, deps scheduler.Deps) scheduler.Scheduler

// errBoom is what the action fail answers.
var errBoom = errors.New("boom")

// bench is a scheduler with actions that do as they are told.
type bench struct {
	t      *testing.T
	s      scheduler.Scheduler
	opener Open
	deps   scheduler.Deps

	mu      sync.Mutex
	gates   map[string]chan error
	started []string // job IDs in the order in which attempts began
	running map[string]int
	most    map[string]int // by queue: how many ever ran side by side
	trails  []trail.Trail
	leave   sync.WaitGroup
	idle    context.CancelFunc // ends the scheduler's own workers
	runErr  error              // what they answered
}

// inBubble runs fn with a fresh scheduler in fake time, and closes it.
func inBubble(t *testing.T, open Open, fn func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, open)
		defer b.close()
		fn(b)
	})
}

// idleBench is one without a scheduler.
func idleBench(t *testing.T) *bench {
	return &bench{t: t, gates: map[string]chan error{}, running: map[string]int{}, most: map[string]int{}}
}

func newBench(t *testing.T, open Open) *bench {
	b := idleBench(t)
	b.opener = open
	b.deps = scheduler.Deps{Actions: b.actions(), Data: t.TempDir()}
	b.s = open(t, b.deps)
	b.work(scheduler.RunOptions{})
	return b
}

// reopen closes the scheduler and opens it again.
func (b *bench) reopen() {
	b.t.Helper()
	b.shut()
	b.s = b.opener(b.t, b.deps)
	b.work(scheduler.RunOptions{})
	synctest.Wait()
}

// shut closes the scheduler and waits for its workers.
func (b *bench) shut() {
	b.t.Helper()
	if err := b.s.Close(); err != nil {
		b.t.Errorf("cannot close: %v", err)
	}
	b.idle()
}

// work starts the scheduler's own workers, if it has some.
func (b *bench) work(o scheduler.RunOptions) {
	r, ok := b.s.(scheduler.Runner)
	if !ok {
		b.idle = func() {}
		return
	}
	ctx, idle := context.WithCancel(context.Background())
	gone := make(chan struct{})
	b.leave.Go(func() {
		defer close(gone)
		if err := r.Run(ctx, o); err != nil && !errors.Is(err, scheduler.ErrClosed) && !errors.Is(err, context.Canceled) {
			b.runErr = err
		}
	})
	b.idle = func() {
		idle()
		<-gone
	}
}

func (b *bench) close() {
	b.shut()
	b.leave.Wait()
	if b.runErr != nil {
		b.t.Errorf("its workers ended with %v", b.runErr)
	}
}

// actions are what the suite's jobs can do.
func (b *bench) actions() map[string]scheduler.Action {
	all := map[string]scheduler.Action{}
	add := func(a scheduler.Action, run scheduler.Handler) {
		a.Run = func(ctx context.Context, t scheduler.Task) (any, error) {
			defer b.enter(ctx, t)()
			return run(ctx, t)
		}
		all[a.Name] = a
	}
	gate := func(ctx context.Context, t scheduler.Task) (any, error) {
		select {
		case err := <-b.gate(t.Job().ID):
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	add(scheduler.Action{Name: "ok", Params: []scheduler.Param{{Name: "n", Type: scheduler.Integer}}}, func(_ context.Context, t scheduler.Task) (any, error) {
		return t.Job().Params, nil
	})
	add(scheduler.Action{Name: "gate"}, gate)
	add(scheduler.Action{Name: "says"}, func(ctx context.Context, t scheduler.Task) (any, error) {
		t.Log("begun")
		return gate(ctx, t)
	})
	add(scheduler.Action{Name: "stop", Urgent: true}, gate)
	add(scheduler.Action{Name: "start", Superseded: true}, gate)
	add(scheduler.Action{Name: "fail"}, func(context.Context, scheduler.Task) (any, error) { return nil, errBoom })
	add(scheduler.Action{Name: "panic"}, func(context.Context, scheduler.Task) (any, error) { panic("the sky") })
	add(scheduler.Action{Name: "flaky", Params: []scheduler.Param{{Name: "until", Type: scheduler.Integer, Required: true}}},
		func(_ context.Context, t scheduler.Task) (any, error) {
			var p struct{ Until int }
			if err := scheduler.DecodeParams(t, &p); err != nil {
				return nil, err
			}
			if t.Job().Trail.Attempt < p.Until {
				return nil, errBoom
			}
			return nil, nil
		})
	add(scheduler.Action{Name: "final"}, func(context.Context, scheduler.Task) (any, error) {
		return nil, fmt.Errorf("no more: %w", &scheduler.FinalError{Err: errBoom})
	})
	add(scheduler.Action{Name: "takes", Params: []scheduler.Param{{Name: "first", Type: scheduler.Array}, {Name: "then", Type: scheduler.Array}}}, b.takes)
	all["far"] = scheduler.Action{Name: "far", Remote: true, Params: []scheduler.Param{{Name: "n", Type: scheduler.Integer}}}
	add(scheduler.Action{Name: "deaf"}, func(_ context.Context, t scheduler.Task) (any, error) { return nil, <-b.gate(t.Job().ID) })
	add(scheduler.Action{Name: "talk"}, func(_ context.Context, t scheduler.Task) (any, error) {
		t.Progress(150, "nearly")
		t.Log("one")
		t.Log("two")
		return map[string]int{"answer": 42}, <-b.gate(t.Job().ID)
	})
	add(scheduler.Action{Name: "types", Params: []scheduler.Param{
		{Name: "s", Type: scheduler.String, Required: true}, {Name: "i", Type: scheduler.Integer}, {Name: "f", Type: scheduler.Number},
		{Name: "b", Type: scheduler.Boolean}, {Name: "o", Type: scheduler.Object}, {Name: "a", Type: scheduler.Array}, {Name: "d", Type: scheduler.Duration},
	}}, func(context.Context, scheduler.Task) (any, error) { return nil, nil })
	add(scheduler.Action{Name: "nest", Params: []scheduler.Param{{Name: "queue", Type: scheduler.String, Required: true}}},
		func(ctx context.Context, t scheduler.Task) (any, error) {
			var p struct{ Queue string }
			if err := scheduler.DecodeParams(t, &p); err != nil {
				return nil, err
			}
			list, err := b.s.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: p.Queue, Action: "ok"}}})
			if err != nil {
				return nil, err
			}
			st, err := b.s.Wait(ctx, list[0].ID)
			return nil, errors.Join(err, st.Err())
		})
	return all
}

// takes takes limits, waits at its gate, takes others and waits again.
func (b *bench) takes(ctx context.Context, t scheduler.Task) (any, error) {
	var p struct{ First, Then []string }
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return nil, err
	}
	for _, names := range [][]string{p.First, p.Then} {
		if err := scheduler.TakeLimits(ctx, t, names...); err != nil {
			return nil, fmt.Errorf("cannot take %v: %w", names, err)
		}
		t.Log("has " + strings.Join(names, " "))
		select {
		case err := <-b.gate(t.Job().ID):
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, nil
}

// enter notes that an attempt runs, until what it returns is called.
func (b *bench) enter(ctx context.Context, t scheduler.Task) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := t.Job()
	b.started = append(b.started, j.ID)
	b.trails = append(b.trails, trail.From(ctx))
	b.running[j.Queue]++
	b.most[j.Queue] = max(b.most[j.Queue], b.running[j.Queue])
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running[j.Queue]--
	}
}

func (b *bench) gate(id string) chan error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gates[id] == nil {
		b.gates[id] = make(chan error, 1)
	}
	return b.gates[id]
}

// open lets a job that waits at its gate end with err.
func (b *bench) open(id string, err error) {
	b.gate(id) <- err
	synctest.Wait()
}

// submit hands in a package whose jobs have IDs, and returns when all is at
// rest. A refusal fails the test.
func (b *bench) submit(jobs ...scheduler.Job) {
	b.t.Helper()
	b.submitAs(context.Background(), jobs...)
}

func (b *bench) submitAs(ctx context.Context, jobs ...scheduler.Job) {
	b.t.Helper()
	var mu sync.Mutex
	var refusal error
	b.leave.Go(func() {
		_, err := b.s.Submit(ctx, scheduler.Package{Jobs: jobs})
		mu.Lock()
		defer mu.Unlock()
		refusal = err
	})
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	if refusal != nil {
		b.t.Fatalf("%v was refused: %v", jobs, refusal)
	}
}

func (b *bench) status(id string) scheduler.Status {
	b.t.Helper()
	st, err := b.s.Status(context.Background(), id)
	if err != nil {
		b.t.Fatalf("status of %s: %v", id, err)
	}
	return st
}

// want checks the states of jobs, given as "id=state".
func (b *bench) want(states ...string) {
	b.t.Helper()
	for _, w := range states {
		for i := range w {
			if w[i] == '=' {
				if st := b.status(w[:i]); string(st.State) != w[i+1:] {
					b.t.Errorf("job %s is %s (%s %s), want %s", w[:i], st.State, st.Waiting, st.Error, w[i+1:])
				}
			}
		}
	}
}

// wantStarted checks in which order attempts began.
func (b *bench) wantStarted(ids ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.started, ids) {
		b.t.Errorf("attempts began in the order %v, want %v", b.started, ids)
	}
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func job(id, queue, action string) scheduler.Job {
	return scheduler.Job{ID: id, Queue: queue, Action: action}
}

func after(j scheduler.Job, ids ...string) scheduler.Job {
	for _, id := range ids {
		j.After = append(j.After, scheduler.Dependency{ID: id})
	}
	return j
}

func with(j scheduler.Job, v any) scheduler.Job {
	j.Params = scheduler.MustParams(v)
	return j
}

func ids(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return list
}
