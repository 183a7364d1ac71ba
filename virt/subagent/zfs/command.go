package zfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// Bounds of what a command may write.
const (
	maxOut = 64 << 20
	maxErr = 4 << 10
)

// stuckAfter is how long a command that was killed may take to be gone. One that
// waits for a pool in the kernel cannot be killed.
const stuckAfter = 10 * time.Second

// run runs zfs and returns what it writes.
func (s *Store) run(ctx context.Context, args ...string) ([]byte, error) {
	return s.runFor(ctx, s.o.RunTimeout, nil, args...)
}

// runFor is run with another deadline and something to read.
func (s *Store) runFor(ctx context.Context, most time.Duration, in *os.File, args ...string) ([]byte, error) {
	if s.stuck.Load() > 0 {
		return nil, fmt.Errorf("%w: an earlier zfs command hangs in the kernel: look at zpool status %s", virt.ErrUnreachable, s.o.Pool)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	cmd, said := s.command(ctx, args)
	if in != nil {
		cmd.Stdin = in
	}
	out := &bounded{most: maxOut}
	cmd.Stdout = out
	ended := make(chan error, 1)
	s.running.Go(func() {
		// The kernel ends the child when the thread ends that made it, so it must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	})
	select {
	case err := <-ended:
		if err == nil && out.cut {
			err = errors.New("it writes too much")
		}
		return out.Bytes(), s.failed(ctx, args, err, said)
	case <-gone(ctx):
	}
	s.stuck.Add(1)
	s.running.Go(func() {
		if err := <-ended; err != nil {
			s.o.Log.Warn("zfs: a command that hung has ended", "command", args[0], "err", err)
		}
		s.stuck.Add(-1)
	})
	return nil, fmt.Errorf("%w: zfs %s hangs in the kernel: look at zpool status %s", virt.ErrUnreachable, args[0], s.o.Pool)
}

// gone is closed some time after ctx ended.
func gone(ctx context.Context) <-chan struct{} {
	late := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(stuckAfter, func() { close(late) }) })
	return late
}

// command prepares a run of zfs. Its arguments are never read by a shell. It ends
// with ctx and with this process, and holds the lock until it has.
func (s *Store) command(ctx context.Context, args []string) (*exec.Cmd, *bounded) {
	cmd := exec.CommandContext(ctx, "zfs", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	s.lock.Share(cmd)
	said := &bounded{most: maxErr}
	cmd.Stderr = said
	return cmd, said
}

// CommandError is a zfs command that failed. It is the error of virt that fits
// what the command said, if one does.
type CommandError struct {
	Command string // such as destroy
	Said    string
	Err     error
	kind    error
}

func (e *CommandError) Error() string {
	text := e.Said
	if text == "" {
		text = e.Err.Error()
	}
	if e.kind != nil {
		return fmt.Sprintf("%v: zfs %s: %s", e.kind, e.Command, text)
	}
	return fmt.Sprintf("zfs %s: %s", e.Command, text)
}

func (e *CommandError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.kind, e.Err}, func(err error) bool { return err == nil })
}

func (s *Store) failed(ctx context.Context, args []string, err error, said *bounded) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("zfs %s was ended: %w", args[0], cause)
	}
	text := strings.Join(strings.Fields(said.String()), " ")
	return &CommandError{Command: args[0], Said: text, Err: err, kind: kindOf(text, err)}
}

// kindOf tells the errors of zfs apart, which has one exit status for them all.
func kindOf(text string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return virt.ErrUnreachable
	}
	for _, known := range [...]struct {
		says string
		kind error
	}{
		{"no such pool", virt.ErrUnreachable},
		{"I/O is currently suspended", virt.ErrUnreachable},
		{"modules are not loaded", virt.ErrUnreachable},
		{"must be run as root", virt.ErrUnreachable},
		{"ermission denied", virt.ErrUnreachable},
		{"dataset does not exist", virt.ErrNotFound},
		{"could not find any snapshots", virt.ErrNotFound},
		{"dataset is busy", virt.ErrBusy},
		{"already exists", virt.ErrConflict},
		{"destination '", virt.ErrConflict},
		{"dependent clones", virt.ErrConflict},
		{"has children", virt.ErrConflict},
		{"more recent snapshots", virt.ErrConflict},
		{"out of space", virt.ErrConflict},
		{"no space left", virt.ErrConflict},
		{"quota exceeded", virt.ErrConflict},
		{"invalid backup stream", virt.ErrInvalid},
		{"invalid stream", virt.ErrInvalid},
		{"incomplete stream", virt.ErrInvalid},
		{"stream has unsupported feature", virt.ErrInvalid},
		{"checksum mismatch", virt.ErrInvalid},
		{"resume token is corrupt", virt.ErrInvalid},
		{"cannot resume send", virt.ErrInvalid},
	} {
		if strings.Contains(text, known.says) {
			return known.kind
		}
	}
	return nil
}

// stream begins a zfs that writes a stream, and returns that.
func (s *Store) stream(ctx context.Context, args ...string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.TransferTimeout)
	r, w, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	cmd, said := s.command(ctx, args)
	cmd.Stdout = w
	begun, ended := make(chan error, 1), make(chan error, 1)
	s.running.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = w.Close() // the child has its own
		begun <- err
		if err == nil {
			ended <- s.failed(ctx, args, cmd.Wait(), said)
		}
	})
	if err := <-begun; err != nil {
		cancel()
		_ = r.Close()
		return nil, s.failed(ctx, args, err, said)
	}
	return &sending{File: r, cancel: cancel, ended: ended}, nil
}

// sending is the stream of a zfs. Its end is io.EOF only if the command ended
// well.
type sending struct {
	*os.File
	cancel context.CancelFunc
	ended  chan error
	err    error // once it ended
	done   bool
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	if err == io.EOF { // a reader says io.EOF itself
		if failed := s.wait(); failed != nil {
			return n, failed
		}
	}
	return n, err
}

// WriteTo hides that of the file, which knows nothing of the command.
func (s *sending) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{s})
}

func (s *sending) wait() error {
	if !s.done {
		s.err, s.done = <-s.ended, true
	}
	return s.err
}

// Close ends the command if it is not done.
func (s *sending) Close() error {
	s.cancel()
	err := s.File.Close()
	_ = s.wait() // the reader was told, or does not want it
	return err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	most int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := max(0, b.most-b.Len())
	b.cut = b.cut || len(p) > room
	b.Buffer.Write(p[:min(len(p), room)])
	return len(p), nil
}
