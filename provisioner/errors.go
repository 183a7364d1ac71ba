package provisioner

import (
	"errors"
	"fmt"
)

// ErrInvalid: the spec can never be provisioned.
var ErrInvalid = errors.New("invalid")

// ErrExhausted: a pool has nothing left.
var ErrExhausted = errors.New("exhausted")

// ErrVetoed: a hook said no.
var ErrVetoed = errors.New("vetoed")

// SpecError is an ErrInvalid. It lists every problem of the spec.
type SpecError struct {
	ID       string
	Verb     string // what was asked for; "provision" if empty
	Problems []string
}

func (e *SpecError) Error() string {
	verb := e.Verb
	if verb == "" {
		verb = "provision"
	}
	if len(e.Problems) == 1 {
		return fmt.Sprintf("cannot %s %.64q: %s", verb, e.ID, e.Problems[0])
	}
	s := fmt.Sprintf("cannot %s %.64q: %d problems", verb, e.ID, len(e.Problems))
	for _, p := range e.Problems {
		s += "\n  " + p
	}
	return s
}

// Is makes the error an ErrInvalid.
func (e *SpecError) Is(target error) bool { return target == ErrInvalid }

// ExhaustedError is an ErrExhausted.
type ExhaustedError struct {
	Pool string // such as "network lan"
	Size uint64 // how much it can hand out
	Used uint64 // of that
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s is exhausted: %d of its %d addresses are in use: deprovision what is not needed, or widen its range", e.Pool, e.Used, e.Size)
}

// Is makes the error an ErrExhausted.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }
