package registry

import (
	"errors"
	"fmt"
)

// What an error of a registry can be; test with errors.Is.
var (
	// ErrNotFound: there is no such node or blob.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else holds what was asked for, or the node is not
	// as the writer expects it.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the input can never be accepted.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: the input exceeds a limit.
	ErrTooLarge = errors.New("too large")
	// ErrCompacted: the changes asked for are no longer remembered.
	ErrCompacted = errors.New("the changes after this cursor are no longer kept: list again and watch from the start")
	// ErrCursor: the cursor is malformed or of another store.
	ErrCursor = errors.New("the cursor is not one of this store")
	// ErrClosed: the registry has been closed.
	ErrClosed = errors.New("the registry is closed")
	// ErrUnavailable: the store cannot be written (or, for Consistent, read) now.
	ErrUnavailable = errors.New("the registry's store does not answer")
	// ErrUnknownOutcome: the Update may or may not have been committed.
	ErrUnknownOutcome = errors.New("the change may or may not have been committed: look before trying again")
	// ErrCorrupt: a stored file is damaged.
	ErrCorrupt = errors.New("the registry's files are damaged")
)

// maxRef bounds what an error repeats of something that never passed a check.
const maxRef = 64

// NotFoundError is an ErrNotFound.
type NotFoundError struct {
	What string // "node", "name", "key" or "blob"
	Ref  string
	Hint string // a close name, or ""
}

func (e *NotFoundError) Error() string {
	ref := e.Ref
	if len(ref) > maxRef {
		ref = ref[:maxRef] + "…"
	}
	s := fmt.Sprintf("there is no %s %q", e.What, ref)
	if e.Hint != "" {
		s += fmt.Sprintf(" (did you mean %q?)", e.Hint)
	}
	return s
}

// Is makes the error an ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// ConflictError is an ErrConflict over an ID, a name or a unique key.
type ConflictError struct {
	Key   string // as it was asked for
	Owner string // the ID of the node that holds it
}

func (e *ConflictError) Error() string { return fmt.Sprintf("%q is held by node %s", e.Key, e.Owner) }

// Is makes the error an ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// ParentError is an ErrConflict over a node's parent.
type ParentError struct {
	ID     string
	Parent string // the parent that was asked for
	Actual string // the parent that the node has
	Reason string // what is wrong, and what to do
}

func (e *ParentError) Error() string { return fmt.Sprintf("node %s: %s", e.ID, e.Reason) }

// Is makes the error an ErrConflict.
func (e *ParentError) Is(target error) bool { return target == ErrConflict }

// InUseError is an ErrConflict over a node that cannot be deleted or redefined
// because of where it stands or what stands on it.
type InUseError struct {
	ID       string
	Parent   string
	Children int
	Reason   string
}

func (e *InUseError) Error() string { return fmt.Sprintf("node %s: %s", e.ID, e.Reason) }

// Is makes the error an ErrConflict.
func (e *InUseError) Is(target error) bool { return target == ErrConflict }

// InvalidError is an ErrInvalid.
type InvalidError struct {
	ID     string // the node, or ""
	Field  string
	Reason string
}

func (e *InvalidError) Error() string {
	if e.ID == "" {
		return fmt.Sprintf("%s: %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("node %.64q: %s: %s", e.ID, e.Field, e.Reason)
}

// Is makes the error an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// LimitError is an ErrTooLarge.
type LimitError struct {
	What string
	Unit string
	Got  int
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d %s, at most %d are allowed", e.What, e.Got, e.Unit, e.Max)
}

// Is makes the error an ErrTooLarge.
func (e *LimitError) Is(target error) bool { return target == ErrTooLarge }
