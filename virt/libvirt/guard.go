package libvirt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The frame of libvirt's RPC: its length, six header words, the payload.
const (
	frameHeader = 28
	maxFrame    = 32 << 20

	program        = 0x20008086
	qemuProgram    = 0x20008087 // of calls that only QEMU's driver has
	programVersion = 1

	typeReply   = 1
	statusOK    = 0
	statusError = 1
)

var errClosed = errors.New("the connection was closed")

// guard is the connection that go-libvirt is given. Whatever it reads from here
// is one whole frame, the reply to the call that is under way, with no length
// in it that does not hold.
//
// Read is called by one goroutine, Write by one at a time; fail and Close by
// anyone.
type guard struct {
	net.Conn
	limits limits

	rest []byte // of the frame that Read hands out

	header [frameHeader]byte // of the frame that Write takes in
	have   int
	left   uint32 // payload of it that is still to come

	mu     sync.Mutex
	call   *call // under way
	err    error // why the connection is of no use any more
	ready  bool  // go-libvirt has finished its part of opening
	opened chan struct{}
}

// call is a request whose reply is awaited.
type call struct {
	program   uint32
	procedure uint32
	serial    uint32
}

func newGuard(conn net.Conn, l limits) *guard {
	return &guard{Conn: conn, limits: l, opened: make(chan struct{})}
}

// Read gives go-libvirt what has been checked. When the connection is of no use
// any more it ends with io.EOF: go-libvirt would try a *net.OpError again, for
// ever.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		frame, err := g.next()
		if err != nil {
			g.fail(err)
			g.awaitOpened()
			return 0, io.EOF
		}
		g.rest = frame
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// awaitOpened holds back the end of a connection that broke between two calls
// of its opening. go-libvirt, told of it at that moment, would look at a field
// that it is about to set.
func (g *guard) awaitOpened() {
	g.mu.Lock()
	waits := g.call == nil && !g.ready
	g.mu.Unlock()
	if waits {
		<-g.opened
	}
}

// next reads one frame and returns it as go-libvirt may see it.
func (g *guard) next() ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(g.Conn, head[:4]); err != nil {
		return nil, err
	}
	c := g.underWay()
	if c == nil {
		return nil, malformed("something that it was not asked for")
	}
	want, known := g.limits.replyOf(c.program, c.procedure)
	if !known {
		return nil, fmt.Errorf("procedure %d has no reply that could be checked", c.procedure)
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length < frameHeader || length > max(want.frame, maxErrorFrame) {
		return nil, malformed("a frame of %d bytes, where %d to %d are allowed", length, frameHeader, max(want.frame, maxErrorFrame))
	}
	if _, err := io.ReadFull(g.Conn, head[4:]); err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(head[4*i:]) }
	if word(1) != c.program || word(2) != programVersion || word(3) != c.procedure || word(4) != typeReply || word(5) != c.serial {
		return nil, malformed("a frame that does not answer the call under way")
	}
	// The buffer grows with what arrives, not with what is promised, and what
	// promises too much at once is not read any further.
	var payload bytes.Buffer
	first := min(4, int64(length-frameHeader))
	if _, err := io.CopyN(&payload, g.Conn, first); err != nil {
		return nil, err
	}
	if want.most > 0 && first == 4 && word(6) == statusOK {
		if n := binary.BigEndian.Uint32(payload.Bytes()); uint64(n) > uint64(want.most) {
			return nil, malformed("a list of %d, where at most %d are allowed", n, want.most)
		}
	}
	if _, err := io.CopyN(&payload, g.Conn, int64(length-frameHeader)-first); err != nil {
		return nil, err
	}
	body := payload.Bytes()
	switch word(6) {
	case statusOK:
		r := &reader{b: body, limits: g.limits}
		want.check(r)
		if err := r.end(); err != nil {
			return nil, err
		}
	case statusError:
		var err error
		if body, err = cleanError(body); err != nil {
			return nil, err
		}
	default:
		return nil, malformed("a reply with status %d", word(6))
	}
	frame := make([]byte, frameHeader+len(body))
	copy(frame, head[:])
	binary.BigEndian.PutUint32(frame, uint32(len(frame)))
	copy(frame[frameHeader:], body)
	return frame, g.answered()
}

func (g *guard) underWay() *call {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.call
}

// answered ends the call. A second reply to it is then one that nobody asked
// for: go-libvirt would wait for its reader with a lock held, and never end.
func (g *guard) answered() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.call = nil
	return g.err
}

// Write passes a request on and notes what it asks for before it does.
func (g *guard) Write(p []byte) (int, error) {
	for b := p; len(b) > 0; {
		if g.left > 0 {
			n := min(uint64(g.left), uint64(len(b)))
			g.left -= uint32(n)
			b = b[n:]
			continue
		}
		n := copy(g.header[g.have:], b)
		g.have += n
		b = b[n:]
		if g.have == frameHeader {
			g.have = 0
			g.left = binary.BigEndian.Uint32(g.header[:]) - frameHeader
			if err := g.asked(call{
				program:   binary.BigEndian.Uint32(g.header[4:]),
				procedure: binary.BigEndian.Uint32(g.header[12:]),
				serial:    binary.BigEndian.Uint32(g.header[20:]),
			}); err != nil {
				return 0, err
			}
		}
	}
	n, err := g.Conn.Write(p)
	if err != nil {
		g.fail(err)
	}
	return n, err
}

func (g *guard) asked(c call) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return g.err
	case g.call != nil:
		return fmt.Errorf("procedure %d was called while %d is under way", c.procedure, g.call.procedure)
	}
	g.call = &c
	return nil
}

// open says that go-libvirt has finished its part of opening, well or not.
func (g *guard) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ready {
		g.ready = true
		close(g.opened)
	}
}

// fail closes the connection for a reason. The first reason is kept.
func (g *guard) fail(err error) {
	g.mu.Lock()
	first := g.err == nil
	if first {
		g.err = err
	}
	g.mu.Unlock()
	if first {
		_ = g.Conn.Close()
	}
}

// broken returns why the connection is of no use any more, or nil.
func (g *guard) broken() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Close closes the connection.
func (g *guard) Close() error {
	g.fail(errClosed)
	g.open()
	return nil
}
