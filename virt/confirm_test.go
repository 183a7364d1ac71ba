package virt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/score"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/sync"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/action"
	"github.com/vagoth/vagoth/virt/sim"
)

// cluster is a small one in memory.
type cluster struct{ parts virt.Parts }

func (c *cluster) Parts() virt.Parts { return c.parts }

// open opens a cluster whose driver answers as status says.
func open(t testing.TB, d virt.Driver) *cluster {
	t.Helper()
	db, err := memdb.Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	a, err := score.Open(context.Background(), score.Defaults(), allocator.Deps{Host: virt.AllocatorHost, Need: virt.Need})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{parts: virt.Parts{Registry: db, Allocator: a, Drivers: map[string]virt.Driver{"d": d}}}
	s := sync.New(sync.Defaults(), scheduler.Deps{Actions: action.Actions(c)})
	t.Cleanup(func() { _ = s.Close() })
	c.parts.Scheduler = s
	return c
}

func (c *cluster) create(t testing.TB, d registry.Draft, def, meta string) {
	t.Helper()
	for _, x := range []struct {
		text string
		into *registry.Document
	}{{def, &d.Definition}, {meta, &d.Metadata}} {
		if x.text == "" {
			continue
		}
		doc, err := registry.ParseDocument([]byte(x.text))
		if err != nil {
			t.Fatal(err)
		}
		*x.into = doc
	}
	if d.Name == "" {
		d.Name = d.ID
	}
	if _, err := registry.Create(context.Background(), c.parts.Registry, d); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) node(t testing.TB, id string) *registry.Node {
	t.Helper()
	n, err := registry.Get(context.Background(), c.parts.Registry, id)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const hostDefinition = `{"driver":"d","cpu":8,"memory":8192,"disk":100000}`

// answering is a driver of which only Status is asked.
type answering struct {
	virt.Driver
	status func(ctx context.Context) (virt.Listing, error)
}

func (a answering) Status(ctx context.Context, _ virt.Host) (virt.Listing, error) {
	return a.status(ctx)
}

func silent(context.Context) (virt.Listing, error) { return virt.Listing{}, virt.ErrUnreachable }

func TestConfirmDownIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := silent
		c := open(t, answering{status: func(ctx context.Context) (virt.Listing, error) { return answer(ctx) }})
		c.create(t, registry.Draft{ID: "h1", Type: virt.TypeHypervisor, State: "unreachable"}, hostDefinition, "")
		c.create(t, registry.Draft{ID: "x1", Type: virt.TypeHypervisor}, `{"driver":"nobody"}`, "")
		c.create(t, registry.Draft{ID: "web1", Type: virt.TypeVM, Parent: "h1", State: "unknown"}, `{"cpu":1,"memory":1}`, "")
		for _, r := range []struct {
			what, host, reason string
			answer             func(context.Context) (virt.Listing, error)
			want               error
		}{
			{"no reason", "h1", " ", silent, virt.ErrInvalid},
			{"a forged reason", "h1", "a\nb", silent, virt.ErrInvalid},
			{"a VM", "web1", "dead", silent, virt.ErrInvalid},
			{"nobody", "h9", "dead", silent, registry.ErrNotFound},
			{"a host that cannot be asked", "x1", "dead", silent, virt.ErrInvalid},
			{"a host that answers", "h1", "dead", func(context.Context) (virt.Listing, error) { return virt.Listing{}, nil }, virt.ErrAnswers},
			{"a host that answers with an error", "h1", "dead", func(context.Context) (virt.Listing, error) { return virt.Listing{}, errors.New("permission denied") }, virt.ErrAnswers},
		} {
			answer = r.answer
			if freed, err := virt.ConfirmDown(t.Context(), c, r.host, r.reason, virt.ConfirmOptions{}); !errors.Is(err, r.want) || freed != nil {
				t.Errorf("%s: %v %v, want %v", r.what, freed, err, r.want)
			}
		}
		if n := c.node(t, "h1"); n.State() != "unreachable" || c.node(t, "web1").Parent() != "h1" {
			t.Fatal("a refusal has changed something")
		}
		// A caller who gives up has confirmed nothing; a host that says nothing in
		// time is silent.
		answer = func(ctx context.Context) (virt.Listing, error) { <-ctx.Done(); return virt.Listing{}, ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := virt.ConfirmDown(ctx, c, "h1", "dead", virt.ConfirmOptions{}); !errors.Is(err, context.DeadlineExceeded) || c.node(t, "h1").State() != "unreachable" {
			t.Errorf("a caller who gives up: %v", err)
		}
		if freed, err := virt.ConfirmDown(t.Context(), c, "h1", "dead", virt.ConfirmOptions{}); err != nil || len(freed) != 1 {
			t.Errorf("a host that hangs: %v %v", freed, err)
		}
	})
}

