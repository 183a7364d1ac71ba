package serve

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// busyAnswer is what a client gets that comes when too many are there. It is
// written without a look at the request.
const busyAnswer = "HTTP/1.1 429 Too Many Requests\r\n" +
	"Content-Type: application/json; charset=utf-8\r\n" +
	"Retry-After: 1\r\nConnection: close\r\nContent-Length: 87\r\n\r\n" +
	`{"message":"too many connections are open: try again in a second","code":"overloaded"}` + "\n"

const (
	turnAwayAtOnce = 16              // clients that are told so side by side; others are cut off
	turnAwayTime   = 2 * time.Second // for each
)

// bounded is a listener with at most so many open connections. One too many is
// told so where the protocol allows it, and closed.
type bounded struct {
	net.Listener
	slots  chan struct{}
	stall  time.Duration // the longest time that a write may stand still
	polite bool          // clients speak plain HTTP

	turning chan struct{}
	away    sync.WaitGroup
}

func newBounded(l net.Listener, most int, stall time.Duration, polite bool) *bounded {
	return &bounded{
		Listener: l, slots: make(chan struct{}, most), stall: stall, polite: polite,
		turning: make(chan struct{}, turnAwayAtOnce),
	}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.slots <- struct{}{}:
			return &conn{Conn: c, stall: b.stall, release: sync.OnceFunc(func() { <-b.slots })}, nil
		default:
			b.turnAway(c)
		}
	}
}

// turnAway answers and closes a connection that is one too many.
func (b *bounded) turnAway(c net.Conn) {
	select {
	case b.turning <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	b.away.Go(func() {
		defer func() { <-b.turning }()
		defer func() { _ = c.Close() }()
		if !b.polite || c.SetDeadline(time.Now().Add(turnAwayTime)) != nil {
			return
		}
		if _, err := io.WriteString(c, busyAnswer); err != nil {
			return
		}
		// What the client has sent is read, or the kernel would take the answer
		// back with a reset.
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, 64<<10)
		}
	})
}

// wait waits for those that are being turned away.
func (b *bounded) wait() { b.away.Wait() }

// conn gives its slot back when it is closed. Each write has a deadline of its
// own, so that a client that reads nothing is cut off while a stream that lives
// is not.
type conn struct {
	net.Conn
	stall   time.Duration
	release func()
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SyscallConn implements syscall.Conn where the connection does.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
