package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// maxSocketPath is the longest path that every system takes for a unix socket.
const maxSocketPath = 103

// Socket is the unix socket of a daemon.
type Socket struct {
	net.Listener
	path string
	file os.FileInfo // as it was made
}

// ListenUnix makes the socket, for the user alone or for a group too.
//
// It is made in a directory that nobody else can enter, gets its mode and owner
// there and is then moved to its place, so that there is no moment in which it
// can be reached by others, and whoever dials the path meets the old socket or
// this one. The caller holds the lock of the data directory; a socket that
// somebody answers at is nevertheless left alone.
func ListenUnix(ctx context.Context, path, group string) (*Socket, error) {
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	gid := -1
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("cannot give %s to its socket_group: %w", path, err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("cannot give %s to the group %s: its number is %q", path, group, g.Gid)
		}
	}
	private := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.RemoveAll(private); err != nil { // of a daemon that was killed
		return nil, fmt.Errorf("cannot make the socket: %w", err)
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the socket: %w", err)
	}
	s, err := makeSocket(ctx, private, path, gid)
	if err := errors.Join(err, os.RemoveAll(private)); err != nil {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	return s, nil
}

func makeSocket(ctx context.Context, private, path string, gid int) (*Socket, error) {
	made := filepath.Join(private, "s")
	l, err := throughShortPath(made, func(short string) (net.Listener, error) {
		var c net.ListenConfig
		return c.Listen(ctx, "unix", short)
	})
	if err != nil {
		return nil, err
	}
	s := &Socket{Listener: l, path: path}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	mode := fs.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		if err := os.Lchown(made, -1, gid); err != nil {
			return s, fmt.Errorf("%w: the daemon's user must be a member of socket_group", err)
		}
	}
	if err := os.Chmod(made, mode); err != nil {
		return s, err
	}
	if err := os.Rename(made, path); err != nil {
		return s, err
	}
	s.file, err = os.Lstat(path)
	return s, err
}

// Addr implements net.Listener. It is where the socket is, not where it was made.
func (s *Socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// checkStale refuses a path where something else is, or where somebody answers.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot make the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("cannot make the socket: %s is there and is no socket: move it away, or name another with `socket` in [serve]", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := Dial(ctx, path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot make the socket: another process answers at %s: end it, or name another with `socket` in [serve]", path)
	}
	return nil
}

// Remove takes the socket away, unless another one has its place by now.
func (s *Socket) Remove() error {
	now, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, s.file) {
		return nil
	}
	if err == nil {
		err = os.Remove(s.path)
	}
	if err != nil {
		return fmt.Errorf("cannot remove the socket: %w", err)
	}
	return nil
}

// Dial connects to the unix socket at path, however long the path is.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	return throughShortPath(path, func(short string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", short)
	})
}

// throughShortPath calls do with path or, if that is too long for a socket, with
// a short one to the same file.
func throughShortPath[T any](path string, do func(string) (T, error)) (T, error) {
	if len(path) <= maxSocketPath {
		return do(path)
	}
	var none T
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return none, err
	}
	defer func() { _ = dir.Close() }()
	short := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if _, err := os.Stat(short); err != nil {
		return none, fmt.Errorf("%s is longer than the %d bytes that a socket's path may have here: name a shorter one with `socket` in [serve]", path, maxSocketPath)
	}
	return do(short + "/" + filepath.Base(path))
}

// reachable says what keeps a group from the socket, "" for nothing.
func reachable(path string) string {
	dir := filepath.Dir(path)
	d, err := os.Stat(dir)
	if err != nil || d.Mode().Perm()&0o010 != 0 || d.Mode().Perm()&0o001 != 0 {
		return ""
	}
	return fmt.Sprintf("the members of socket_group cannot enter %s: `chgrp GROUP %s && chmod g+x %s` lets them", dir, dir, dir)
}
