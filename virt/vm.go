package virt

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// infoTimeout bounds a direct question to a driver whose caller set no
// deadline.
const infoTimeout = 30 * time.Second

// VirtualMachine is a VM's node seen as what it stands for. It remembers only
// which one: every method looks anew, or submits a job on the VM's queue.
type VirtualMachine struct {
	c       Cluster
	id      string
	name    string // when it was found
	options Options
}

// Options modify the jobs that a VirtualMachine submits.
type Options struct {
	Reason  string        // why, for the trail; that of the context if empty
	Host    string        // define, provision, start: place it there
	Key     string        // idempotency key
	Timeout time.Duration // of one attempt; 0 takes the action's
	Retry   scheduler.Retry
	Cold    bool // migrate: only when it does not run
}

// VM finds a VM by ID, name or unique key.
func VM(ctx context.Context, c Cluster, ref string) (*VirtualMachine, error) {
	n, err := find(ctx, c, ref, TypeVM)
	if err != nil {
		return nil, err
	}
	return VMFrom(c, n), nil
}

// VMFrom is the view of a node of type vm that the caller has read.
func VMFrom(c Cluster, n *registry.Node) *VirtualMachine {
	return &VirtualMachine{c: c, id: n.ID(), name: n.Name()}
}

// VMs yields every VM, ordered by ID.
func VMs(ctx context.Context, c Cluster) iter.Seq2[*VirtualMachine, error] {
	return each(ctx, c, registry.Query{Type: TypeVM}, VMFrom)
}

// find resolves a reference to a node of the type.
func find(ctx context.Context, c Cluster, ref, typ string) (*registry.Node, error) {
	v, err := c.Parts().Registry.View(ctx)
	if err != nil {
		return nil, err
	}
	n, err := registry.Find(v, ref)
	if err != nil {
		return nil, err
	}
	return n, checkType(n, typ)
}

func checkType(n *registry.Node, typ string) error {
	if n.Type() == typ {
		return nil
	}
	what := map[string]string{TypeVM: "a virtual machine", TypeHypervisor: "a hypervisor"}[typ]
	return fmt.Errorf("%w: node %s is of type %s, not %s (type %s): name another", ErrInvalid, n.ID(), n.Type(), what, typ)
}

func each[T any](ctx context.Context, c Cluster, q registry.Query, view func(Cluster, *registry.Node) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		v, err := c.Parts().Registry.View(ctx)
		if err != nil {
			yield(none, err)
			return
		}
		for n, err := range v.List(q) {
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(view(c, n), nil) {
				return
			}
		}
	}
}

// With returns the same VM with other options for what it submits:
// vm.With(virt.Options{Host: "h1"}).Start(ctx).
func (m *VirtualMachine) With(o Options) *VirtualMachine {
	other := *m
	other.options = o
	return &other
}

// ID is the node's ID.
func (m *VirtualMachine) ID() string { return m.id }

// Name is the node's name when it was found.
func (m *VirtualMachine) Name() string { return m.name }

// Node reads the node.
func (m *VirtualMachine) Node(ctx context.Context) (*registry.Node, error) {
	return registry.Get(ctx, m.c.Parts().Registry, m.id)
}

// State is the state that was seen last. See Evidence for when.
func (m *VirtualMachine) State(ctx context.Context) (State, error) {
	n, err := m.Node(ctx)
	if err != nil {
		return "", err
	}
	return State(n.State()), nil
}

// Evidence is when its state was last seen; false if it never was.
func (m *VirtualMachine) Evidence(ctx context.Context) (Evidence, bool, error) {
	n, err := m.Node(ctx)
	if err != nil {
		return Evidence{}, false, err
	}
	e, ok := EvidenceOf(n)
	return e, ok, nil
}

// Parent is the hypervisor that it is on, nil if none.
func (m *VirtualMachine) Parent(ctx context.Context) (*Hypervisor, error) {
	v, err := m.c.Parts().Registry.View(ctx)
	if err != nil {
		return nil, err
	}
	n, err := v.Get(m.id)
	if err != nil || n.Parent() == "" {
		return nil, err
	}
	host, err := v.Get(n.Parent())
	if err != nil {
		return nil, err
	}
	if err := checkType(host, TypeHypervisor); err != nil {
		return nil, err
	}
	return HypervisorFrom(m.c, host), nil
}

// Definition is what it ought to be, with nothing filled in.
func (m *VirtualMachine) Definition(ctx context.Context) (Definition, error) {
	n, err := m.Node(ctx)
	if err != nil {
		return Definition{}, err
	}
	d, err := ParseDefinition(n.Definition())
	if err != nil {
		return d, fmt.Errorf("node %s: %w", m.id, err)
	}
	return d, nil
}

// Decision is the allocator's last decision about it; registry.ErrNotFound if
// there is none.
func (m *VirtualMachine) Decision(ctx context.Context) (*allocator.Decision, error) {
	v, err := m.c.Parts().Registry.View(ctx)
	if err != nil {
		return nil, err
	}
	data, err := v.Blob(m.id, BlobDecision)
	if err != nil {
		return nil, err
	}
	d := new(allocator.Decision)
	if err := d.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("cannot read the decision about %s: %w", m.id, err)
	}
	return d, nil
}

// Plan asks the allocator where it would be placed now, and changes nothing.
func (m *VirtualMachine) Plan(ctx context.Context) (*allocator.Decision, error) {
	p := m.c.Parts()
	v, err := p.Registry.View(ctx)
	if err != nil {
		return nil, err
	}
	n, err := v.Get(m.id)
	if err != nil {
		return nil, err
	}
	req, err := PlacementOf(v, n, m.options.Host)
	if err != nil {
		return nil, err
	}
	return p.Allocator.Decide(ctx, v, req)
}

