package allocator

import "fmt"

// NoHostError is an ErrNoHost with the Decision that says why for every host.
type NoHostError struct{ Decision *Decision }

func (e *NoHostError) Error() string {
	return fmt.Sprintf("no host fits %s: %s", e.Decision.Request.ID, e.Decision.Summary())
}

// Is makes the error an ErrNoHost.
func (e *NoHostError) Is(target error) bool { return target == ErrNoHost }
