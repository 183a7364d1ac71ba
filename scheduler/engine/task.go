package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// task is an attempt of a worker of this process, in the hands of its handler.
// Once the attempt is over it takes nothing more.
type task struct {
	b      *Engine
	j      *job
	run    *run
	job    scheduler.Job
	ctx    context.Context // what the handler is given
	cancel context.CancelCauseFunc

	again bool            // it began before the engine was opened
	end   <-chan struct{} // closed when Run is to end

	// Guarded by b.mu:
	over  bool
	clock *time.Timer   // of the timeout
	since int64         // when it was started
	left  time.Duration // of the timeout, when it was started
}

// attempt calls the handler and keeps what it answers.
func (t *task) attempt() {
	b := t.b
	a := &answer{inside: true, Completion: scheduler.Completion{Hold: scheduler.Hold{Job: t.j.id, Token: t.run.token}}}
	returned := false
	defer func() { // also when the handler leaves its goroutine
		if !returned {
			t.judge(a, nil, &panicError{text: "it left its goroutine"})
		}
		t.finish(a)
		t.cancel(nil)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.runner.used--
		delete(b.runner.tasks, t)
		b.dispatch()
		b.settle()
	}()
	result, err := t.call()
	t.judge(a, result, err)
	returned = true
}

// judge turns what the handler returned into an answer.
func (t *task) judge(a *answer, result any, err error) {
	if err == nil {
		if a.Result, err = Document(result); err == nil {
			return
		}
	}
	if t.b.crew != nil {
		switch {
		case errors.Is(err, ErrLost):
			a.lost = true
			return
		case errors.Is(err, ErrNotBegun):
			a.back, a.reason = true, "it had not begun when who led the managers ended"
			return
		case errors.Is(err, scheduler.ErrHandedBack):
			a.back, a.reason = true, "its manager ends"
			return
		}
	}
	if cause := context.Cause(t.ctx); cause != nil && t.ctx.Err() != nil {
		if errors.Is(err, scheduler.ErrHandedBack) || errors.Is(cause, scheduler.ErrHandedBack) && errors.Is(err, context.Canceled) {
			a.back, a.reason = true, "the program ends"
			return
		}
		if errors.Is(err, t.ctx.Err()) && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	a.Error, a.goErr, a.Final = err.Error(), err, scheduler.IsFinal(err)
	if a.Error == "" {
		a.Error = "it failed and did not say why"
	}
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		a.Code = coded.ErrorCode()
	}
}

// finish gives the answer to the engine until it is taken: what was done must not
// be done again because a disk is full. A store that has failed never takes it, and
// when Run ends it is tried once more: then the job begins again when the store is opened.
func (t *task) finish(a *answer) {
	b := t.b
	b.mu.Lock()
	t.over = true
	t.stopClock()
	b.mu.Unlock()
	for {
		_, errs := b.complete(context.Background(), []*answer{a})
		err := errs[0]
		if err == nil || errors.Is(err, scheduler.ErrStale) || errors.Is(err, scheduler.ErrClosed) {
			return
		}
		b.mu.Lock()
		first, ending := t.run.note == "", b.runner.ending || b.closing || b.broken != nil
		t.run.note = fmt.Sprintf("it has ended, and that cannot be written (%v): it is tried again", err)
		if first {
			b.events.add(t.j)
		}
		b.mu.Unlock()
		if first {
			b.log.Error("scheduler: the end of a job cannot be written, it is tried again", "trail", t.job.Trail, "err", err)
		}
		if ending {
			return
		}
		pause := time.NewTimer(retryWrite)
		select {
		case <-pause.C:
		case <-t.end:
		case <-b.dead:
		}
		pause.Stop()
	}
}

// call runs the handler.
func (t *task) call() (result any, err error) {
	action, ok := t.b.actions[t.job.Action]
	if !ok || action.Run == nil {
		return nil, &scheduler.FinalError{Err: fmt.Errorf("there is no action %q any more: configure it again and retry the job", t.job.Action)}
	}
	return Guard(t.ctx, t.b.log, t.job, func() (any, error) {
		if t.b.crew != nil {
			return t.delegate()
		}
		return action.Run(t.ctx, t)
	})
}

// Guard calls a job's function and turns a panic into an error. Its stack is for the
// log, not for people.
func Guard(ctx context.Context, log *slog.Logger, j scheduler.Job, call func() (any, error)) (result any, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		if p == nil {
			return // runtime.Goexit
		}
		log.ErrorContext(ctx, "an action panicked", "action", j.Action, "trail", j.Trail, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		result, err = nil, PanicError(cut(fmt.Sprint(p), 200))
	}()
	result, err = call()
	returned = true
	return result, err
}

// PanicError is the error of a function that panicked with these words.
func PanicError(text string) error { return &panicError{text: text} }

// panicError is an attempt that panicked.
type panicError struct{ text string }

func (e *panicError) Error() string {
	return "the action panicked (" + e.text + "): this is a mistake in the program, its log has the stack"
}

// Document makes the result of a function an object.
func Document(result any) (registry.Document, error) {
	switch r := result.(type) {
	case nil:
		return registry.Document{}, nil
	case registry.Document:
		return r, nil
	case json.RawMessage:
		if len(r) == 0 {
			return registry.Document{}, nil
		}
	}
	d, err := registry.NewDocument(result)
	if err != nil {
		return d, fmt.Errorf("the action's result cannot be kept: %w", err)
	}
	return d, nil
}

// startClock lets the timeout run. The caller holds b.mu.
func (t *task) startClock() {
	if t.left <= 0 || t.over {
		return
	}
	t.since = t.b.mono()
	t.clock = time.AfterFunc(t.left, t.late)
}

// stopClock halts it.
func (t *task) stopClock() {
	if t.clock != nil && t.clock.Stop() {
		t.left = max(t.left-time.Duration(t.b.mono()-t.since), 1)
	}
	t.clock = nil
}

// late tells the handler that its time is over. Until it returns the job is
// overdue and holds its queue.
func (t *task) late() {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if t.over {
		return
	}
	t.run.overdue = true
	t.b.events.add(t.j)
	t.cancel(fmt.Errorf("%s: %w", tooLong(t.job.Timeout.D()), context.DeadlineExceeded))
}

// Job implements scheduler.Task.
func (t *task) Job() scheduler.Job { return t.job }

// Progress implements scheduler.Task.
func (t *task) Progress(percent int, text string) {
	t.do(func() { t.b.progress(t.j, percent, text) })
}

// Log implements scheduler.Task.
func (t *task) Log(text string) {
	t.do(func() {
		t.b.addLines(t.j, text)
		t.b.setAlarm()
	})
}

func (t *task) do(f func()) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if !t.over {
		f()
	}
}
