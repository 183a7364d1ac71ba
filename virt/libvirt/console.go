package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/virt"
)

// terminal is what a serial console of kind pty is at.
var terminal = regexp.MustCompile(`^/dev/pts/[0-9]{1,9}$`)

// Console attaches to a guest's serial console, which is a terminal of its host:
// so the host has to be this machine. Everybody who is attached reads some of what
// the guest says, and not all.
func (d *Driver) Console(ctx context.Context, h virt.Host, g virt.Guest) (io.ReadWriteCloser, error) {
	local, err := d.Local(h)
	if err != nil {
		return nil, err
	}
	if !local {
		return nil, fmt.Errorf("%w: the console of %.64s is a terminal of host %.64s, which is not this machine: log in there, and `virsh console %.36s`", virt.ErrUnsupported, g.Name, h.ID, g.UUID)
	}
	info, err := d.Info(ctx, h, g)
	switch {
	case err != nil:
		return nil, err
	case info.State != virt.Running && info.State != virt.Paused:
		return nil, fmt.Errorf("%w: %.64s is %s: start it first", virt.ErrConflict, g.Name, info.State)
	case g.Definition.Console.Serial != "" && g.Definition.Console.Serial != "pty":
		return nil, fmt.Errorf("%w: the serial console of %.64s is %q and not a terminal: give it \"console\": {\"serial\": \"pty\"}", virt.ErrUnsupported, g.Name, g.Definition.Console.Serial)
	case !terminal.MatchString(info.Console):
		return nil, fmt.Errorf("%w: %.64s has no terminal as its serial console, but %.64q", virt.ErrUnsupported, g.Name, info.Console)
	}
	f, err := os.OpenFile(info.Console, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to the console of %.64s: %w", g.Name, err)
	}
	if err := plainTerminal(f); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot attach to the console of %.64s: %w", g.Name, err), f.Close())
	}
	c := &serial{f: f}
	c.stop = context.AfterFunc(ctx, func() { _ = c.close() })
	return c, nil
}

// plainTerminal lets every byte through as it is.
func plainTerminal(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, failed = unix.IoctlGetTermios(int(fd), unix.TCGETS); failed != nil {
			return
		}
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	return errors.Join(err, failed)
}

// serial is a console that somebody is attached to.
type serial struct {
	f    *os.File
	stop func() bool
	once sync.Once
	err  error
}

// Read ends when the guest does, or the console is closed.
func (s *serial) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write types.
func (s *serial) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		err = io.ErrClosedPipe
	}
	return n, err
}

// Close implements io.Closer.
func (s *serial) Close() error {
	s.stop()
	return s.close()
}

func (s *serial) close() error {
	s.once.Do(func() { s.err = s.f.Close() })
	return s.err
}
