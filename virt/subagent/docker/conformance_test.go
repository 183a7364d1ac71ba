package docker_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/remote"
	"github.com/vagoth/vagoth/virt/subagent/docker"
)

// newAgent runs an agent with the sub-agent, and returns its URL.
func (b *bench) newAgent() string {
	b.Helper()
	s := mistify.NewServer(mistify.ServerOptions{Grace: 100 * time.Millisecond})
	b.d.Register(s)
	cfg := agent.Defaults()
	cfg.StopGrace = time.Second
	cfg.Services = map[string]agent.ServiceConfig{"docker": {MaxPending: 64}}
	cfg.Actions = map[string]agent.ActionConfig{}
	for _, s := range docker.Stages() {
		a := cfg.Actions[s.Action]
		a.Stages = append(a.Stages, agent.Stage{Service: "docker", Method: s.Method, Idempotent: s.Idempotent, Undo: s.Undo})
		cfg.Actions[s.Action] = a
	}
	a, err := agent.Open(b.Context(), cfg, agent.Deps{Data: filepath.Join(b.o.Dir, "agent"), Local: map[string]http.Handler{"docker": s}})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(a.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := a.Close(); err != nil {
			b.Error(err)
		}
	})
	return server.URL
}

// able is what containers can do: there are no snapshots of them.
type able struct {
	virt.Driver
	virt.Suspender
	virt.Measurer
	virt.Meter
	virt.Imager
	virt.Saver
	virt.Consoler
}

// fixture is a driver over an agent over the sub-agent over a dockerd.
func (b *bench) fixture(image, says, url string, hung func(t *testing.T) virt.Host) drivertest.Fixture {
	b.Helper()
	d, err := remote.Open(b.Context(), remote.Defaults(), virt.DriverDeps{Name: "agents"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	})
	var n atomic.Int64
	container := func(*testing.T) virt.Guest {
		id := uuid.NewString()
		g := virt.Guest{ID: id, UUID: id, Name: "c-" + id[:13], Definition: virt.Definition{Type: mistify.TypeContainer, CPU: 1, Memory: 16, Image: image, Console: virt.Console{Terminal: true}}}
		g.Definition = virt.Filled(id, g.Definition)
		return g
	}
	return drivertest.Fixture{
		Driver: able{d, d, d, d, d, d, d}, Hosts: []virt.Host{{ID: "h1", Address: b.newAgent()}}, Settle: 20 * time.Second, Timeout: time.Minute, Grace: 10 * time.Second, Hung: hung,
		Guest: container, Container: container, Console: &drivertest.Console{Type: "echo hel''lo\n", Says: says},
		Image: func(*testing.T) virt.ImageRequest {
			return virt.ImageRequest{ID: fmt.Sprintf("fetched/image-%d", n.Add(1)), Type: mistify.TypeContainer, Source: fmt.Sprintf("%s/image.tar?%d", url, n.Load())}
		},
		Change: func(g virt.Guest) virt.Guest {
			g.Definition.Memory *= 2
			return g
		},
	}
}

// Containers are what any driver's guests are, over an agent; at full length also on
// a real dockerd. It is not parallel: a test that starts programs meanwhile lends them
// the locks of the agents' stores for a moment.
func TestConformance(t *testing.T) {
	url := web(t, map[string][]byte{"image.tar": pack(t, goodParts()...)})
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		b := newBench(t, newFake(t).socket, nil)
		return b.fixture("base", "/ # echo hel''lo", url, func(t *testing.T) virt.Host {
			f := newFake(t)
			f.put(func() {
				f.before = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
			})
			return virt.Host{ID: "hung", Address: newBench(t, f.socket, nil).newAgent()}
		})
	})
	if !testlong.Long() {
		return
	}
	t.Run("Real", func(t *testing.T) {
		k := testbed.NewDocker(t)
		url := web(t, map[string][]byte{"image.tar": k.Ask(t, http.MethodGet, "/images/"+testbed.Busybox+"/get", nil)})
		drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
			// Its program reads nothing: what comes back is the echo of its terminal.
			f := newBench(t, k.Socket(), func(o *docker.Options) { o.Grace = time.Second }).fixture(testbed.Busybox, "echo hel''lo", url, nil)
			f.NoShutdown = true // a shell that has just begun does not hear it; TestReal asks again
			return f
		})
	})
}
