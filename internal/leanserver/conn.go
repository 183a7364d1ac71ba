package leanserver

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// conn is a connection that can be ended between two requests.
type conn struct {
	net.Conn
	raw    syscall.RawConn // nil if it is no socket
	remote string
	header time.Duration // for the headers of a request

	mu       sync.Mutex
	active   bool // a request has begun
	stopping bool // no other one is taken
}

func newConn(c net.Conn, s *Server) *conn {
	k := &conn{Conn: c, remote: c.RemoteAddr().String(), header: s.limits.HeaderTimeout}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			k.raw = raw
		}
	}
	return k
}

// longAgo wakes whoever reads.
func longAgo() time.Time { return time.Unix(1, 0) }

// stop ends the connection, after the request under way if there is one.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if !c.active {
		_ = c.SetReadDeadline(longAgo()) // fails if it is closed already
	}
}

// changed is told where a connection stands.
func changed(nc net.Conn, state fasthttp.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = state == fasthttp.StateActive
	if c.active && c.stopping {
		_ = c.SetReadDeadline(time.Now().Add(c.header)) // its first bytes came just before the end
	}
}

// Read implements net.Conn. Once the server is stopping no further request is
// waited for.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	over := c.stopping && !c.active
	c.mu.Unlock()
	if over {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// left reports whether the client has closed its side, as far as the kernel has
// been told.
func (c *conn) left() bool {
	if c.raw == nil {
		return false
	}
	left := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		left = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return left || err != nil
}
