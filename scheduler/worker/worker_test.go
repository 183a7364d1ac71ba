package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/worker"
	"github.com/vagoth/vagoth/trail"
)

// action is one for tests.
func action(name string, run scheduler.Handler, params ...scheduler.Param) scheduler.Action {
	return scheduler.Action{Name: name, Params: params, Run: run}
}

// bubble runs a worker over a fake manager in fake time, and stops it. That all
// its goroutines end is seen by synctest.
func bubble(t *testing.T, c worker.Config, fn func(f *fake, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c.Name = "tester"
		w, err := worker.New(f, c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		stopped := false
		stop := func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		defer stop()
		synctest.Wait()
		fn(f, stop)
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fake) expect(t *testing.T, j *job, state scheduler.State, text string) {
	t.Helper()
	got := f.look(j)
	if got.state != state || !strings.Contains(got.end.Error, text) {
		t.Fatalf("job %s (%s) is %s %q, expected %s with %q", got.Job, got.Action, got.state, got.end.Error, state, text)
	}
}

func TestAJobIsDone(t *testing.T) {
	create := action("create", func(ctx context.Context, k scheduler.Task) (any, error) {
		var p struct{ Path string }
		if err := scheduler.DecodeParams(k, &p); err != nil {
			return nil, err
		}
		k.Log("making " + p.Path + "\nstill making it\n")
		if tr := trail.From(ctx); tr.Job != "j1" || tr.Attempt != 1 || tr.Token.Number != 1 || tr.Source != "somebody" {
			return nil, fmt.Errorf("the trail is %+v", tr)
		}
		return map[string]string{"path": p.Path}, nil
	}, scheduler.Param{Name: "path", Type: scheduler.String, Required: true})
	bubble(t, worker.Config{Queues: []string{"q"}, Actions: []scheduler.Action{create}, Lease: time.Minute}, func(f *fake, stop func()) {
		j := f.submit("create", `{"path":"test"}`)
		pass(time.Millisecond)
		f.expect(t, j, scheduler.Succeeded, "")
		got := f.look(j)
		if got.end.Result.String() != `{"path":"test"}` || !slices.Equal(got.lines, []string{"making test", "still making it"}) {
			t.Fatalf("result %s, log %q", got.end.Result, got.lines)
		}
		w := f.asked()[0]
		if w.Worker != "tester" || !slices.Equal(w.Queues, []string{"q"}) || w.Max != 1 || w.Wait.D() != 30*time.Second || w.Lease.D() != time.Minute || w.Actions != nil {
			t.Fatalf("it asked for %+v", w)
		}
		pass(time.Hour)
		if n := len(f.asked()); n > 125 {
			t.Fatalf("%d questions in an idle hour", n)
		}
	})
}

// Regression: an unknown action silently ignored; one malformed parameter that
// poisons a queue.
func TestWhatCannotBeDoneFailsAndTheLoopGoesOn(t *testing.T) {
	ran := 0
	resize := action("resize", func(context.Context, scheduler.Task) (any, error) { ran++; return nil, nil },
		scheduler.Param{Name: "size", Type: scheduler.Integer, Required: true},
		scheduler.Param{Name: "grow", Type: scheduler.Boolean})
	bubble(t, worker.Config{Actions: []scheduler.Action{resize}}, func(f *fake, _ func()) {
		for _, test := range []struct{ action, params, text string }{
			{"resise", `{}`, `no action "resise" (did you mean "resize"?)`},
			{"paint", `{}`, `no action "paint" (known are resize)`},
			{"resize", `{}`, `action resize: the parameter "size" (integer) is missing`},
			{"resize", `{"size":"big"}`, `action resize: the parameter "size" must be of type integer, not string`},
			{"resize", `{"size":1.5}`, `"size" must be of type integer`},
			{"resize", `{"size":1,"grow":"yes"}`, `"grow" must be of type boolean`},
			{"resize", `{"size":1,"szie":1}`, `unknown parameter "szie" (did you mean "size"?)`},
		} {
			j := f.submit(test.action, test.params)
			pass(time.Millisecond)
			f.expect(t, j, scheduler.Failed, test.text)
			if !f.look(j).end.Final {
				t.Errorf("%s %s: another attempt would fail too, and is not said to be without sense", test.action, test.params)
			}
		}
		if ran != 0 {
			t.Fatal("a function ran with parameters that it does not take")
		}
		j := f.submit("resize", `{"size":3}`)
		pass(time.Millisecond)
		f.expect(t, j, scheduler.Succeeded, "")
	})
}

func TestFailures(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{
		action("fail", func(context.Context, scheduler.Task) (any, error) { return nil, errors.New("no space") }),
		action("final", func(context.Context, scheduler.Task) (any, error) {
			return nil, &scheduler.FinalError{Err: errors.New("never")}
		}),
		action("panic", func(context.Context, scheduler.Task) (any, error) { panic("oops") }),
		action("exit", func(context.Context, scheduler.Task) (any, error) { runtime.Goexit(); return nil, nil }),
		action("number", func(context.Context, scheduler.Task) (any, error) { return 7, nil }),
		action("empty", func(context.Context, scheduler.Task) (any, error) { return nil, errors.New("") }),
		action("long", func(context.Context, scheduler.Task) (any, error) {
			return nil, errors.New(strings.Repeat("€", 9_000))
		}),
		action("ok", func(context.Context, scheduler.Task) (any, error) { return nil, nil }),
	}}, func(f *fake, _ func()) {
		for _, test := range []struct {
			action, text string
			final        bool
		}{
			{"fail", "no space", false},
			{"final", "never", true},
			{"panic", "the action panicked (oops)", false},
			{"exit", "left its goroutine", false},
			{"number", "the action's result: ", true},
			{"empty", "without a reason", false},
			{"long", "€…", false},
		} {
			j := f.submit(test.action, `{}`)
			pass(time.Millisecond)
			f.expect(t, j, scheduler.Failed, test.text)
			if f.look(j).end.Final != test.final {
				t.Errorf("%s: final is %v", test.action, !test.final)
			}
		}
		j := f.submit("ok", `{}`)
		pass(time.Millisecond)
		f.expect(t, j, scheduler.Succeeded, "")
	})
}

