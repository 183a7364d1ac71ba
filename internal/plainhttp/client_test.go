package plainhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// to is a client of what listens at address.
func to(t *testing.T, address string, o Options) *Client {
	t.Helper()
	o.Host = address
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

// serve is a server that counts its connections.
func serve(t *testing.T, do http.HandlerFunc) (address string, conns *atomic.Int32) {
	t.Helper()
	conns = &atomic.Int32{}
	s := httptest.NewUnstartedServer(do)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), conns
}

// script is a server that answers every request on a connection with the text
// that stands next, and closes it after the last.
func script(t *testing.T, answers ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for _, a := range answers {
				if _, err := http.ReadRequest(r); err != nil {
					break
				}
				_, _ = io.WriteString(c, a)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}

func ask(t *testing.T, c *Client, body string) (string, error) {
	t.Helper()
	resp, err := c.Do(t.Context(), Request{Method: "POST", Path: "/x", Header: http.Header{"X-A": {"1"}}, Body: []byte(body)})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// What is asked arrives, and what is answered comes back, in whatever form; one
// connection is enough for all of it.
func TestDo(t *testing.T) {
	address, conns := serve(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/x" || r.Header.Get("X-A") != "1" || r.ContentLength != int64(len(data)) {
			t.Errorf("%s %s %v %d", r.Method, r.URL, r.Header, r.ContentLength)
		}
		switch string(data) {
		case "empty":
		case "nothing":
			w.WriteHeader(http.StatusNoContent)
		case "chunked":
			for range 3 {
				fmt.Fprint(w, "piece")
				_ = http.NewResponseController(w).Flush()
			}
		case "soon":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "now")
		default:
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data)
		}
	})
	c := to(t, address, Options{})
	large := strings.Repeat("0123456789", 100_000)
	for in, want := range map[string]string{"": "", "empty": "", "nothing": "", "chunked": "piecepiecepiece", "soon": "now", "a": "a", large: large} {
		if got, err := ask(t, c, in); err != nil || got != want {
			t.Errorf("%.10q: %d bytes, %v", in, len(got), err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A connection is not used again when its answer was left unread, was followed by
// something, or said so, nor when it was closed meanwhile.
func TestNotKept(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, first := range map[string]string{
		"closed":   ok,
		"said so":  "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"followed": ok + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
	} {
		t.Run(name, func(t *testing.T) {
			c := to(t, script(t, first), Options{})
			for i := range 3 {
				if got, err := ask(t, c, ""); err != nil || got != "ok" {
					t.Errorf("%d: %q %v", i, got, err)
				}
			}
		})
	}
	address, conns := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	c := to(t, address, Options{})
	for range 2 {
		resp, err := c.Do(t.Context(), Request{Method: "GET", Path: "/"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after its end: %d, %v", n, err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Idle connections are closed after a while, and no more are kept than is said.
func TestIdle(t *testing.T) {
	gate := make(chan struct{})
	address, _ := serve(t, func(http.ResponseWriter, *http.Request) { <-gate })
	c := to(t, address, Options{MaxIdle: 2, IdleTimeout: 20 * time.Millisecond})
	done := make(chan error, 5)
	for range 5 {
		go func() {
			_, err := ask(t, c, "")
			done <- err
		}()
	}
	for range 5 {
		gate <- struct{}{}
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		if n := len(c.idle); n > 2 {
			t.Errorf("%d are kept", n)
		}
		c.mu.Unlock()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		n := len(c.idle)
		c.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d are still kept", n)
		}
	}
}

// What comes that is no answer, or too much of one, is an error that says that the
// request was sent; where nothing could be sent it says that.
func TestErrors(t *testing.T) {
	for name, x := range map[string]struct{ answer, text string }{
		"nothing":      {"", "EOF"},
		"garbage":      {"garbage\r\n\r\n", "malformed"},
		"half":         {"HTTP/1.1 200 OK\r\nContent-Le", ""},
		"headers":      {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 200_000), "bound of the headers"},
		"many headers": {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: a\r\n", 100_000), ""},
		"for ever":     {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10), "again and again"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask(t, to(t, script(t, x.answer), Options{}), "x")
			var failed *Error
			if !errors.As(err, &failed) || !failed.Sent || !strings.Contains(err.Error(), x.text) {
				t.Errorf("%v", err)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := to(t, l.Addr().String(), Options{})
	var failed *Error
	if _, err := ask(t, c, "x"); !errors.As(err, &failed) || failed.Sent {
		t.Errorf("%v", err)
	}
	for _, r := range []Request{
		{Method: "GET", Path: "x"}, {Method: "GET", Path: "/a b"}, {Method: "GET", Path: "/a\r\nB: c"},
		{Method: "GET", Path: "/", Header: http.Header{"A": {"b\r\nC: d"}}}, {Method: "GET", Path: "/", Header: http.Header{"A\n": {"b"}}},
	} {
		if _, err := c.Do(t.Context(), r); !errors.As(err, &failed) || failed.Sent || strings.Contains(err.Error(), "refused") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	short := to(t, script(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour"), Options{})
	if got, err := ask(t, short, "x"); got != "four" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", got, err)
	}
}

// The end of the context ends the work of the server, before and in the answer.
func TestGivenUp(t *testing.T) {
	for _, begun := range []bool{false, true} {
		ended := make(chan struct{})
		address, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			if begun {
				_, _ = io.WriteString(w, "some")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
		c := to(t, address, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		resp, err := c.Do(ctx, Request{Method: "GET", Path: "/"})
		if begun {
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
		}
		if err == nil {
			t.Error("there is no error")
		}
		<-ended
		cancel()
	}
}

// A body that comes slowly is read to its end, for longer than the stall; one
// that stalls is an error, after all that came.
func TestStall(t *testing.T) {
	const stall = 300 * time.Millisecond
	for _, stalls := range []bool{false, true} {
		address, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			for range 8 {
				_, _ = io.WriteString(w, "piece")
				_ = http.NewResponseController(w).Flush()
				<-time.After(stall / 4)
			}
			if stalls {
				<-r.Context().Done()
			}
		})
		c := to(t, address, Options{})
		resp, err := c.Do(t.Context(), Request{Method: "GET", Path: "/", Stall: stall})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(data) != strings.Repeat("piece", 8) || stalls != errors.Is(err, os.ErrDeadlineExceeded) || !stalls && err != nil {
			t.Errorf("%q %v", data, err)
		}
	}
}
