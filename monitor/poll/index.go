package poll

import (
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// facts is what a round needs of a node's documents. Decoding them costs more
// than all the rest of a round, so it is kept as long as the revision.
type facts struct {
	revision uint64
	uuid     string    // of a VM
	evidence time.Time // as written
	alarmed  bool      // there is an alarm of this monitor
}

func factsOf(n *registry.Node) facts {
	f := facts{revision: n.Revision()}
	if n.Type() == virt.TypeVM {
		f.uuid = virt.NodeUUID(n)
	}
	if e, ok := virt.EvidenceOf(n); ok {
		f.evidence = e.At
	}
	if a, ok := virt.AlarmOf(n); ok {
		f.alarmed = a.Kind == alarmTwice
	}
	return f
}

// index is every VM of one snapshot by its UUID.
type index struct {
	byUUID  map[string]string // node IDs
	facts   map[string]facts  // by node ID
	alarmed []string          // node IDs
}

// newIndex reads every VM. What an older index knows of a node that has not
// changed is taken from there.
func newIndex(v registry.Reader, old *index) (*index, error) {
	size := 64
	if old != nil {
		size = len(old.facts)
	}
	x := &index{byUUID: make(map[string]string, size), facts: make(map[string]facts, size)}
	for n, err := range v.List(registry.Query{Type: virt.TypeVM}) {
		if err != nil {
			return nil, err
		}
		f := old.of(n)
		x.facts[n.ID()] = f
		if _, taken := x.byUUID[f.uuid]; !taken {
			x.byUUID[f.uuid] = n.ID()
		}
		if f.alarmed {
			x.alarmed = append(x.alarmed, n.ID())
		}
	}
	return x, nil
}

// of returns the facts of a node, from the index if they still hold.
func (x *index) of(n *registry.Node) facts {
	if x != nil {
		if f, ok := x.facts[n.ID()]; ok && f.revision == n.Revision() {
			return f
		}
	}
	return factsOf(n)
}

// memory is what the monitor remembers of one host between rounds. It is
// written by the round that holds the host's claim, under its lock.
type memory struct {
	mu       sync.Mutex
	host     hostFacts
	listed   time.Time // when it was last listed completely; zero if never by this process
	asked    uint64    // the last round in which it answered
	seen     map[string]time.Time
	foreign  map[string]sighting // VMs that it has and that do not stand on it, by UUID
	more     int                 // VMs in its last listing that nobody knows, beyond those in foreign
	absences map[string]absence  // VMs that stand on it and are not in its listings, by node ID
	answered time.Time
}

// hostFacts is what a hypervisor's documents say.
type hostFacts struct {
	revision uint64
	host     virt.Host
	driver   string
	err      error
	evidence time.Time
	capacity virt.Capacity
	strange  []string
	kept     *elsewhere // what the manager that polls it has written, or nil
}

// sighting is a VM in the listing of a host that it does not stand on.
type sighting struct {
	seen     virt.Seen
	node     string // as it was known before the listing; "" if nobody knew it
	stood    place  // the node's then
	revision uint64 // of the node then
	round    uint64 // of the listing
	at       time.Time
}

// place is where a VM stands, and where it is moving to.
type place struct {
	On string `json:"stood,omitempty"`
	To string `json:"moving,omitempty"`
}

func placeOf(n *registry.Node) place { return place{On: n.Parent(), To: virt.MovesTo(n)} }

// absence counts complete listings without a VM.
type absence struct {
	count    int
	revision uint64 // of the node, the same in all of them
}

func (m *Monitor) memoryOf(id string) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hosts[id]
	if h == nil {
		h = &memory{seen: map[string]time.Time{}, foreign: map[string]sighting{}, absences: map[string]absence{}}
		m.hosts[id] = h
	}
	return h
}

// factsOf brings the facts of the host up to date.
func (h *memory) factsOf(n *registry.Node) hostFacts {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host.revision == n.Revision() {
		return h.host
	}
	f := hostFacts{revision: n.Revision()}
	var def virt.HostDefinition
	f.host, def, f.err = virt.HostOf(n)
	f.driver = def.Driver
	if e, ok := virt.EvidenceOf(n); ok {
		f.evidence = e.At
	}
	var meta struct {
		Capacity virt.Capacity `json:"capacity_seen"`
		Strange  []string      `json:"strangers"`
		Kept     *elsewhere    `json:"elsewhere"`
	}
	if n.Metadata().Decode(&meta) == nil {
		f.capacity, f.strange, f.kept = meta.Capacity, meta.Strange, meta.Kept
	}
	h.host = f
	return f
}