// sleeper sleeps for its parameter, or until its context ends.
func sleeper() scheduler.Action {
	return action("sleep", func(ctx context.Context, k scheduler.Task) (any, error) {
		var p struct{ For scheduler.Span }
		if err := scheduler.DecodeParams(k, &p); err != nil {
			return nil, err
		}
		select {
		case <-time.After(p.For.D()):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, scheduler.Param{Name: "for", Type: scheduler.Duration, Required: true})
}

func TestALongJobKeepsItsLease(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		j := f.submit("sleep", `{"for":"10m"}`)
		pass(10*time.Minute + time.Second)
		f.expect(t, j, scheduler.Succeeded, "")
		if f.look(j).Attempt != 1 {
			t.Fatal("it was handed out twice")
		}
		if f.beaten() < 50 || f.beaten() > 70 {
			t.Fatalf("%d heartbeats in 10 minutes, one each 10 s is expected", f.beaten())
		}
	})
}

func TestProgressAndLinesAreToldSoonAndNotTooOften(t *testing.T) {
	var step chan string // made in the bubble
	bubble(t, worker.Config{Actions: []scheduler.Action{action("work", func(_ context.Context, k scheduler.Task) (any, error) {
		for s := range step {
			k.Progress(50, s)
			k.Log("at " + s)
		}
		for i := range 5_000 {
			k.Log(fmt.Sprint(i))
		}
		return nil, nil
	})}}, func(f *fake, _ func()) {
		step = make(chan string)
		j := f.submit("work", `{}`)
		pass(2 * time.Second)
		step <- "one\ttwo\x1b[2J"
		pass(time.Millisecond)
		if got := f.look(j); got.percent != 50 || got.words != "one two [2J" || !slices.Equal(got.lines, []string{"at one\ttwo [2J"}) {
			t.Fatalf("%d %% %q, lines %q", got.percent, got.words, got.lines)
		}
		before := f.beaten()
		for i := range 100 {
			step <- fmt.Sprint(i)
			pass(10 * time.Millisecond)
		}
		if got := f.beaten() - before; got < 1 || got > 2 {
			t.Fatalf("%d heartbeats in a second of changes", got)
		}
		close(step)
		pass(2 * time.Second)
		got := f.look(j)
		if got.state != scheduler.Succeeded || len(got.lines) > 1_300 || !strings.HasPrefix(got.lines[len(got.lines)-1], "… and ") {
			t.Fatalf("%s, %d lines, the last is %q", got.state, len(got.lines), got.lines[len(got.lines)-1])
		}
	})
}

