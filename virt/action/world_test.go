package action

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/score"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/basic"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	schedsync "github.com/vagoth/vagoth/scheduler/sync"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// errCrash is what everything answers once the process is gone.
var errCrash = errors.New("the process is gone (test)")

// crash ends the process, as far as its actions can tell, at the n-th step: each
// call of the driver and each commit is one.
type crash struct {
	mu    sync.Mutex
	steps int
	at    int  // 0 never
	after bool // the step's deed is done, its answer is lost
	gone  bool
	back  context.CancelCauseFunc // not nil: instead of a crash, the attempt is told to hand its job back
	late  int                     // deeds begun after that
}

// step does a deed, or does not.
func (c *crash) step(ctx context.Context, deed func() error) error {
	if c.back != nil {
		return c.told(ctx, deed)
	}
	c.mu.Lock()
	c.steps++
	if c.gone {
		c.mu.Unlock()
		return errCrash
	}
	c.gone = c.at > 0 && c.steps == c.at
	gone, after := c.gone, c.after
	c.mu.Unlock()
	if gone && !after {
		return errCrash
	}
	err := deed()
	if gone {
		return errCrash
	}
	return err
}

// told is step where the attempt is told to hand its job back.
func (c *crash) told(ctx context.Context, deed func() error) error {
	c.mu.Lock()
	c.steps++
	now := c.at > 0 && c.steps == c.at
	c.gone = c.gone || now
	c.mu.Unlock()
	tell := func() {
		c.back(scheduler.ErrHandedBack)
		select { // a context may hear of it a little later
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	if now && !c.after {
		tell()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.happened() && !now {
		c.mu.Lock()
		c.late++
		c.mu.Unlock()
	}
	err := deed()
	if now {
		tell()
	}
	return err
}

func (c *crash) set(at int, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps, c.at, c.after, c.gone, c.back, c.late = 0, at, after, false, nil, 0
}

// tell makes it a hand-back instead of a crash.
func (c *crash) tell(at int, after bool, back context.CancelCauseFunc) {
	c.set(at, after)
	c.back = back
}

func (c *crash) happened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// fakeGuest is a guest on a fake host.
type fakeGuest struct{ state virt.State }

// fake is a driver of hosts that are maps.
type fake struct {
	crash *crash
	mu    sync.Mutex
	hosts map[string]map[string]*fakeGuest // host, UUID
	disks map[string]map[string]bool       // host, UUID
	calls []string

	volumes map[string]string                                // host and volume: UUID
	kept    map[string][]string                              // UUID: snapshots
	holds   map[string][]string                              // UUID: devices that the host knows of
	parts   map[string]bool                                  // host and UUID: a copy that is not whole
	mixed   bool                                             // one was taken for a whole one
	late    []func()                                         // what liveMover was asked for
	refuse  error                                            // of AttachDisk
	hook    func(ctx context.Context, op, host string) error // before a deed
}

func (f *fake) do(ctx context.Context, op string, h virt.Host, deed func() error) error {
	f.mu.Lock()
	f.calls = append(f.calls, op+" "+h.ID)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, op, h.ID); err != nil {
			return err
		}
	}
	return f.crash.step(ctx, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hosts[h.ID] == nil {
			f.hosts[h.ID], f.disks[h.ID] = map[string]*fakeGuest{}, map[string]bool{}
		}
		return deed()
	})
}

func (f *fake) guest(h virt.Host, g virt.Guest) (*fakeGuest, error) {
	if x := f.hosts[h.ID][g.UUID]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("%w: guest %s", virt.ErrNotFound, g.UUID)
}

func (f *fake) Status(ctx context.Context, h virt.Host) (l virt.Listing, err error) {
	err = f.do(ctx, "status", h, func() error {
		l.Complete = true
		for u, g := range f.hosts[h.ID] {
			l.Guests = append(l.Guests, virt.Seen{UUID: u, State: g.state})
		}
		return nil
	})
	return l, err
}

func (f *fake) Info(ctx context.Context, h virt.Host, g virt.Guest) (i virt.Info, err error) {
	err = f.do(ctx, "info", h, func() error {
		x, err := f.guest(h, g)
		if err == nil {
			i.UUID, i.State = g.UUID, x.state
		}
		return err
	})
	return i, err
}