// PlacementOf is RequestOf with a host that somebody asks for by ID or name,
// who wants that one or none. It refuses a host that has not the VM's disks.
func PlacementOf(r registry.Reader, n *registry.Node, host string) (allocator.Request, error) {
	req, err := RequestOf(n)
	if err != nil || host == "" {
		return req, err
	}
	h, err := findHost(r, host)
	if err != nil {
		return req, err
	}
	if on := DisksOn(n); on != "" && on != h.ID() {
		return req, fmt.Errorf("%w: %s cannot be placed on %s: its disks are on %s: leave the host out, or wipe them with `vagoth deprovision %s`",
			ErrConflict, n.Name(), h.ID(), on, n.Name())
	}
	req.Hint = h.ID()
	req.Constraints.Hosts = []string{h.ID()}
	return req, nil
}

// located is a VM with its host and what drives that.
type located struct {
	host   Host
	guest  Guest
	driver Driver
	name   string // of the driver
}

func (m *VirtualMachine) located(ctx context.Context) (l located, err error) {
	p := m.c.Parts()
	v, err := p.Registry.View(ctx)
	if err != nil {
		return l, err
	}
	n, err := v.Get(m.id)
	if err != nil {
		return l, err
	}
	if n.Parent() == "" {
		return l, fmt.Errorf("%w: %s is on no host: define it first", ErrNotFound, m.name)
	}
	hn, err := v.Get(n.Parent())
	if err != nil {
		return l, err
	}
	host, def, err := HostOf(hn)
	if err != nil {
		return l, err
	}
	g, err := GuestOf(n)
	if err != nil {
		return l, err
	}
	d, err := p.Driver(def.Driver)
	return located{host: host, guest: g, driver: d, name: def.Driver}, err
}

// Info asks the driver, at once: reading never queues.
func (m *VirtualMachine) Info(ctx context.Context) (Info, error) {
	l, err := m.located(ctx)
	if err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	info, err := l.driver.Info(ctx, l.host, l.guest)
	if err != nil {
		return info, fmt.Errorf("cannot ask host %s for %s: %w", l.host.ID, m.name, err)
	}
	return info, nil
}

// Define places it, if it has no host, and makes it known there.
func (m *VirtualMachine) Define(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionDefine, Params{Host: m.options.Host})
}

// Provision makes its disks on its host.
func (m *VirtualMachine) Provision(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionProvision, Params{Host: m.options.Host})
}

// Start starts it, after defining it and making its disks where need be.
func (m *VirtualMachine) Start(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionStart, Params{Host: m.options.Host})
}

// Stop asks it to shut down if grace is more than 0, and turns it off when that
// is over.
func (m *VirtualMachine) Stop(ctx context.Context, grace time.Duration) (scheduler.Status, error) {
	return m.submit(ctx, ActionStop, Params{Grace: graceText(grace)})
}

// Shutdown asks it to shut down.
func (m *VirtualMachine) Shutdown(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionShutdown, Params{})
}

// Reboot asks it to start again.
func (m *VirtualMachine) Reboot(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionReboot, Params{})
}

// Suspend holds it.
func (m *VirtualMachine) Suspend(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionSuspend, Params{})
}

// Resume lets it go on.
func (m *VirtualMachine) Resume(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionResume, Params{})
}

// Undefine takes it off its host; its disks stay there.
func (m *VirtualMachine) Undefine(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionUndefine, Params{})
}

// Deprovision wipes its disks and takes it off its host.
func (m *VirtualMachine) Deprovision(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionDeprovision, Params{})
}

// Migrate moves it to another host; the allocator chooses if to is "".
func (m *VirtualMachine) Migrate(ctx context.Context, to string) (scheduler.Status, error) {
	return m.submit(ctx, ActionMigrate, Params{To: to, Cold: m.options.Cold})
}

// Poll asks its host for its state and writes it down.
func (m *VirtualMachine) Poll(ctx context.Context) (scheduler.Status, error) {
	return m.submit(ctx, ActionPoll, Params{})
}

// submit submits one job and returns where it stands: queued, or ended where the
// scheduler runs jobs in the caller. See Wait. The error is a refusal, or, where
// the end is known already, the job's failure as a *scheduler.JobError.
func (m *VirtualMachine) submit(ctx context.Context, action string, p Params) (scheduler.Status, error) {
	p.VM = m.id
	j := Job(action, p)
	j.Key, j.Timeout, j.Retry, j.Trail = m.options.Key, scheduler.Span(m.options.Timeout), m.options.Retry, trail.From(ctx)
	if m.options.Reason != "" {
		j.Trail.Reason = m.options.Reason
	}
	parts := m.c.Parts()
	n, err := registry.Get(ctx, parts.Registry, m.id)
	if err != nil {
		return scheduler.Status{}, fmt.Errorf("cannot submit %s for %s: %w", action, m.name, err)
	}
	j.Limits = LimitsFor(parts, action, n)
	list, err := parts.Scheduler.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{j}})
	if err != nil {
		return scheduler.Status{}, fmt.Errorf("cannot submit %s for %s: %w", action, m.name, err)
	}
	if len(list) != 1 {
		return scheduler.Status{}, errors.New("the scheduler answered one job with another number of states")
	}
	return list[0], list[0].Err()
}
