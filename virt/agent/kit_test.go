package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt/mistify"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// sub is a sub-agent whose answers a test can change.
type sub struct {
	*mistify.Server
	mu     sync.Mutex
	guest  func(ctx context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error)
	status func(r *mistify.StatusRequest) (*mistify.StatusResponse, error)
	image  func(method string, r *mistify.ImageRequest) (*mistify.ImageResponse, error)
	taken  func(r *mistify.ImageRequest, in io.Reader) error
	snap   func(method string, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	calls  []string // METHOD ID
	quiet  bool     // they are not noted

	consoles int // that are attached
	refusal  error
}

func newSub() *sub {
	s := &sub{Server: mistify.NewServer(mistify.ServerOptions{})}
	for _, a := range mistify.Actions() {
		name := "Test." + strings.ToUpper(a.Name[:1]) + a.Name[1:]
		switch a.On {
		case mistify.OnGuest:
			s.addGuest(name)
		case mistify.OnMetrics:
			mistify.Register(s.Server, name, func(_ context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
				s.called(name, r.Guest.ID)
				return &mistify.GuestMetricsResponse{
					Guest: r.Guest, Type: r.Type, CPU: []mistify.CPUMetrics{{CPUTime: 1, VCPUTime: 2}},
					Disk: map[string]mistify.DiskMetrics{"vda": {Disk: "vda", ReadOps: 3}}, NIC: map[string]mistify.NICMetrics{"net0": {Name: "net0", RxBytes: 4}},
				}, nil
			})
		case mistify.OnImage:
			if a.Type == mistify.Upload {
				mistify.RegisterUpload(s.Server, name, func(_ context.Context, r *mistify.ImageRequest, in io.ReadCloser) (*mistify.ImageResponse, error) {
					s.called(name, r.ID)
					return s.take(r, in)
				})
				continue
			}
			mistify.Register(s.Server, name, func(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
				s.called(name, r.ID)
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.image != nil {
					return s.image(name, r)
				}
				kind := ""
				if strings.Contains(name, "Container") {
					kind = mistify.TypeContainer
				}
				id := r.ID
				if id == "" {
					id = "img" + kind
				}
				return &mistify.ImageResponse{Images: []mistify.Image{{ID: id, Type: kind, Size: 1024, Status: "complete"}}}, nil
			})
		case mistify.OnSave:
			mistify.Register(s.Server, name, func(_ context.Context, r *mistify.SaveRequest) (*mistify.ImageResponse, error) {
				s.called(name, r.ID+" "+r.Dest+" "+r.Job)
				return &mistify.ImageResponse{Images: []mistify.Image{{ID: r.Dest, Type: mistify.TypeContainer, Size: 1, Status: "complete"}}}, nil
			})
		case mistify.OnSnapshot:
			if a.Type == mistify.Stream {
				continue
			}
			mistify.Register(s.Server, name, func(_ context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
				s.called(name, r.ID)
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.snap != nil {
					return s.snap(name, r)
				}
				return &mistify.SnapshotResponse{Snapshots: []mistify.Snapshot{{ID: "mistify/" + r.ID, Size: 1024}}}, nil
			})
		case mistify.OnConsole:
			if a.Type == mistify.Stream {
				typed := mistify.ActionTypeConsole
				if a.Container {
					typed = mistify.ActionFor(mistify.TypeContainer, typed)
				}
				mistify.RegisterConsole(s.Server, name, "Test."+strings.ToUpper(typed[:1])+typed[1:], func(ctx context.Context, r *mistify.ConsoleRequest) (io.ReadWriteCloser, error) {
					s.called(name, r.Guest.ID)
					return s.attach(ctx, r)
				})
			}
		case mistify.OnHost:
			mistify.Register(s.Server, name, func(_ context.Context, r *mistify.StatusRequest) (*mistify.StatusResponse, error) {
				s.called(name, r.ID)
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.status != nil {
					return s.status(r)
				}
				return &mistify.StatusResponse{Complete: true}, nil
			})
		}
	}
	return s
}

func (s *sub) addGuest(name string) {
	mistify.Register(s.Server, name, func(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		s.called(name, r.Guest.ID)
		s.mu.Lock()
		do := s.guest
		s.mu.Unlock()
		if do != nil {
			return do(ctx, name, r)
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	})
}

// take answers what it was sent as an image, whose volume it is.
func (s *sub) take(r *mistify.ImageRequest, in io.Reader) (*mistify.ImageResponse, error) {
	s.mu.Lock()
	do := s.taken
	s.mu.Unlock()
	if do != nil {
		return nil, do(r, in)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	return &mistify.ImageResponse{Images: []mistify.Image{{ID: r.ID, Volume: string(data), Size: r.Size, Snapshot: r.SHA256, Status: "complete"}}}, nil
}

func (s *sub) called(method, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.quiet {
		s.calls = append(s.calls, method+" "+id)
	}
}

func (s *sub) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

func (s *sub) set(f func(s *sub)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *sub) onGuest(do func(ctx context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error)) {
	s.set(func(s *sub) { s.guest = do })
}

// testConfig has one stage for every action, of the service "test", and a
// stream of "download".
func testConfig() Config {
	cfg := Defaults()
	cfg.StopGrace = 2 * time.Second
	cfg.InfoTimeout, cfg.AsyncTimeout, cfg.StreamStall = 2*time.Second, 5*time.Second, 2*time.Second
	cfg.Services = map[string]ServiceConfig{"test": {MaxPending: 64}, "download": {Path: "/snapshots/download"}}
	cfg.Actions = map[string]ActionConfig{}
	for _, a := range mistify.Actions() {
		service := "test"
		if a.Type == mistify.Stream && a.On == mistify.OnSnapshot {
			service = "download"
		}
		cfg.Actions[a.Name] = ActionConfig{Stages: []Stage{{Service: service, Method: "Test." + strings.ToUpper(a.Name[:1]) + a.Name[1:]}}}
	}
	return cfg
}

// host is an agent that runs, and its sub-agent, over TCP.
type host struct {
	t      testing.TB
	sub    *sub
	agent  *Agent
	server *httptest.Server
	client *mistify.Client
	http   *http.Client
	stop   func() // ends Run and closes; once more does nothing
	log    *bytes.Buffer
}

type hostOptions struct {
	cfg  *Config
	deps Deps
	sub  *sub
	data string
	idle bool // Run is not called
	subs map[string]http.Handler
}

func portOf(t testing.TB, url string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func newHost(t testing.TB, o hostOptions) *host {
	t.Helper()
	h := &host{t: t, sub: o.sub, log: &bytes.Buffer{}}
	if h.sub == nil {
		h.sub = newSub()
	}
	cfg := testConfig()
	if o.cfg != nil {
		cfg = *o.cfg
	}
	serve := func(name string, handler http.Handler) {
		s := httptest.NewServer(handler)
		t.Cleanup(s.Close)
		c := cfg.Services[name]
		c.Port = portOf(t, s.URL)
		cfg.Services[name] = c
	}
	for name, c := range cfg.Services {
		switch {
		case c.Port != 0 || c.Socket != "" || o.deps.Local[name] != nil:
		case o.subs[name] != nil:
			serve(name, o.subs[name])
		case name == "download":
			serve(name, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "foobar") }))
		default:
			serve(name, h.sub)
		}
	}
	if o.data == "" {
		o.data = t.TempDir()
	}
	o.deps.Data = o.data
	if o.deps.Log == nil {
		o.deps.Log = slog.New(slog.NewTextHandler(&locked{w: h.log}, nil))
	}
	a, err := Open(context.Background(), cfg, o.deps)
	if err != nil {
		t.Fatal(err)
	}
	h.agent = a
	h.server = httptest.NewServer(a.Handler())
	h.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	if h.client, err = mistify.NewClient(h.server.URL, mistify.ClientOptions{Transport: h.http.Transport}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if !o.idle {
		go func() { ended <- a.Run(ctx) }()
		h.until("the agent runs", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.run != nil })
	} else {
		ended <- nil
	}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		h.http.CloseIdleConnections()
		h.server.Close()
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// until polls for a condition.
func (h *host) until(what string, is func() bool) {
	h.t.Helper()
	until(h.t, what, is)
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it took too long until %s", what)
		}
	}
}

// answer is what a request was answered.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) job() string { return a.header.Get(mistify.HeaderJob) }

// do sends a request with headers as NAME, VALUE, and so on.
func (h *host) do(method, path, body string, headers ...string) answer {
	h.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, h.server.URL+path, r)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := h.http.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// want is do, and fails unless the status is this.
func (h *host) want(status int, method, path, body string, headers ...string) answer {
	h.t.Helper()
	a := h.do(method, path, body, headers...)
	if a.status != status {
		h.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

// ended waits for a job's end.
func (h *host) ended(id string) mistify.Job {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	j, err := h.client.WaitJob(ctx, id)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// create makes a guest and waits until it is there.
func (h *host) create(id string) {
	h.t.Helper()
	a := h.want(202, "POST", "/guests", `{"id":"`+id+`","type":"vm","memory":512,"cpu":1,"metadata":{"a":"1"}}`)
	if j := h.ended(a.job()); j.Status != mistify.JobComplete {
		h.t.Fatalf("create: %+v", j)
	}
}

// uuid is the n-th id of the tests.
func uuidOf(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
