// Package lockfile keeps two processes out of one data directory.
//
// The lock is flock(2) on a file, held by an open file description: the kernel drops it
// when the holder ends, however it ends, so there is no stale lock to clean up. What the
// holder writes into the file (process id, command, time) only serves the message for
// the one who has to wait; it is never taken as the lock itself.
//
// # Why
//
// flock and not fcntl record locks: those belong to the process, so that a second handle
// in the same process would succeed, and closing any descriptor of the file drops them.
// The file is never removed: a remover and a newcomer could then hold locks on two files
// of one name.
package lockfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// flock has no timeout, and a blocked flock cannot be interrupted by a context.
	pollEvery = 20 * time.Millisecond

	maxNote    = 4096
	maxCommand = 200
)

// HeldError says that another process, or another handle of this one, has the lock.
// PID, Command and Since are what the holder wrote about itself; they are zero if it
// could not be read.
type HeldError struct {
	Path    string
	PID     int
	Command string
	Since   time.Time
}

// Error names the holder and what to do.
func (e *HeldError) Error() string {
	dir := filepath.Dir(e.Path)
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process that holds %s: wait until it ends (`fuser -v %s` names it)", dir, e.Path, e.Path)
	}
	return fmt.Sprintf("%s is in use by process %d (%s) since %s: wait until it ends, or end it", dir, e.PID, e.Command, e.Since.Format(time.RFC3339))
}

// note is what the holder writes about itself.
type note struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// Lock is a held lock.
type Lock struct {
	mu sync.Mutex
	f  *os.File
}

// Acquire takes the lock on the file at path, which it makes if it is not there. If
// somebody else has it, Acquire tries for up to wait and then gives *HeldError; when ctx
// ends first, it gives the context's error.
func Acquire(ctx context.Context, path string, wait time.Duration) (*Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := acquire(ctx, f, wait); err != nil {
		_ = f.Close()
		return nil, err
	}
	sign(f)
	return &Lock{f: f}, nil
}

func acquire(ctx context.Context, f *os.File, wait time.Duration) error {
	deadline := time.NewTimer(max(wait, 0))
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for last := wait <= 0; ; {
		err := tryLock(f)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
		case last:
			return held(f)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot lock %s: %w (%w)", f.Name(), ctx.Err(), held(f))
		case <-deadline.C:
			last = true
		case <-tick.C:
		}
	}
}

func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// sign writes who holds the lock. It is a courtesy to those who wait: a full disk must
// not keep anybody from the lock.
func sign(f *os.File) {
	command := filepath.Base(os.Args[0])
	if len(os.Args) > 1 {
		command += " " + strings.Join(os.Args[1:], " ")
	}
	if len(command) > maxCommand {
		command = strings.ToValidUTF8(command[:maxCommand], "") + " …"
	}
	b, err := json.Marshal(note{PID: os.Getpid(), Command: command, Since: time.Now().Round(time.Second)})
	if err != nil {
		return
	}
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(append(b, '\n'), 0)
	}
}

func held(f *os.File) *HeldError {
	e := &HeldError{Path: f.Name()}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxNote))
	if err != nil {
		return e
	}
	var n note
	if json.Unmarshal(b, &n) == nil && n.PID > 0 {
		e.PID, e.Command, e.Since = n.PID, printable(n.Command), n.Since
	}
	return e
}

// printable keeps a file that anybody could have written from driving a terminal.
func printable(s string) string {
	if len(s) > 2*maxCommand {
		s = s[:2*maxCommand]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\u202e' || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
}

// Share lets a child hold the lock too: when this process is killed, nobody else gets
// the lock before the child has ended. It is called before the child starts.
func (l *Lock) Share(child *exec.Cmd) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		child.ExtraFiles = append(child.ExtraFiles, l.f)
	}
}

// Release gives the lock up. A second Release does nothing.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	// Closing drops the lock. A child between fork and exec may hold the description a
	// moment longer, so unlock it by name first.
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot release %s: %w", f.Name(), err)
	}
	return nil
}
