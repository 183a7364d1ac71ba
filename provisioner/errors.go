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
	Problems []string
}

func (e *SpecError) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("cannot provision %.64q: %s", e.ID, e.Problems[0])
	}
	s := fmt.Sprintf("cannot provision %.64q: %d problems", e.ID, len(e.Problems))
	for _, p := range e.Problems {
		s += "\n  " + p
	}
	return s
}

// Is makes the error an ErrInvalid.
func (e *SpecError) Is(target error) bool { return target == ErrInvalid }
