package poll

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// The hosts of a cluster that several managers share are spread over those that
// run. What takes more than one host to tell needs what the others saw: so each
// keeps in the metadata of its hosts which VMs are on them that do not stand there,
// and writes that when it changes.

// work is what the managers share.
const work = "poll"

// metaElsewhere is the member of a host's metadata that holds an elsewhere.
const metaElsewhere = "elsewhere"

// elsewhere is what a host was seen to have that does not stand on it.
type elsewhere struct {
	Complete bool          `json:"complete,omitempty"` // no more than that is there
	VMs      []elsewhereVM `json:"vms,omitempty"`      // ordered by UUID
}

type elsewhereVM struct {
	UUID  string     `json:"uuid"`
	State virt.State `json:"state"`
	Name  string     `json:"name,omitempty"`
	place            // before the listing
}

// maxElsewhere is how many VMs are kept for a host. With more of them nothing is
// concluded.
const maxElsewhere = 200

// divide takes part in polling, until the function that it returns is called.
func (m *Monitor) divide(ctx context.Context) (leave func()) {
	if m.deps.Divide == nil {
		return func() {}
	}
	set := func(s registry.Share) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.part = s
	}
	share := m.deps.Divide.Divide(ctx, work, m.cfg.Timeout+m.grace())
	set(share)
	return func() {
		set(nil)
		share.Leave()
	}
}

// forgetOthers forgets what is remembered of hosts that others ask: it grows old.
func (m *Monitor) forgetOthers(share registry.Share) {
	if share == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.hosts, func(id string, _ *memory) bool { return m.out[id] == 0 && !share.Mine(id) })
}

// elsewhere is what there is to keep of the last listing. The caller has the lock.
func (h *memory) elsewhere() *elsewhere {
	e := &elsewhere{Complete: !h.listed.IsZero() && h.more == 0 && len(h.foreign) <= maxElsewhere}
	for _, u := range slices.Sorted(maps.Keys(h.foreign)) {
		if len(e.VMs) == maxElsewhere {
			break
		}
		s := h.foreign[u]
		e.VMs = append(e.VMs, elsewhereVM{UUID: u, State: stateOf(s.seen), Name: plain(s.seen.Name), place: s.stood})
	}
	return e
}

// others takes what other managers have kept of the hosts that they ask. It reports
// whether there are VMs among it that nobody knows.
func (j *judgement) others(mine map[string]*memory) (unknown bool) {
	for id, h := range j.hosts {
		if mine[id] != nil || h.node.State() == string(virt.Down) {
			continue
		}
		var meta struct {
			Kept *elsewhere `json:"elsewhere"`
		}
		if h.node.Metadata().Decode(&meta) != nil || meta.Kept == nil {
			continue // nobody has asked it yet
		}
		h.listed = meta.Kept.Complete
		for _, vm := range meta.Kept.VMs {
			if len(vm.UUID) > maxUUID {
				continue
			}
			node := j.r.index.byUUID[vm.UUID]
			if n, err := j.v.Get(node); node != "" && err == nil && n.Parent() == id {
				continue // it stands there by now
			}
			if j.sightings[vm.UUID] == nil {
				j.sightings[vm.UUID] = map[string]sighting{}
			}
			j.sightings[vm.UUID][id] = sighting{seen: virt.Seen{UUID: vm.UUID, Name: vm.Name, State: vm.State}, node: node, stood: vm.place}
			unknown = unknown || node == ""
		}
	}
	return unknown
}

// keep writes what the other managers are to know. A manager alone takes it away.
func (j *judgement) keep() {
	for _, id := range slices.Sorted(maps.Keys(j.hosts)) {
		h := j.hosts[id]
		if h.visit == nil || !h.visit.answered || h.seen == nil {
			continue
		}
		c := change{id: id, revision: h.node.Revision()}
		switch {
		case j.r.divided && (h.kept == nil || !reflect.DeepEqual(*h.kept, *h.seen)):
			c.set = map[string]any{metaElsewhere: h.seen}
		case !j.r.divided && j.r.m.deps.Divide == nil && h.kept != nil:
			c.remove = []string{metaElsewhere}
		default:
			continue
		}
		if i := slices.IndexFunc(j.changes, func(o change) bool { return o.id == id && o.alone == nil }); i >= 0 { // one node, one write
			o := &j.changes[i]
			o.remove = append(o.remove, c.remove...)
			if o.set == nil {
				o.set = map[string]any{}
			}
			maps.Copy(o.set, c.set)
			continue
		}
		j.changes = append(j.changes, c)
	}
}