func TestACancelledJobStops(t *testing.T) {
	var cause error
	bubble(t, worker.Config{Actions: []scheduler.Action{action("wait", func(ctx context.Context, _ scheduler.Task) (any, error) {
		<-ctx.Done()
		cause = context.Cause(ctx)
		return nil, ctx.Err()
	})}}, func(f *fake, _ func()) {
		j := f.submit("wait", `{}`)
		pass(time.Second)
		f.set(func() { j.cancel = "not needed" })
		pass(10 * time.Second)
		f.expect(t, j, scheduler.Failed, "the job was cancelled: not needed")
		var c *worker.CancelledError
		if !errors.As(cause, &c) || c.Reason != "not needed" {
			t.Fatalf("the cause is %v", cause)
		}
	})
}

// Regression: two workers on one queue.
func TestALostLeaseEndsTheJob(t *testing.T) {
	for name, lose := range map[string]func(f *fake, j *job){
		"taken away": func(f *fake, j *job) { f.set(func() { j.state, j.Token.Number = scheduler.Cancelled, 99 }) },
		"no manager": func(f *fake, _ *job) { f.set(func() { f.away = true }) },
		"no answer":  func(f *fake, _ *job) { f.set(func() { f.deaf = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			var ended atomic.Pointer[time.Time]
			var cause error
			bubble(t, worker.Config{Actions: []scheduler.Action{action("wait", func(ctx context.Context, _ scheduler.Task) (any, error) {
				<-ctx.Done()
				now := time.Now()
				cause = context.Cause(ctx)
				ended.Store(&now)
				return nil, ctx.Err()
			})}}, func(f *fake, stop func()) {
				j := f.submit("wait", `{}`)
				pass(time.Minute)
				expires := f.look(j).Until
				lose(f, j)
				pass(time.Minute)
				at := ended.Load()
				if name == "taken away" {
					expires = expires.Add(-10 * time.Second) // the next heartbeat says so
				}
				if at == nil || at.After(expires) {
					t.Fatalf("the function was ended at %v, expected until %v", at, expires)
				}
				if !errors.Is(cause, scheduler.ErrStale) {
					t.Fatalf("the cause is %v", cause)
				}
				f.set(func() { f.away, f.deaf = false, false })
				stop()
			})
		})
	}
}

func TestTheManagerComesBack(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		j := f.submit("sleep", `{"for":"15s"}`)
		pass(time.Second)
		f.set(func() { f.away = true })
		pass(20 * time.Second) // the job has ended meanwhile, and nobody was told
		f.expect(t, j, scheduler.Running, "")
		f.set(func() { f.away = false })
		pass(8 * time.Second)
		f.expect(t, j, scheduler.Succeeded, "")
		f.set(func() { f.away = true })
		pass(time.Hour)
		asked := len(f.asked())
		pass(time.Hour)
		if n := len(f.asked()) - asked; n < 200 || n > 500 {
			t.Fatalf("%d questions in an hour without a manager", n)
		}
		f.set(func() { f.away = false })
		j = f.submit("sleep", `{"for":"1s"}`)
		pass(20 * time.Second)
		f.expect(t, j, scheduler.Succeeded, "")
	})
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		tries := 0
		f.onTell = func() {
			tries++
			f.away = tries < 4
		}
		j := f.submit("sleep", `{"for":"1s"}`)
		pass(10 * time.Second)
		f.expect(t, j, scheduler.Succeeded, "")
		if tries != 4 || len(f.told) != 4 || f.told[0].Hold != f.told[3].Hold {
			t.Fatalf("told %d times", tries)
		}
	})
}

