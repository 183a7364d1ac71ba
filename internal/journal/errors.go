package journal

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrClosed is given by every call after Close.
	ErrClosed = errors.New("the journal is closed")

	// ErrFailed is given by every call after a write or sync failed in a way that leaves
	// unknown what is on disk. Open the journal again to go on.
	ErrFailed = errors.New("the journal failed and must be opened again")
)

// CorruptError says that a file does not hold what was written to it.
type CorruptError struct {
	File   string
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s; restore its directory from a copy", e.File, e.Offset, e.Reason)
}

// TooLargeError refuses a record before anything is written.
type TooLargeError struct {
	Size, Max int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("a record of %d bytes is too large, at most %d are taken", e.Size, e.Max)
}

// isFull reports whether err is for lack of space, the one failure that ends by itself.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
