package mistify

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ask sends a request to a server of example without a client.
func ask(s *Server, change func(*http.Request), body string) (int, string, http.Header) {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9999"+RPCPath, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// What is on the wire is what gorilla/rpc writes and reads.
func TestServerWire(t *testing.T) {
	s := NewServer(ServerOptions{MaxBody: 1000})
	Register(s, "Test.Echo", func(_ context.Context, r *GuestRequest) (*GuestResponse, error) {
		if r.Action == "fail" {
			return nil, errors.New("it \"failed\"")
		}
		return &GuestResponse{Message: r.Action}, nil
	})
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, x := range []struct {
		name   string
		change func(*http.Request)
		body   string
		status int
		want   string
	}{
		{"as gorilla sends it", nil, `{"method":"Test.Echo","params":[{"guest":null,"action":"a"}],"id":5577006791947779410}`, 200, `{"result":{"guest":null,"message":"a"},"error":null,"id":5577006791947779410}` + "\n"},
		{"an id that is a text", nil, `{"method":"Test.Echo","params":[{"action":"a"}],"id":"x"}`, 200, `{"result":{"guest":null,"message":"a"},"error":null,"id":"x"}` + "\n"},
		{"no id", nil, `{"method":"Test.Echo","params":[{}]}`, 200, `{"result":{"guest":null},"error":null,"id":null}` + "\n"},
		{"params without a list", nil, `{"method":"Test.Echo","params":{"action":"a"},"id":1}`, 200, `{"result":{"guest":null,"message":"a"},"error":null,"id":1}` + "\n"},
		{"an error", nil, `{"method":"Test.Echo","params":[{"action":"fail"}],"id":1}`, 200, `{"result":null,"error":"it \"failed\"","id":1}` + "\n"},
		{"members nobody knows", nil, `{"method":"Test.Echo","params":[{"action":"a","zone":1}],"id":1,"jsonrpc":"1.0"}`, 200, `{"result":{"guest":null,"message":"a"},"error":null,"id":1}` + "\n"},
		{"charset", header("Content-Type", "application/json; charset=utf-8"), `{"method":"Test.Echo","params":[{}]}`, 200, "result"},
		{"no params", nil, `{"method":"Test.Echo","id":1}`, 400, "it has no params"},
		{"two params", nil, `{"method":"Test.Echo","params":[{},{}],"id":1}`, 400, "a list of one object"},
		{"a null", nil, `{"method":"Test.Echo","params":[null],"id":1}`, 400, "a list of one object"},
		{"params of another kind", nil, `{"method":"Test.Echo","params":[{"guest":7}],"id":1}`, 400, "guest cannot be a number"},
		{"no method", nil, `{"params":[{}],"id":1}`, 400, `there is no method ""`},
		{"an unknown method", nil, `{"method":"Test.echo","params":[{}],"id":1}`, 400, `there is no method "Test.echo"`},
		{"an id that is no JSON", nil, `{"method":"Test.Echo","params":[{}],"id":x}`, 400, "the request is not JSON-RPC"},
		{"no JSON", nil, `hello`, 400, "the request is not JSON-RPC"},
		{"too long", nil, strings.Repeat(" ", 1001), 413, "longer than 1000 bytes"},
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, ``, 405, "POST"},
		{"another path", func(r *http.Request) { r.URL.Path = "/" }, ``, 404, RPCPath},
		{"a form", header("Content-Type", "text/plain"), `{}`, 415, "application/json"},
		{"a page in a browser", header("Origin", "http://evil.example"), `{}`, 403, "browser"},
		{"a name that was bound again", func(r *http.Request) { r.Host = "evil.example:9999" }, `{}`, 403, "loopback"},
		{"localhost", func(r *http.Request) { r.Host = "localhost:9999" }, `{"method":"Test.Echo","params":[{}]}`, 200, "result"},
		{"a bad token", header(HeaderToken, "seven"), `{"method":"Test.Echo","params":[{}]}`, 400, "EPOCH.NUMBER"},
		{"a bad reason", header(HeaderReason, "%zz"), `{"method":"Test.Echo","params":[{}]}`, 400, HeaderReason},
		{"two lines in a reason", header(HeaderReason, "a%0Ab"), `{"method":"Test.Echo","params":[{}]}`, 400, "control characters"},
		{"a reason twice", func(r *http.Request) { r.Header[HeaderReason] = []string{"a", "b"} }, `{"method":"Test.Echo","params":[{}]}`, 400, "stands twice"},
	} {
		t.Run(x.name, func(t *testing.T) {
			status, body, h := ask(s, x.change, x.body)
			if status != x.status || !strings.Contains(body, x.want) || x.want[0] == '{' && body != x.want {
				t.Errorf("%d %q, want %d %q", status, body, x.status, x.want)
			}
			if kind := h.Get("Content-Type"); (status == 200) != (kind == "application/json; charset=utf-8") {
				t.Errorf("content type %q", kind)
			}
		})
	}
}

