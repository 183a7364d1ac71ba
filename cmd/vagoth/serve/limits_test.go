package serve_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

const impatient = small + "[serve]\nheader_timeout = 200ms\nbody_timeout = 200ms\nidle_timeout = 300ms\nmax_connections = 3\n"

func dial(t *testing.T, s *served) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// trickle sends a byte every 20 ms until the connection is cut, and says how
// long that took.
func trickle(t *testing.T, c net.Conn, b byte) time.Duration {
	t.Helper()
	began := time.Now()
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		_, _ = io.Copy(io.Discard, c)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < 10*time.Second {
		select {
		case <-cut:
			return time.Since(began)
		case <-tick.C:
			_, _ = c.Write([]byte{b})
		}
	}
	t.Fatal("it was never cut off")
	return 0
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	s := start(t, tempDir(t), impatient)
	for name, head := range map[string]string{
		"headers": "GET /v1/version HTTP/1.1\r\nHost: vagoth\r\nX-Long: ",
		"body":    "POST /v1/nodes HTTP/1.1\r\nHost: vagoth\r\nContent-Length: 100000\r\n\r\n{\"id\":\"",
		"nothing": "",
	} {
		c := dial(t, s)
		send(t, c, head)
		took := time.Duration(0)
		if head == "" {
			began := time.Now()
			_, _ = io.Copy(io.Discard, c)
			took = time.Since(began)
		} else {
			took = trickle(t, c, 'x')
		}
		if took < 150*time.Millisecond || took > 5*time.Second {
			t.Errorf("%s: cut off after %s", name, took)
		}
	}
	// A connection that stays idle between two requests.
	c := dial(t, s)
	send(t, c, "GET /v1/version HTTP/1.1\r\nHost: vagoth\r\n\r\n")
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", answer, err)
	}
	_ = answer.Body.Close()
	began := time.Now()
	_, _ = io.Copy(io.Discard, c)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an idle connection was open for %s", took)
	}
}

func TestOversizedRequests(t *testing.T) {
	s := start(t, tempDir(t), small)
	answer, err := s.http.Post("http://vagoth/v1/nodes", "application/json", strings.NewReader(`{"id":"`+strings.Repeat("x", 2<<20)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB of JSON: %s", answer.Status)
	}
	c := dial(t, s)
	_, _ = io.WriteString(c, "GET /v1/version HTTP/1.1\r\nHost: vagoth\r\nX-Long: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
	answer, err = http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("100 KiB of headers: %s", answer.Status)
	}
}

// Connections are bounded; one too many is told so, and there is room again when
// another has ended.
func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, tempDir(t), strings.Replace(impatient, "idle_timeout = 300ms", "idle_timeout = 1m", 1))
	ask := func(c net.Conn) (int, string) {
		t.Helper()
		_, _ = io.WriteString(c, "GET /v1/version HTTP/1.1\r\nHost: vagoth\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode == http.StatusTooManyRequests && (answer.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"code":"overloaded"`)) {
			t.Errorf("refused with %v %s", answer.Header, body)
		}
		return answer.StatusCode, string(body)
	}
	var open []net.Conn
	for range 3 {
		c := dial(t, s)
		if code, body := ask(c); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		open = append(open, c)
	}
	for range 30 { // none of these takes a place for good
		c := dial(t, s)
		if code, body := ask(c); code != http.StatusTooManyRequests {
			t.Fatalf("one too many: %d %s", code, body)
		}
		_ = c.Close()
	}
	if code, _ := ask(open[1]); code != http.StatusOK {
		t.Errorf("one that is open: %d", code)
	}
	if err := open[0].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		code, _ := ask(dial(t, s))
		return code == http.StatusOK
	})
}

