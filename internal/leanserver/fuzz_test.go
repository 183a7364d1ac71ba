package leanserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/internal/leanserver"
)

// once is a listener of one connection.
type once struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (o *once) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.ended:
		return nil, net.ErrClosed
	}
}

func (o *once) Close() error   { o.once.Do(func() { close(o.ended) }); return nil }
func (o *once) Addr() net.Addr { return &net.TCPAddr{} }

// seen is what a handler was told of a request.
func seen(r *http.Request, body []byte) string {
	return fmt.Sprintf("%s %q of %q: %q", r.Method, r.URL.Path, r.Host, body)
}

// served are the requests that reach the handler when the bytes are sent.
func served(t *testing.T, sent []byte) (list []string) {
	t.Helper()
	here, there := net.Pipe()
	o := &once{conns: make(chan net.Conn, 1), ended: make(chan struct{})}
	o.conns <- there
	s := leanserver.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		list = append(list, seen(r, body))
	}), patient(), slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(o) }()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(io.Discard, here) // until the server has closed
	}()
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = here.Write(sent) // the server may not want it all
		_, _ = io.WriteString(here, last)
	})
	<-answers
	_ = here.Close()
	group.Wait()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return list
}

// last asks the server to close the connection, unless it is swallowed by a body.
const last = "GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n" + "0\r\n\r\n\r\n\r\n"

// FuzzBytes sends any bytes. What reaches the handler is what net/http reads from
// them, in the same order: nothing is smuggled past one of the two.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{
		"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz",
		"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\nX-A: b\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nxyz",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 4<<10 {
			t.Skip("too long to be of use")
		}
		lean := served(t, sent)
		var plain []string
		r := bufio.NewReader(io.MultiReader(bytes.NewReader(sent), strings.NewReader(last)))
		for {
			for b, err := r.Peek(1); err == nil && (b[0] == '\r' || b[0] == '\n'); b, err = r.Peek(1) {
				_, _ = r.Discard(1) // empty lines before a request are nothing
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				break
			}
			body, err := io.ReadAll(req.Body)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || err != nil && len(lean) <= len(plain) {
				break
			}
			plain = append(plain, seen(req, body))
			if req.Close {
				break
			}
		}
		for i, want := range lean {
			if i >= len(plain) || plain[i] != want {
				t.Fatalf("served %q, net/http reads %q", lean, plain)
			}
		}
	})
}