func TestAResultThatIsRefusedFailsTheJob(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		f.invalidResult = true
		j := f.submit("sleep", `{"for":"1s"}`)
		pass(10 * time.Second)
		f.expect(t, j, scheduler.Failed, "the manager refused the result")
	})
}

func TestDeadlines(t *testing.T) {
	slow := sleeper()
	slow.Name, slow.Timeout = "slow", 3*time.Second
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper(), slow}}, func(f *fake, _ func()) {
		j := f.submit("slow", `{"for":"1h"}`) // its own
		pass(4 * time.Second)
		f.expect(t, j, scheduler.Failed, "took too long, it had 3s")
		f.mu.Lock()
		f.jobs = append(f.jobs, &job{state: scheduler.Waiting, timeout: 90 * time.Second})
		j = f.jobs[1]
		j.Job, j.Action, j.Params = "j2", "sleep", scheduler.MustParams(map[string]string{"for": "1h"})
		f.mu.Unlock()
		f.set(func() {})
		pass(89 * time.Second)
		f.expect(t, j, scheduler.Running, "")
		pass(2 * time.Second) // of the manager, whose clock is an hour ahead
		f.expect(t, j, scheduler.Failed, "took too long, it had 1m30s")
	})
}

func TestManyAtOnce(t *testing.T) {
	var now, most atomic.Int32
	busy := action("busy", func(context.Context, scheduler.Task) (any, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		time.Sleep(time.Second)
		return nil, nil
	})
	bubble(t, worker.Config{Actions: []scheduler.Action{busy}, Parallel: 4}, func(f *fake, _ func()) {
		var jobs []*job
		for range 20 {
			jobs = append(jobs, f.submit("busy", `{}`))
		}
		pass(5*time.Second + time.Millisecond)
		for _, j := range jobs {
			f.expect(t, j, scheduler.Succeeded, "")
		}
		if most.Load() != 4 {
			t.Fatalf("%d ran at once, 4 is expected", most.Load())
		}
	})
}

func TestAStopLetsJobsFinishWithinTheGrace(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}, Parallel: 2, Grace: 5 * time.Second}, func(f *fake, stop func()) {
		short, long := f.submit("sleep", `{"for":"4s"}`), f.submit("sleep", `{"for":"1h"}`)
		pass(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Fatalf("the stop took %s, the grace is 5s", took)
		}
		f.expect(t, short, scheduler.Succeeded, "")
		got := f.look(long)
		if got.state != scheduler.Waiting || len(got.back) != 1 || !strings.Contains(got.back[0], "the worker stops") {
			t.Fatalf("the long job is %s, handed back %q", got.state, got.back)
		}
		if asked := len(f.asked()); asked > 3 {
			t.Fatalf("it asked %d times, also after it was stopped", asked)
		}
	})
}

func TestAStopWithoutAManagerEnds(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}, Grace: 5 * time.Second}, func(f *fake, stop func()) {
		f.submit("sleep", `{"for":"2s"}`)
		pass(time.Second)
		f.set(func() { f.deaf = true })
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Minute {
			t.Fatalf("the stop took %s", took)
		}
	})
}

// Jobs that come with the answer that the stop overtook go back at once.
func TestJobsThatComeTooLateGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancel(context.Background())
		w, err := worker.New(lastMoment{f, cancel}, worker.Config{Actions: []scheduler.Action{sleeper()}, Parallel: 3})
		if err != nil {
			t.Fatal(err)
		}
		j := f.submit("sleep", `{"for":"1s"}`)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := f.look(j); got.state != scheduler.Waiting || len(got.back) != 1 {
			t.Fatalf("the job is %s, handed back %q", got.state, got.back)
		}
	})
}

// lastMoment stops the worker when a job is handed out.
type lastMoment struct {
	*fake
	stop func()
}