func TestConfirmDownFreesAll(t *testing.T) {
	c := open(t, answering{status: silent})
	c.create(t, registry.Draft{ID: "h1", Type: virt.TypeHypervisor, State: "unreachable"}, hostDefinition, "")
	c.create(t, registry.Draft{ID: "h2", Type: virt.TypeHypervisor, State: "up"}, hostDefinition, "")
	var want []string
	for i := range 130 {
		id := fmt.Sprintf("vm%03d", i)
		want = append(want, id)
		c.create(t, registry.Draft{ID: id, Type: virt.TypeVM, Parent: "h1", State: "unknown", Keys: []string{"k-" + id}},
			`{"cpu":1,"memory":1,"disks":[{"size":1}]}`, `{"disks_on":"h1","evidence":{"at":"2026-01-01T00:00:00Z","host":"h1"}}`)
	}
	c.create(t, registry.Draft{ID: virt.ReservationID("x"), Type: virt.TypeReservation, Parent: "h1"}, `{"cpu":1,"memory":1}`, "")
	c.create(t, registry.Draft{ID: "web", Type: virt.TypeVM, Parent: "h2", State: "running"}, `{"cpu":1,"memory":1}`, "")

	hv, err := virt.HypervisorOf(t.Context(), c, "h1")
	if err != nil {
		t.Fatal(err)
	}
	ctx := trail.With(t.Context(), trail.Trail{Transaction: "t1", Source: "ann"})
	freed, err := hv.ConfirmDown(ctx, "its rack burnt", false)
	if err != nil || !slices.Equal(freed, want) {
		t.Fatalf("%v, freed %v", err, freed)
	}
	h := c.node(t, "h1")
	mark, ok := virt.ConfirmedOf(h)
	if h.State() != string(virt.Down) || !ok || mark.Reason != "its rack burnt" || mark.Trail.Source != "ann" || mark.At.IsZero() {
		t.Errorf("the host: %s %+v", h.State(), mark)
	}
	n := c.node(t, "vm077")
	e, _ := virt.EvidenceOf(n)
	if n.Parent() != "" || n.State() != string(virt.New) || virt.DisksOn(n) != "h1" || e.At.IsZero() || !strings.Contains(e.Reason, "burnt") || n.Changed().Source != "ann" {
		t.Errorf("a VM that was freed: %s %s %+v", n.State(), n.Metadata(), e)
	}
	if _, err := registry.Get(ctx, c.parts.Registry, virt.ReservationID("x")); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a reservation on it: %v", err)
	}
	if c.node(t, "web").Parent() != "h2" {
		t.Error("a VM of another host was freed")
	}
	// Its disks are there: it is not placed elsewhere with empty ones.
	vm, err := virt.VM(ctx, c, "vm077")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Define(ctx); !errors.Is(err, allocator.ErrNoHost) {
		t.Errorf("placing a VM whose disks are on the dead host: %v", err)
	}
	if freed, err := hv.ConfirmDown(ctx, "again", true); err != nil || len(freed) != 0 {
		t.Errorf("again: %v %v", freed, err)
	}
}

