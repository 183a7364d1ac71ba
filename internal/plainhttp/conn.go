package plainhttp

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a connection that is kept. One goroutine at a time uses it.
type conn struct {
	net.Conn
	raw   syscall.RawConn // nil if it is no socket
	r     *bufio.Reader
	left  int64 // bytes that may still be read; bounds headers
	since time.Time

	base  uint64 // what the other side's kernel had taken when the connection was new
	known bool   // it is
	wrote uint64 // since then
}

const readAhead = 16 << 10

func newConn(c net.Conn) *conn {
	k := &conn{Conn: c, left: math.MaxInt64}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			k.raw = raw
		}
	}
	k.base, k.known = k.acked()
	k.r = bufio.NewReaderSize(k, readAhead)
	return k
}

var errHeaders = errors.New("its answer has exceeded the bound of the headers")

// Read is that of the connection, as far as the bound.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaders
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

// usable reports whether a connection that was kept can take a request. A server
// that was started again leaves connections behind that look as if they could; a
// request on one of them would be lost, and nobody could tell whether it was
// begun. One on which something came that nobody asked for is not used either.
func (c *conn) usable() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	if c.raw == nil {
		return true
	}
	usable := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		usable = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return usable && err == nil
}

// Write is that of the connection, counted.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote += uint64(max(n, 0))
	return n, err
}

// took reports whether the other side's kernel has taken any of what was written
// after the first `before` bytes. Where that cannot be told it may have.
func (c *conn) took(before uint64) bool {
	acked, known := c.acked()
	return !known || !c.known || acked-c.base > before
}

// acked is how many bytes the other side's kernel has taken since the connection
// began; known is false where that cannot be told.
func (c *conn) acked() (bytes uint64, known bool) {
	if c.raw == nil || c.LocalAddr().Network() != "tcp" {
		return 0, false
	}
	var info *unix.TCPInfo
	var err error
	if controlled := c.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); controlled != nil || err != nil {
		return 0, false
	}
	return info.Bytes_acked, true
}

// take gives a kept connection, or a new one.
func (c *Client) take(dial func() (net.Conn, error)) (k *conn, kept bool, err error) {
	for {
		c.mu.Lock()
		if len(c.idle) == 0 {
			c.mu.Unlock()
			break
		}
		k := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		c.mu.Unlock()
		if k.usable() {
			return k, true, nil
		}
		_ = k.Close() // it is of no use
	}
	fresh, err := dial()
	if err != nil {
		return nil, false, err
	}
	return newConn(fresh), false, nil
}

// keep takes back a connection whose answer was read to its end.
func (c *Client) keep(k *conn) {
	c.mu.Lock()
	if c.closed || len(c.idle) >= c.o.MaxIdle || k.r.Buffered() > 0 {
		c.mu.Unlock()
		_ = k.Close() // there are enough
		return
	}
	k.since = time.Now()
	c.idle = append(c.idle, k)
	if c.timer == nil {
		c.timer = time.AfterFunc(c.o.IdleTimeout, c.expire)
	}
	c.mu.Unlock()
}

// expire closes those that nobody has used for a while. The one used last stands
// last.
func (c *Client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	now, n := time.Now(), 0
	for ; n < len(c.idle) && now.Sub(c.idle[n].since) >= c.o.IdleTimeout; n++ {
		_ = c.idle[n].Close() // nobody uses it
	}
	c.idle = append(c.idle[:0], c.idle[n:]...)
	c.timer = nil
	if len(c.idle) > 0 {
		c.timer = time.AfterFunc(c.o.IdleTimeout-now.Sub(c.idle[0].since), c.expire)
	}
}

// Close ends the connections that nobody uses. What is under way goes on.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, k := range c.idle {
		_ = k.Close() // nobody uses it
	}
	c.idle = nil
}

// Error is a request without a proper answer.
type Error struct {
	Sent bool // some of it was, and the server may have begun
	Err  error
}

func (e *Error) Error() string {
	if e.Sent {
		return e.Err.Error()
	}
	return fmt.Sprintf("nothing was sent: %v", e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
