package virt

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// GuestOf reads a node as the guest that a driver is told about.
func GuestOf(n *registry.Node) (Guest, error) {
	d, err := ParseDefinition(n.Definition())
	if err != nil {
		return Guest{}, fmt.Errorf("node %s: %w", n.ID(), err)
	}
	if u := metaUUID(n); u != "" {
		d.UUID = u
	}
	d = Filled(n.ID(), d)
	return Guest{ID: n.ID(), UUID: d.UUID, Name: n.Name(), Tenant: n.Tenant(), Definition: d}, nil
}

// NodeUUID is the UUID of GuestOf, without reading the rest of the definition.
func NodeUUID(n *registry.Node) string {
	u := metaUUID(n)
	if u == "" && mentions(n.Definition(), "uuid") {
		var d struct{ UUID string }
		if n.Definition().Decode(&d) == nil {
			u = d.UUID
		}
	}
	return uuidFor(n.ID(), u)
}

func metaUUID(n *registry.Node) string {
	u, _ := metadata[string](n, MetaUUID)
	return u
}

// mentions is a cheap test that spares decoding most documents.
func mentions(doc registry.Document, member string) bool {
	return strings.Contains(doc.String(), `"`+member+`"`)
}

// metadata reads one member of a node's metadata; false if it is not there or
// of another form.
func metadata[T any](n *registry.Node, member string) (v T, ok bool) {
	if !mentions(n.Metadata(), member) {
		return v, false
	}
	var m map[string]json.RawMessage
	if n.Metadata().Decode(&m) != nil {
		return v, false
	}
	raw, ok := m[member]
	if !ok || json.Unmarshal(raw, &v) != nil {
		return v, false
	}
	return v, true
}

// HostOf reads a node as a hypervisor.
func HostOf(n *registry.Node) (Host, HostDefinition, error) {
	d, err := ParseHost(n.Definition())
	if err != nil {
		return Host{}, d, fmt.Errorf("node %s is no hypervisor: %w", n.ID(), err)
	}
	return Host{ID: n.ID(), Address: d.Address, Peer: d.Peer}, d, nil
}

// unlimitedDisk is the disk capacity, in MB, of a host of which nobody knows
// any: neither its definition says it nor its driver.
const unlimitedDisk = 1 << 40

// AllocatorHost reads a node as a host to place on; false if it is none. What
// the definition does not say of the capacity is what was seen there. A host
// that says nothing of its disk is not limited by it, as drivers cannot always
// tell; a host that says nothing of CPUs or memory takes nothing that needs them.
func AllocatorHost(n *registry.Node) (allocator.Host, bool) {
	if n.Type() != TypeHypervisor {
		return allocator.Host{}, false
	}
	var d HostDefinition
	if n.Definition().Decode(&d) != nil || d.Driver == "" {
		return allocator.Host{}, false
	}
	seen, _ := metadata[Capacity](n, MetaSeen)
	_, maintained := metadata[Maintenance](n, MetaMaintenance)
	h := allocator.Host{
		ID: n.ID(), Name: n.Name(), Types: d.Types,
		Capacity:   allocator.Resources{CPU: orNumber(d.CPU, seen.CPU), Memory: orNumber(d.Memory, seen.Memory), Disk: orNumber(d.Disk, seen.Disk)},
		Overcommit: allocator.Overcommit{CPU: d.CPUOvercommit, Memory: d.MemoryOvercommit, Disk: d.DiskOvercommit},
		State:      n.State(), Maintenance: maintained, Tags: n.Tags(),
	}
	if len(h.Types) == 0 {
		h.Types = []string{TypeVM}
	}
	if h.Capacity.Disk == 0 {
		h.Capacity.Disk = unlimitedDisk
	}
	return h, true
}

func orNumber(n, other int64) int64 {
	if n != 0 {
		return n
	}
	return other
}

// needs is the part of a definition that costs a host something.
type needs struct {
	Type   string `json:"type"`
	CPU    int64  `json:"cpu"`
	Memory int64  `json:"memory"`
	Disks  []struct {
		Size   int64  `json:"size"`
		Source string `json:"source"`
	} `json:"disks"`
}

// Need is what a node takes of its host: CPUs, memory and the disks that are
// made for it. A node of another kind takes nothing.
func Need(n *registry.Node) (allocator.Resources, error) {
	d, err := needOf(n)
	return d.resources(), err
}

func needOf(n *registry.Node) (needs, error) {
	var d needs
	if err := n.Definition().Decode(&d); err != nil {
		return needs{}, fmt.Errorf("node %s: %w", n.ID(), err)
	}
	return d, nil
}

func (d needs) resources() allocator.Resources {
	r := allocator.Resources{CPU: d.CPU, Memory: d.Memory}
	for _, disk := range d.Disks {
		if disk.Source == "" {
			r.Disk += disk.Size
		}
	}
	return r
}

// RequestOf is the question where the node's VM can be placed.
func RequestOf(n *registry.Node) (allocator.Request, error) {
	d, err := ParseDefinition(n.Definition())
	if err != nil {
		return allocator.Request{}, fmt.Errorf("node %s: %w", n.ID(), err)
	}
	need, err := Need(n)
	if err != nil {
		return allocator.Request{}, err
	}
	r := allocator.Request{ID: n.ID(), Type: orElse(d.Type, "vm"), Need: need, Constraints: allocator.Constraints{
		Require: tagsOf(d.Placement.Require), Forbid: tagsOf(d.Placement.Forbid), Prefer: tagsOf(d.Placement.Prefer),
		Apart: d.Placement.Apart, PreferApart: d.Placement.PreferApart,
	}}
	if on := DisksOn(n); on != "" {
		r.Constraints.Hosts = []string{on}
	}
	return r, nil
}

// tagsOf reads tags written key or key=value.
func tagsOf(list []string) map[string]*string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]*string, len(list))
	for _, t := range list {
		k, v, set := strings.Cut(t, "=")
		m[k] = nil
		if set {
			m[k] = &v
		}
	}
	return m
}

// EvidenceOf is when the VM's or the hypervisor's state was last seen.
func EvidenceOf(n *registry.Node) (Evidence, bool) { return metadata[Evidence](n, MetaEvidence) }

// DisksOn is the host that has the VM's disks, or "".
func DisksOn(n *registry.Node) string {
	s, _ := metadata[string](n, MetaDisksOn)
	return s
}

// LeftOn is the host with what a migration left of the VM's disks, or "". The disks
// that it has are elsewhere.
func LeftOn(n *registry.Node) string {
	s, _ := metadata[string](n, MetaLeft)
	return s
}

// MovesTo is the host that the VM moves to now, or "".
func MovesTo(n *registry.Node) string {
	s, _ := metadata[string](n, MetaMigrate)
	return s
}

// MaintenanceOf is why a hypervisor is given nothing new; false if it is.
func MaintenanceOf(n *registry.Node) (Maintenance, bool) {
	return metadata[Maintenance](n, MetaMaintenance)
}

// AlarmOf is what an operator has to look at.
func AlarmOf(n *registry.Node) (Alarm, bool) { return metadata[Alarm](n, MetaAlarm) }
