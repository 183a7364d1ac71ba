package plainhttp

import (
	"io"
	"net"
	"time"
)

// Body is the body of an answer. One goroutine reads it.
type Body struct {
	client *Client
	conn   *conn
	inner  io.ReadCloser
	stop   func() bool // of the watch over the context
	stall  time.Duration
	left   int64 // of a known length; negative if it is not known
	keep   bool  // the connection can be used again
	ended  bool  // it was read to its end, or closed
	closed bool
}

func (b *Body) Read(p []byte) (int, error) {
	switch {
	case b.closed:
		return 0, net.ErrClosed
	case b.ended:
		return 0, io.EOF
	}
	if b.stall > 0 {
		_ = b.conn.SetReadDeadline(time.Now().Add(b.stall)) // a connection without deadlines ends with its context
	}
	n, err := b.inner.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err == io.EOF {
		b.end()
	}
	return n, err
}

// end gives back a connection whose answer was read to its end.
func (b *Body) end() {
	if b.ended {
		return
	}
	b.ended = true
	if !b.stop() || !b.keep {
		_ = b.conn.Close() // it is not used again
		return
	}
	if b.stall > 0 {
		_ = b.conn.SetDeadline(time.Time{})
	}
	b.client.keep(b.conn)
}

// Close ends the connection unless the answer was read to its end. It does not
// fail.
func (b *Body) Close() error {
	if b.ended {
		return nil
	}
	b.ended, b.closed = true, true
	b.stop()
	_ = b.conn.Close() // that of a context that ended may have been first
	return nil
}
