package mistify

import (
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"
)

// errGone is a write on a connection that its peer has closed.
var errGone = errors.New("the peer has closed the connection")

// liveConn writes nothing to a peer that has gone away. A sub-agent that was
// started again left connections behind that look usable until their reader gets
// its turn; a request on one of them would be lost, and nobody could tell whether
// it was begun. With nothing written, net/http takes another connection.
type liveConn struct {
	net.Conn
	raw syscall.RawConn

	mu      sync.Mutex
	dead    bool
	written int64
}

func newLiveConn(c net.Conn) net.Conn {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return &liveConn{Conn: c, raw: raw}
		}
	}
	return c
}

func (c *liveConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.gone() {
		c.dead = true
		return 0, errGone
	}
	n, err := c.Conn.Write(p)
	c.written += int64(n)
	return n, err
}

// abandon ends writing, and returns how much was written.
func (c *liveConn) abandon() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	return c.written
}

// sending notes on which connection a request goes.
type sending struct {
	got    bool
	conn   *liveConn
	before int64
}

func (s *sending) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		s.got = true
		s.conn, _ = i.Conn.(*liveConn)
		if s.conn != nil {
			s.conn.mu.Lock()
			s.before = s.conn.written
			s.conn.mu.Unlock()
		}
	}}
}

// nothing reports whether nothing of a request that failed was sent. One whose
// context has ended may still be on its way to the connection, which nobody can
// wait for: it counts as sent.
func (s *sending) nothing(ended bool) bool {
	switch {
	case !s.got:
		return true
	case ended || s.conn == nil:
		return false
	}
	return s.conn.abandon() == s.before
}

// gone looks for the end of what the peer sends without taking anything. It must
// not take the lock of readers: one of them waits there all the time.
func (c *liveConn) gone() (gone bool) {
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return gone || err != nil
}
