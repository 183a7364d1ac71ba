package remote

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Error is a call that did not succeed. It is the error of package virt that
// fits, if one does.
type Error struct {
	What    string // was to be done, such as "start web1"
	Address string // of the agent
	Kind    error  // of package virt, or nil
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s by %s: %v", e.What, e.Address, e.Err) }

// Unwrap gives the kind, and the cause where it has no other kind: what an
// answer is taken for is decided once, here.
func (e *Error) Unwrap() error { return e.Kind }

// LostJobError is a job whose end nobody knows.
type LostJobError struct {
	Job string
	Err error
}

func (e *LostJobError) Error() string {
	return fmt.Sprintf("the agent does not tell what became of its job %s: %v", e.Job, e.Err)
}

// as finds the error of package virt that an error amounts to, or nil. Of a
// host's listing, an answer that is an error is no silence.
func as(err error, listing bool) error {
	var lost *LostJobError
	var answered *mistify.Error
	var failed *mistify.JobFailure
	said := errors.As(err, &answered) || errors.As(err, &failed)
	if listing && shookHands(err) {
		return nil
	}
	silent := errors.Is(err, virt.ErrUnreachable) || errors.Is(err, mistify.ErrTooMany) || mistify.KindOf(err) == mistify.KindTimeout
	switch {
	case errors.As(err, &lost), silent && !said:
		return virt.ErrUnreachable // whatever else is in it: nonsense is no answer
	case errors.Is(err, mistify.ErrFenced):
		return virt.ErrConflict
	}
	for _, kind := range []error{virt.ErrNotFound, virt.ErrBusy, virt.ErrConflict, virt.ErrInvalid, virt.ErrUnsupported} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	if silent && !listing {
		return virt.ErrUnreachable
	}
	return nil
}

// shookHands reports whether somebody was there to disagree with about TLS: no
// silence either.
func shookHands(err error) bool {
	var theirs *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var ours *net.OpError
	return errors.As(err, &theirs) || errors.As(err, &plain) || errors.As(err, &ours) && ours.Op == "remote error"
}

// clean makes a host's text fit to be shown: printable, on one line, bounded.
func clean(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
