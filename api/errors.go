package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Code is one class of errors: its name on the wire, its HTTP status, the exit
// code of the command line, and the errors that belong to it.
type Code struct {
	Name   string
	Status int
	Exit   int
	Help   string
	Errors []error
}

// The exit codes of the command line.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitNotFound = 3
	ExitConflict = 4
)

// Internal is the code of an error that no other names.
const Internal = "internal"

// Codes is the one table of errors. An error belongs to the first code with an
// error that it is.
func Codes() []Code {
	return []Code{
		{"not_found", http.StatusNotFound, ExitNotFound, "there is no such node, key, blob, job or guest", []error{registry.ErrNotFound, scheduler.ErrNotFound, virt.ErrNotFound}},
		{"no_host", http.StatusConflict, ExitFailed, "no host fits; the decision says why", []error{allocator.ErrNoHost}},
		{"exhausted", http.StatusConflict, ExitFailed, "a pool has nothing left", []error{provisioner.ErrExhausted}},
		{"vetoed", http.StatusUnprocessableEntity, ExitFailed, "a hook refused", []error{provisioner.ErrVetoed}},
		{"busy", http.StatusConflict, ExitConflict, "it runs: stop it first", []error{virt.ErrBusy}},
		{"conflict", http.StatusConflict, ExitConflict, "somebody holds it, or it is not as expected", []error{registry.ErrConflict, scheduler.ErrConflict, virt.ErrConflict}},
		{"too_large", http.StatusRequestEntityTooLarge, ExitFailed, "it exceeds a limit", []error{registry.ErrTooLarge}},
		{"invalid", http.StatusBadRequest, ExitFailed, "it can never be accepted", []error{registry.ErrInvalid, registry.ErrCursor, provisioner.ErrInvalid, scheduler.ErrInvalid, virt.ErrInvalid}},
		{"unsupported", http.StatusNotImplemented, ExitFailed, "this component cannot do that", []error{virt.ErrUnsupported, scheduler.ErrUnsupported}},
		{"unreachable", http.StatusBadGateway, ExitFailed, "a host cannot be asked", []error{virt.ErrUnreachable}},
		{"compacted", http.StatusGone, ExitFailed, "the cursor is too old", []error{registry.ErrCompacted}},
		{"unknown_outcome", http.StatusInternalServerError, ExitFailed, "it may or may not have been done: look", []error{registry.ErrUnknownOutcome}},
		{"corrupt", http.StatusInternalServerError, ExitFailed, "a stored file is damaged", []error{registry.ErrCorrupt}},
		{"unavailable", http.StatusServiceUnavailable, ExitFailed, "the store does not answer", []error{registry.ErrUnavailable, registry.ErrClosed, scheduler.ErrClosed}},
		{"timeout", http.StatusGatewayTimeout, ExitFailed, "it took too long", []error{context.DeadlineExceeded}},
		{"cancelled", 499, ExitFailed, "the request was given up", []error{context.Canceled}},
		{Internal, http.StatusInternalServerError, ExitFailed, "none of the others", nil},
	}
}

// CodeOf classifies err.
func CodeOf(err error) Code {
	codes := Codes()
	var known *Error
	for _, c := range codes {
		if errors.As(err, &known) && known.Code == c.Name {
			return c
		}
	}
	for _, c := range codes {
		for _, e := range c.Errors {
			if errors.Is(err, e) {
				return c
			}
		}
	}
	return codes[len(codes)-1]
}

// Error is what a server answered instead of what was asked for. errors.Is
// finds in it every error of its code.
type Error struct {
	Problem
	Status int
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target belongs to the error's code.
func (e *Error) Is(target error) bool {
	for _, c := range Codes() {
		if c.Name == e.Code {
			for _, known := range c.Errors {
				if known == target {
					return true
				}
			}
		}
	}
	return false
}

func problemOf(err error) (int, Problem) {
	c := CodeOf(err)
	p := Problem{Message: err.Error(), Code: c.Name}
	var conflict *registry.ConflictError
	if errors.As(err, &conflict) {
		p.Owner = conflict.Owner
	}
	var none *allocator.NoHostError
	if errors.As(err, &none) {
		p.Decision = none.Decision
	}
	return c.Status, p
}