func (f *fake) Define(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "define", h, func() error {
		if f.hosts[h.ID][g.UUID] == nil {
			f.hosts[h.ID][g.UUID] = &fakeGuest{state: virt.Stopped}
		}
		return nil
	})
}

func (f *fake) Undefine(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "undefine", h, func() error {
		x, err := f.guest(h, g)
		if err == nil && x.state != virt.Stopped {
			err = virt.ErrBusy
		}
		if err == nil {
			delete(f.hosts[h.ID], g.UUID)
		}
		return err
	})
}

func (f *fake) Provision(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "provision", h, func() error {
		if f.parts[h.ID+" "+g.UUID] {
			f.mixed = true
		}
		f.disks[h.ID][g.UUID] = true
		for _, d := range g.Definition.Disks {
			f.volumes[h.ID+" "+d.Volume] = g.UUID
		}
		return nil
	})
}

func (f *fake) Deprovision(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "deprovision", h, func() error {
		if x := f.hosts[h.ID][g.UUID]; x != nil && x.state != virt.Stopped {
			return virt.ErrBusy
		}
		for _, d := range g.Definition.Disks {
			delete(f.volumes, h.ID+" "+d.Volume)
		}
		if left := slices.Collect(maps.Values(f.volumes)); !slices.Contains(left, g.UUID) {
			delete(f.disks[h.ID], g.UUID)
			delete(f.kept, g.UUID)
		}
		return nil
	})
}

func (f *fake) Power(ctx context.Context, h virt.Host, g virt.Guest, op virt.PowerOp) error {
	return f.do(ctx, string(op), h, func() error {
		x, err := f.guest(h, g)
		if err != nil {
			return err
		}
		switch op {
		case virt.PowerStart:
			x.state = virt.Running
		case virt.PowerStop, virt.PowerShutdown:
			x.state = virt.Stopped
		}
		return nil
	})
}

func (f *fake) Suspend(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "suspend", h, func() error { return f.set(h, g, virt.Paused) })
}

func (f *fake) Resume(ctx context.Context, h virt.Host, g virt.Guest) error {
	return f.do(ctx, "resume", h, func() error { return f.set(h, g, virt.Running) })
}

func (f *fake) set(h virt.Host, g virt.Guest, s virt.State) error {
	x, err := f.guest(h, g)
	if err == nil {
		x.state = s
	}
	return err
}

// mover is a fake that is a Migrator too.
type mover struct{ *fake }

func (f mover) Migrate(ctx context.Context, from, to virt.Host, g virt.Guest, _ bool) error {
	return f.do(ctx, "migrate", to, func() error {
		x, err := f.guest(from, g)
		if err != nil {
			return err
		}
		f.hosts[to.ID][g.UUID] = x
		delete(f.hosts[from.ID], g.UUID)
		if f.disks[from.ID][g.UUID] {
			f.disks[to.ID][g.UUID] = true
			delete(f.disks[from.ID], g.UUID)
			for _, d := range g.Definition.Disks {
				delete(f.volumes, from.ID+" "+d.Volume)
				f.volumes[to.ID+" "+d.Volume] = g.UUID
			}
		}
		return nil
	})
}

// liveMover is a fake that is a LiveMigrator and a Settler: what it was asked for goes on until it is
// settled.
type liveMover struct{ *fake }

func (f liveMover) MigrateLive(ctx context.Context, from, to virt.Host, g virt.Guest) error {
	if to.Peer == "" {
		return virt.ErrUnsupported
	}
	return f.do(ctx, "migrate", to, func() error {
		if _, err := f.guest(from, g); err != nil {
			return err
		}
		f.late = append(f.late, func() {
			if x := f.hosts[from.ID][g.UUID]; x != nil {
				f.hosts[to.ID][g.UUID] = x
				delete(f.hosts[from.ID], g.UUID)
			}
		})
		return nil
	})
}

func (f liveMover) Settle(ctx context.Context, h virt.Host, _ virt.Guest) error {
	return f.do(ctx, "settle", h, func() error {
		for _, do := range f.late {
			do()
		}
		f.late = nil
		return nil
	})
}

// watched is a registry whose every commit is a step and is checked.
type watched struct {
	registry.Registry
	w *world
}

func (r watched) Update(ctx context.Context, fn func(registry.Tx) error) error {
	return r.w.crash.step(ctx, func() error {
		err := r.Registry.Update(ctx, fn)
		r.w.checkCapacity()
		return err
	})
}