func (l lastMoment) Next(ctx context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	list, err := l.fake.Next(ctx, w)
	l.stop()
	return list, err
}

func TestMoreThanWasAskedForGoesBack(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		var jobs []*job
		f.set(func() { f.away = true })
		f.extra = 2
		for range 3 {
			jobs = append(jobs, f.submit("sleep", `{"for":"1s"}`))
		}
		f.set(func() { f.away = false })
		pass(30 * time.Second)
		for _, j := range jobs {
			f.expect(t, j, scheduler.Succeeded, "")
		}
	})
}

func TestAManagerThatDoesNotWaitIsNotFlooded(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		f.set(func() { f.noWait = true })
		pass(time.Minute)
		if n := len(f.asked()); n > 150 {
			t.Fatalf("%d questions in a minute", n)
		}
	})
}

func TestAManagerWithTooMuchIsLeftAloneAsLongAsItSays(t *testing.T) {
	bubble(t, worker.Config{Actions: []scheduler.Action{sleeper()}}, func(f *fake, _ func()) {
		f.set(func() { f.refuse = &scheduler.TooManyError{Queued: 9, Max: 8, After: 10 * time.Second} })
		pass(time.Minute) // the question that was open ends
		asked := len(f.asked())
		pass(time.Minute)
		if n := len(f.asked()) - asked; n < 3 || n > 6 {
			t.Fatalf("%d questions in a minute, it said to wait 10 s", n)
		}
		f.set(func() { f.refuse = nil })
		j := f.submit("sleep", `{"for":"1s"}`)
		pass(20 * time.Second)
		f.expect(t, j, scheduler.Succeeded, "")
	})
}

func TestARefusalForGoodEndsRun(t *testing.T) {
	for _, refusal := range []error{scheduler.ErrInvalid, scheduler.ErrUnsupported} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.refuse = fmt.Errorf("next: %w", refusal)
			w, err := worker.New(f, worker.Config{Actions: []scheduler.Action{sleeper()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Run(t.Context()); !errors.Is(err, refusal) {
				t.Fatalf("Run: %v", err)
			}
		})
	}
}

func TestKnownOnly(t *testing.T) {
	ok := func(context.Context, scheduler.Task) (any, error) { return nil, nil }
	bubble(t, worker.Config{Actions: []scheduler.Action{action("b", ok), action("a", ok)}, KnownOnly: true}, func(f *fake, _ func()) {
		if got := f.asked()[0].Actions; !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("it asked for the actions %v", got)
		}
	})
}

func TestAWorkerRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := worker.New(newFake(), worker.Config{Actions: []scheduler.Action{sleeper()}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		if err := w.Run(ctx); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("a second Run: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	ok := sleeper()
	for name, test := range map[string]struct {
		c    worker.Config
		text string
	}{
		"none":     {worker.Config{}, "no actions"},
		"nameless": {worker.Config{Actions: []scheduler.Action{{Run: ok.Run}}}, "has no name"},
		"idle":     {worker.Config{Actions: []scheduler.Action{{Name: "x"}}}, `"x" has no function`},
		"twice":    {worker.Config{Actions: []scheduler.Action{ok, ok}}, `"sleep" stands twice`},
		"parallel": {worker.Config{Actions: []scheduler.Action{ok}, Parallel: 1_001}, "parallel is 1001: use 1 to 1000"},
		"lease":    {worker.Config{Actions: []scheduler.Action{ok}, Lease: time.Millisecond}, "a lease of 1ms"},
		"wait":     {worker.Config{Actions: []scheduler.Action{ok}, Wait: time.Hour}, "a wait of 1h0m0s"},
		"grace":    {worker.Config{Actions: []scheduler.Action{ok}, Grace: -1}, "negative"},
		"queues":   {worker.Config{Actions: []scheduler.Action{ok}, Queues: make([]string, 1_001)}, "1001 queues"},
	} {
		_, err := worker.New(newFake(), test.c)
		if err == nil || !strings.Contains(err.Error(), test.text) || !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("%s: %v, expected %q", name, err, test.text)
		}
	}
}