// What is served for the scheduler has the same bounds, and is never reachable
// from elsewhere. Long answers are no slow requests: only a client that does not
// read is cut off.
func TestSchedulersListeners(t *testing.T) {
	w := newWork()
	released := make(chan string, 1)
	flooded := make(chan struct{})
	w.listeners = []scheduler.Listener{{Name: "own", Address: freeAddress(t), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait": // four times as long as a body may take
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
				released <- context.Cause(r.Context()).Error()
			case <-time.After(800 * time.Millisecond):
				released <- ""
			}
		case "/stream":
			for range 8 {
				_, _ = io.WriteString(rw, "tick\n")
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(100 * time.Millisecond)
			}
		case "/flood":
			for block := make([]byte, 1<<20); ; {
				if _, err := rw.Write(block); err != nil {
					close(flooded)
					return
				}
			}
		}
	})}}
	s, o := prepared(t, tempDir(t), impatient, w.menu())
	s.run(o)
	url := "http://" + w.listeners[0].Address
	answer, err := http.Post(url+"/wait", "text/plain", strings.NewReader("a body"))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if why := <-released; why != "" {
		t.Errorf("a request that waits was given up: %s", why)
	}
	if answer, err = http.Get(url + "/stream"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || strings.Count(string(all), "tick") != 8 {
		t.Errorf("the stream brought %q, %v", all, err)
	}
	c, err := net.Dial("tcp", w.listeners[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	send(t, c, "GET /flood HTTP/1.1\r\nHost: own\r\n\r\n")
	select {
	case <-flooded:
	case <-time.After(20 * time.Second):
		t.Error("a client that reads nothing is never cut off")
	}
	http.DefaultClient.CloseIdleConnections()

	w = newWork()
	w.listeners = []scheduler.Listener{{Name: "own", Address: "0.0.0.0:0", Handler: http.NotFoundHandler()}}
	_, o = prepared(t, tempDir(t), small, w.menu())
	if err := runFails(t, o); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("an open address: %v", err)
	}
}

// freeAddress is one of the loopback at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// What is small is bounded as well: slow requests are cut off, one connection too
// many is told so, and what is under way when the daemon stops is answered.
func TestSchedulersSmallListeners(t *testing.T) {
	w := newWork()
	began, leave := make(chan struct{}), make(chan struct{})
	w.listeners = []scheduler.Listener{{Name: "own", Address: freeAddress(t), Small: true, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(began)
			<-leave
		}
		_, _ = io.WriteString(rw, "done")
	})}}
	s, o := prepared(t, tempDir(t), strings.Replace(impatient, "idle_timeout = 300ms", "idle_timeout = 1m", 1), w.menu())
	s.run(o)
	connect := func() net.Conn {
		c, err := net.Dial("tcp", w.listeners[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	status := func(c net.Conn) int {
		t.Helper()
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for _, slow := range []string{"GET / HTTP/1.1\r\nHost: own\r\nX-Long: ", "POST / HTTP/1.1\r\nHost: own\r\nContent-Length: 9\r\n\r\nx"} {
		c := connect()
		send(t, c, slow)
		if got := status(c); got != http.StatusRequestTimeout {
			t.Errorf("a slow request: %d", got)
		}
	}
	// The places of those that were cut off are free a moment after they have been told.
	var open []net.Conn
	patience := time.After(20 * time.Second)
	for len(open) < 3 {
		c := connect()
		send(t, c, "GET / HTTP/1.1\r\nHost: own\r\n\r\n")
		switch got := status(c); got {
		case http.StatusOK:
			open = append(open, c)
			continue
		case http.StatusTooManyRequests:
		default:
			t.Fatalf("%d", got)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-patience:
			t.Fatalf("there is no place beside %d connections", len(open))
		}
	}
	if got := status(connect()); got != http.StatusTooManyRequests {
		t.Errorf("one connection too many: %d", got)
	}
	send(t, open[0], "GET /wait HTTP/1.1\r\nHost: own\r\n\r\n")
	<-began
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	s.waitFor("stopping")
	close(leave)
	if got := status(open[0]); got != http.StatusOK {
		t.Errorf("what was under way when it stopped: %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