func TestConfirmDownAbandonsDisks(t *testing.T) {
	c := open(t, answering{status: silent})
	c.create(t, registry.Draft{ID: "h1", Type: virt.TypeHypervisor, State: "unreachable"}, hostDefinition, "")
	c.create(t, registry.Draft{ID: "a", Type: virt.TypeVM, Parent: "h1"}, `{"cpu":1,"memory":1}`, `{"disks_on":"h1"}`)
	c.create(t, registry.Draft{ID: "b", Type: virt.TypeVM, Parent: "h1"}, `{"cpu":1,"memory":1}`, `{"disks_on":"h1","migrating":"h2"}`)
	ctx := trail.With(t.Context(), trail.Trail{Reason: "in the trail"})
	if _, err := virt.ConfirmDown(ctx, c, "h1", "", virt.ConfirmOptions{AbandonDisks: true}); err != nil {
		t.Fatal(err)
	}
	if on := virt.DisksOn(c.node(t, "a")); on != "" {
		t.Errorf("the disks of a are still on %s", on)
	}
	if n := c.node(t, "b"); virt.MovesTo(n) != "h2" || virt.DisksOn(n) != "h2" {
		t.Errorf("one that was moving: %s", n.Metadata())
	}
}

// TestConfirmDownStopsWhenTheHostIsBack frees nothing of a host that a poll has
// brought up in between.
func TestConfirmDownStopsWhenTheHostIsBack(t *testing.T) {
	c := open(t, answering{status: silent})
	c.create(t, registry.Draft{ID: "h1", Type: virt.TypeHypervisor, State: "unreachable"}, hostDefinition, "")
	c.create(t, registry.Draft{ID: "a", Type: virt.TypeVM, Parent: "h1"}, `{"cpu":1,"memory":1}`, "")
	c.parts.Registry = &reviving{Registry: c.parts.Registry}
	if freed, err := virt.ConfirmDown(t.Context(), c, "h1", "dead", virt.ConfirmOptions{}); !errors.Is(err, virt.ErrAnswers) || len(freed) != 0 {
		t.Errorf("%v %v", freed, err)
	}
	if c.node(t, "a").Parent() != "h1" {
		t.Error("its VM was freed")
	}
}

// reviving brings h1 up after the first Update.
type reviving struct {
	registry.Registry
	updates int
}

func (r *reviving) Update(ctx context.Context, fn func(registry.Tx) error) error {
	err := r.Registry.Update(ctx, fn)
	if r.updates++; r.updates == 1 && err == nil {
		_, err = registry.SetState(ctx, r.Registry, "h1", string(virt.Up))
	}
	return err
}

