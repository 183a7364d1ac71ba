package mistify

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// pipe is a console that shows what was typed.
type pipe struct {
	*io.PipeReader
	w      *io.PipeWriter
	closed chan struct{}
}

func (p *pipe) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipe) Close() error                { close(p.closed); return p.w.Close() }

// What is typed goes to the session that it names, and to no other.
func TestRegisterConsole(t *testing.T) {
	closed := make(chan struct{})
	s := NewServer(ServerOptions{})
	RegisterConsole(s, "Test.Console", "Test.TypeConsole", func(_ context.Context, r *ConsoleRequest) (io.ReadWriteCloser, error) {
		if r.Guest.ID != "web1" {
			return nil, virt.ErrConflict
		}
		out, in := io.Pipe()
		return &pipe{out, in, closed}, nil
	})
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := NewRPC(Endpoint{Port: server.Listener.Addr().(*net.TCPAddr).Port}, RPCOptions{}) //nolint:forcetypeassert // it is one
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const one, two = "9b2f7a52-6d0e-4b1c-8d53-0a1f5b7c9e11", "9b2f7a52-6d0e-4b1c-8d53-0a1f5b7c9e12"
	request := func(session, guest string, data ...byte) *ConsoleRequest {
		return &ConsoleRequest{Session: session, Guest: &Guest{ID: guest}, Data: data}
	}
	enter := func(r *ConsoleRequest) error {
		return c.Call(ctx, "Test.TypeConsole", r, &ConsoleResponse{})
	}
	for range 2 { // a session that was refused is free
		if _, err := c.Stream(ctx, "Test.Console", request(one, "other")); !errors.Is(err, virt.ErrConflict) {
			t.Fatalf("what attach refuses: %v", err)
		}
	}
	d, err := c.Stream(ctx, "Test.Console", request(one, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stream(ctx, "Test.Console", request(one, "web1")); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("a session twice: %v", err)
	}
	for what, r := range map[string]*ConsoleRequest{
		"no UUID": request("x", "web1"), "braces": request("{"+one+"}", "web1"), "no guest": {Session: one},
		"too much": request(one, "web1", []byte(strings.Repeat("x", MaxTyped+1))...),
	} {
		if err := enter(r); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := enter(request(two, "web1", 'x')); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("typed into a session that nobody has: %v", err)
	}
	shown := make(chan string, 1)
	go func() {
		b := make([]byte, 3)
		_, _ = io.ReadFull(d, b)
		shown <- string(b)
	}()
	if err := enter(request(one, "web1", 0, 'a', 0xff)); err != nil {
		t.Fatal(err)
	}
	if got := <-shown; got != "\x00a\xff" {
		t.Errorf("it shows %q", got)
	}
	_ = d.Close()
	<-closed
	if err := enter(request(one, "web1", 'x')); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("typed into a session that has ended: %v", err)
	}
}
