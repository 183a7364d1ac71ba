package mistify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// serve runs s until the test ends and returns where.
func serve(t testing.TB, s *Server, e Endpoint) Endpoint {
	t.Helper()
	ln, err := Listen(e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if e.Socket == "" {
		e.Port = ln.Addr().(*net.TCPAddr).Port
	}
	return e
}

func newRPC(t testing.TB, e Endpoint, o RPCOptions) *RPC {
	t.Helper()
	c, err := NewRPC(e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// example answers as a sub-agent does that has every way to end.
func example() *Server {
	s := NewServer(ServerOptions{Grace: time.Second})
	Register(s, "Test.Echo", func(_ context.Context, r *GuestRequest) (*GuestResponse, error) {
		return &GuestResponse{Guest: r.Guest, Message: r.Action}, nil
	})
	Register(s, "Test.Trail", func(ctx context.Context, _ *GuestRequest) (*GuestResponse, error) {
		t := trail.From(ctx)
		return &GuestResponse{Message: fmt.Sprint(t.Transaction, "|", t.Source, "|", t.Reason, "|", t.Job, "|", t.Attempt, "|", t.Token)}, nil
	})
	Register(s, "Test.Fail", func(_ context.Context, r *GuestRequest) (*GuestResponse, error) {
		return nil, fmt.Errorf("the guest %s: %w", r.Action, ErrorKind(r.Action).Err())
	})
	Register(s, "Test.Text", func(_ context.Context, r *GuestRequest) (*GuestResponse, error) {
		return nil, errors.New(r.Action)
	})
	Register(s, "Test.Panic", func(context.Context, *GuestRequest) (*GuestResponse, error) { panic("oh") })
	Register(s, "Test.Nil", func(context.Context, *GuestRequest) (*GuestResponse, error) { return nil, nil })
	Register(s, "Test.Hang", func(ctx context.Context, _ *GuestRequest) (*GuestResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	return s
}

func TestCall(t *testing.T) {
	for _, e := range []Endpoint{{}, {Socket: filepath.Join(t.TempDir(), "s")}} {
		t.Run(map[bool]string{true: "port", false: "socket"}[e.Socket == ""], func(t *testing.T) {
			c := newRPC(t, serve(t, example(), e), RPCOptions{Name: "test"})
			ctx := within(t, 10*time.Second)
			var r GuestResponse
			if err := c.Call(ctx, "Test.Echo", &GuestRequest{Guest: fullGuest(), Action: "create"}, &r); err != nil {
				t.Fatal(err)
			}
			if r.Message != "create" || r.Guest.Disks[0].Volume != "guests/x/disk-0" {
				t.Errorf("the answer is %+v", r)
			}
			who := trail.With(ctx, trail.Trail{Transaction: "t/1", Source: "jo e", Reason: "why, ümlaut", Job: "j", Attempt: 2, Token: trail.Token{Epoch: 3, Number: 4}})
			if err := c.Call(who, "Test.Trail", &GuestRequest{}, &r); err != nil || r.Message != "t/1|jo e|why, ümlaut|j|2|3.4" {
				t.Errorf("the trail arrives as %q, %v", r.Message, err)
			}
			for _, k := range kinds() {
				err := c.Call(ctx, "Test.Fail", &GuestRequest{Action: string(k.kind)}, &r)
				var remote *RemoteError
				if !errors.Is(err, k.err) || !errors.As(err, &remote) || remote.Message != fmt.Sprintf("the guest %s: %v", k.kind, k.err) {
					t.Errorf("%s arrives as %v", k.kind, err)
				}
			}
			for _, x := range []struct {
				method, action, want string
				is                   error
			}{
				{"Test.Text", "not found", "Test.Text of the sub-agent test: not found", virt.ErrNotFound},
				{"Test.Text", "no such image", "no such image", virt.ErrNotFound},
				{"Test.Text", "two\nlines", "two lines", nil},
				{"Test.Panic", "", "the method Test.Panic panicked", nil},
				{"Test.Nil", "", "the method has no answer", nil},
				{"Test.No", "", `400 Bad Request: there is no method "Test.No"`, virt.ErrUnsupported},
			} {
				err := c.Call(ctx, x.method, &GuestRequest{Action: x.action}, &r)
				if err == nil || !strings.Contains(err.Error(), x.want) || x.is != nil && !errors.Is(err, x.is) || errors.Is(err, virt.ErrUnreachable) {
					t.Errorf("%s %q: %v, want %q, %v", x.method, x.action, err, x.want, x.is)
				}
			}
		})
	}
}

func TestCallNeedsDeadline(t *testing.T) {
	c := newRPC(t, Endpoint{Port: 1}, RPCOptions{})
	var call *CallError
	err := c.Call(context.Background(), "A.B", &GuestRequest{}, &GuestResponse{})
	if !errors.Is(err, ErrNoDeadline) || !errors.As(err, &call) || !call.NotSent {
		t.Errorf("a call without a deadline: %v", err)
	}
}

// raw answers every connection with what peer does, after it read a request.
func raw(t *testing.T, peer func(net.Conn)) Endpoint {
	t.Helper()
	ln, err := Listen(Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, req.Body)
			peer(conn)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return Endpoint{Port: ln.Addr().(*net.TCPAddr).Port}
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

func answers(body string) func(net.Conn) {
	return says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// A peer can do what it likes: it costs one call, in its deadline, with an error
// that says what was wrong.
func TestHostilePeers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	trickle := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		for _, b := range []byte(head + "Content-Length: 5000\r\n\r\n" + strings.Repeat(" ", 5000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond) // it is what the peer does, not how the test waits
		}
	}
	for _, x := range []struct {
		name string
		peer func(net.Conn)
		want string
		is   error
	}{
		{"closes", func(c net.Conn) { _ = c.Close() }, "closed the connection", virt.ErrUnreachable},
		{"garbage", says("\x00\x01\xff garbage\r\n\r\n"), "malformed HTTP", virt.ErrUnreachable},
		{"huge header", says(head + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), "exceeded", virt.ErrUnreachable},
		{"half a header", says(head), "closed the connection", virt.ErrUnreachable},
		{"half a body", says(head + "Content-Length: 100\r\n\r\n{\"result\":"), "closed the connection in the middle", virt.ErrUnreachable},
		{"half a chunk", says(head + "Transfer-Encoding: chunked\r\n\r\nff\r\n{\"res"), "closed the connection in the middle", virt.ErrUnreachable},
		{"bad chunk", says(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "chunk", virt.ErrUnreachable},
		{"negative length", says(head + "Content-Length: -5\r\n\r\n"), "Content-Length", virt.ErrUnreachable},
		{"says it is huge", says(head + "Content-Length: 99999999999\r\n\r\n{}"), "", virt.ErrUnreachable},
		{"is huge", says(head + "\r\n" + strings.Repeat(" ", 70_000)), "more than 65536 bytes", ErrTooLarge},
		{"trickles", trickle, "it took too long", context.DeadlineExceeded},
		{"hangs", func(net.Conn) {}, "it took too long", context.DeadlineExceeded},
		{"empty", answers(""), "there is nothing", virt.ErrUnreachable},
		{"html", answers("<html>hello\n</html>"), `is not JSON-RPC ("<html>hello\n</html>")`, virt.ErrUnreachable},
		{"list", answers("[]"), "is not JSON-RPC", virt.ErrUnreachable},
		{"null", answers("null"), "neither a result nor an error", virt.ErrUnreachable},
		{"neither", answers(`{"id":1}`), "neither a result nor an error", virt.ErrUnreachable},
		{"null result", answers(`{"result":null,"error":null,"id":1}`), "neither a result nor an error", virt.ErrUnreachable},
		{"result of another kind", answers(`{"result":"yes","error":null,"id":1}`), "is not what was asked for", virt.ErrUnreachable},
		{"guest of another kind", answers(`{"result":{"guest":7},"error":null,"id":1}`), "guest cannot be a number", virt.ErrUnreachable},
		{"two answers", answers(`{"result":{},"error":null,"id":1}{}`), "stands after its end", virt.ErrUnreachable},
		{"an id that is no JSON", answers(`{"result":{},"error":null,"id":x}`), "is not JSON-RPC", virt.ErrUnreachable},
		{"deep", answers(`{"result":` + strings.Repeat("[", 20_000)), "exceeded max depth", virt.ErrUnreachable},
		{"error as an object", answers(`{"result":null,"error":{"code":7},"id":1}`), `{"code":7}`, nil},
		{"error without words", answers(`{"result":null,"error":"","id":1}`), "does not say why", nil},
		{"error and result", answers(`{"result":{},"error":"no","id":1}`), "test: no", nil},
		{"a page with an error", says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 7\r\n\r\nboom\x1b[m"), "it answered 500 Internal Server Error: boom [m", nil},
		{"sends elsewhere", says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), "it answered 302 Found", nil},
		{"compresses", says(head + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"), "is not JSON-RPC", virt.ErrUnreachable},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newRPC(t, raw(t, x.peer), RPCOptions{Name: "test", MaxAnswer: 1 << 16})
			begun := time.Now()
			err := c.Call(within(t, time.Second), "A.B", &GuestRequest{}, &GuestResponse{})
			if err == nil || !strings.Contains(err.Error(), x.want) || x.is != nil && !errors.Is(err, x.is) {
				t.Errorf("error %v, want one with %q that is %v", err, x.want, x.is)
			}
			var call *CallError
			if errors.As(err, &call) && call.NotSent {
				t.Error("it was sent, and the error says it was not")
			}
			if kind := KindOf(err); call != nil && kind != KindUnreachable && kind != KindTimeout {
				t.Errorf("the error is %s: it is taken for the caller's", kind)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %s with a deadline of 1s", took)
			}
			if c.Pending() != 0 {
				t.Error("the call still has its place")
			}
		})
	}
}

// One slow method holds up the calls behind it for as long as they wish to wait.
func TestMaxPending(t *testing.T) {
	c := newRPC(t, serve(t, example(), Endpoint{}), RPCOptions{MaxPending: 1})
	hang, giveUp := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- c.Call(hang, "Test.Hang", &GuestRequest{}, &GuestResponse{}) }()
	waitFor(t, func() bool { return c.Pending() == 1 })
	var call *CallError
	err := c.Call(within(t, 50*time.Millisecond), "Test.Echo", &GuestRequest{}, &GuestResponse{})
	if !errors.As(err, &call) || !call.NotSent || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "behind 1 other calls") {
		t.Errorf("the second call: %v", err)
	}
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first call: %v", err)
	}
	if err := c.Call(within(t, 10*time.Second), "Test.Echo", &GuestRequest{}, &GuestResponse{}); err != nil {
		t.Errorf("the third call: %v", err)
	}
}

func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about within 10s")
		}
		time.Sleep(time.Millisecond)
	}
}

// Calls one after another use one connection.
func TestKeepsConnections(t *testing.T) {
	var conns atomic.Int32
	ts := httptest.NewUnstartedServer(example())
	ts.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	ts.Start()
	defer ts.Close()
	c := newRPC(t, Endpoint{Port: ts.Listener.Addr().(*net.TCPAddr).Port}, RPCOptions{})
	for range 20 {
		if err := c.Call(within(t, 10*time.Second), "Test.Echo", &GuestRequest{Guest: fullGuest()}, &GuestResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if n := conns.Load(); n != 1 {
		t.Errorf("20 calls used %d connections", n)
	}
}

func TestEndpoints(t *testing.T) {
	for _, x := range []struct {
		e    Endpoint
		o    RPCOptions
		want string
	}{
		{Endpoint{}, RPCOptions{}, "a port or a socket"},
		{Endpoint{Port: 1, Socket: "/s"}, RPCOptions{}, "a port or a socket"},
		{Endpoint{Port: 70000}, RPCOptions{}, "no port"},
		{Endpoint{Port: -1}, RPCOptions{}, "no port"},
		{Endpoint{Socket: "/" + strings.Repeat("s", 107)}, RPCOptions{}, "at most 107"},
		{Endpoint{Port: 1, Path: "../x"}, RPCOptions{}, "path"},
		{Endpoint{Port: 1, Path: "/a?b"}, RPCOptions{}, "path"},
		{Endpoint{Port: 1}, RPCOptions{MaxPending: -1}, "max_pending"},
	} {
		if _, err := NewRPC(x.e, x.o); !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.e, err, x.want)
		}
	}
}