func TestViews(t *testing.T) {
	c := open(t, answering{status: silent})
	c.create(t, registry.Draft{ID: "h1", Name: "rack7", Type: virt.TypeHypervisor, State: "up"}, hostDefinition, "")
	c.create(t, registry.Draft{ID: "i-1", Name: "web", Type: virt.TypeVM, State: "new", Keys: []string{"mac-52:54:00:00:00:01"}}, `{"cpu":1,"memory":1}`, "")
	ctx := t.Context()
	for _, ref := range []string{"i-1", "web", "mac-52:54:00:00:00:01"} {
		if vm, err := virt.VM(ctx, c, ref); err != nil || vm.ID() != "i-1" || vm.Name() != "web" {
			t.Errorf("%s: %v %v", ref, vm, err)
		}
	}
	if _, err := virt.VM(ctx, c, "rack7"); !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), "hv") {
		t.Errorf("a hypervisor as a VM: %v", err)
	}
	if _, err := virt.HypervisorOf(ctx, c, "web"); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("a VM as a hypervisor: %v", err)
	}
	if _, err := virt.VM(ctx, c, "nobody"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	vm, err := virt.VM(ctx, c, "web")
	if err != nil {
		t.Fatal(err)
	}
	if hv, err := vm.Parent(ctx); hv != nil || err != nil {
		t.Errorf("a parent: %v %v", hv, err)
	}
	if _, err := vm.Info(ctx); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("info of a VM on no host: %v", err)
	}
	if d, err := vm.Plan(ctx); err != nil || d.Host != "h1" || c.node(t, "i-1").Parent() != "" {
		t.Errorf("a plan: %v %v", d, err)
	}
	hv, err := virt.HypervisorOf(ctx, c, "rack7")
	if err != nil {
		t.Fatal(err)
	}
	if err := hv.SetMaintenance(ctx, true, "new disks"); err != nil {
		t.Fatal(err)
	}
	if m, ok := virt.MaintenanceOf(c.node(t, "h1")); !ok || m.Reason != "new disks" {
		t.Errorf("maintenance: %+v", m)
	}
	if _, err := vm.Plan(ctx); !errors.Is(err, allocator.ErrNoHost) {
		t.Errorf("placing on a host in maintenance: %v", err)
	}
	if err := hv.SetMaintenance(ctx, false, ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := virt.MaintenanceOf(c.node(t, "h1")); ok {
		t.Error("maintenance does not end")
	}
	count := 0
	for v, err := range virt.VMs(ctx, c) {
		if err != nil || v.ID() != "i-1" {
			t.Error(v, err)
		}
		count++
	}
	for h, err := range virt.Hypervisors(ctx, c) {
		if s, stateErr := h.State(ctx); err != nil || stateErr != nil || s != virt.Up {
			t.Error(h, err, s)
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d views", count)
	}
}

// The Go API: find a VM, start it, look where it is.
func Example() {
	ctx := trail.With(context.Background(), trail.New("ann", "to show it"))
	c, done := exampleCluster()
	defer done()

	for hv, err := range virt.Hypervisors(ctx, c) {
		fmt.Println(hv.Name(), err)
	}
	vm, err := virt.VM(ctx, c, "web1")
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := vm.Start(ctx) // defines it first, as it has no host
	fmt.Println(job.State, err)
	state, _ := vm.State(ctx)
	hv, _ := vm.Parent(ctx)
	fmt.Println(state, "on", hv.Name())
	_, err = vm.Undefine(ctx)
	fmt.Println(errors.Is(err, virt.ErrBusy))
	// Output:
	// h1 <nil>
	// succeeded <nil>
	// running on h1
	// true
}

// exampleCluster is one simulated host and one VM, in memory.
func exampleCluster() (virt.Cluster, func()) {
	ctx := context.Background()
	db, err := memdb.Memory(registry.Deps{})
	if err != nil {
		panic(err)
	}
	driver, err := sim.Open(ctx, sim.Defaults(), virt.DriverDeps{Name: "d"})
	if err != nil {
		panic(err)
	}
	a, err := score.Open(ctx, score.Defaults(), allocator.Deps{Host: virt.AllocatorHost, Need: virt.Need})
	if err != nil {
		panic(err)
	}
	c := &cluster{parts: virt.Parts{Registry: db, Allocator: a, Drivers: map[string]virt.Driver{"d": driver}}}
	s := sync.New(sync.Defaults(), scheduler.Deps{Actions: action.Actions(c)})
	c.parts.Scheduler = s
	for _, d := range []registry.Draft{
		{ID: "h1", Name: "h1", Type: virt.TypeHypervisor, State: "up", Definition: scheduler.MustParams(virt.HostDefinition{Driver: "d", CPU: 8, Memory: 8192, Disk: 100000})},
		{ID: "web1", Name: "web1", Type: virt.TypeVM, State: "new", Definition: scheduler.MustParams(virt.Definition{CPU: 1, Memory: 256, Disks: []virt.Disk{{Size: 10}}})},
	} {
		if _, err := registry.Create(ctx, db, d); err != nil {
			panic(err)
		}
	}
	return c, func() { _, _ = s.Close(), db.Close() }
}