func (r watched) View(ctx context.Context, o ...registry.ReadOption) (registry.Reader, error) {
	if r.w.crash.happened() && r.w.crash.back == nil {
		return nil, errCrash
	}
	return r.Registry.View(ctx, o...)
}

// world is a cluster of fake hosts.
type world struct {
	t       testing.TB
	crash   *crash
	reg     registry.Registry // without faults
	driver  *fake
	parts   virt.Parts
	actions map[string]scheduler.Action
	attempt int
	limits  *lender // not nil: the scheduler shares limits out
}

// task is the task as the world's scheduler makes it.
func (w *world) task(f *fakeTask) scheduler.Task {
	if w.limits == nil {
		return f
	}
	return &limitedTask{f, w.limits}
}

func (w *world) Parts() virt.Parts { return w.parts }

func newWorld(t testing.TB, hosts ...string) *world {
	db, err := memdb.Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	a, err := score.Open(context.Background(), score.Defaults(), allocator.Deps{Host: virt.AllocatorHost, Need: virt.Need})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, crash: &crash{}, reg: db, attempt: 1}
	w.driver = &fake{crash: w.crash, hosts: map[string]map[string]*fakeGuest{}, disks: map[string]map[string]bool{},
		volumes: map[string]string{}, parts: map[string]bool{}, kept: map[string][]string{}, holds: map[string][]string{}}
	w.parts = virt.Parts{Registry: watched{db, w}, Allocator: a, Drivers: map[string]virt.Driver{"fake": mover{w.driver}, "plain": w.driver, "live": liveMover{w.driver}, "copier": copier{liveMover{w.driver}}, "keeper": keeper{w.driver}}}
	p, err := basic.Open(context.Background(), basic.Config{}, provisioner.Deps{Registry: w.parts.Registry, Types: map[string]provisioner.Class{virt.TypeVM: virt.VMClass()}})
	if err != nil {
		t.Fatal(err)
	}
	w.parts.Provisioner = p
	w.actions = ActionsWith(w, Config{})
	s := schedsync.New(schedsync.Defaults(), scheduler.Deps{Actions: w.actions})
	t.Cleanup(func() { _ = s.Close() })
	w.parts.Scheduler = s
	for _, h := range hosts {
		w.host(h, `{"driver":"fake","cpu":8,"memory":4096,"disk":100000}`)
	}
	return w
}

func (w *world) host(id, def string) {
	w.create(registry.Draft{ID: id, Type: virt.TypeHypervisor, State: string(virt.Up), Definition: parsed(w.t, def)})
}

func (w *world) vm(id, def string, tags ...string) {
	d := registry.Draft{ID: id, Type: virt.TypeVM, State: string(virt.New), Definition: parsed(w.t, def)}
	for _, t := range tags {
		if d.Tags == nil {
			d.Tags = map[string]string{}
		}
		k, v, _ := strings.Cut(t, "=")
		d.Tags[k] = v
	}
	w.create(d)
}

func (w *world) create(d registry.Draft) {
	w.t.Helper()
	d.Name = d.ID
	if _, err := registry.Create(context.Background(), w.reg, d); err != nil {
		w.t.Fatal(err)
	}
}

