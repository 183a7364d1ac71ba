package agent

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// inside serves a sub-agent that is in this process: each connection that is
// asked for is a pipe with a server at its other end. So it is asked as all
// others are, with deadlines, bounds and streams, and its panics are its own.
type inside struct {
	handler http.Handler
	work    sync.WaitGroup
	ended   context.Context //nolint:containedctx // of all connections, once it is closed
	end     context.CancelFunc
}

// insideCaller is a client that ends what it asks when it is closed.
type insideCaller struct {
	*mistify.RPC
	*inside
}

func (c insideCaller) Close() {
	c.RPC.Close()
	c.end()
	c.work.Wait()
}

func newInside(name, path string, pending int, h http.Handler, stall time.Duration) (Caller, error) {
	in := &inside{handler: h}
	in.ended, in.end = context.WithCancel(context.Background())
	rpc, err := mistify.NewRPC(mistify.Endpoint{Path: path}, mistify.RPCOptions{Name: name, MaxPending: pending, Stall: stall, Dial: in.dial})
	if err != nil {
		in.end()
		return nil, err
	}
	return insideCaller{rpc, in}, nil
}

func (in *inside) dial(context.Context) (net.Conn, error) {
	if err := in.ended.Err(); err != nil {
		return nil, net.ErrClosed
	}
	here, there := net.Pipe()
	l := newOnce(there)
	server := &http.Server{
		Handler: in.handler, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return in.ended },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				_ = l.Close()
			}
		},
	}
	in.work.Go(func() {
		stop := context.AfterFunc(in.ended, func() { _ = server.Close() })
		defer stop()
		_ = server.Serve(l) // it ends with its one connection
	})
	return here, nil
}

// once is a listener with one connection.
type once struct {
	conn  chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newOnce(c net.Conn) *once {
	l := &once{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- c
	return l
}

// Accept gives the connection, and then waits until it has ended.
func (l *once) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *once) Close() error {
	l.close.Do(func() { close(l.done) })
	return nil
}

// Addr is that of nothing.
func (l *once) Addr() net.Addr { return &net.UnixAddr{Name: "inside", Net: "pipe"} }
