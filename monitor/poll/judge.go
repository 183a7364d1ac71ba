package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// alarmTwice is the kind of the alarm that this monitor raises and clears.
const alarmTwice = monitor.FoundTwice

// metaAdopted is the member of an adopted VM's metadata that says where it was
// found.
const metaAdopted = "adopted"

// adopted is what metaAdopted holds.
type adopted struct {
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	Name string    `json:"name"` // as the host called it
}

// maxStrangers is how many strangers are listed by name for one host.
const maxStrangers = 100

// hostView is what the judge knows of one host.
type hostView struct {
	node    *registry.Node // now
	visit   *visit         // in this round, or nil
	listed  bool           // completely, by this process
	strange []virt.Seen
	known   []string   // the strangers that its metadata lists
	more    int        // strangers that are only counted
	seen    *elsewhere // on it in this round, that other managers are to know of
	kept    *elsewhere // of that what its metadata holds
}

// judge looks at what takes more than one host to tell. It runs when all hosts of
// the round have answered or run out of time.
func (r *round) judge(ctx context.Context, reg registry.Registry) error {
	r.m.judging.Lock()
	defer r.m.judging.Unlock()
	v, err := reg.View(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the registry: %w", err)
	}
	j := &judgement{r: r, ctx: ctx, v: v, hosts: map[string]*hostView{}, sightings: map[string]map[string]sighting{}}
	if err := j.gather(); err != nil {
		return fmt.Errorf("cannot read the registry: %w", err)
	}
	for _, u := range slices.Sorted(maps.Keys(j.sightings)) {
		if err := j.vm(u); err != nil {
			return fmt.Errorf("cannot read the registry: %w", err)
		}
	}
	if err := j.clearAlarms(); err != nil {
		return fmt.Errorf("cannot read the registry: %w", err)
	}
	j.strangers()
	j.keep()
	written, err := write(ctx, reg, j.changes)
	r.wrote += len(written)
	for _, c := range written {
		if h := j.hosts[c.finding.on]; h != nil && h.visit != nil && c.finding.Kind != "" {
			h.visit.report.Findings = append(h.visit.report.Findings, c.finding.Finding)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep what was seen: %w", err)
	}
	return nil
}

// judgement is the work of one judge.
type judgement struct {
	r         *round
	ctx       context.Context
	v         registry.Reader
	index     *index // of v
	hosts     map[string]*hostView
	all       bool                           // every host that may be up has been listed completely
	sightings map[string]map[string]sighting // by UUID, by host: VMs on hosts that they do not stand on
	changes   []change
}

// gather collects what is remembered of every host that is not known to be down.
func (j *judgement) gather() error {
	j.all = true
	for n, err := range j.v.List(registry.Query{Type: virt.TypeHypervisor}) {
		if err != nil {
			return err
		}
		j.hosts[n.ID()] = &hostView{node: n}
	}
	for _, v := range j.r.hosts {
		if h := j.hosts[v.report.Host]; h != nil {
			h.visit = v
		}
	}
	j.r.m.mu.Lock()
	memories := maps.Clone(j.r.m.hosts)
	for id := range j.r.m.hosts {
		// What an operator confirmed to be down runs nothing.
		if h := j.hosts[id]; h == nil || h.node.State() == string(virt.Down) {
			delete(j.r.m.hosts, id)
			delete(memories, id)
		}
	}
	j.r.m.mu.Unlock()
	unknown := false
	for id, mem := range memories {
		mem.mu.Lock()
		h := j.hosts[id]
		h.listed, h.known, h.more = !mem.listed.IsZero(), mem.host.strange, mem.more
		h.kept, h.seen = mem.host.kept, mem.elsewhere()
		for u, s := range mem.foreign {
			if j.sightings[u] == nil {
				j.sightings[u] = map[string]sighting{}
			}
			j.sightings[u][id] = s
			unknown = unknown || s.node == ""
		}
		mem.mu.Unlock()
	}
	if j.r.divided {
		unknown = j.others(memories) || unknown
	}
	for _, h := range j.hosts {
		state := virt.HostState(h.node.State())
		j.all = j.all && (h.listed || state == virt.Unreachable || state == virt.Down)
	}
	j.index = j.r.index
	if unknown {
		// Nobody knew it when the round began; a node may have been made since.
		var err error
		j.index, err = newIndex(j.v, j.r.index)
		return err
	}
	return nil
}

// vm judges one VM that is on hosts where it does not stand.
func (j *judgement) vm(u string) error {
	on := j.sightings[u]
	id := j.index.byUUID[u]
	if id == "" {
		j.unknown(u, on)
		return nil
	}
	n, err := j.v.Get(id)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	hosts := j.places(n, j.current(n, on))
	switch {
	case len(hosts) > 1:
		j.twice(n, on, hosts)
	case n.Parent() == "" && len(hosts) == 1:
		j.assign(n, on[hosts[0]], hosts[0])
	}
	return nil
}

// current are the sightings of a VM that still count. It may have been moved since its
// host was asked, and have been there rightly. Where it went on its way to where it was
// moving it was looked for before it was said to have come to rest. And a host that
// answers is asked again soon; of one that does not, what it said last counts.
func (j *judgement) current(n *registry.Node, on map[string]sighting) map[string]sighting {
	kept := maps.Clone(on)
	maps.DeleteFunc(kept, func(h string, s sighting) bool {
		if s.stood == placeOf(n) {
			return false
		}
		return s.stood.To == h || virt.HostState(j.hosts[h].node.State()) == virt.Up
	})
	return kept
}

// places are the hosts on which a VM stands or is seen, apart from the one that
// it moves to from where it stands.
func (j *judgement) places(n *registry.Node, on map[string]sighting) []string {
	hosts := slices.Collect(maps.Keys(on))
	if to := virt.MovesTo(n); to != "" && n.Parent() != "" {
		hosts = slices.DeleteFunc(hosts, func(h string) bool { return h == to })
	}
	if p := n.Parent(); p != "" {
		hosts = append(hosts, p)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// twice raises the alarm over a VM, or leaves it as it stands.
func (j *judgement) twice(n *registry.Node, on map[string]sighting, hosts []string) {
	var parts []string
	for _, h := range hosts {
		switch s, ok := on[h]; {
		case ok:
			parts = append(parts, fmt.Sprintf("%s (%s)", h, stateOf(s.seen)))
		default:
			parts = append(parts, h+" (where it stands)")
		}
	}
	text := fmt.Sprintf("%s is on more than one host: %.400s: find out where it must not be, and stop it there", n.Name(), strings.Join(parts, ", "))
	for _, h := range hosts {
		if v := j.hosts[h]; v != nil && v.visit != nil {
			v.visit.found(monitor.FoundTwice, n.ID(), "%s", text)
		}
	}
	old, ok := virt.AlarmOf(n)
	if ok && old.Kind == alarmTwice && slices.Equal(old.Hosts, hosts) {
		return
	}
	alarm := virt.Alarm{Since: j.r.m.now().UTC(), Kind: alarmTwice, Text: text, Hosts: hosts}
	if ok && old.Kind == alarmTwice {
		alarm.Since = old.Since
	}
	j.changes = append(j.changes, change{id: n.ID(), revision: n.Revision(), set: map[string]any{virt.MetaAlarm: alarm}})
}

// clearAlarms takes back alarms that no longer hold: every host that they name
// has been asked by this process, and the VM is on one at most.
func (j *judgement) clearAlarms() error {
	for _, id := range j.index.alarmed {
		n, err := j.v.Get(id)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		alarm, ok := virt.AlarmOf(n)
		if !ok || alarm.Kind != alarmTwice || len(j.places(n, j.sightings[j.index.of(n).uuid])) > 1 {
			continue
		}
		if slices.ContainsFunc(alarm.Hosts, func(id string) bool {
			h := j.hosts[id]
			return h != nil && !h.listed && h.node.State() != string(virt.Down)
		}) {
			continue
		}
		if i := slices.IndexFunc(j.changes, func(c change) bool { return c.id == id && c.parent != nil }); i >= 0 {
			j.changes[i].remove = append(j.changes[i].remove, virt.MetaAlarm) // one node, one write
			continue
		}
		c := change{id: n.ID(), revision: n.Revision(), remove: []string{virt.MetaAlarm}}
		c.finding = finding{on: n.Parent(), Finding: monitor.Finding{Kind: monitor.FoundState, Node: n.ID(), Text: n.Name() + " is no longer on more than one host"}}
		j.changes = append(j.changes, c)
	}
	return nil
}

// assign gives a VM without a host the only one that it was found on.
func (j *judgement) assign(n *registry.Node, s sighting, host string) {
	v := j.hosts[host].visit
	if v == nil || !v.answered || s.round != j.r.number || s.revision != n.Revision() || j.r.m.inFlight(j.ctx, n.ID()) {
		return
	}
	if !j.all {
		v.found(monitor.FoundStranger, n.ID(), "%s has no host and is found on %s: it is assigned once every host has been asked", n.Name(), host)
		return
	}
	state := string(stateOf(s.seen))
	c := change{id: n.ID(), revision: n.Revision(), state: &state, parent: &host, set: map[string]any{virt.MetaEvidence: virt.Evidence{At: s.at, Host: host}}}
	c.finding = finding{on: host, Finding: monitor.Finding{Kind: monitor.FoundAssigned, Node: n.ID(), Text: fmt.Sprintf("%s had no host and is %s on %s", n.Name(), state, host)}}
	j.changes = append(j.changes, c)
}

// unknown judges a VM that is no node's.
func (j *judgement) unknown(u string, on map[string]sighting) {
	hosts := slices.Sorted(maps.Keys(on))
	if len(hosts) > 1 {
		for _, h := range hosts {
			if v := j.hosts[h]; v.visit != nil && v.visit.answered {
				v.visit.found(monitor.FoundTwice, "", "the unknown VM %.64q is on more than one host: %.400s", u, strings.Join(hosts, ", "))
			}
		}
	}
	for _, h := range hosts {
		s, v := on[h], j.hosts[h]
		if s.node != "" {
			continue // its node was deleted while the host was asked
		}
		if id, err := uuid.Parse(u); j.r.m.cfg.CreateMissing && len(hosts) == 1 && err == nil && id.String() == u &&
			s.round == j.r.number && v.visit != nil && v.visit.answered && j.all && !j.r.m.inFlight(j.ctx, u) {
			j.adopt(u, s, h)
			continue
		}
		v.strange = append(v.strange, s.seen)
	}
}

// adopt makes a node of an unknown VM.
func (j *judgement) adopt(u string, s sighting, host string) {
	c := change{id: u, finding: finding{on: host, Finding: monitor.Finding{
		Kind: monitor.FoundAdopted, Node: u, Text: fmt.Sprintf("the unknown VM %q is %s on %s and has become a node", plain(s.seen.Name), stateOf(s.seen), host),
	}}}
	def, err1 := registry.NewDocument(virt.Definition{CPU: max(s.seen.CPU, 1), Memory: int(max(s.seen.Memory, 1))})
	meta, err2 := registry.NewDocument(map[string]any{
		virt.MetaEvidence: virt.Evidence{At: s.at, Host: host}, metaAdopted: adopted{At: s.at, Host: host, Name: plain(s.seen.Name)},
	})
	if err1 != nil || err2 != nil {
		return // neither holds anything that cannot be encoded
	}
	d := registry.Draft{
		ID: u, Name: u, Type: virt.TypeVM, Tenant: j.r.m.cfg.Tenant, Parent: host, State: string(stateOf(s.seen)), Definition: def, Metadata: meta,
	}
	c.alone = func(tx registry.Tx) (bool, error) {
		if _, err := tx.Get(host); err != nil {
			return false, nil // the host has been removed
		}
		if _, err := registry.Find(tx, u); err == nil {
			return false, nil // somebody was faster
		}
		if registry.CheckName(s.seen.Name) == nil {
			if _, err := registry.Find(tx, s.seen.Name); errors.Is(err, registry.ErrNotFound) {
				d.Name = s.seen.Name
			}
		}
		_, err := tx.Create(d)
		return err == nil, err
	}
	j.changes = append(j.changes, c)
}

// strangers lists the unknown VMs of each host that was listed completely.
func (j *judgement) strangers() {
	for _, id := range slices.Sorted(maps.Keys(j.hosts)) {
		h := j.hosts[id]
		if h.visit == nil || !h.visit.answered || !h.visit.listing.Complete {
			continue
		}
		names := make([]string, 0, len(h.strange))
		for _, s := range h.strange {
			name := plain(s.Name)
			if name == "" {
				name = plain(s.UUID)
			}
			names = append(names, name)
		}
		slices.Sort(names)
		names = names[:min(len(names), maxStrangers)]
		for _, name := range names {
			h.visit.found(monitor.FoundStranger, "", "%q is on %s and no node's", name, id)
		}
		if more := h.more + len(h.strange) - len(names); more > 0 {
			h.visit.found(monitor.FoundStranger, "", "%d more are on %s and no node's", more, id)
		}
		if slices.Equal(names, h.known) {
			continue
		}
		c := change{id: id, revision: h.node.Revision(), set: map[string]any{virt.MetaStrangers: names}}
		if len(names) == 0 {
			c.set, c.remove = nil, []string{virt.MetaStrangers}
		}
		j.changes = append(j.changes, c)
	}
}
