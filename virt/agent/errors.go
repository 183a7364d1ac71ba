package agent

import (
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// errClosed is what is asked of an agent that has been closed.
var errClosed = fmt.Errorf("%w: the agent is being stopped", virt.ErrUnreachable)

// errFull is more than the agent takes at once.
var errFull = mistify.ErrTooMany

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", virt.ErrInvalid, fmt.Sprintf(format, args...))
}

func notFound(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), virt.ErrNotFound)
}

func tooMany(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errFull, fmt.Sprintf(format, args...))
}

// UnconfiguredError is an action that has no stages in the config. It is a
// virt.ErrUnsupported.
type UnconfiguredError struct {
	Action   string
	Addition bool // Mistify has no such action
}

func (e *UnconfiguredError) Error() string {
	return fmt.Sprintf("this agent does not do %s: nothing is configured for it, see [agent.action.%s]", e.Action, e.Action)
}

func (e *UnconfiguredError) Unwrap() error { return virt.ErrUnsupported }

// panicError is a panic in something that was called, as an error.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("it panicked: %v", e.value) }

// isPanic reports whether err comes from a panic.
func isPanic(err error) bool {
	var p *panicError
	return errors.As(err, &p)
}
