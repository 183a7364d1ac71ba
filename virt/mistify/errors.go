package mistify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// ErrorBody is the body of an answer that is an error.
type ErrorBody struct {
	Message string   `json:"message"`
	Code    int      `json:"code"`            // the HTTP status
	Stack   []string `json:"stack,omitempty"` // only when debugging

	// Additions.
	Kind ErrorKind `json:"kind,omitempty"`
}

// ErrorKind says in one word what an error is, for programs. It is an addition.
type ErrorKind string

// The kinds of errors.
const (
	KindNotFound    ErrorKind = "not_found"
	KindBusy        ErrorKind = "busy" // it runs
	KindConflict    ErrorKind = "conflict"
	KindInvalid     ErrorKind = "invalid"
	KindUnsupported ErrorKind = "unsupported"
	KindUnreachable ErrorKind = "unreachable" // a sub-agent, or what it speaks to
	KindTimeout     ErrorKind = "timeout"
	KindFenced      ErrorKind = "fenced" // a newer token was seen
	KindTooMany     ErrorKind = "too_many"
	KindDenied      ErrorKind = "denied" // by who asks
)

// ErrFenced is a call with a token that is lower than one seen before: somebody
// else was given the guest since.
var ErrFenced = errors.New("fenced off by a newer token")

// ErrTooMany is a call that is refused because too much waits.
var ErrTooMany = errors.New("too many")

// ErrDenied is a call by one who may not, or whom nobody knows.
var ErrDenied = errors.New("denied")

type kind struct {
	kind   ErrorKind
	status int
	err    error
}

// kinds is the one table of errors. An error is of the first kind that fits.
func kinds() []kind {
	return []kind{
		{KindNotFound, http.StatusNotFound, virt.ErrNotFound},
		{KindBusy, http.StatusConflict, virt.ErrBusy},
		{KindConflict, http.StatusConflict, virt.ErrConflict},
		{KindInvalid, http.StatusBadRequest, virt.ErrInvalid},
		{KindUnsupported, http.StatusNotImplemented, virt.ErrUnsupported},
		{KindFenced, http.StatusPreconditionFailed, ErrFenced},
		{KindTooMany, http.StatusTooManyRequests, ErrTooMany},
		{KindDenied, http.StatusForbidden, ErrDenied},
		{KindTimeout, http.StatusGatewayTimeout, context.DeadlineExceeded},
		{KindUnreachable, http.StatusBadGateway, virt.ErrUnreachable},
	}
}

// KindOf returns the kind of err, or "".
func KindOf(err error) ErrorKind {
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return ""
}

// Err returns the error that all errors of kind k are, or nil.
func (k ErrorKind) Err() error {
	for _, known := range kinds() {
		if k == known.kind {
			return known.err
		}
	}
	return nil
}

// Status returns the HTTP status of kind k, 500 if it is none.
func (k ErrorKind) Status() int {
	for _, known := range kinds() {
		if k == known.kind {
			return known.status
		}
	}
	return http.StatusInternalServerError
}

// kindOfText knows what the sub-agents of Mistify say, which have nothing but a
// text to say it with.
func kindOfText(text string) ErrorKind {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "not found", "no such image", "no such container":
		return KindNotFound
	}
	return ""
}

// NameError is an id or name that is not allowed. It is a virt.ErrInvalid.
type NameError struct {
	What  string // such as "snapshot's name"
	Given string
	Want  string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("the %s %.100q is not allowed: it must be %s", e.What, e.Given, e.Want)
}

func (e *NameError) Unwrap() error { return virt.ErrInvalid }
