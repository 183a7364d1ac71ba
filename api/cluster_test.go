package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/fixed"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	schedsync "github.com/vagoth/vagoth/scheduler/sync"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// answered counts, for each route, the requests of all tests that succeeded.
type answered struct {
	mu sync.Mutex
	by map[string]int
}

var routesAnswered = answered{by: map[string]int{}}

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	code := m.Run()
	if code == 0 && len(os.Args) > 0 && !partial() {
		for _, r := range (&server{}).routes() {
			if routesAnswered.by[r.method+" "+r.path] == 0 {
				fmt.Printf("no test has got an answer from %s %s\n", r.method, r.path)
				code = 1
			}
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// partial reports whether only some tests were asked for.
func partial() bool {
	for _, a := range os.Args[1:] {
		for _, f := range []string{"run", "bench", "fuzz", "list", "skip"} {
			if v, ok := strings.CutPrefix(a, "-test."+f+"="); ok && v != "" {
				return true
			}
		}
	}
	return false
}

// recorder counts the answers of routes.
type recorder struct{ http.RoundTripper }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode < 300 {
		path := strings.Split(req.URL.EscapedPath(), "/")
		for _, route := range (&server{}).routes() {
			if req.Method == route.method && fits(path, strings.Split(route.path, "/")) {
				routesAnswered.mu.Lock()
				routesAnswered.by[route.method+" "+route.path]++
				routesAnswered.mu.Unlock()
			}
		}
	}
	return resp, err
}

func fits(path, pattern []string) bool {
	if len(path) != len(pattern) {
		return false
	}
	for i, p := range pattern {
		if p != path[i] && !strings.HasPrefix(p, ":") {
			return false
		}
	}
	return true
}

// plainProvisioner is as simple as one can be.
type plainProvisioner struct {
	provisioner.Deps
	meet chan struct{} // two changes of definitions at once, if there are two, meet before they write
}

func (p plainProvisioner) Plan(_ context.Context, s provisioner.Spec) (registry.Draft, error) {
	class, ok := p.Types[s.Type]
	if !ok {
		return registry.Draft{}, &provisioner.SpecError{ID: s.ID, Problems: []string{fmt.Sprintf("there is no type %.64q", s.Type)}}
	}
	d := registry.Draft{ID: s.ID, Name: s.Name, Type: s.Type, Tenant: s.Tenant, Definition: s.Definition, Metadata: s.Metadata, Tags: s.Tags, Keys: s.Keys}
	if d.Name == "" {
		d.Name = d.ID
	}
	if class.Validate != nil {
		if err := class.Validate(s.Definition); err != nil {
			return d, fmt.Errorf("%w: %w", provisioner.ErrInvalid, err)
		}
	}
	if class.Keys != nil {
		keys, err := class.Keys(d.ID, s.Definition)
		if err != nil {
			return d, err
		}
		d.Keys = append(d.Keys, keys...)
	}
	return d, d.Validate()
}

func (p plainProvisioner) Provision(ctx context.Context, s provisioner.Spec) (*registry.Node, error) {
	d, err := p.Plan(ctx, s)
	if err != nil {
		return nil, err
	}
	return registry.Create(ctx, p.Registry, d)
}

func (p plainProvisioner) Redefine(ctx context.Context, id string, doc registry.Document, force bool) (*registry.Node, error) {
	n, err := registry.Get(ctx, p.Registry, id)
	if err != nil {
		return nil, err
	}
	if v := p.Types[n.Type()].Validate; v != nil {
		if err := v(doc); err != nil {
			return nil, fmt.Errorf("%w: %w", provisioner.ErrInvalid, err)
		}
	}
	select {
	case p.meet <- struct{}{}:
	case <-p.meet:
	case <-time.After(10 * time.Millisecond):
	}
	return registry.SetDefinition(ctx, p.Registry, id, doc, force)
}

func (p plainProvisioner) Deprovision(ctx context.Context, id string) error {
	return registry.Delete(ctx, p.Registry, id)
}

// plainMonitor polls by asking each host, and writes whether it answers.
type plainMonitor struct {
	c      virt.Cluster
	polled func(monitor.Report)
}

func (plainMonitor) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (plainMonitor) Close() error                  { return nil }

func (m plainMonitor) Poll(ctx context.Context, hosts ...string) (monitor.Report, error) {
	rep := monitor.Report{}
	for h, err := range virt.Hypervisors(ctx, m.c) {
		if err != nil {
			return rep, err
		}
		if len(hosts) > 0 && !strings.Contains(strings.Join(hosts, " "), h.ID()) {
			continue
		}
		state := virt.Up
		if _, err := h.Status(ctx); err != nil {
			state = virt.Unreachable
		}
		if _, err := registry.SetState(ctx, m.c.Parts().Registry, h.ID(), string(state)); err != nil {
			return rep, err
		}
		rep.Hosts = append(rep.Hosts, monitor.HostReport{Host: h.ID(), Name: h.Name(), State: state})
	}
	m.polled(rep)
	return rep, nil
}

// errPlanned is what a failing action fails with, by its parameter.
var errPlanned = map[string]error{"no_host": &allocator.NoHostError{Decision: &allocator.Decision{}}, "busy": virt.ErrBusy, "other": errors.New("other")}

func testActions(c virt.Cluster) map[string]scheduler.Action {
	vm := scheduler.Param{Name: "vm", Type: scheduler.String}
	place := func(ctx context.Context, t scheduler.Task) (any, error) {
		var p virt.Params
		if err := scheduler.DecodeParams(t, &p); err != nil {
			return nil, err
		}
		t.Log("placing on " + p.Host)
		_, err := registry.SetParent(ctx, c.Parts().Registry, p.VM, "", p.Host)
		return p, err
	}
	fail := func(_ context.Context, t scheduler.Task) (any, error) {
		var p struct{ How string }
		if err := scheduler.DecodeParams(t, &p); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("as planned: %w", errPlanned[p.How])
	}
	hang := func(ctx context.Context, _ scheduler.Task) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
	all := map[string]scheduler.Action{}
	for _, a := range []scheduler.Action{
		{Name: virt.ActionStart, Params: []scheduler.Param{vm, {Name: "host", Type: scheduler.String}}, Run: place},
		{Name: "fail", Params: []scheduler.Param{{Name: "how", Type: scheduler.String}}, Run: fail},
		{Name: virt.ActionStop, Params: []scheduler.Param{vm}, Urgent: true, Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil }},
		{Name: "hang", Run: hang},
		{Name: "panic", Run: func(context.Context, scheduler.Task) (any, error) { panic("a job") }},
	} {
		all[a.Name] = a
	}
	return all
}

