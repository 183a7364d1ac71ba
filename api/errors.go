package api

import (
	"context"
	"errors"
	"net/http"
	"time"

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

// The codes that no error of a component has.
const (
	Internal         = "internal"           // of an error that no other code names
	noEndpoint       = "no_endpoint"        // nothing is served there
	methodNotAllowed = "method_not_allowed" // it is not asked like this
	crossOrigin      = "cross_origin"       // a page of another site asks
	unauthenticated  = "unauthenticated"    // nobody knows who asks
	forbidden        = "forbidden"          // the one who asks may not
	overloaded       = "overloaded"         // too many requests at once
	notReady         = "not_ready"          // it begins, or ends
)

// StatusClientGone is the status of a request that its client gave up; nobody
// is left to read it.
const StatusClientGone = 499

// Codes is the one table of errors. An error belongs to the first code with an
// error that it is; so those that tell more than what they wrap stand first.
func Codes() []Code {
	return []Code{
		{"unknown_outcome", http.StatusInternalServerError, ExitFailed, "it may or may not have been done: look", []error{registry.ErrUnknownOutcome}},
		{"host_answers", http.StatusConflict, ExitConflict, "a host that is said to be down answers: poll it", []error{virt.ErrAnswers}},
		{"no_host", http.StatusConflict, ExitFailed, "no host fits; the decision says why", []error{allocator.ErrNoHost}},
		{"not_found", http.StatusNotFound, ExitNotFound, "there is no such node, key, blob, job or guest", []error{registry.ErrNotFound, scheduler.ErrNotFound, virt.ErrNotFound}},
		{"exhausted", http.StatusConflict, ExitFailed, "a pool has nothing left", []error{provisioner.ErrExhausted}},
		{"vetoed", http.StatusUnprocessableEntity, ExitFailed, "a hook refused", []error{provisioner.ErrVetoed}},
		{"busy", http.StatusConflict, ExitConflict, "it runs: stop it first", []error{virt.ErrBusy}},
		{"stale", http.StatusConflict, ExitConflict, "the lease is over, or somebody else's: stop what it was for", []error{scheduler.ErrStale}},
		{"too_many", http.StatusTooManyRequests, ExitFailed, "too much is queued; the header Retry-After says when to try again", []error{scheduler.ErrTooMany}},
		{"conflict", http.StatusConflict, ExitConflict, "somebody holds it, or it is not as expected", []error{registry.ErrConflict, scheduler.ErrConflict, virt.ErrConflict}},
		{"too_large", http.StatusRequestEntityTooLarge, ExitFailed, "it exceeds a limit", []error{registry.ErrTooLarge}},
		{"cursor", http.StatusBadRequest, ExitFailed, "the cursor is of another store", []error{registry.ErrCursor}},
		{"invalid", http.StatusBadRequest, ExitFailed, "it can never be accepted", []error{registry.ErrInvalid, provisioner.ErrInvalid, scheduler.ErrInvalid, virt.ErrInvalid}},
		{"unsupported", http.StatusNotImplemented, ExitFailed, "this component cannot do that", []error{virt.ErrUnsupported, scheduler.ErrUnsupported}},
		{"unreachable", http.StatusBadGateway, ExitFailed, "a host cannot be asked", []error{virt.ErrUnreachable}},
		{"compacted", http.StatusGone, ExitFailed, "the cursor is too old", []error{registry.ErrCompacted, scheduler.ErrCompacted}},
		{"corrupt", http.StatusInternalServerError, ExitFailed, "a stored file is damaged", []error{registry.ErrCorrupt}},
		{"unavailable", http.StatusServiceUnavailable, ExitFailed, "the store cannot be written, or does not answer", []error{registry.ErrUnavailable}},
		{"closed", http.StatusServiceUnavailable, ExitFailed, "vagoth is being shut down", []error{registry.ErrClosed, scheduler.ErrClosed, scheduler.ErrHandedBack}},
		{"timeout", http.StatusGatewayTimeout, ExitFailed, "it took too long", []error{context.DeadlineExceeded}},
		{"cancelled", StatusClientGone, ExitFailed, "the request was given up", []error{context.Canceled}},
		{noEndpoint, http.StatusNotFound, ExitFailed, "nothing is served under this path", nil},
		{methodNotAllowed, http.StatusMethodNotAllowed, ExitFailed, "the path is served, but not with this method", nil},
		{crossOrigin, http.StatusForbidden, ExitFailed, "a browser asks for a page of another site", nil},
		{unauthenticated, http.StatusUnauthorized, ExitFailed, "the request shows no token or certificate that is known; nothing was done", nil},
		{forbidden, http.StatusForbidden, ExitFailed, "it needs a role that the token does not have; nothing was done", nil},
		{overloaded, http.StatusTooManyRequests, ExitFailed, "too many requests at once; nothing was done, and the header Retry-After says when to try again", nil},
		{notReady, http.StatusServiceUnavailable, ExitFailed, "vagoth is being shut down, or a store does not answer", nil},
		{Internal, http.StatusInternalServerError, ExitFailed, "none of the others", nil},
	}
}

// minRetry is the least that a header Retry-After can say.
const minRetry = time.Second

// codeNamed finds a code by its name on the wire.
func codeNamed(name string) (Code, bool) {
	for _, c := range Codes() {
		if c.Name == name {
			return c, true
		}
	}
	return Code{}, false
}

// CodeOf classifies err. An *Error has the code that its server gave it.
func CodeOf(err error) Code {
	var known *Error
	if errors.As(err, &known) {
		if c, ok := codeNamed(known.Code); ok {
			return c
		}
	}
	codes := Codes()
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
	Status int // of HTTP
	cause  error
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target belongs to the error's code.
func (e *Error) Is(target error) bool {
	c, _ := codeNamed(e.Code)
	for _, known := range c.Errors {
		if known == target {
			return true
		}
	}
	return false
}

// As finds a *scheduler.TooManyError, with the time after which to try again,
// where too much is queued.
func (e *Error) As(target any) bool {
	many, ok := target.(**scheduler.TooManyError)
	if ok = ok && e.Is(scheduler.ErrTooMany); ok {
		*many = &scheduler.TooManyError{After: e.After.D()}
	}
	return ok
}

// Unwrap returns the *scheduler.JobError of an error that JobError made.
func (e *Error) Unwrap() error { return e.cause }

// problem makes an error of a code that no component's error has.
func problem(code, message string) error {
	return &Error{Problem: Problem{Message: message, Code: code}}
}

// problemOf is the answer to a request that failed with err.
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
	var many *scheduler.TooManyError
	if errors.As(err, &many) {
		p.After = scheduler.Span(max(many.After, minRetry))
	}
	var known *Error
	if errors.As(err, &known) && p.After == 0 {
		p.After = known.After
	}
	return c.Status, p
}
