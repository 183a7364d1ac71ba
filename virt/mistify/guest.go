package mistify

import (
	"maps"
	"slices"

	"github.com/vagoth/vagoth/virt"
)

// Guest is a virtual machine or container of a host.
type Guest struct {
	ID       string            `json:"id"`
	Type     string            `json:"type,omitempty"`  // TypeContainer, or anything else for a virtual machine
	Image    string            `json:"image,omitempty"` // of a container
	NICs     []NIC             `json:"nics,omitempty"`
	Disks    []Disk            `json:"disks,omitempty"`
	State    string            `json:"state,omitempty"`
	Memory   uint              `json:"memory,omitempty"` // MB
	CPU      uint              `json:"cpu,omitempty"`    // virtual CPUs
	VNC      int               `json:"vnc,omitempty"`    // port
	Metadata map[string]string `json:"metadata,omitempty"`

	// Additions.
	Name    string       `json:"name,omitempty"`
	Boot    virt.Boot    `json:"boot,omitzero"`
	CDROM   string       `json:"cdrom,omitempty"`
	Console virt.Console `json:"console,omitzero"`

	CloudInit virt.CloudInit `json:"cloud_init,omitzero"` // an agent answers it without user_data
}

// TypeContainer is the Type of a guest, and of an image, that is a container's.
const TypeContainer = virt.TypeContainer

// NIC is a network interface of a guest.
type NIC struct {
	Name    string `json:"name,omitempty"`
	Network string `json:"network"`
	Model   string `json:"model"`
	MAC     string `json:"mac,omitempty"`
	Address string `json:"address"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
	Device  string `json:"device,omitempty"`
	VLANs   []int  `json:"vlans,omitempty"`

	// Additions.
	Type    string         `json:"type,omitempty"` // "network" (the default), "bridge" or "user"
	Forward []virt.Forward `json:"forward,omitempty"`
}

// Disk is a disk of a guest.
type Disk struct {
	Bus    string `json:"bus"`
	Device string `json:"device"`
	Size   uint64 `json:"size"`   // MB; of a disk with an image it is the image's
	Volume string `json:"volume"` // where it is kept
	Image  string `json:"image"`  // what it is cloned from
	Source string `json:"source"` // path of the device or file

	// Additions.
	Format string `json:"format,omitempty"` // "qcow2" or "raw"
	Take   bool   `json:"take,omitempty"`   // Image becomes the disk, and is gone then, where it would be cloned
}

// Container reports whether the actions of g are those of containers.
func (g *Guest) Container() bool { return g.Type == TypeContainer }

// Shown is g as answers and listings show it: without what may be a secret.
func (g *Guest) Shown() *Guest {
	if g == nil || g.CloudInit.UserData == "" {
		return g
	}
	c := *g
	c.CloudInit = g.CloudInit.Hidden()
	return &c
}

// Clone returns a copy that shares nothing with g.
func (g *Guest) Clone() *Guest {
	if g == nil {
		return nil
	}
	c := *g
	c.NICs = slices.Clone(g.NICs)
	for i := range c.NICs {
		c.NICs[i].VLANs = slices.Clone(c.NICs[i].VLANs)
		c.NICs[i].Forward = slices.Clone(c.NICs[i].Forward)
	}
	c.Disks = slices.Clone(g.Disks)
	c.Metadata = maps.Clone(g.Metadata)
	return &c
}

// Carry puts into g what from has of our additions and g has not. A sub-agent
// that was written before them answers a guest without them, and they must not
// be lost by that.
func (g *Guest) Carry(from *Guest) {
	if from == nil {
		return
	}
	if g.Name == "" {
		g.Name = from.Name
	}
	if g.Boot == (virt.Boot{}) {
		g.Boot = from.Boot
	}
	if g.CDROM == "" {
		g.CDROM = from.CDROM
	}
	if g.Console == (virt.Console{}) {
		g.Console = from.Console
	}
	if g.CloudInit == (virt.CloudInit{}) {
		g.CloudInit = from.CloudInit
	}
	for i := range g.Disks {
		if i < len(from.Disks) && g.Disks[i].Format == "" {
			g.Disks[i].Format = from.Disks[i].Format
		}
	}
	for i := range g.NICs {
		if i >= len(from.NICs) {
			break
		}
		if g.NICs[i].Type == "" {
			g.NICs[i].Type = from.NICs[i].Type
		}
		if g.NICs[i].Forward == nil {
			g.NICs[i].Forward = slices.Clone(from.NICs[i].Forward)
		}
	}
}