func testMenu(o *opts) manager.Menu {
	type none struct{}
	return manager.Menu{
		Registry: map[string]component.Kind[registry.Deps, registry.Registry]{"memory": component.Define("in memory", none{},
			func(_ context.Context, _ none, d registry.Deps) (registry.Registry, error) {
				db, err := memdb.Memory(d)
				if err != nil || o.wrap == nil {
					return db, err
				}
				return o.wrap(db), nil
			})},
		Scheduler: map[string]component.Kind[scheduler.Deps, scheduler.Scheduler]{"sync": schedsync.Kind(), "full": component.Define("all there can be", none{},
			func(_ context.Context, _ none, d scheduler.Deps) (scheduler.Scheduler, error) {
				return newFull(d), nil
			})},
		Provisioner: map[string]component.Kind[provisioner.Deps, provisioner.Provisioner]{"plain": component.Define("plain", none{},
			func(_ context.Context, _ none, d provisioner.Deps) (provisioner.Provisioner, error) {
				return plainProvisioner{d, make(chan struct{})}, nil
			})},
		Allocator: map[string]component.Kind[allocator.Deps, allocator.Allocator]{"fixed": fixed.Kind()},
		Monitor: map[string]component.Kind[monitor.Deps, monitor.Monitor]{"plain": component.Define("plain", none{},
			func(_ context.Context, _ none, d monitor.Deps) (monitor.Monitor, error) {
				return plainMonitor{d.Cluster, d.Polled}, nil
			})},
		Drivers: map[string]component.Kind[virt.DriverDeps, virt.Driver]{"sim": sim.Kind()},
		Classes: map[string]provisioner.Class{"vm": virt.VMClass(), "hypervisor": virt.HypervisorClass(), "any": provisioner.AnyClass(),
			"bad": {Columns: []provisioner.Column{{Name: "x", Value: func(*registry.Node) string { panic("a column") }}}}},
		Types:    map[string]string{virt.TypeVM: "vm", virt.TypeHypervisor: "hypervisor", "rack": "any", "bad": "bad"},
		Actions:  testActions,
		Defaults: manager.Defaults{Registry: "memory", Scheduler: "sync", Provisioner: "plain", Allocator: "fixed", Monitor: "plain"},
	}
}