// A server that is set up wrongly says all that is wrong and serves nothing.
func TestServerRefusesToServe(t *testing.T) {
	s := NewServer(ServerOptions{})
	fn := func(context.Context, *GuestRequest) (*GuestResponse, error) { return &GuestResponse{}, nil }
	down := func(context.Context, *SnapshotRequest) (*Download, error) { return nil, errors.New("no") }
	Register(s, "Test.A", fn)
	Register(s, "Test.A", fn)
	Register(s, "NoDot", fn)
	RegisterStream(s, "Test.D", RPCPath, down)
	RegisterStream(s, "Test.E", "relative", down)
	ln, err := Listen(Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Serve(context.Background(), ln)
	for _, want := range []string{"Test.A is registered twice", `"NoDot"`, RPCPath + " is taken", `"relative"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("it listens all the same")
	}
}

// Serve lets a call end that is under way, and cuts off one that takes too long.
func TestServerEnds(t *testing.T) {
	for _, x := range []struct {
		name    string
		grace   time.Duration
		release bool
	}{{"in time", time.Minute, true}, {"too late", time.Millisecond, false}} {
		t.Run(x.name, func(t *testing.T) {
			s := NewServer(ServerOptions{Grace: x.grace})
			begun, release := make(chan struct{}), make(chan struct{})
			Register(s, "Test.Wait", func(ctx context.Context, _ *GuestRequest) (*GuestResponse, error) {
				close(begun)
				select {
				case <-release:
					return &GuestResponse{}, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
			ln, err := Listen(Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			c := newRPC(t, Endpoint{Port: ln.Addr().(*net.TCPAddr).Port}, RPCOptions{})
			called := make(chan error, 1)
			go func() { called <- c.Call(within(t, 20*time.Second), "Test.Wait", &GuestRequest{}, &GuestResponse{}) }()
			<-begun
			cancel()
			if x.release {
				waitFor(t, func() bool { // until it takes no more calls
					conn, err := net.Dial("tcp", ln.Addr().String())
					if err == nil {
						_ = conn.Close()
					}
					return err != nil
				})
				close(release)
			}
			if err := <-called; x.release != (err == nil) {
				t.Errorf("the call: %v", err)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestServerIsFull(t *testing.T) {
	s := NewServer(ServerOptions{MaxCalls: 1})
	s.calls <- struct{}{}
	status, body, h := ask(s, nil, `{}`)
	if status != http.StatusServiceUnavailable || h.Get(HeaderError) != string(KindTooMany) || !strings.Contains(body, "1 calls are under way") {
		t.Errorf("%d %s %s", status, body, h)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ln, err := Listen(Endpoint{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	if _, err := Listen(Endpoint{Socket: socket}); err == nil || !strings.Contains(err.Error(), "somebody listens there already") {
		t.Errorf("a socket that is in use: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	again, err := Listen(Endpoint{Socket: socket})
	if err != nil {
		t.Fatalf("a socket that was left behind: %v", err)
	}
	_ = again.Close()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Endpoint{Socket: file}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file is now %q, %v", data, err)
	}
	if _, err := Listen(Endpoint{Port: -1}); err == nil {
		t.Error("port -1 is listened on")
	}
}

// A client that sends its request a byte at a time does not keep its place for
// ever, and one that sends half of it costs nothing.
func TestServerHalfRequest(t *testing.T) {
	e := serve(t, example(), Endpoint{})
	conn, err := net.Dial("tcp", e.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "POST "+RPCPath+" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	_ = conn.Close()
	if !strings.Contains(string(answer), "413") && !strings.Contains(string(answer), "400") {
		t.Errorf("half a request is answered %q", answer)
	}
	if err := newRPC(t, e, RPCOptions{}).Call(within(t, 10*time.Second), "Test.Echo", &GuestRequest{}, &GuestResponse{}); err != nil {
		t.Error(err)
	}
}
