package libvirt

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// Error is a call that did not succeed. It is one of the errors of package virt
// wherever one of them fits.
type Error struct {
	What    string // was to be done, such as "start web1"
	Address string // of the libvirtd
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s on %s: %v", e.What, e.Address, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// HostError is what libvirtd answered.
type HostError struct {
	Code    uint32 // a virErrorNumber
	Message string // printable, of bounded length
	Kind    error  // of package virt, or nil
}

func (e *HostError) Error() string {
	if e.Kind != nil {
		return fmt.Sprintf("%v: %s", e.Kind, e.Message)
	}
	return e.Message
}

// Unwrap gives the error of package virt that it amounts to.
func (e *HostError) Unwrap() error { return e.Kind }

func isUnreachable(err error) bool { return errors.Is(err, virt.ErrUnreachable) }

// isBroken reports whether an error leaves a connection in a state that nobody
// knows.
func isBroken(err error) bool { return isUnreachable(err) }

// translate makes a go-libvirt error one of ours. Anything that is neither
// libvirtd's answer nor ours already is a reply that could not be decoded.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var answer golibvirt.Error
	switch {
	case errors.As(err, &answer):
		return &HostError{Code: answer.Code, Message: clean(answer.Message, maxMessage), Kind: kindOf(golibvirt.ErrorNumber(answer.Code))}
	case errors.Is(err, golibvirt.ErrUnsupported):
		return fmt.Errorf("%w: libvirtd is too old for it", virt.ErrUnsupported)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, golibvirt.ErrInterrupted):
		return unreachable(err)
	case isOurs(err):
		return err
	}
	return unreachable(malformed("%s", clean(err.Error(), maxMessage)))
}

func isOurs(err error) bool {
	for _, kind := range []error{virt.ErrNotFound, virt.ErrUnreachable, virt.ErrUnsupported, virt.ErrBusy, virt.ErrConflict, virt.ErrInvalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	var answer *HostError
	return errors.As(err, &answer)
}

// kindOf sorts libvirt's codes into ours. What is not listed is a failure of
// its own, told in libvirt's words.
func kindOf(code golibvirt.ErrorNumber) error {
	switch code {
	case golibvirt.ErrNoDomain, golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol:
		return virt.ErrNotFound
	case golibvirt.ErrDomExist, golibvirt.ErrStorageVolExist:
		return virt.ErrConflict
	case golibvirt.ErrResourceBusy, golibvirt.ErrBlockCopyActive:
		return virt.ErrBusy
	case golibvirt.ErrNoSupport, golibvirt.ErrConfigUnsupported, golibvirt.ErrArgumentUnsupported, golibvirt.ErrOperationUnsupported,
		golibvirt.ErrMigrateUnsafe, golibvirt.ErrCPUIncompatible, golibvirt.ErrOsType:
		return virt.ErrUnsupported
	case golibvirt.ErrXMLError, golibvirt.ErrXMLDetail, golibvirt.ErrXMLInvalidSchema, golibvirt.ErrInvalidArg, golibvirt.ErrInvalidMac,
		golibvirt.ErrOperationInvalid, golibvirt.ErrNoNetwork:
		return virt.ErrInvalid
	case golibvirt.ErrOperationTimeout, golibvirt.ErrNoConnect, golibvirt.ErrInvalidConn, golibvirt.ErrRPC, golibvirt.ErrAuthFailed,
		golibvirt.ErrAuthCancelled, golibvirt.ErrAuthUnavailable:
		return virt.ErrUnreachable
	}
	return nil
}

// answered reports whether err is libvirtd's answer with one of the codes.
func answered(err error, codes ...golibvirt.ErrorNumber) bool {
	err = translate(err)
	var answer *HostError
	if !errors.As(err, &answer) {
		return false
	}
	for _, c := range codes {
		if answer.Code == uint32(c) {
			return true
		}
	}
	return false
}
