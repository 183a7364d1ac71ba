package virt

// Definition is what a virtual machine or container ought to be: a superset of
// the guest of the Mistify wire. Its JSON form is a VM node's definition;
// schema.json beside this file is the same in JSON Schema, and what it does not
// know is refused.
type Definition struct {
	UUID   string `json:"uuid,omitempty"` // derived from the node's ID if empty
	Type   string `json:"type,omitempty"` // "vm" (the default) or TypeContainer
	CPU    int    `json:"cpu"`            // virtual CPUs
	Memory int    `json:"memory"`         // MB
	Disks  []Disk `json:"disks,omitempty"`
	NICs   []NIC  `json:"nics,omitempty"`
	Image  string `json:"image,omitempty"`

	Boot    Boot    `json:"boot,omitzero"`
	CDROM   string  `json:"cdrom,omitempty"` // path on the host of an ISO image
	Console Console `json:"console,omitzero"`

	CloudInit CloudInit `json:"cloud_init,omitzero"`

	Placement Placement `json:"placement,omitzero"`
}

// Disk is one disk. Its place in Definition.Disks is its identity.
type Disk struct {
	Bus    string `json:"bus,omitempty"`    // "virtio" (the default), "scsi", "sata" or "ide"
	Device string `json:"device,omitempty"` // such as "vda"; given by order if empty
	Size   int64  `json:"size,omitempty"`   // MB
	Volume string `json:"volume,omitempty"` // a name of its own, unique in the cluster; derived if empty
	Image  string `json:"image,omitempty"`  // what it is cloned from
	Source string `json:"source,omitempty"` // an existing path on the host: used, never made and never wiped
	Format string `json:"format,omitempty"` // "qcow2" (the default) or "raw"
}

// NIC is one network interface.
type NIC struct {
	Name    string `json:"name,omitempty"`
	Type    string `json:"type,omitempty"`    // "network" (the default), "bridge" or "user"
	Network string `json:"network,omitempty"` // the network or bridge; a [network.NAME] of the template provisioner
	Model   string `json:"model,omitempty"`   // "virtio" (the default), "e1000" or "rtl8139"
	MAC     string `json:"mac,omitempty"`
	Address string `json:"address,omitempty"` // IP address without a prefix length
	Netmask string `json:"netmask,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Device  string `json:"device,omitempty"` // of the host, such as "vnet0"
	VLANs   []int  `json:"vlans,omitempty"`

	Forward []Forward `json:"forward,omitempty"` // of a user-mode NIC
}

// Forward makes a port of the guest reachable on its host.
type Forward struct {
	Protocol string `json:"protocol,omitempty"` // "tcp" (the default) or "udp"
	Address  string `json:"address,omitempty"`  // on the host; loopback if empty
	Port     int    `json:"port"`               // on the host
	To       int    `json:"to"`                 // in the guest
}

// Boot is how the guest starts. The zero Boot starts from its first disk.
type Boot struct {
	Kernel   string `json:"kernel,omitempty"` // absolute path on the host
	Initrd   string `json:"initrd,omitempty"`
	Cmdline  string `json:"cmdline,omitempty"`
	Firmware string `json:"firmware,omitempty"` // "bios" (the default) or "uefi"
	Order    string `json:"order,omitempty"`    // "disk" (the default), "cdrom" or "network"
}

// Console is how people reach the guest.
type Console struct {
	Serial string `json:"serial,omitempty"` // "pty" (the default), "file" or "none"
	Log    string `json:"log,omitempty"`    // absolute path on the host of a "file" console
	VNC    bool   `json:"vnc,omitempty"`    // on loopback of the host, port chosen there

	Terminal bool `json:"terminal,omitempty"` // a container's: its program has one, so that what is typed into its console reaches it
}

// CloudInit is what cloud-init in the guest is told at its first boot, on a disk
// of its own (package cloudinit) that is made with the others and goes with them.
type CloudInit struct {
	UserData      string `json:"user_data,omitempty"`      // may hold secrets: no listing, log or error shows it
	MetaData      string `json:"meta_data,omitempty"`      // the UUID and the name if empty
	NetworkConfig string `json:"network_config,omitempty"` // what follows from the NICs if empty
	Disk          string `json:"disk,omitempty"`           // absolute path on the host of the disk, where it is made already
}

// Wanted reports whether a disk is to be made.
func (c CloudInit) Wanted() bool {
	return c.UserData != "" || c.MetaData != "" || c.NetworkConfig != ""
}

// Hidden is c without what may be a secret.
func (c CloudInit) Hidden() CloudInit {
	c.UserData = ""
	return c
}

// Placement narrows where the guest is placed. Tags are written key or
// key=value.
type Placement struct {
	Require     []string `json:"require,omitempty"`      // tags that the host has
	Forbid      []string `json:"forbid,omitempty"`       // tags that it has not
	Prefer      []string `json:"prefer,omitempty"`       // tags that it had better have
	Apart       []string `json:"apart,omitempty"`        // never on a host with another VM that has this tag
	PreferApart []string `json:"prefer_apart,omitempty"` // the same as a wish
}

// HostDefinition is what a hypervisor is: a hypervisor node's definition.
type HostDefinition struct {
	Driver  string `json:"driver"`            // a [drivers.NAME]
	Address string `json:"address,omitempty"` // what the driver is to reach, such as a libvirt URI; its config's if empty
	Peer    string `json:"peer,omitempty"`    // the libvirt URI by which other hosts' libvirtd reach its own, to move VMs there while they run, where an agent drives them

	CPU    int64    `json:"cpu,omitempty"`    // hardware threads
	Memory int64    `json:"memory,omitempty"` // MB
	Disk   int64    `json:"disk,omitempty"`   // MB
	Types  []string `json:"types,omitempty"`  // what it can run; empty means "vm"

	CPUOvercommit    float64 `json:"cpu_overcommit,omitempty"` // 0 takes the allocator's default
	MemoryOvercommit float64 `json:"memory_overcommit,omitempty"`
	DiskOvercommit   float64 `json:"disk_overcommit,omitempty"`
}

// The node types of this package's views. A [node_types] line can map further
// types to their classes.
const (
	TypeVM         = "vm"
	TypeHypervisor = "hv"
)

// TypeContainer is the Type of a definition, a guest or an image that is a
// container's. Whatever else is a virtual machine's.
const TypeContainer = "container"
