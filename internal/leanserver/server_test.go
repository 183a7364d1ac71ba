package leanserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/leanserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is for tests in which nothing is late.
func patient() leanserver.Limits {
	return leanserver.Limits{HeaderTimeout: 20 * time.Second, BodyTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second, MaxBody: 1000}
}

// echo tells what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	w.Header().Set("X-Told", r.Header.Get("X-Tell"))
	_, _ = fmt.Fprintf(w, "%s %s %s %d %s", r.Method, r.URL.Path, r.Host, r.ContentLength, body)
}

// start serves h until the test ends.
func start(tb testing.TB, limits leanserver.Limits, h http.HandlerFunc) (s *leanserver.Server, address string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, l, limits, h), l.Addr().String()
}

func serve(tb testing.TB, l net.Listener, limits leanserver.Limits, h http.HandlerFunc) *leanserver.Server {
	tb.Helper()
	s := leanserver.New(h, limits, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	tb.Cleanup(func() {
		s.Close(nil)
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return s
}

// client is one connection.
type client struct {
	tb testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(tb testing.TB, address string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return &client{tb, c, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.tb.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.tb.Fatal(err)
	}
}

// answer reads one. Of its headers, Connection says whether it is the last.
func (c *client) answer(method string) (status int, body string, h http.Header) {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.tb.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.tb.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Close {
		resp.Header.Set("Connection", "close")
	}
	return resp.StatusCode, string(b), resp.Header
}

// cut reports what comes until the connection is closed.
func (c *client) cut() string {
	c.tb.Helper()
	rest, err := io.ReadAll(c.r)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		c.tb.Fatal("the connection stays open")
	}
	return string(rest)
}

// What is served as net/http would serve it, twice on the same connection.
func TestServed(t *testing.T) {
	_, address := start(t, patient(), echo)
	for name, tc := range map[string]struct{ request, body string }{
		"GET":                 {"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a h 0 "},
		"escapes and a query": {"GET /a%20b?c=d HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a b h 0 "},
		"a path as it is":     {"GET //a/../b HTTP/1.1\r\nHost: h\r\n\r\n", "GET //a/../b h 0 "},
		"POST":                {"POST /a HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nxyz", "POST /a h:1 3 xyz"},
		"a GET with a body":   {"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz", "GET /a h 3 xyz"},
		"no body":             {"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "POST /a h 0 "},
		"no length":           {"POST /a HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a h 0 "},
		"chunks":              {"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1;e=f\r\nz\r\n0\r\n\r\n", "POST /a h 3 xyz"},
		"a form":              {"POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5\r\n\r\n--b--", "POST /a h 5 --b--"},
		"kept in HTTP/1.0":    {"GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", "GET /a h 0 "},
		"OPTIONS":             {"OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS /a h 0 "},
		"the largest body":    {"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), "POST /a h 1000 " + strings.Repeat("x", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, address)
			for range 2 {
				c.send(tc.request)
				status, body, h := c.answer("GET")
				if status != http.StatusOK || body != tc.body {
					t.Fatalf("%d %q, expected %q", status, body, tc.body)
				}
				if h.Get("Server") != "" || h.Get("Date") != "" || h.Get("Content-Type") != "" {
					t.Errorf("the headers are %v", h)
				}
			}
		})
	}
}

// Nothing of one request is seen by the next.
func TestRequestsAreApart(t *testing.T) {
	_, address := start(t, patient(), echo)
	c := dial(t, address)
	c.send("POST /long HTTP/1.1\r\nHost: other\r\nX-Tell: me\r\nContent-Length: 10\r\n\r\n0123456789" +
		"GET /b HTTP/1.1\r\nHost: h\r\n\r\n" + "HEAD /c HTTP/1.1\r\nHost: h\r\n\r\n" + "GET /d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	for _, want := range []struct{ method, body, told string }{
		{"POST", "POST /long other 10 0123456789", "me"}, {"GET", "GET /b h 0 ", ""}, {"HEAD", "", ""}, {"GET", "GET /d h 0 ", ""},
	} {
		status, body, h := c.answer(want.method)
		if status != http.StatusOK || body != want.body || h.Get("X-Told") != want.told {
			t.Fatalf("%s: %d %q %v", want.method, status, body, h)
		}
	}
	if rest := c.cut(); rest != "" {
		t.Errorf("%q followed", rest)
	}
}

func TestExpect(t *testing.T) {
	_, address := start(t, patient(), echo)
	c := dial(t, address)
	c.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if line, err := c.r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := c.r.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.send("xyz")
	if status, body, _ := c.answer("POST"); status != http.StatusOK || body != "POST /a h 3 xyz" {
		t.Fatalf("%d %q", status, body)
	}
	c.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
	if status, _, _ := c.answer("POST"); status != http.StatusRequestEntityTooLarge {
		t.Fatalf("a large body is awaited: %d", status)
	}
	c.cut()
}

// What could be read in two ways, or is too much, reaches no handler, and nothing
// that follows on the connection is taken for a request.
func TestRefused(t *testing.T) {
	const second = "GET /second HTTP/1.1\r\nHost: h\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: h\r\n"
	for name, tc := range map[string]struct {
		request string
		status  int
	}{
		"a length and an encoding":     {post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"an encoding and a length":     {post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
		"a length and identity":        {post + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n", 400},
		"identity":                     {post + "Transfer-Encoding: identity\r\n\r\n", 400},
		"two encodings":                {post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
		"chunked twice":                {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"another encoding":             {post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
		"chunks in HTTP/1.0":           {"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":                  {post + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
		"a list of lengths":            {post + "Content-Length: 0, 0\r\n\r\n", 400},
		"a signed length":              {post + "Content-Length: +0\r\n\r\n", 400},
		"a negative length":            {post + "Content-Length: -1\r\n\r\n", 400},
		"no number":                    {post + "Content-Length: 0x1\r\n\r\n", 400},
		"an endless number":            {post + "Content-Length: 99999999999999999999999\r\n\r\n", 400},
		"no length at all":             {post + "Content-Length:\r\n\r\n", 400},
		"a folded header":              {post + "X-A: b\r\n c\r\n\r\n", 400},
		"a folded length":              {post + "Content-Length:\r\n 0\r\n\r\n", 400},
		"a folded first line":          {"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400},
		"a bare CR":                    {post + "X-A: b\rContent-Length: 5\r\n\r\n", 400},
		"a NUL":                        {post + "X-A: b\x00\r\n\r\n", 400},
		"a space before the colon":     {post + "Content-Length : 0\r\n\r\n", 400},
		"no name":                      {post + ": 0\r\n\r\n", 400},
		"no colon":                     {post + "Content-Length\r\n\r\n", 400},
		"no host":                      {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                    {"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400},
		"another address":              {"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a target without a slash":     {"GET second HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"everything":                   {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a tunnel":                     {"CONNECT other:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a bad escape":                 {"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a tab in the target":          {"GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a space in the target":        {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"no version":                   {"GET /\r\nHost: h\r\n\r\n", 400},
		"HTTP/2":                       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		"a record of TLS":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400},
		"a chunk of no size":           {post + "Transfer-Encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n", 400},
		"a chunk of another size":      {post + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", 400},
		"a chunk of a negative size":   {post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", 400},
		"a chunk of an endless size":   {post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n", 400},
		"a chunk with 0x":              {post + "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", 400},
		"a chunk that ends in LF":      {post + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400},
		"an extension with LF":         {post + "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n", 400},
		"a length behind the chunks":   {post + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 400},
		"too large":                    {post + "Content-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001), 413},
		"too large in chunks":          {post + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n1\r\nx\r\n0\r\n\r\n", 413},
		"a long header":                {post + "X-A: " + strings.Repeat("x", 9000) + "\r\n\r\n", 431},
		"many headers":                 {post + strings.Repeat("X-A: b\r\n", 2000) + "\r\n", 431},
		"a long target":                {"GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
		"much behind the chunks":       {post + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X-A: b\r\n", 2000) + "\r\n", 431},
		"a header that is too long to": {"GET / HTTP/1.1\r\nHost: " + strings.Repeat("x", 9000), 431},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := start(t, patient(), func(_ http.ResponseWriter, r *http.Request) {
				t.Errorf("%s %s reached the handler", r.Method, r.RequestURI)
			})
			c := dial(t, address)
			_, _ = io.WriteString(c, tc.request+second) // it may be cut off while it is sent
			status, body, h := c.answer("POST")
			if status != tc.status || h.Get("Connection") != "close" || body == "" {
				t.Errorf("%d %q %v, expected %d", status, body, h, tc.status)
			}
			if rest := c.cut(); rest != "" {
				t.Errorf("%q followed", rest)
			}
		})
	}
}

// Whatever stands still is cut off in its time.
func TestSlow(t *testing.T) {
	limits := patient()
	limits.HeaderTimeout, limits.BodyTimeout, limits.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	_, address := start(t, limits, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/much" {
			for range 64 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}
	})
	for name, sent := range map[string]string{
		"nothing":   "",
		"headers":   "GET / HTTP/1.1\r\nHost: h\r\nX-A: ",
		"body":      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx",
		"chunk":     "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",
		"extension": "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;",
		"idle":      "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, address)
			c.send(sent)
			status, _, _ := c.answer("GET")
			want := http.StatusRequestTimeout
			switch name {
			case "idle":
				want = http.StatusOK
			case "extension":
				want = http.StatusBadRequest
			}
			if status != want {
				t.Errorf("%d, expected %d", status, want)
			}
			c.cut()
		})
	}
	t.Run("answer", func(t *testing.T) {
		c := dial(t, address)
		c.send("GET /much HTTP/1.1\r\nHost: h\r\n\r\n")
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C { // nothing is read; what is sent comes back as a reset once the other side has closed
			if _, err := io.WriteString(c, "x"); err != nil {
				var late net.Error
				if errors.As(err, &late) && late.Timeout() {
					t.Error("a client that reads nothing is never cut off")
				}
				return
			}
		}
	})
	t.Run("drop by drop", func(t *testing.T) {
		c := dial(t, address)
		ended := make(chan string, 1)
		go func() { ended <- c.cut() }()
		c.send("GET / HTTP/1.1\r\nHost: h\r\nX-A: ")
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = io.WriteString(c, "x") // fails in the end
			case <-ended:
				return
			}
		}
	})
}

func TestPanics(t *testing.T) {
	_, address := start(t, patient(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Told", "half")
		_, _ = io.WriteString(w, "half")
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		panic("mistake")
	})
	for _, path := range []string{"/", "/abort"} {
		c := dial(t, address)
		c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if status, body, h := c.answer("GET"); status != http.StatusInternalServerError || strings.Contains(body, "half") || h.Get("X-Told") != "" {
			t.Errorf("%s: %d %q %v", path, status, body, h)
		}
		c.cut()
	}
}

// held is a handler that waits to be let go.
type held struct {
	began, leave chan struct{}
	ended        chan error // the cause of the end of a request's context
}

func newHeld() *held { return &held{make(chan struct{}), make(chan struct{}), make(chan error, 1)} }

func (h *held) serve(w http.ResponseWriter, r *http.Request) {
	close(h.began)
	select {
	case <-h.leave:
	case <-r.Context().Done():
		h.ended <- context.Cause(r.Context())
	}
	_, _ = io.WriteString(w, "done")
}

func TestShutdownWaits(t *testing.T) {
	h := newHeld()
	s, address := start(t, patient(), h.serve)
	idle := dial(t, address)
	idle.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nx") // its body never comes to its end
	c := dial(t, address)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-h.began
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v while a request was under way", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("it still lets somebody in")
	}
	_ = idle.Close()
	shut := make(chan error, 1)
	go func() { shut <- s.Shutdown(t.Context()) }()
	close(h.leave)
	if status, body, _ := c.answer("GET"); status != http.StatusOK || body != "done" {
		t.Errorf("%d %q", status, body)
	}
	c.cut()
	if err := <-shut; err != nil {
		t.Error(err)
	}
}

func TestCloseCutsOff(t *testing.T) {
	h := newHeld()
	s, address := start(t, patient(), h.serve)
	c := dial(t, address)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-h.began
	cause := errors.New("that is why")
	s.Close(cause)
	if err := <-h.ended; !errors.Is(err, cause) {
		t.Errorf("its context ended with %v", err)
	}
	if rest := c.cut(); rest != "" {
		t.Errorf("it was answered with %q", rest)
	}
}

func TestStoppedBeforeItBegan(t *testing.T) {
	for name, stop := range map[string]func(*leanserver.Server){
		"shutdown": func(s *leanserver.Server) {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"close": func(s *leanserver.Server) { s.Close(nil) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := leanserver.New(http.NotFoundHandler(), patient(), slog.New(slog.DiscardHandler))
		stop(s)
		if err := s.Serve(l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Errorf("%s: its listener is open", name)
		}
		s.Close(nil)
	}
}

// full is a listener that has no room at first.
type full struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (f *full) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	return f.Listener.Accept()
}

// Regression: out of file descriptors once, and nothing is served any more.
func TestNoRoomForAConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	none := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	serve(t, &full{Listener: l, errs: []error{none, none, none}}, patient(), echo)
	c := dial(t, l.Addr().String())
	c.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	if status, _, _ := c.answer("GET"); status != http.StatusOK {
		t.Errorf("%d", status)
	}
}

func TestAListenerThatFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	s := leanserver.New(http.NotFoundHandler(), patient(), slog.New(slog.DiscardHandler))
	if err := s.Serve(&full{Listener: l, errs: []error{broken}}); !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
	s.Close(nil)
}

func TestLeft(t *testing.T) {
	gone := make(chan struct{})
	told := make(chan bool, 2)
	_, address := start(t, patient(), func(_ http.ResponseWriter, r *http.Request) {
		told <- leanserver.Left(r)
		if r.URL.Path == "/gone" {
			<-gone
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(20 * time.Second); !leanserver.Left(r) && time.Now().Before(deadline); <-tick.C {
			}
			told <- leanserver.Left(r)
		}
	})
	c := dial(t, address)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	c.answer("GET")
	if <-told {
		t.Error("a client that waits has left")
	}
	c.send("GET /gone HTTP/1.1\r\nHost: h\r\n\r\n")
	if <-told {
		t.Error("a client that waits has left")
	}
	_ = c.Close()
	close(gone)
	if !<-told {
		t.Error("nobody notices that the client has gone")
	}
}
