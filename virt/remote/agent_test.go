package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/syncbuf"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

// real is an agent that runs, over TCP, with a sub-agent of a simulated host
// over TCP.
type real struct {
	*httptest.Server
	sub *sim.Agent
	log *syncbuf.Buffer
}

// agentConfig sends every action to the service "sim".
func agentConfig(port int) agent.Config {
	cfg := agent.Defaults()
	cfg.StopGrace = time.Second
	cfg.Services = map[string]agent.ServiceConfig{
		"sim": {Port: port, MaxPending: 64}, "downloads": {Port: port, Path: sim.DownloadPath},
	}
	cfg.Actions = map[string]agent.ActionConfig{}
	for _, s := range sim.Stages() {
		service := "sim"
		if s.Action == "downloadSnapshot" {
			service = "downloads"
		}
		cfg.Actions[s.Action] = agent.ActionConfig{Stages: []agent.Stage{{Service: service, Method: s.Method, Idempotent: s.Idempotent}}}
	}
	return cfg
}

// serve runs the sub-agent of a host and returns its port.
func serve(t testing.TB, sub *sim.Agent) int {
	t.Helper()
	s := mistify.NewServer(mistify.ServerOptions{Grace: 100 * time.Millisecond})
	sub.Register(s)
	ln, err := mistify.Listen(mistify.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().(*net.TCPAddr).Port
}

// newReal runs an agent of the simulated host with the name.
func newReal(t testing.TB, d *host.Driver, name string, change func(*agent.Config), wrap func(http.Handler) http.Handler) *real {
	t.Helper()
	r := &real{sub: sim.New(d, virt.Host{ID: name}, sim.Options{}), log: new(syncbuf.Buffer)}
	cfg := agentConfig(serve(t, r.sub))
	if change != nil {
		change(&cfg)
	}
	a, err := agent.Open(t.Context(), cfg, agent.Deps{Data: t.TempDir(), Version: "1.2.3", Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	h := a.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	r.Server = httptest.NewServer(h)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestConformance runs the suite through the agent and its sub-agent.
func TestConformance(t *testing.T) {
	var n atomic.Int64
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		d := simulated(t)
		var hosts []virt.Host
		for _, h := range []string{"h1", "h2"} {
			hosts = append(hosts, virt.Host{ID: "agent-" + h, Address: newReal(t, d, h, nil, nil).URL})
		}
		return drivertest.Fixture{
			Driver: open(t, nil), Hosts: hosts, Settle: 2 * time.Second,
			Guest:     func(*testing.T) virt.Guest { return vm(fmt.Sprintf("g%d", n.Add(1))) },
			Container: func(*testing.T) virt.Guest { return ct(fmt.Sprintf("c%d", n.Add(1))) },
			Image: func(*testing.T) virt.ImageRequest {
				id := fmt.Sprintf("image%d", n.Add(1))
				return virt.ImageRequest{ID: id, Source: "http://127.0.0.1/" + id, Size: 1 << 20}
			},
			Hung: func(t *testing.T) virt.Host {
				hung := newReal(t, d, "hung", nil, nil)
				d.Hang("hung")
				t.Cleanup(func() { d.Heal("hung") })
				return virt.Host{ID: "hung", Address: hung.URL}
			},
			Disks:   disksOf(d, func(h virt.Host) string { return strings.TrimPrefix(h.ID, "agent-") }, &n),
			Console: &drivertest.Console{Type: "hello", Says: "login: hello"},
		}
	})
}

// A copy whose disks cannot be made leaves images, which go with what else it left.
func TestCopyLeavesNoImages(t *testing.T) {
	d := simulated(t)
	var refuse atomic.Bool
	refuse.Store(true)
	one := newReal(t, d, "h1", nil, nil)
	two := newReal(t, d, "h2", nil, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refuse.Load() && strings.HasSuffix(r.URL.Path, "/provision") {
				http.Error(w, `{"message":"it is broken","code":409,"kind":"conflict"}`, http.StatusConflict)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	from, to := virt.Host{ID: "agent-h1", Address: one.URL}, virt.Host{ID: "agent-h2", Address: two.URL}
	driver, g := open(t, nil), vm("web1")
	for _, err := range []error{driver.Define(t.Context(), from, g), driver.Provision(t.Context(), from, g)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := driver.CopyDisks(t.Context(), from, to, g, func(int64) {}); !errors.Is(err, virt.ErrConflict) {
		t.Fatalf("the copy: %v", err)
	}
	left := func() []virt.Image {
		list, err := driver.Images(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if len(left()) != len(g.Definition.Disks) {
		t.Fatalf("the images are %+v, one of each disk was to be sent", left())
	}
	if err := driver.TidyDisks(t.Context(), from, to, g); err != nil || len(left()) != 0 {
		t.Errorf("tidied, the images are %+v (%v)", left(), err)
	}
	refuse.Store(false)
	if err := driver.CopyDisks(t.Context(), from, to, g, func(int64) {}); err != nil || len(left()) != 0 {
		t.Errorf("copied, the images are %+v (%v)", left(), err)
	}
}
