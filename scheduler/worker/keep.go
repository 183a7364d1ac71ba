package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// CancelledError is the cause of a function's context when somebody cancelled its
// job.
type CancelledError struct{ Reason string }

func (e *CancelledError) Error() string { return "the job was cancelled: " + e.Reason }

// Heartbeats.
const (
	beatsPerLease = 3
	soonest       = time.Second // between two, however often the progress changes
	callTimeout   = 10 * time.Second
)

// lease is what one attempt holds, by this machine's clock.
type lease struct {
	scheduler.Hold
	length  time.Duration
	expires time.Time
	last    time.Time // when the last heartbeat began
	unsure  bool      // expires is a guess
}

// keep beats until ctx ends or the lease is lost. It ends the attempt with cancel
// when the manager says so, or was silent for as long as the lease.
func (w *Worker) keep(ctx context.Context, t *task, l *lease, cancel context.CancelCauseFunc) {
	every := l.length / beatsPerLease
	next := l.last.Add(every)
	if l.unsure {
		next = time.Now().Add(min(soonest, every))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var away backoff
	for {
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
			if soon := l.last.Add(min(soonest, every)); away.tries == 0 && soon.Before(next) {
				next = soon
			}
			continue
		case <-timer.C:
		}
		began := time.Now()
		if !began.Before(l.expires) {
			cancel(fmt.Errorf("the manager was not heard of for %s, so another worker may have the job: %w", l.length, scheduler.ErrStale))
			return
		}
		err := w.beat(ctx, t, l, cancel)
		switch {
		case err == nil:
			l.last, l.expires = began, began.Add(l.length)
			away = backoff{}
			next = began.Add(every)
		case ctx.Err() != nil:
			return
		case lost(err):
			cancel(fmt.Errorf("the lease was lost: %w", err))
			return
		default:
			if away.tries == 0 {
				w.log.WarnContext(ctx, "cannot tell that a job still runs, trying again", "job", l.Job, "error", err)
			}
			next = time.Now().Add(min(away.next(err), every))
		}
		if next.After(l.expires) {
			next = l.expires
		}
	}
}

// beat tells the manager of the lines, the progress, and that the job runs.
func (w *Worker) beat(ctx context.Context, t *task, l *lease, cancel context.CancelCauseFunc) error {
	call, done := context.WithTimeout(ctx, min(callTimeout, l.length/beatsPerLease, time.Until(l.expires)))
	defer done()
	if lines := t.take(); len(lines) > 0 {
		if err := w.broker.AddLog(call, l.Hold, lines...); err != nil && !refused(err) {
			t.putBack(lines)
			return err
		}
	}
	b := t.beat(l.Hold)
	answer, err := w.broker.Heartbeat(call, b)
	if err != nil {
		if b.Progress != "" || b.Percent != 0 {
			t.untold()
		}
		return err
	}
	if answer.Cancel != "" {
		cancel(&CancelledError{Reason: answer.Cancel})
	}
	return nil
}

// lost reports whether the manager does not know the lease any more.
func lost(err error) bool {
	return errors.Is(err, scheduler.ErrStale) || errors.Is(err, scheduler.ErrNotFound)
}

// refused reports whether asking the same once more makes no sense.
func refused(err error) bool {
	for _, e := range []error{scheduler.ErrInvalid, scheduler.ErrUnsupported, registry.ErrInvalid, registry.ErrTooLarge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
