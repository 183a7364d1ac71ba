package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// What may become of a call that another manager is asked for.
var (
	errGone  = errors.New("it leads no more")                     // and has done nothing
	errMaybe = errors.New("it leads no more, or does not answer") // and may have done it
)

// kinds are the errors that callers look for, by the words that travel.
func kinds() map[string]error {
	return map[string]error{
		"invalid": scheduler.ErrInvalid, "not_found": scheduler.ErrNotFound, "conflict": scheduler.ErrConflict, "unsupported": scheduler.ErrUnsupported,
		"stale": scheduler.ErrStale, "too_many": scheduler.ErrTooMany, "compacted": scheduler.ErrCompacted, "handed_back": scheduler.ErrHandedBack,
		"unavailable": registry.ErrUnavailable, "too_large": registry.ErrTooLarge, "gone": errGone, "maybe": errMaybe,
		"canceled": context.Canceled, "deadline": context.DeadlineExceeded,
	}
}

// farError is an error of another manager: its words, and what it is.
type farError struct {
	Text     string                  `json:"text"`
	Kinds    []string                `json:"kinds,omitempty"`
	Code     string                  `json:"code,omitempty"`
	Problems []string                `json:"problems,omitempty"`
	TooMany  *scheduler.TooManyError `json:"too_many,omitempty"`
}

// newFarError describes an error; nil stays nil.
func newFarError(err error) *farError {
	if err == nil {
		return nil
	}
	f := &farError{Text: err.Error()}
	switch {
	case errors.Is(err, scheduler.ErrClosed):
		f.Kinds = []string{"gone"}
		return f
	case errors.Is(err, journal.ErrFailed):
		f.Kinds = []string{"maybe"}
		return f
	}
	for word, is := range kinds() {
		if errors.Is(err, is) {
			f.Kinds = append(f.Kinds, word)
		}
	}
	if check := (*scheduler.CheckError)(nil); errors.As(err, &check) {
		f.Problems = check.Problems
	}
	_ = errors.As(err, &f.TooMany) // nil if it is none
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		f.Code = coded.ErrorCode()
	}
	return f
}

func (f *farError) Error() string { return f.Text }

// ErrorCode is the class of the error.
func (f *farError) ErrorCode() string { return f.Code }

// Is reports what the error was where it happened.
func (f *farError) Is(target error) bool {
	known := kinds()
	for _, word := range f.Kinds {
		if known[word] == target {
			return true
		}
	}
	return false
}

// As gives the errors that have more than words.
func (f *farError) As(target any) bool {
	switch to := target.(type) {
	case **scheduler.CheckError:
		if len(f.Problems) > 0 {
			*to = &scheduler.CheckError{Problems: f.Problems}
			return true
		}
	case **scheduler.TooManyError:
		if f.TooMany != nil {
			*to = f.TooMany
			return true
		}
	}
	return false
}

// cause is why a function is told to stop.
type cause struct {
	Text string `json:"text"`
	Late bool   `json:"late,omitempty"`
	Back bool   `json:"back,omitempty"`
}

func newCause(err error) *cause {
	return &cause{Text: err.Error(), Late: errors.Is(err, context.DeadlineExceeded), Back: errors.Is(err, scheduler.ErrHandedBack)}
}

func (c *cause) err() error {
	switch {
	case c.Back:
		return errStopping
	case c.Late:
		return &farError{Text: c.Text, Kinds: []string{"deadline"}}
	}
	return errors.New(c.Text)
}

// unless gives err, or that the scheduler was closed meanwhile.
func (s *Scheduler) unless(err error) error {
	if err != nil && s.closing.Err() != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrClosed, err)
	}
	return err
}

// how a call is repeated when who leads changes.
type how int

const (
	once       how = iota // it is not: what became of it is not known
	repeatable            // it is: a second time changes nothing
	reads                 // it is, and an answer counts only if who gave it leads still
)

// do has f done by who leads. It is not done again after begun, if that is given.
func (s *Scheduler) do(ctx context.Context, h how, f func(context.Context, target) error, begun ...func() bool) error {
	var failing time.Time
	for {
		v, err := s.leader(ctx)
		if err != nil {
			return s.unless(err)
		}
		err = s.try(ctx, v, h, f)
		gone, maybe := errors.Is(err, errGone), errors.Is(err, errMaybe)
		switch {
		case err == nil || !gone && !maybe:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.closing.Err() != nil && ctx.Value(inner{}) == nil:
			return fmt.Errorf("%w: %w", scheduler.ErrClosed, err)
		case len(begun) > 0 && begun[0]():
			return fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
		case maybe && h == once:
			return fmt.Errorf("%w: %w", registry.ErrUnknownOutcome, err)
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > s.patience():
			return fmt.Errorf("%w: the scheduler: %w", registry.ErrUnavailable, err)
		}
		s.pause(ctx, v)
	}
}

// pause lets somebody else come to lead than in v, or some time go by.
func (s *Scheduler) pause(ctx context.Context, v *view) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-v.next:
	case <-t.C:
	case <-ctx.Done():
	case <-s.ends(ctx):
	}
}

// ends is closed when the scheduler is, for who asks from outside.
func (s *Scheduler) ends(ctx context.Context) <-chan struct{} {
	if ctx.Value(inner{}) != nil {
		return nil
	}
	return s.closing.Done()
}

// inner marks what this package does itself, also while it is being closed.
type inner struct{}

// try has f done by who leads in this view.
func (s *Scheduler) try(ctx context.Context, v *view, h how, f func(context.Context, target) error) error {
	if v.office == nil {
		return f(ctx, v.link)
	}
	o := v.office
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(o.session.alive, func() { cancel(errMaybe) })()
	if ctx.Value(inner{}) == nil {
		defer context.AfterFunc(s.closing, func() { cancel(scheduler.ErrClosed) })()
	}
	if at, ok := ctx.Value(callerKey{}).(ref); ok {
		bound = o.engine.As(bound, at.Job, at.Token)
	}
	err := f(bound, o.engine)
	var cut error // why it was cut short, if it was, and not by the caller
	if bound.Err() != nil && ctx.Err() == nil {
		cut = context.Cause(bound)
	}
	switch {
	case err == nil && h == reads && !o.session.valid(), err == nil && h != once && cut != nil:
		return errMaybe
	case err == nil:
		return nil
	case errors.Is(err, scheduler.ErrClosed):
		return fmt.Errorf("%w: %w", errGone, err)
	case errors.Is(err, journal.ErrFailed), cut != nil:
		return fmt.Errorf("%w: %w", errMaybe, err)
	}
	return err
}

// callerKey is the key of the attempt in whose function a context is, if it runs here
// for another manager.
type callerKey struct{}