func parsed(t testing.TB, s string) registry.Document {
	t.Helper()
	d, err := registry.ParseDocument([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) node(id string) *registry.Node {
	w.t.Helper()
	n, err := registry.Get(context.Background(), w.reg, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// set changes a node past all faults.
func (w *world) set(id string, fn func(*registry.Draft)) {
	w.t.Helper()
	if _, err := registry.Modify(context.Background(), w.reg, id, func(d *registry.Draft) error { fn(d); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// run runs one attempt of an action in the caller.
func (w *world) run(ctx context.Context, name string, p virt.Params) (Result, error) {
	t := trail.Trail{Transaction: "t", Source: "test", Job: "job", Attempt: w.attempt}
	task := &fakeTask{job: scheduler.Job{ID: "job", Queue: p.VM, Action: name, Params: scheduler.MustParams(p), Trail: t}}
	res, err := w.actions[name].Run(trail.With(ctx, t), w.task(task))
	r, _ := res.(Result)
	return r, err
}

// must runs an action that has to succeed.
func (w *world) must(name string, p virt.Params) Result {
	w.t.Helper()
	res, err := w.run(context.Background(), name, p)
	if err != nil {
		w.t.Fatalf("%s %s: %v", name, p.VM, err)
	}
	return res
}

type fakeTask struct{ job scheduler.Job }

func (f *fakeTask) Job() scheduler.Job   { return f.job }
func (f *fakeTask) Progress(int, string) {}
func (f *fakeTask) Log(string)           {}

// checkCapacity finds a host that was promised more than it has.
func (w *world) checkCapacity() {
	v, err := w.reg.View(context.Background())
	if err != nil {
		return // closed
	}
	for h, err := range v.List(registry.Query{Type: virt.TypeHypervisor}) {
		if err != nil {
			w.t.Error(err)
			return
		}
		children, err := v.Children(h.ID())
		if err != nil {
			w.t.Error(err)
			return
		}
		used, err := allocator.Used(children.Nodes, virt.Need, "")
		if err != nil {
			w.t.Error(err)
			return
		}
		host, _ := virt.AllocatorHost(h)
		d := score.Defaults()
		has := allocator.Effective(host, allocator.Overcommit{CPU: d.OverCPU, Memory: d.OverMemory, Disk: d.OverDisk})
		if used.CPU > has.CPU || used.Memory > has.Memory || used.Disk > has.Disk {
			w.t.Errorf("host %s has %+v and has promised %+v", h.ID(), has, used)
		}
	}
}

// checkPlace finds a VM on two hosts, on one that is not its parent, or with
// disks that nobody would find.
func (w *world) checkPlace(id string) {
	w.t.Helper()
	n := w.node(id)
	u := virt.NodeUUID(n)
	w.driver.mu.Lock()
	defer w.driver.mu.Unlock()
	var on, disks []string
	for h := range w.driver.hosts {
		if x := w.driver.hosts[h][u]; x != nil && (x.state != virt.Stopped || h != virt.MovesTo(n)) {
			on = append(on, h) // where it moves to it can be defined already
		}
		if w.driver.disks[h][u] && h != virt.LeftOn(n) {
			disks = append(disks, h)
		}
		if w.driver.parts[h+" "+u] && h != virt.LeftOn(n) {
			w.t.Errorf("%s has a part of its disks on %s, of which nobody knows", id, h)
		}
	}
	slices.Sort(on)
	if len(on) > 1 {
		w.t.Errorf("%s is on the hosts %v", id, on)
	}
	if len(on) == 1 && n.Parent() != on[0] && virt.MovesTo(n) != on[0] {
		w.t.Errorf("%s is on %s, and its parent is %q", id, on[0], n.Parent())
	}
	if len(disks) > 1 {
		w.t.Errorf("%s has disks on %v", id, disks)
	}
	if len(disks) == 1 && virt.DisksOn(n) != disks[0] && virt.MovesTo(n) != disks[0] {
		w.t.Errorf("%s has disks on %s, and disks_on is %q", id, disks[0], virt.DisksOn(n))
	}
}

// snapshot is what matters of a VM, in one line.
func (w *world) snapshot(id string) string {
	n := w.node(id)
	u := virt.NodeUUID(n)
	w.driver.mu.Lock()
	defer w.driver.mu.Unlock()
	var on []string
	for _, h := range slices.Sorted(maps.Keys(w.driver.hosts)) {
		if g := w.driver.hosts[h][u]; g != nil {
			on = append(on, "on "+h+" "+string(g.state))
		}
		if w.driver.disks[h][u] {
			on = append(on, "disks "+h)
		}
	}
	for _, more := range []struct {
		what string
		list []string
	}{{"snapshots", w.driver.kept[u]}, {"attached", w.driver.holds[u]}} {
		if len(more.list) > 0 {
			on = append(on, more.what+" "+strings.Join(more.list, " "))
		}
	}
	for _, d := range virt.DetachedOf(n) {
		on = append(on, "detached "+d.Device)
	}
	for _, p := range slices.Sorted(maps.Keys(w.driver.parts)) {
		on = append(on, "part "+p)
	}
	if left := virt.LeftOn(n); left != "" {
		on = append(on, "left "+left)
	}
	return fmt.Sprintf("%s parent=%s disks_on=%s moving=%s; %s", n.State(), n.Parent(), virt.DisksOn(n), virt.MovesTo(n), strings.Join(on, ", "))
}

const small = `{"cpu":1,"memory":256,"disks":[{"size":100}]}`
