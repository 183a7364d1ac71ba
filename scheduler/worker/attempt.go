package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// attempt does one job. work is what all of them have in common; asked is when
// the lease was asked for.
func (w *Worker) attempt(work context.Context, l scheduler.Lease, asked time.Time) {
	t := newTask(l)
	held := &lease{Hold: l.Hold, length: l.Length.D(), last: asked}
	if held.length <= 0 {
		held.length = time.Until(l.Until)
	}
	// The lease began at some time since it was asked for. If that is long ago,
	// since the manager waited for a job, the first beat comes soon and tells.
	held.last = time.Now().Add(-min(time.Since(asked), held.length/10))
	held.unsure = time.Since(asked) > held.length/10
	held.expires = held.last.Add(held.length)

	ctx, cancel := context.WithCancelCause(trail.With(work, t.job.Trail))
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(work))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		w.keep(keeping, t, held, cancel)
	}()
	var result any
	err := errors.New("the action left its goroutine: this is a mistake in the program")
	defer func() { // also when the function ended the goroutine
		cause := context.Cause(ctx)
		t.close()
		stopKeeping()
		<-kept
		cancel(nil)
		w.report(work, t, l, outcomeOf(cause, result, err))
	}()
	result, err = w.call(ctx, t, l)
}

// call runs the function of the job's action, if there is one and it takes the
// parameters.
func (w *Worker) call(ctx context.Context, t *task, l scheduler.Lease) (result any, err error) {
	a, ok := w.actions[l.Action]
	if !ok {
		hint := component.DidYouMean(l.Action, maps.Keys(w.actions))
		if hint == "" {
			hint = "known are " + strings.Join(slices.Sorted(maps.Keys(w.actions)), ", ")
		}
		return nil, &scheduler.FinalError{Err: fmt.Errorf("this worker has no action %.64q (%s)", l.Action, hint)}
	}
	if err := a.CheckParams(l.Params); err != nil {
		return nil, &scheduler.FinalError{Err: err}
	}
	if limit := timeLeft(l, a.Timeout); limit != 0 {
		late := fmt.Errorf("the attempt took too long, it had %s: %w", limit.Round(time.Millisecond), context.DeadlineExceeded)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, late)
		defer cancel()
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			w.log.ErrorContext(ctx, "an action panicked", "action", l.Action, "trail", t.job.Trail, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("the action panicked (%s): this is a mistake in the program, its log has the stack", cut(fmt.Sprint(p), 200))
		}
	}()
	result, err = a.Run(ctx, t)
	returned = true
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if cause := context.Cause(ctx); !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return result, err
}

// timeLeft is how long the attempt may take, and 0 if that is not bounded. The
// clocks need not agree: the manager's at the hand-out is known from the lease.
func timeLeft(l scheduler.Lease, own time.Duration) time.Duration {
	if l.Deadline.IsZero() {
		return own
	}
	left := max(l.Deadline.Sub(l.Until)+l.Length.D(), 1)
	if own > 0 {
		return min(left, own)
	}
	return left
}

// outcome is what is told of an attempt.
type outcome struct {
	back string // not empty: it is handed back, for this reason
	end  scheduler.Completion
}

// outcomeOf judges what a function answered. cause is why its context ended, if
// it did.
func outcomeOf(cause error, result any, err error) (o outcome) {
	if err == nil {
		doc := registry.Document{}
		if result != nil {
			doc, err = registry.NewDocument(result)
		}
		if err == nil {
			o.end.Result = doc
			return o
		}
		err = &scheduler.FinalError{Err: fmt.Errorf("the action's result: %w", err)}
	}
	ended := errors.Is(err, context.Canceled)
	switch {
	case errors.Is(err, scheduler.ErrHandedBack), ended && errors.Is(cause, scheduler.ErrHandedBack), ended && errors.Is(cause, scheduler.ErrStale):
		o.back = cut(oneLine(err.Error()), trail.MaxText-len("…"))
		return o
	}
	o.end.Error = cut(err.Error(), maxError)
	if o.end.Error == "" {
		o.end.Error = "the action failed without a reason"
	}
	o.end.Final = scheduler.IsFinal(err)
	return o
}

// report tells how the attempt ended until that is taken or known to be too late.
// Once the worker has stopped it gives up after a few tries.
func (w *Worker) report(work context.Context, t *task, l scheduler.Lease, o outcome) {
	o.end.Hold = l.Hold
	ctx := trail.With(context.WithoutCancel(work), t.job.Trail)
	var away backoff
	for last := 0; last < lastTries; {
		if work.Err() != nil {
			last++
		}
		err := w.tell(ctx, t, l, o)
		switch {
		case err == nil:
			return
		case lost(err):
			w.log.WarnContext(ctx, "a job ended too late, its lease is somebody else's", "job", l.Job, "action", l.Action, "error", o.end.Error)
			return
		case refused(err) && o.end.Error == "" && o.back == "":
			o.end = scheduler.Completion{Hold: l.Hold, Error: cut("the manager refused the result: "+err.Error(), maxError), Final: true}
			continue
		case refused(err):
			w.log.ErrorContext(ctx, "the manager refused how a job ended", "job", l.Job, "error", err)
			return
		}
		if away.tries == 0 {
			w.log.WarnContext(ctx, "cannot tell how a job ended, trying again", "job", l.Job, "error", err)
		}
		if pause := away.next(err); work.Err() == nil {
			sleep(work, pause)
		} else {
			sleep(ctx, firstBreak)
		}
	}
	w.log.ErrorContext(ctx, "gave up telling how a job ended: it is done again after its lease", "job", l.Job)
}

// lastTries is how often a worker that has stopped tries to tell how a job ended.
const lastTries = 3

// tell says once how the attempt ended, after its last lines.
func (w *Worker) tell(ctx context.Context, t *task, l scheduler.Lease, o outcome) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if lines := t.take(); len(lines) > 0 {
		if err := w.broker.AddLog(ctx, l.Hold, lines...); err != nil && !refused(err) {
			t.putBack(lines)
			return err
		}
	}
	if o.back != "" {
		return w.broker.HandBack(ctx, l.Hold, o.back)
	}
	_, errs := w.broker.Complete(ctx, o.end)
	if len(errs) != 1 {
		return fmt.Errorf("the manager answered for %d completions, one was sent", len(errs))
	}
	return errs[0]
}
