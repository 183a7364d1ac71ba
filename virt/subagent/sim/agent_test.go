package sim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a sub-agent of a simulated host whose clock stands still.
type bench struct {
	*testing.T
	d   *host.Driver
	a   *sim.Agent
	now atomic.Pointer[time.Time]
}

func newBench(t *testing.T, o sim.Options) *bench {
	b := &bench{T: t}
	b.pass(0)
	d, err := host.Open(t.Context(), host.Defaults(), virt.DriverDeps{Now: func() time.Time { return *b.now.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return *b.now.Load() }
	b.d, b.a = d, sim.New(d, virt.Host{ID: "h1"}, o)
	return b
}

func (b *bench) pass(d time.Duration) {
	now := time.Unix(1_000_000_000, 0)
	if old := b.now.Load(); old != nil {
		now = *old
	}
	now = now.Add(d)
	b.now.Store(&now)
}

func (b *bench) guest() *mistify.Guest {
	return &mistify.Guest{ID: uuid.NewString(), CPU: 2, Memory: 512, Disks: []mistify.Disk{{Size: 2}, {Size: 3}}, NICs: []mistify.NIC{{}}}
}

type act = func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)

// do runs an action and checks the state after it.
func (b *bench) do(g *mistify.Guest, do act, state virt.State) *mistify.Guest {
	b.Helper()
	out, err := do(b.Context(), &mistify.GuestRequest{Guest: g})
	if err != nil {
		b.Fatal(err)
	}
	if out.Guest.State != string(state) {
		b.Fatalf("the guest is %q, want %q", out.Guest.State, state)
	}
	return out.Guest
}

func (b *bench) refused(what string, err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

func (b *bench) volume(g *mistify.Guest, i int) string { return g.Disks[i].Volume }

func TestLifeOfAGuest(t *testing.T) {
	b := newBench(t, sim.Options{})
	a := b.a
	g := b.do(b.guest(), a.Create, virt.Running)
	if g.Disks[1].Device != "vdb" || g.Disks[1].Volume == "" || g.NICs[0].MAC == "" {
		t.Errorf("what follows from the guest was not filled in: %+v", g)
	}
	b.do(g, a.Create, virt.Running) // again, as after a crash
	b.do(g, a.Suspend, virt.Paused)
	b.do(g, a.Resume, virt.Running)
	b.do(g, a.Reboot, virt.Running)
	b.do(g, a.Restart, virt.Running)
	b.do(g, a.Run, virt.Running)
	_, err := a.Undefine(t.Context(), &mistify.GuestRequest{Guest: g})
	b.refused("undefine of what runs", err, virt.ErrBusy)
	_, err = a.Deprovision(t.Context(), &mistify.GuestRequest{Guest: g})
	b.refused("deprovision of what runs", err, virt.ErrBusy)
	b.do(g, a.Shutdown, virt.Running)
	b.pass(2 * time.Second)
	b.do(g, a.Run, virt.Stopped)
	b.do(g, a.Start, virt.Running)
	b.do(g, a.Poweroff, virt.Stopped)
	b.do(g, a.Undefine, "")
	if _, ok, err := b.d.Disk("h1", b.volume(g, 0)); !ok || err != nil {
		t.Errorf("the disk is gone after undefine (%v)", err)
	}
	b.do(g, a.Define, virt.Stopped)
	b.do(g, a.Start, virt.Running)
	b.do(g, a.Delete, "")
	b.do(g, a.Delete, "") // again, as after a crash
	if _, ok, err := b.d.Disk("h1", b.volume(g, 0)); ok || err != nil {
		t.Errorf("the disk is there after delete (%v)", err)
	}
	if runs := b.d.RanTwice(); len(runs) > 0 {
		t.Error(runs)
	}
	for name, r := range map[string]*mistify.Guest{"no guest": nil, "no id": {}, "a path": {ID: "../x"}} {
		_, err := a.Create(t.Context(), &mistify.GuestRequest{Guest: r})
		b.refused(name, err, virt.ErrInvalid)
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t, sim.Options{})
	g := b.do(b.guest(), b.a.Create, virt.Running)
	stranger := virt.Seen{UUID: uuid.NewString(), Name: "stray", State: virt.Paused, CPU: 1, Memory: 64}
	if err := b.d.AddStranger("h1", stranger); err != nil {
		t.Fatal(err)
	}
	s, err := b.a.Status(t.Context(), &mistify.StatusRequest{})
	if err != nil || !s.Complete || len(s.Guests) != 2 || s.Capacity.CPU == 0 {
		t.Fatalf("the status is %+v (%v)", s, err)
	}
	one, err := b.a.Status(t.Context(), &mistify.StatusRequest{ID: g.ID})
	if err != nil || !one.Complete || len(one.Guests) != 1 || one.Guests[0].ID != g.ID || one.Guests[0].State != virt.Running {
		t.Errorf("of one guest it is %+v (%v)", one, err)
	}
	none, err := b.a.Status(t.Context(), &mistify.StatusRequest{ID: uuid.NewString()})
	if err != nil || !none.Complete || len(none.Guests) != 0 {
		t.Errorf("of a guest that never was it is %+v (%v)", none, err)
	}
	b.d.Partial("h1", 1)
	s, err = b.a.Status(t.Context(), &mistify.StatusRequest{})
	if err != nil || s.Complete || len(s.Guests) != 1 {
		t.Errorf("a half listing is %+v (%v)", s, err)
	}
	b.d.Heal("h1")
	b.d.Unreachable("h1")
	_, err = b.a.Status(t.Context(), &mistify.StatusRequest{})
	b.refused("status of a dead host", err, virt.ErrUnreachable)
	_, err = b.a.Status(t.Context(), &mistify.StatusRequest{ID: g.ID})
	b.refused("status of a guest of a dead host", err, virt.ErrUnreachable)
}

func TestMetricsMove(t *testing.T) {
	b := newBench(t, sim.Options{})
	g := b.do(b.guest(), b.a.Create, virt.Running)
	type reading struct {
		cpu        float64
		reads, rxs int64
	}
	read := func() (r reading) {
		t.Helper()
		ask := &mistify.GuestMetricsRequest{Guest: g}
		cpu, err := b.a.CPUMetrics(t.Context(), ask)
		disk, err2 := b.a.DiskMetrics(t.Context(), ask)
		nic, err3 := b.a.NICMetrics(t.Context(), ask)
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		if len(cpu.CPU) != 2 || len(disk.Disk) != 2 || len(nic.NIC) != 1 {
			t.Fatalf("2 CPUs, 2 disks and a NIC have the metrics %+v, %+v, %+v", cpu, disk, nic)
		}
		return reading{cpu.CPU[0].CPUTime, disk.Disk["vda"].ReadOps, nic.NIC["net0"].RxBytes}
	}
	first := read()
	b.pass(time.Minute)
	second := read()
	if second.cpu <= first.cpu || second.reads <= first.reads || second.rxs <= first.rxs {
		t.Errorf("after a minute the metrics are %+v, they were %+v", second, first)
	}
	if again := read(); again != second {
		t.Errorf("at the same time they are %+v and %+v", again, second)
	}
	b.do(g, b.a.Suspend, virt.Paused)
	b.do(g, b.a.Poweroff, virt.Stopped)
	if off := read(); off != (reading{}) {
		t.Errorf("a guest that is off has the metrics %+v", off)
	}
}

func TestImages(t *testing.T) {
	b := newBench(t, sim.Options{FetchTime: time.Minute})
	for name, images := range map[string]*sim.Images{"disks": b.a.Images(false), "containers": b.a.Images(true)} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			want := func(status string) {
				t.Helper()
				for what, do := range map[string]func(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error){"list": images.List, "get": images.Get} {
					out, err := do(ctx, &mistify.ImageRequest{ID: "debian"})
					if err != nil || len(out.Images) != 1 || out.Images[0].ID != "debian" || out.Images[0].Status != status || out.Images[0].Size == 0 {
						t.Errorf("%s: %+v (%v), want debian %s", what, out, err, status)
					}
				}
			}
			r := &mistify.ImageRequest{ID: "debian", Source: "http://images/debian"}
			for range 2 { // once more is the same
				if _, err := images.Fetch(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			want("pending")
			b.pass(time.Hour)
			want("complete")
			_, err := images.Fetch(ctx, &mistify.ImageRequest{ID: "debian", Source: "http://elsewhere"})
			b.refused("the same image from elsewhere", err, virt.ErrConflict)
			if _, err := images.Delete(ctx, r); err != nil {
				t.Fatal(err)
			}
			_, err = images.Get(ctx, r)
			b.refused("get of what was deleted", err, virt.ErrNotFound)
			_, err = images.Delete(ctx, r)
			b.refused("delete of what was deleted", err, virt.ErrNotFound)
			_, err = images.Fetch(ctx, &mistify.ImageRequest{ID: "../x"})
			b.refused("an id that is a path", err, virt.ErrInvalid)
		})
	}
}

func TestDisksOfImages(t *testing.T) {
	b := newBench(t, sim.Options{FetchTime: time.Minute})
	g := b.guest()
	g.Disks[0].Image = "debian"
	r := &mistify.GuestRequest{Guest: g}
	_, err := b.a.Create(t.Context(), r)
	b.refused("a disk of an image that nobody fetched", err, virt.ErrConflict)
	if _, err := b.a.Images(false).Fetch(t.Context(), &mistify.ImageRequest{ID: "debian"}); err != nil {
		t.Fatal(err)
	}
	_, err = b.a.Provision(t.Context(), r)
	b.refused("a disk of an image that is being fetched", err, virt.ErrConflict)
	b.pass(2 * time.Minute)
	b.do(g, b.a.Create, virt.Running)
}

func (b *bench) write(g *mistify.Guest, i int, text string) {
	b.Helper()
	if err := b.d.WriteDisk("h1", b.volume(g, i), text); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) holds(g *mistify.Guest, i int, want string) {
	b.Helper()
	if text, ok, err := b.d.Disk("h1", b.volume(g, i)); err != nil || !ok || text != want {
		b.Errorf("disk %d holds %q (there: %v, %v), want %q", i, text, ok, err, want)
	}
}

func TestFaultsReachEverything(t *testing.T) {
	b := newBench(t, sim.Options{})
	g := b.do(b.guest(), b.a.Create, virt.Running)
	calls := map[string]func(context.Context) error{
		"start": func(ctx context.Context) error { _, err := b.a.Start(ctx, &mistify.GuestRequest{Guest: g}); return err },
		"metrics": func(ctx context.Context) error {
			_, err := b.a.CPUMetrics(ctx, &mistify.GuestMetricsRequest{Guest: g})
			return err
		},
		"images": func(ctx context.Context) error {
			_, err := b.a.Images(false).List(ctx, &mistify.ImageRequest{})
			return err
		},
		"snapshot": func(ctx context.Context) error {
			_, err := b.a.ListSnapshots(ctx, &mistify.SnapshotRequest{ID: "guests/" + g.ID})
			return err
		},
		"status": func(ctx context.Context) error { _, err := b.a.Status(ctx, &mistify.StatusRequest{}); return err },
	}
	for name, call := range calls {
		b.d.Unreachable("h1")
		b.refused(name+" of a host that fails", call(t.Context()), virt.ErrUnreachable)
		b.d.Heal("h1")
		b.d.Hang("h1")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		b.refused(name+" of a host that hangs", call(ctx), context.DeadlineExceeded)
		cancel()
		b.d.Heal("h1")
		if err := call(t.Context()); err != nil {
			t.Errorf("%s of a host that is healed: %v", name, err)
		}
	}
}

func TestStagesAreOfAllActions(t *testing.T) {
	var want, got []string
	for _, a := range mistify.Actions() {
		if a.Base != mistify.ActionMigrate { // a simulated host has no other beside it
			want = append(want, a.Name)
		}
	}
	for _, s := range sim.Stages() {
		got = append(got, s.Action)
		if err := mistify.CheckMethod(s.Method); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the sub-agent does %v, the actions are %v", got, want)
	}
	var text strings.Builder
	if err := subagent.WriteConfig(&text, subagent.Combine(subagent.Service{Name: "host", Stages: sim.Stages()})); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"[agent.action.define]\nstages = host Sim.Define idempotent\n", "[agent.action.restart]\nstages = host Sim.Restart\n"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("the config has no %q:\n%s", line, text.String())
		}
	}
	// A server takes all of them.
	d, err := host.Open(t.Context(), host.Defaults(), virt.DriverDeps{})
	if err != nil {
		t.Fatal(err)
	}
	s := mistify.NewServer(mistify.ServerOptions{})
	sim.New(d, virt.Host{ID: "h1"}, sim.Options{}).Register(s)
	ln, err := mistify.Listen(mistify.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
