package mistify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/vagoth/vagoth/virt"
)

// The keys of a guest's metadata that a manager writes.
const (
	MetaNode    = "vagoth.node"    // the ID of its node
	MetaTenant  = "vagoth.tenant"  // whose it is
	MetaDefined = "vagoth.defined" // Digest of what it was defined as, written when that was done
)

// GuestFrom writes a VM of a cluster as the wire has it. All of its definition
// is there but the placement, which is the manager's own. Its error is a
// virt.ErrInvalid, or a virt.ErrUnsupported that says what the wire cannot say.
func GuestFrom(v virt.Guest) (*Guest, error) {
	d := v.Definition
	if d.CPU < 0 || d.Memory < 0 {
		return nil, fmt.Errorf("%w guest %.64q: it has %d CPUs and %d MB", virt.ErrInvalid, v.ID, d.CPU, d.Memory)
	}
	g := &Guest{
		ID: v.UUID, Name: v.Name, Type: d.Type, Image: d.Image, Memory: uint(d.Memory), CPU: uint(d.CPU),
		Boot: d.Boot, CDROM: d.CDROM, Console: d.Console, CloudInit: d.CloudInit,
		Metadata: map[string]string{MetaNode: v.ID},
	}
	if v.Tenant != "" {
		g.Metadata[MetaTenant] = v.Tenant
	}
	for i, disk := range d.Disks {
		if disk.Size < 0 {
			return nil, fmt.Errorf("%w guest %.64q: disks[%d].size: it is negative", virt.ErrInvalid, v.ID, i)
		}
		g.Disks = append(g.Disks, Disk{
			Bus: disk.Bus, Device: disk.Device, Size: uint64(disk.Size), Volume: disk.Volume, Image: disk.Image, Source: disk.Source, Format: disk.Format,
		})
	}
	for _, n := range d.NICs {
		g.NICs = append(g.NICs, NIC{
			Name: n.Name, Network: n.Network, Model: n.Model, MAC: n.MAC, Address: n.Address, Netmask: n.Netmask, Gateway: n.Gateway,
			Device: n.Device, VLANs: slices.Clone(n.VLANs), Type: n.Type, Forward: slices.Clone(n.Forward),
		})
	}
	if len(g.Disks) > MaxDisks || len(g.NICs) > MaxNICs {
		return nil, fmt.Errorf("%w: guest %.64q has %d disks and %d NICs, an agent takes %d and %d", virt.ErrUnsupported, v.ID, len(g.Disks), len(g.NICs), MaxDisks, MaxNICs)
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	return g, nil
}

// Virt reads a guest of the wire as a driver needs it, with everything filled in
// that follows from what is there. A type that is not a container's is that of a
// virtual machine. A guest that no manager knows goes by its own id.
func (g *Guest) Virt() (virt.Guest, error) {
	if err := g.Validate(); err != nil {
		return virt.Guest{}, err
	}
	id, err := ParseGuestID(g.ID)
	if err != nil {
		return virt.Guest{}, err
	}
	if g.CPU > math.MaxInt32 || g.Memory > math.MaxInt32 {
		return virt.Guest{}, fmt.Errorf("%w guest %s: it has %d CPUs and %d MB", virt.ErrInvalid, id, g.CPU, g.Memory)
	}
	v := virt.Guest{ID: orElse(g.Metadata[MetaNode], id), UUID: id, Name: orElse(g.Name, id), Tenant: g.Metadata[MetaTenant]}
	d := virt.Definition{
		UUID: id, Type: "vm", CPU: int(g.CPU), Memory: int(g.Memory), Image: g.Image, Boot: g.Boot, CDROM: g.CDROM, Console: g.Console,
		CloudInit: g.CloudInit,
	}
	if g.Container() {
		d.Type = TypeContainer
	}
	for i, disk := range g.Disks {
		if disk.Size > math.MaxInt64 {
			return virt.Guest{}, fmt.Errorf("%w guest %s: disks[%d].size: %d is too much", virt.ErrInvalid, id, i, disk.Size)
		}
		d.Disks = append(d.Disks, virt.Disk{
			Bus: disk.Bus, Device: disk.Device, Size: int64(disk.Size), Volume: disk.Volume, Image: disk.Image, Source: disk.Source, Format: disk.Format,
		})
	}
	for _, n := range g.NICs {
		d.NICs = append(d.NICs, virt.NIC{
			Name: n.Name, Type: n.Type, Network: n.Network, Model: n.Model, MAC: n.MAC, Address: n.Address, Netmask: n.Netmask, Gateway: n.Gateway,
			Device: n.Device, VLANs: slices.Clone(n.VLANs), Forward: slices.Clone(n.Forward),
		})
	}
	v.Definition = virt.Filled(v.ID, d)
	return v, nil
}

// Digest tells one definition of a VM from another. Its placement does not
// count: it says nothing of what is on a host.
func Digest(v virt.Guest) (string, error) {
	v.Definition.Placement = virt.Placement{}
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: the definition cannot be encoded: %w", virt.ErrInvalid, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
