package mistify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
)

// A service that is not there is told apart from one that may have begun.
func TestNotSent(t *testing.T) {
	ln, err := Listen(Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	e := Endpoint{Port: ln.Addr().(*net.TCPAddr).Port}
	_ = ln.Close()
	for _, e := range []Endpoint{e, {Socket: filepath.Join(t.TempDir(), "no")}} {
		var call *CallError
		err := newRPC(t, e, RPCOptions{}).Call(within(t, 5*time.Second), "A.B", &GuestRequest{}, &GuestResponse{})
		if !errors.As(err, &call) || !call.NotSent || !errors.Is(err, virt.ErrUnreachable) {
			t.Errorf("nobody listens at %s: %v", e, err)
		}
	}
}

// A call is sent once, also where a kept connection breaks under it and net/http
// would like to try again.
func TestSentOnce(t *testing.T) {
	ln, err := Listen(Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if requests.Add(1) > 1 {
					break // without an answer
				}
				const body = `{"result":{"guest":null},"error":null,"id":1}`
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
			_ = conn.Close()
		}
	}()
	c := newRPC(t, Endpoint{Port: ln.Addr().(*net.TCPAddr).Port}, RPCOptions{})
	ctx := within(t, 10*time.Second)
	if err := c.Call(ctx, "A.B", &GuestRequest{}, &GuestResponse{}); err != nil {
		t.Error(err)
	}
	var call *CallError
	if err := c.Call(ctx, "A.B", &GuestRequest{}, &GuestResponse{}); !errors.As(err, &call) || call.NotSent {
		t.Errorf("a call that was sent and not answered: %v", err)
	}
	_ = ln.Close()
	c.Close()
	<-done
	if n := requests.Load(); n != 2 {
		t.Errorf("two calls are %d requests", n)
	}
}

// A sub-agent that was started again is called as if nothing had been: the
// connections to its former self are found out before they are used.
func TestRestarted(t *testing.T) {
	var c *RPC
	port := 0
	for range testlong.Count(t, 5000) {
		ln, err := Listen(Endpoint{Port: port})
		if err != nil {
			t.Fatal(err)
		}
		port = ln.Addr().(*net.TCPAddr).Port
		if c == nil {
			c = newRPC(t, Endpoint{Port: port}, RPCOptions{})
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- example().Serve(ctx, ln) }()
		for range 3 {
			if err := c.Call(within(t, 10*time.Second), "Test.Echo", &GuestRequest{}, &GuestResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
