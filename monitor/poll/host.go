package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// visit asks one host and writes what it says of itself and of the VMs that
// stand on it. The error is the registry's.
func (r *round) visit(ctx context.Context, reg registry.Registry, v *visit) (err error) {
	id, began := v.node.ID(), r.m.now()
	defer r.m.release(id)
	defer func() {
		v.report.Took = r.m.now().Sub(began)
		if p := recover(); p != nil {
			v.report.Error = fmt.Sprintf("internal error: %v", p)
			r.m.log.ErrorContext(ctx, "poll of a host panicked", "host", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	before, err := reg.View(ctx)
	if err != nil {
		return r.failed(ctx, v, err)
	}
	n, err := before.Get(id)
	if err != nil {
		v.report.Skipped = "it is no longer in the registry"
		return nil
	}
	v.node = n
	children, err := before.Children(id)
	if err != nil {
		return r.failed(ctx, v, err)
	}
	mem := r.m.memoryOf(id)
	a := r.m.ask(ctx, n, mem.factsOf(n))
	if ctx.Err() != nil {
		v.report.Skipped = "the poll was ended"
		return nil
	}
	var changes []change
	if a.err != nil {
		changes = r.unreachable(v, mem, children.Nodes, a.err)
	} else {
		v.answered, v.listing = true, a.listing
		changes = r.reachable(ctx, v, mem, before, children.Nodes)
	}
	written, err := write(ctx, reg, changes)
	r.noted(v, written)
	if err != nil {
		return r.failed(ctx, v, err)
	}
	return nil
}

// failed reports that the registry did not do its part.
func (r *round) failed(ctx context.Context, v *visit, err error) error {
	if ctx.Err() != nil {
		v.report.Skipped = "the poll was ended"
		return nil
	}
	v.report.Error = "what was seen cannot be kept: " + plain(err.Error())
	return fmt.Errorf("cannot keep what was seen of host %s: %w", v.report.Host, err)
}

// noted adds the findings of what was written.
func (r *round) noted(v *visit, written []change) {
	for _, c := range written {
		if c.finding.Kind != "" {
			v.report.Findings = append(v.report.Findings, c.finding.Finding)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrote += len(written)
}

// unreachable is what follows from a host that cannot be asked: that nothing is
// known. A host that an operator confirmed to be down stays down.
func (r *round) unreachable(v *visit, mem *memory, children []*registry.Node, cause error) (changes []change) {
	reason := plain(cause.Error())
	v.report.Error, v.report.State = reason, virt.Unreachable
	host := v.node.ID()
	mem.mu.Lock()
	defer mem.mu.Unlock()
	if virt.HostState(v.node.State()) == virt.Down {
		v.report.State = virt.Down
	} else if virt.HostState(v.node.State()) != virt.Unreachable {
		changes = append(changes, r.stateChange(v.node, string(virt.Unreachable),
			virt.Evidence{At: latest(mem.answered, mem.host.evidence), Reason: reason}, reason))
	}
	for _, n := range children {
		if n.Type() != virt.TypeVM || virt.State(n.State()) == virt.Unknown {
			continue
		}
		f := r.index.of(n)
		c := r.stateChange(n, string(virt.Unknown), virt.Evidence{At: latest(mem.seen[f.uuid], f.evidence), Host: host, Reason: reason},
			fmt.Sprintf("its host %s cannot be asked", host))
		changes = append(changes, c)
	}
	return changes
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reachable compares a listing with the VMs that stand on the host.
func (r *round) reachable(ctx context.Context, v *visit, mem *memory, before registry.Reader, children []*registry.Node) (changes []change) {
	host, now := v.node.ID(), r.m.now().UTC()
	v.report.State, v.report.Complete, v.report.Guests = virt.Up, v.listing.Complete, len(v.listing.Guests)
	mem.mu.Lock()
	defer mem.mu.Unlock()
	mem.answered, mem.asked = now, r.number
	changes = r.hostChanges(v, mem, now)

	listed := byUUID(v.listing.Guests)
	for _, n := range children {
		if n.Type() != virt.TypeVM {
			continue
		}
		f := r.index.of(n)
		seen, ok := listed[f.uuid]
		if !ok {
			if c, ok := r.absent(ctx, v, mem, n, f); ok {
				changes = append(changes, c)
			}
			continue
		}
		delete(listed, f.uuid)
		delete(mem.absences, n.ID())
		delete(mem.foreign, f.uuid)
		mem.seen[f.uuid] = now
		state := stateOf(seen)
		if n.State() == string(state) && now.Sub(f.evidence) < r.m.cfg.EvidenceEvery {
			continue
		}
		changes = append(changes, r.stateChange(n, string(state), virt.Evidence{At: now, Host: host}, "seen on "+host))
	}
	r.remember(v, mem, before, children, listed, now)
	return changes
}

// byUUID makes a listing's map, the first of two with one UUID. A host may write
// them as it likes.
func byUUID(guests []virt.Seen) map[string]virt.Seen {
	m := make(map[string]virt.Seen, len(guests))
	for _, g := range guests {
		g.UUID = strings.ToLower(g.UUID[:min(len(g.UUID), maxUUID)])
		if _, twice := m[g.UUID]; !twice {
			m[g.UUID] = g
		}
	}
	return m
}

// stateOf is a driver's state, or Unknown for what is none.
func stateOf(s virt.Seen) virt.State {
	switch s.State {
	case virt.Running, virt.Paused, virt.Stopped, virt.Crashed:
		return s.State
	}
	return virt.Unknown
}

// hostChanges is what a host that answers says of itself.
func (r *round) hostChanges(v *visit, mem *memory, now time.Time) []change {
	capacity := merged(mem.host.capacity, v.listing.Capacity)
	if v.node.State() == string(virt.Up) && capacity == mem.host.capacity && now.Sub(mem.host.evidence) < r.m.cfg.EvidenceEvery {
		return nil
	}
	c := r.stateChange(v.node, string(virt.Up), virt.Evidence{At: now}, "it answers")
	if capacity != mem.host.capacity {
		c.set[virt.MetaSeen] = capacity
	}
	return []change{c}
}

// merged keeps what was known where the host says nothing.
func merged(old, seen virt.Capacity) virt.Capacity {
	return virt.Capacity{
		CPU: cmp.Or(max(seen.CPU, 0), old.CPU), Memory: cmp.Or(max(seen.Memory, 0), old.Memory), Disk: cmp.Or(max(seen.Disk, 0), old.Disk),
	}
}

// stateChange writes a state with its evidence, and is a finding if the state is
// another.
func (r *round) stateChange(n *registry.Node, state string, e virt.Evidence, why string) change {
	c := change{id: n.ID(), revision: n.Revision(), state: &state, set: map[string]any{virt.MetaEvidence: e}}
	if n.State() != state {
		was := n.State()
		if was == "" {
			was = "never seen"
		}
		c.finding.Finding = monitor.Finding{Kind: monitor.FoundState, Node: n.ID(), Text: fmt.Sprintf("%s is %s, was %s: %s", n.Name(), state, was, why)}
	}
	return c
}

// absent is a VM that stands on the host and is not in its listing. Only complete
// listings count, without a job that may be about to change it, and over one
// revision of the node.
func (r *round) absent(ctx context.Context, v *visit, mem *memory, n *registry.Node, f facts) (change, bool) {
	if !v.listing.Complete || n.State() == string(virt.Missing) {
		return change{}, false
	}
	if r.m.inFlight(ctx, n.ID()) {
		delete(mem.absences, n.ID())
		return change{}, false
	}
	a := mem.absences[n.ID()]
	if a.revision != n.Revision() {
		a = absence{revision: n.Revision()}
	}
	a.count++
	mem.absences[n.ID()] = a
	if a.count < r.m.cfg.MissingAfter {
		return change{}, false
	}
	host := v.node.ID()
	c := r.stateChange(n, string(virt.Missing), virt.Evidence{
		At: latest(mem.seen[f.uuid], f.evidence), Host: host, Reason: fmt.Sprintf("it was not in %d complete listings of %s", a.count, host),
	}, fmt.Sprintf("%d complete listings of %s do not have it", a.count, host))
	c.finding.Kind = monitor.FoundMissing
	return c, true
}

// What is kept in memory of what a host says is bounded.
const (
	maxUUID    = 64   // bytes of a UUID
	maxUnknown = 1000 // VMs of one host that nobody knows; the first by UUID
)

// remember keeps of a listing what later judgements need. rest are the VMs that
// do not stand on the host.
func (r *round) remember(v *visit, mem *memory, before registry.Reader, children []*registry.Node, rest map[string]virt.Seen, now time.Time) {
	if v.listing.Complete {
		mem.listed = now
		clear(mem.foreign)
	}
	var unknown []string
	for uuid, seen := range rest {
		id, ok := r.index.byUUID[uuid]
		if !ok {
			unknown = append(unknown, uuid)
			continue
		}
		s := sighting{seen: seen, node: id, round: r.number, at: now}
		if n, err := before.Get(id); err == nil {
			s.revision, s.stood = n.Revision(), placeOf(n)
		}
		s.seen.Name = plain(s.seen.Name)
		mem.foreign[uuid] = s
	}
	slices.Sort(unknown)
	kept := unknown[:min(len(unknown), maxUnknown)]
	mem.more = len(unknown) - len(kept)
	for _, uuid := range kept {
		s := sighting{seen: rest[uuid], round: r.number, at: now}
		// A name too long to be one stays so when it is cut.
		s.seen.Name = s.seen.Name[:min(len(s.seen.Name), 4*maxText)]
		mem.foreign[uuid] = s
	}
	if len(mem.absences) == 0 && len(mem.seen) <= len(children) {
		return
	}
	// What no longer stands here is forgotten.
	here := make(map[string]bool, 2*len(children))
	for _, n := range children {
		here[n.ID()], here[r.index.of(n).uuid] = true, true
	}
	for id := range mem.absences {
		if !here[id] {
			delete(mem.absences, id)
		}
	}
	for uuid := range mem.seen {
		if !here[uuid] {
			delete(mem.seen, uuid)
		}
	}
}

// inFlight reports whether a job may be about to change the VM: one that runs,
// here or in the hands of a worker outside, or that can begin without a person's
// doing, whatever it waits for. A parked one cannot. Where that cannot be told
// there may be one. It asks for the VM's queue alone, and for one job of it where
// a scheduler knows its queues by jobs only: there may be a million of others.
func (m *Monitor) inFlight(ctx context.Context, vm string) bool {
	if m.deps.Jobs == nil {
		return false
	}
	if q, ok := m.deps.Jobs.(queues); ok {
		st, err := q.Queue(ctx, vm)
		switch {
		case err == nil:
			return st.Depth > 0 || st.Running != ""
		case errors.Is(err, scheduler.ErrInvalid):
			return false // what a host calls its guest cannot be a queue's name
		case !errors.Is(err, scheduler.ErrUnsupported):
			m.log.WarnContext(ctx, "cannot look at the queue", "vm", vm, "error", err)
			return true
		}
	}
	f := scheduler.Filter{Queue: vm, States: []scheduler.State{scheduler.Waiting, scheduler.Running}, Limit: 1}
	for _, err := range m.deps.Jobs.List(ctx, f) {
		if err != nil {
			m.log.WarnContext(ctx, "cannot list the jobs", "vm", vm, "error", err)
		}
		return true
	}
	return false
}

// queues is the part of scheduler.QueueInspector that is needed here.
type queues interface {
	Queue(ctx context.Context, name string) (scheduler.QueueStatus, error)
}
