package sync

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// run makes attempts until the job has ended.
func (s *Scheduler) run(ctx context.Context, j *job) {
	for {
		result, err := s.attempt(ctx, j)
		s.mu.Lock()
		wait, again := s.judge(ctx, j, result, err)
		s.mu.Unlock()
		if !again {
			j.cancel(nil)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		s.mu.Lock()
		j.backoff = false
		j.pack.slots++
		over := s.over(ctx, j)
		s.mu.Unlock()
		if over {
			j.cancel(nil)
			return
		}
	}
}

// over ends a job that was cancelled or has expired between two attempts.
func (s *Scheduler) over(ctx context.Context, j *job) bool {
	switch e := j.status.Expires; {
	case j.cause != nil:
		s.end(j, scheduler.Cancelled, j.cause)
	case ctx.Err() != nil:
		s.end(j, scheduler.Cancelled, fmt.Errorf("its caller has gone: %w", context.Cause(ctx)))
	case !e.IsZero() && !s.now().Before(e):
		s.end(j, scheduler.Expired, fmt.Errorf("it expired at %s, before its next attempt; the last one failed: %s", e.Format(time.RFC3339), j.status.Error))
	default:
		return false
	}
	return true
}

// attempt runs the handler once.
func (s *Scheduler) attempt(ctx context.Context, j *job) (result any, err error) {
	s.mu.Lock()
	s.number++
	st := &j.status
	st.State, st.Waiting, st.Percent, st.Progress = scheduler.Running, "", 0, ""
	st.Attempt++
	st.StartedAt = s.now()
	st.Token = trail.Token{Epoch: s.epoch, Number: s.number}
	t := &task{s: s, j: j, attempt: st.Attempt, job: st.Job}
	t.job.Trail.Job, t.job.Trail.Attempt, t.job.Trail.Token = st.ID, st.Attempt, st.Token
	timeout := st.Timeout.D()
	s.mu.Unlock()

	ctx = trail.With(ctx, t.job.Trail)
	if timeout > 0 {
		late := fmt.Errorf("the attempt took longer than %s: %w", timeout, context.DeadlineExceeded)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, late)
		defer cancel()
		overdue := time.AfterFunc(timeout, t.overdue)
		defer overdue.Stop()
	}
	result, err = s.call(ctx, t)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	t.close()
	return result, err
}

// call turns a panic into an error. Its stack is for the log, not for people.
func (s *Scheduler) call(ctx context.Context, t *task) (result any, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		if p == nil {
			return // runtime.Goexit, see lost
		}
		s.slog.ErrorContext(ctx, "an action panicked", "action", t.job.Action, "trail", t.job.Trail, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		result, err = nil, &panicError{text: cut(fmt.Sprint(p), 200)}
	}()
	result, err = s.actions[t.job.Action].Run(ctx, t)
	returned = true
	return result, err
}

// lost ends a job whose handler left its goroutine by runtime.Goexit.
func (s *Scheduler) lost(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !j.status.State.Ended() {
		j.cancel(nil)
		s.end(j, scheduler.Failed, &panicError{text: "it left its goroutine"})
	}
}

// panicError is an attempt that panicked.
type panicError struct{ text string }

func (e *panicError) Error() string {
	return "the action panicked (" + e.text + "): this is a mistake in the program, its log has the stack"
}

// judge decides what follows an attempt: the job's end, or another attempt
// after a wait.
func (s *Scheduler) judge(ctx context.Context, j *job, result any, err error) (wait time.Duration, again bool) {
	st := &j.status
	if err == nil {
		if st.Result, err = encode(result); err == nil {
			st.Percent = 100
			s.end(j, scheduler.Succeeded, nil)
			return 0, false
		}
	}
	if j.cause == nil && ctx.Err() != nil {
		j.cause = fmt.Errorf("its caller has gone: %w", context.Cause(ctx))
	}
	if j.cause != nil {
		j.log(s.now(), fmt.Sprintf("attempt %d was cancelled, it answered: %v", st.Attempt, err))
		s.end(j, scheduler.Cancelled, j.cause)
		return 0, false
	}
	st.Failed++
	if st.Attempt >= st.Retry.Attempts || scheduler.IsFinal(err) {
		s.end(j, scheduler.Failed, err)
		return 0, false
	}
	wait = st.Retry.Delay(st.Attempt, rand.Float64())
	st.State, st.Overdue = scheduler.Waiting, false
	st.Error = cut(err.Error(), maxError)
	st.Waiting = fmt.Sprintf("waiting %s before attempt %d", wait, st.Attempt+1)
	j.log(s.now(), fmt.Sprintf("attempt %d failed: %v; the next follows in %s", st.Attempt, err, wait))
	j.backoff = true
	j.pack.slots--
	j.pack.nudge()
	return wait, true
}

// task is an attempt in the hands of its handler. Once the attempt is over it
// takes nothing more.
type task struct {
	s       *Scheduler
	j       *job
	attempt int
	job     scheduler.Job
	closed  bool // guarded by s.mu
}

// Job implements scheduler.Task.
func (t *task) Job() scheduler.Job { return t.job }

// Progress implements scheduler.Task.
func (t *task) Progress(percent int, text string) {
	t.do(func() {
		t.j.status.Percent, t.j.status.Progress = min(max(percent, 0), 100), cut(text, maxText)
	})
}

// Log implements scheduler.Task.
func (t *task) Log(text string) { t.do(func() { t.j.log(t.s.now(), text) }) }

func (t *task) overdue() { t.do(func() { t.j.status.Overdue = true }) }

func (t *task) do(f func()) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if !t.closed {
		f()
	}
}

func (t *task) close() { t.do(func() { t.closed = true }) }
