package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/opened"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/sim"
	subagent "github.com/vagoth/vagoth/virt/subagent/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take on a busy machine. Nothing is measured
// with it.
const patience = time.Minute

// world is a manager and the agents of simulated hosts.
type world struct {
	*manager.Manager
	*testing.T
	ctx  context.Context
	sims *sim.Driver
}

// newWorld opens a manager with this scheduler.
func newWorld(t *testing.T, scheduler string) *world { return newWorldOf(t, scheduler, sim.Defaults()) }

// newWorldOf is newWorld over hosts of this sort.
func newWorldOf(t *testing.T, scheduler string, cfg sim.Config) *world {
	t.Helper()
	cfg.Shutdown = 50 * time.Millisecond
	sims, err := sim.Open(t.Context(), cfg, virt.DriverDeps{})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[scheduler]\nuse = %s\n[drivers.agents]\nuse = remote\nurl = http://{host}\ntimeout = 5s\n", scheduler)
	ctx, m := opened.Open(t, t.TempDir(), text)
	return &world{Manager: m, T: t, ctx: ctx, sims: sims}
}

// node is an agent that can be stopped and started again where it was.
type node struct {
	w       *world
	name    string
	data    string
	address string
	sub     http.Handler
	stop    func()
	waiting atomic.Int64 // requests that wait for a job now
}

// newNode makes an agent of a simulated host.
func (w *world) newNode(name string) *node {
	w.Helper()
	s := mistify.NewServer(mistify.ServerOptions{})
	subagent.New(w.sims, virt.Host{ID: name}, subagent.Options{}).Register(s)
	n := &node{w: w, name: name, data: w.TempDir(), address: "127.0.0.1:0", sub: s}
	n.start()
	w.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start() {
	n.w.Helper()
	cfg := agent.Defaults()
	cfg.StopGrace, cfg.InfoTimeout = time.Second, 2*time.Second
	cfg.Services = map[string]agent.ServiceConfig{"sim": {MaxPending: 16}}
	cfg.Actions = map[string]agent.ActionConfig{}
	for _, s := range subagent.Stages() {
		cfg.Actions[s.Action] = agent.ActionConfig{Stages: []agent.Stage{{Service: "sim", Method: s.Method, Idempotent: s.Idempotent}}}
	}
	a, err := agent.Open(n.w.ctx, cfg, agent.Deps{Data: n.data, Log: slog.New(slog.DiscardHandler), Local: map[string]http.Handler{"sim": n.sub}})
	if err != nil {
		n.w.Fatal(err)
	}
	ln, err := net.Listen("tcp", n.address)
	if err != nil {
		n.w.Fatal(err)
	}
	n.address = ln.Addr().String()
	h := a.Handler()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/jobs/") {
			n.waiting.Add(1)
			defer n.waiting.Add(-1)
		}
		h.ServeHTTP(w, r)
	})}
	served, ran := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- server.Serve(ln) }()
	go func() { ran <- a.Run(ctx) }()
	n.stop = func() {
		n.stop = func() {}
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			n.w.Error(err)
		}
		cancel()
		if err := <-ran; err != nil {
			n.w.Error(err)
		}
		if err := a.Close(); err != nil {
			n.w.Error(err)
		}
	}
}

// add registers the host of an agent and polls it.
func (w *world) add(n *node) {
	w.Helper()
	w.create(n.name, virt.TypeHypervisor, virt.HostDefinition{Driver: "agents", Address: n.address})
	if r := w.poll(n.name); r.Hosts[0].State != virt.Up {
		w.Fatalf("%s is %s after its first poll: %s", n.name, r.Hosts[0].State, r.Hosts[0].Error)
	}
}

func (w *world) create(id, kind string, definition any) {
	w.Helper()
	doc, err := registry.NewDocument(definition)
	if err == nil {
		_, err = w.Provisioner.Provision(w.ctx, provisioner.Spec{ID: id, Type: kind, Definition: doc})
	}
	w.must("create "+id, err)
}

// vm creates a VM's node.
func (w *world) vm(id string, disks ...virt.Disk) *virt.VirtualMachine {
	w.Helper()
	w.create(id, virt.TypeVM, virt.Definition{CPU: 2, Memory: 512, Disks: disks})
	vm, err := virt.VM(w.ctx, w.Manager, id)
	w.must("find "+id, err)
	return vm
}

// done waits for a job.
func (w *world) done(job scheduler.Status, err error) error {
	if err == nil {
		_, err = virt.Wait(w.ctx, w.Manager, job)
	}
	return err
}

func (w *world) must(what string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

func (w *world) poll(hosts ...string) monitor.Report {
	w.Helper()
	r, err := w.Monitor.Poll(w.ctx, hosts...)
	w.must("poll", err)
	return r
}

func (w *world) node(id string) *registry.Node {
	w.Helper()
	n, err := registry.Get(w.ctx, w.Registry, id)
	w.must("read "+id, err)
	return n
}

// state checks what a VM is to the registry and on the host.
func (w *world) state(vm *virt.VirtualMachine, want virt.State) {
	w.Helper()
	info, err := vm.Info(w.ctx)
	if err != nil || info.State != want {
		w.Fatalf("%s is %s on its host (%v), want %s", vm.ID(), info.State, err, want)
	}
}
