package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"

	"github.com/vagoth/vagoth/virt"
)

// Error is what dockerd did not do.
type Error struct {
	What string // was asked of it
	Kind error  // of package virt; nil for one of dockerd's own
	Err  error
}

func (e *Error) Error() string {
	if e.Kind == nil {
		return fmt.Sprintf("dockerd cannot %s: %v", e.What, e.Err)
	}
	return fmt.Sprintf("%v: dockerd cannot %s: %v", e.Kind, e.What, e.Err)
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// fault makes an error of this module of one of the client. Whatever is neither an
// answer of dockerd with a status nor the caller's own end is an answer that is
// none.
func (d *Docker) fault(ctx context.Context, what string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{What: what}
	var gone *goneError
	var long *longError
	switch {
	case errors.As(err, &gone):
		e.Kind, e.Err = virt.ErrUnreachable, gone
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		e.Kind, e.Err = virt.ErrUnreachable, context.Cause(ctx)
	case ctx.Err() != nil:
		return fmt.Errorf("what was asked of dockerd was given up: %s: %w", what, context.Cause(ctx))
	case errors.As(err, &long):
		e.Kind, e.Err = virt.ErrUnreachable, long
	default:
		e.Kind, e.Err = kindOf(err), said(err)
	}
	return e
}

func kindOf(err error) error {
	var told *refusal
	switch {
	case errors.As(err, &told):
		return told.kind()
	case errdefs.IsNotFound(err):
		return virt.ErrNotFound
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		return virt.ErrConflict
	case errdefs.IsInvalidArgument(err):
		return virt.ErrInvalid
	case errdefs.IsNotImplemented(err):
		return virt.ErrUnsupported
	case errdefs.IsInternal(err), errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return nil
	}
	return virt.ErrUnreachable
}

// said is what dockerd wrote, or the client of it: bounded, on one line, and no
// error of any kind but that which was found.
func said(err error) error {
	return errors.New(clean(strings.TrimPrefix(err.Error(), "Error response from daemon: "), 600))
}

// isGone reports whether nothing of a call reached dockerd, as nobody listened.
func isGone(err error) bool {
	var gone *goneError
	return errors.As(err, &gone)
}

// nonsense is an answer that cannot be.
func nonsense(what, format string, args ...any) error {
	return &Error{What: what, Kind: virt.ErrUnreachable, Err: fmt.Errorf("its answer is wrong: %s", clean(fmt.Sprintf(format, args...), 200))}
}

// clean bounds a text from outside and leaves out what no line of text has.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text[:min(len(text), 4*most)])
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "..."
	}
	return text
}
