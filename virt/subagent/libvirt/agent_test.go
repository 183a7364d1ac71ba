package libvirt_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent/libvirt"
)

// noting is a simulated host that notes by which job a guest was made known, as
// libvirt's driver does, and what a guest was defined as.
type noting struct {
	*sim.Driver
	jobs    map[string]string
	defined virt.Definition
}

func (n *noting) Define(ctx context.Context, h virt.Host, g virt.Guest) error {
	n.defined = g.Definition
	if _, err := n.Info(ctx, h, g); errors.Is(err, virt.ErrNotFound) {
		n.jobs[g.UUID] = trail.From(ctx).Job
	}
	return n.Driver.Define(ctx, h, g)
}

func (n *noting) Info(ctx context.Context, h virt.Host, g virt.Guest) (virt.Info, error) {
	info, err := n.Driver.Info(ctx, h, g)
	info.Extra = map[string]string{"job": n.jobs[g.UUID], "nic 52:54:00:00:00:01": "vnet7"}
	return info, err
}

func newAgent(t *testing.T) (*noting, *libvirt.Agent) {
	t.Helper()
	d, err := sim.Open(t.Context(), sim.Defaults(), virt.DriverDeps{})
	if err != nil {
		t.Fatal(err)
	}
	n := &noting{Driver: d, jobs: map[string]string{}}
	return n, libvirt.New(n, virt.Host{ID: "h1"}, libvirt.Options{})
}

func guest() *mistify.Guest {
	return &mistify.Guest{
		ID: uuid.NewString(), CPU: 1, Memory: 64, Disks: []mistify.Disk{{Image: "debian", Size: 5, Volume: "guests/x/disk-0", Source: "/srv/disk-0.qcow2"}},
		NICs: []mistify.NIC{{Type: "bridge", Network: "br0", MAC: "52:54:00:00:00:01"}},
	}
}

type act = func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)

func TestLife(t *testing.T) {
	d, a := newAgent(t)
	g := guest()
	for _, step := range []struct {
		name  string
		do    act
		state string
	}{
		{"define", a.Define, "shutoff"}, {"create", a.Create, "running"}, {"again", a.Create, "running"}, {"suspend", a.Suspend, "paused"},
		{"run", a.Run, "running"}, {"reboot", a.Reboot, "running"}, {"restart", a.Restart, "running"}, {"poweroff", a.Poweroff, "shutoff"},
		{"run what is off", a.Run, "running"}, {"off", a.Poweroff, "shutoff"}, {"undefine", a.Undefine, ""}, {"undefine again", a.Undefine, ""},
		{"create anew", a.Create, "running"}, {"delete", a.Delete, ""}, {"delete again", a.Delete, ""},
	} {
		out, err := step.do(t.Context(), &mistify.GuestRequest{Guest: g})
		if err != nil || out.Guest.State != step.state {
			t.Fatalf("%s: %+v (%v), want the state %q", step.name, out, err, step.state)
		}
		if out.Guest.Disks[0].Image != "debian" || out.Guest.Disks[0].Size != 5 {
			t.Errorf("%s answers the disk %+v", step.name, out.Guest.Disks[0])
		}
		if step.state == "running" && out.Guest.NICs[0].Device != "vnet7" {
			t.Errorf("%s answers the NIC %+v", step.name, out.Guest.NICs[0])
		}
	}
	if disk := d.defined.Disks[0]; disk.Image != "" || disk.Size != 0 || disk.Volume != "" || disk.Source != "/srv/disk-0.qcow2" {
		t.Errorf("the domain is made of the disk %+v", disk)
	}
	g.Disks[0].Source = ""
	if _, err := a.Create(t.Context(), &mistify.GuestRequest{Guest: g}); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("a disk that is nowhere: %v", err)
	}
	for name, r := range map[string]*mistify.Guest{"no guest": nil, "no id": {}, "a path": {ID: "../x"}} {
		if _, err := a.Create(t.Context(), &mistify.GuestRequest{Guest: r}); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a job made known is taken back for that job alone.
func TestUndo(t *testing.T) {
	_, a := newAgent(t)
	g := guest()
	must := func(do act, job, state string) {
		t.Helper()
		out, err := do(t.Context(), &mistify.GuestRequest{Guest: g, Job: job})
		if err != nil || out.Guest.State != state {
			t.Fatalf("for %q: %+v (%v), want the state %q", job, out, err, state)
		}
	}
	must(a.UndoCreate, "job-1", "") // it was never begun
	must(a.Define, "job-1", "shutoff")
	must(a.Create, "job-2", "running")
	must(a.UndoCreate, "job-2", "running") // it was there before
	must(a.UndoCreate, "", "running")
	must(a.UndoCreate, "job-1", "")
	must(a.UndoCreate, "job-1", "")
}

func TestStagesAreMethods(t *testing.T) {
	_, a := newAgent(t)
	s := mistify.NewServer(mistify.ServerOptions{})
	a.Register(s)
	var names []string
	for _, a := range mistify.Actions() {
		names = append(names, a.Name)
	}
	for _, stage := range libvirt.Stages() {
		if !slices.Contains(names, stage.Action) {
			t.Errorf("there is no action %s", stage.Action)
		}
		if err := mistify.CheckMethod(stage.Method); err != nil {
			t.Error(err)
		}
	}
}

// mover notes where guests were moved to.
type mover struct {
	*noting
	to []string
}

func (m *mover) Migrate(_ context.Context, _, to virt.Host, _ virt.Guest, live bool) error {
	if live {
		m.to = append(m.to, to.Address)
	}
	return nil
}

// Guests are moved only to hosts that are named.
func TestMigrate(t *testing.T) {
	n, plain := newAgent(t)
	m := &mover{noting: n}
	a := libvirt.New(m, virt.Host{ID: "h1"}, libvirt.Options{Peers: []string{"qemu+tls://*.example.com/system", "qemu+tcp://10.0.0.7/system"}})
	g := guest()
	if _, err := a.Define(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
		t.Fatal(err)
	}
	for uri, allowed := range map[string]bool{
		"qemu+tls://h2.example.com/system": true, "qemu+tcp://10.0.0.7/system": true,
		"": false, "qemu+tls://h2.example.org/system": false, "qemu+tcp://h2.example.com/system": false,
		"qemu+tls://evil.org/x.example.com/system": false, "qemu+tls://h2.example.com/system?no_verify=1": false,
	} {
		m.to = nil
		_, err := a.Migrate(t.Context(), &mistify.GuestRequest{Guest: g, To: uri})
		if allowed && (err != nil || !slices.Equal(m.to, []string{uri})) || !allowed && (!errors.Is(err, virt.ErrUnsupported) || m.to != nil) {
			t.Errorf("to %q: moved to %q, %v", uri, m.to, err)
		}
	}
	if _, err := plain.Migrate(t.Context(), &mistify.GuestRequest{Guest: g, To: "qemu+tcp://10.0.0.7/system"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("no peers are named: %v", err)
	}
}

// Containers are measured by the sub-agent that has them.
func TestNoContainers(t *testing.T) {
	_, a := newAgent(t)
	g := guest()
	g.Type = mistify.TypeContainer
	for name, do := range map[string]func(context.Context, *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error){"cpu": a.CPUMetrics, "disk": a.DiskMetrics, "nic": a.NICMetrics} {
		if _, err := do(t.Context(), &mistify.GuestMetricsRequest{Guest: g}); !errors.Is(err, virt.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