// opts changes a test's cluster.
type opts struct {
	wrap func(registry.Registry) registry.Registry
	full bool    // with a scheduler that can do everything
	api  Options // of the handler
}

// fake is the scheduler of a cluster with opts.full.
func (c *cluster) fake() *full {
	c.t.Helper()
	f, ok := c.m.Scheduler.(*full)
	if !ok {
		c.t.Fatalf("the scheduler is a %T", c.m.Scheduler)
	}
	return f
}

// cluster is an open cluster with a client of its handler.
type cluster struct {
	*Client
	t       *testing.T
	m       *manager.Manager
	h       http.Handler
	metrics *Metrics        // if it is full
	ctx     context.Context //nolint:containedctx // it lives as long as the test
}

func newCluster(t *testing.T, o opts) *cluster {
	t.Helper()
	text := "[drivers.lab]\nuse = sim\n"
	if o.full {
		text += "[scheduler]\nuse = full\n"
	}
	f, _ := config.Parse(t.TempDir()+"/vagoth.ini", []byte(text))
	s, err := manager.Read(f, testMenu(&o))
	if err != nil {
		t.Fatal(err)
	}
	timings := NewTimings()
	m, err := manager.Open(t.Context(), s, manager.Options{Wrote: timings.Wrote, Polled: timings.Polled})
	if err != nil {
		t.Fatal(err)
	}
	o.api.Version, o.api.Now = "test", func() time.Time { return time.Now().Add(time.Hour) }
	if o.full {
		o.api.Metrics = NewMetrics(m, timings)
	}
	h := Handler(m, o.api)
	tr := InProcess(h)
	t.Cleanup(func() {
		if err := errors.Join(tr.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	ctx := trail.With(context.Background(), trail.New("tester", "to test it: ✓ 100%"))
	return &cluster{Client: NewClient("http://vagoth", recorder{tr}), t: t, m: m, h: h, metrics: o.api.Metrics, ctx: ctx}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// doc makes a document.
func doc(t *testing.T, text string) registry.Document {
	t.Helper()
	return must[registry.Document](t)(registry.ParseDocument([]byte(text)))
}

func (c *cluster) create(id, typ, definition string) *registry.Node {
	c.t.Helper()
	return must[Created](c.t)(c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: id, Type: typ, Definition: doc(c.t, definition)}})).Node
}

func (c *cluster) host(id string) *registry.Node { return c.create(id, "hv", `{"driver":"lab"}`) }

func (c *cluster) vm(id string) *registry.Node { return c.create(id, "vm", `{"cpu":1,"memory":64}`) }

// revision is the number of the last commit.
func (c *cluster) revision() uint64 {
	c.t.Helper()
	v := must[registry.Reader](c.t)(c.m.Registry.View(c.ctx))
	d, ok := v.(registry.Delta)
	if !ok {
		c.t.Fatal("the reader knows no revision")
	}
	return d.Revision()
}
