package libvirt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"path"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/vagoth/vagoth/virt"
)

// markSpace is the XML namespace of mark.
const markSpace = "urn:vagoth:domain:1"

// mark is our element in a domain's metadata. It says whose the domain is and
// what it was defined as.
type mark struct {
	XMLName xml.Name `xml:"urn:vagoth:domain:1 guest"`
	Node    string   `xml:"node,attr"`
	Tenant  string   `xml:"tenant,attr,omitempty"`
	Hash    string   `xml:"hash,attr"`
	Job     string   `xml:"job,attr,omitempty"`    // that made it known here
	Filter  string   `xml:"filter,attr,omitempty"` // of its NICs
}

// host is what a domain depends on beside its definition.
type host struct {
	hypervisor string // the domain's type: kvm, qemu or test
	arch       string
	cdromBus   string
	pciBus     string // where a device of QEMU's own arguments is put
	disks      string // directory of provisioned disks
	filter     string // of NICs on networks and bridges; "" is none
	job        string // that makes the domain known
}

// hash identifies a definition. Where it is placed is no part of it, nor what
// it is called.
func hash(g virt.Guest) (string, error) {
	d := g.Definition
	d.Placement = virt.Placement{}
	d.UUID = ""
	text, err := json.Marshal(d)
	if err != nil {
		return "", problem(g, virt.ErrInvalid, "its definition cannot be encoded: %v", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// domainXML writes a guest that was checked as a domain of that name.
func domainXML(g virt.Guest, name string, h host) (string, error) {
	sum, err := hash(g)
	if err != nil {
		return "", err
	}
	meta, err := xml.Marshal(mark{Node: g.ID, Tenant: g.Tenant, Hash: sum, Job: h.job, Filter: h.filter})
	if err != nil {
		return "", problem(g, virt.ErrInvalid, "its metadata cannot be encoded: %v", err)
	}
	d := g.Definition
	dom := &libvirtxml.Domain{
		Type:     h.hypervisor,
		Name:     name,
		UUID:     g.UUID,
		Metadata: &libvirtxml.DomainMetadata{XML: string(meta)},
		Memory:   &libvirtxml.DomainMemory{Value: uint(d.Memory), Unit: "MiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: uint(d.CPU)},
		OS:       operatingSystem(d),
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		Devices:  &libvirtxml.DomainDeviceList{},
		// A guest that crashes is for the monitor to see, not for libvirt to hide.
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
	}
	if h.arch == "x86_64" || h.arch == "i686" {
		dom.Features = &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}}
	}
	if h.hypervisor == "kvm" {
		dom.CPU = &libvirtxml.DomainCPU{Mode: "host-model"}
	}
	addDisks(dom, d, h)
	addNICs(dom, d, h)
	addConsole(dom, d.Console)
	text, err := dom.Marshal()
	if err != nil {
		return "", problem(g, virt.ErrInvalid, "its domain cannot be encoded: %v", err)
	}
	return text, nil
}

func operatingSystem(d virt.Definition) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{
		Type:   &libvirtxml.DomainOSType{Type: "hvm"},
		Kernel: d.Boot.Kernel, Initrd: d.Boot.Initrd, Cmdline: d.Boot.Cmdline,
	}
	if d.Boot.Firmware == "uefi" {
		os.Firmware = "efi"
	}
	order := []string{"hd"}
	switch d.Boot.Order {
	case "cdrom":
		order = []string{"cdrom", "hd"}
	case "network":
		order = []string{"network", "hd"}
	}
	for _, dev := range order {
		os.BootDevices = append(os.BootDevices, libvirtxml.DomainBootDevice{Dev: dev})
	}
	return os
}

// volumePath is where the disk of a volume is.
func volumePath(dir, volume string) string { return path.Join(dir, volume) }

// diskSource is a file, or a device of the host.
func diskSource(name string) *libvirtxml.DomainDiskSource {
	if strings.HasPrefix(name, "/dev/") {
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: name}}
	}
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: name}}
}

// diskFile is where a disk is.
func diskFile(disk virt.Disk, dir string) string {
	if disk.Source != "" {
		return disk.Source
	}
	return volumePath(dir, disk.Volume)
}

// domainDisk is a disk as a domain has it.
func domainDisk(disk virt.Disk, dir string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: disk.Format},
		Source: diskSource(diskFile(disk, dir)),
		Target: &libvirtxml.DomainDiskTarget{Dev: disk.Device, Bus: disk.Bus},
	}
}

func addDisks(dom *libvirtxml.Domain, d virt.Definition, h host) {
	taken := []string{}
	for _, disk := range d.Disks {
		taken = append(taken, disk.Device)
		dom.Devices.Disks = append(dom.Devices.Disks, domainDisk(disk, h.disks))
	}
	if slices.ContainsFunc(d.Disks, func(disk virt.Disk) bool { return disk.Bus == "scsi" }) {
		index := uint(0)
		dom.Devices.Controllers = append(dom.Devices.Controllers, libvirtxml.DomainController{Type: "scsi", Index: &index, Model: "virtio-scsi"})
	}
	for _, file := range []string{d.CDROM, d.CloudInit.Disk} {
		if file != "" {
			taken = append(taken, addCDROM(dom, file, h, taken))
		}
	}
}

// addCDROM returns the name of the device.
func addCDROM(dom *libvirtxml.Domain, file string, h host, taken []string) string {
	prefix := "sd"
	if h.cdromBus == "ide" {
		prefix = "hd"
	}
	device := ""
	for c := 'a'; c <= 'z'; c++ {
		if device = prefix + string(c); !slices.Contains(taken, device) {
			break
		}
	}
	dom.Devices.Disks = append(dom.Devices.Disks, libvirtxml.DomainDisk{
		Device:   "cdrom",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: device, Bus: h.cdromBus},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	})
	return device
}

func addNICs(dom *libvirtxml.Domain, d virt.Definition, h host) {
	forwards := slices.ContainsFunc(d.NICs, hasForward)
	for i, n := range d.NICs {
		if hasForward(n) {
			addForwarder(dom, n, h.pciBus, i)
			continue
		}
		nic := libvirtxml.DomainInterface{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
			Source: &libvirtxml.DomainInterfaceSource{},
			Model:  &libvirtxml.DomainInterfaceModel{Type: n.Model},
		}
		switch n.Type {
		case "network":
			nic.Source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: n.Network}
		case "bridge":
			nic.Source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Network}
		case "user":
			nic.Source.User = &libvirtxml.DomainInterfaceSourceUser{}
		}
		if h.filter != "" && n.Type != "user" {
			nic.FilterRef = filterRef(h.filter, n)
		}
		if n.Device != "" && n.Type != "user" {
			nic.Target = &libvirtxml.DomainInterfaceTarget{Dev: n.Device}
		}
		if len(n.VLANs) > 0 {
			nic.VLan = &libvirtxml.DomainInterfaceVLan{}
			if len(n.VLANs) > 1 {
				nic.VLan.Trunk = "yes"
			}
			for _, v := range n.VLANs {
				nic.VLan.Tags = append(nic.VLan.Tags, libvirtxml.DomainInterfaceVLanTag{ID: uint(v)})
			}
		}
		if d.Boot.Order != "network" {
			// The boot ROM is a file that many hosts do not have.
			nic.ROM = &libvirtxml.DomainROM{Enabled: "no"}
		}
		if forwards {
			domain, bus, slot, function := uint(0), uint(0), uint(firstSlot+i), uint(0)
			nic.Address = &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Domain: &domain, Bus: &bus, Slot: &slot, Function: &function}}
		}
		dom.Devices.Interfaces = append(dom.Devices.Interfaces, nic)
	}
}

// filterRef lets a NIC send only as the guest that it is: from its own MAC, and
// from its own address if it has one, or else from the first that it uses.
func filterRef(filter string, n virt.NIC) *libvirtxml.DomainInterfaceFilterRef {
	ref := &libvirtxml.DomainInterfaceFilterRef{Filter: filter}
	if n.Address != "" {
		ref.Parameters = []libvirtxml.DomainInterfaceFilterParam{{Name: "IP", Value: n.Address}}
	}
	return ref
}

// The PCI slots of a guest's NICs, if any of them forwards ports. Libvirt gives
// out slots from the bottom and knows nothing of the device of a forwarding
// NIC; and the guest names its NICs in the order of their slots.
const (
	firstSlot = 0x10
	maxNICs   = 12 // above them some machines have chips of their own
	maxDisks  = 6  // below them, beside a handful of libvirt's own devices
)

func hasForward(n virt.NIC) bool { return len(n.Forward) > 0 }

// addForwarder adds a user-mode NIC with port forwards. Libvirt's own XML has
// them only with passt; QEMU's arguments have had them for ever. All that goes
// into them is a MAC, an IPv4 address and numbers.
func addForwarder(dom *libvirtxml.Domain, n virt.NIC, bus string, index int) {
	id := fmt.Sprintf("vagoth%d", index)
	netdev := "user,id=" + id
	for _, f := range n.Forward {
		netdev += fmt.Sprintf(",hostfwd=%s:%s:%d-:%d", f.Protocol, f.Address, f.Port, f.To)
	}
	model := n.Model
	if model == "virtio" {
		model = "virtio-net-pci"
	}
	if dom.QEMUCommandline == nil {
		dom.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{}
	}
	for _, arg := range []string{"-netdev", netdev, "-device", fmt.Sprintf("%s,netdev=%s,mac=%s,bus=%s,addr=%#x,rombar=0", model, id, n.MAC, bus, firstSlot+index)} {
		dom.QEMUCommandline.Args = append(dom.QEMUCommandline.Args, libvirtxml.DomainQEMUCommandlineArg{Value: arg})
	}
}

func addConsole(dom *libvirtxml.Domain, c virt.Console) {
	port := uint(0)
	target := &libvirtxml.DomainSerialTarget{Port: &port}
	switch c.Serial {
	case "pty":
		dom.Devices.Serials = []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}, Target: target,
		}}
	case "file":
		dom.Devices.Serials = []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: c.Log, Append: "on"}}, Target: target,
		}}
	}
	if c.VNC {
		dom.Devices.Graphics = []libvirtxml.DomainGraphic{{
			VNC: &libvirtxml.DomainGraphicVNC{Port: -1, AutoPort: "yes", Listen: "127.0.0.1"},
		}}
	}
}

// described is what this package reads of a domain's XML.
type described struct {
	Type     string `xml:"type,attr"`
	Name     string `xml:"name"`
	Metadata struct {
		Mark *mark `xml:"urn:vagoth:domain:1 guest"`
	} `xml:"metadata"`
	Disks []struct {
		Source struct {
			File string `xml:"file,attr"`
			Dev  string `xml:"dev,attr"`
		} `xml:"source"`
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
	} `xml:"devices>disk"`
	Controllers []struct {
		Type string `xml:"type,attr"`
	} `xml:"devices>controller"`
	Serials []struct {
		Type   string `xml:"type,attr"`
		Source struct {
			Path string `xml:"path,attr"`
		} `xml:"source"`
	} `xml:"devices>serial"`
	Graphics []struct {
		Type   string `xml:"type,attr"`
		Port   int    `xml:"port,attr"`
		Listen string `xml:"listen,attr"`
	} `xml:"devices>graphics"`
	NICs []struct {
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"mac"`
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
	} `xml:"devices>interface"`
}

// hasSCSI reports whether a domain has somewhere to plug SCSI disks in.
func (d described) hasSCSI() bool {
	for _, c := range d.Controllers {
		if c.Type == "scsi" {
			return true
		}
	}
	return false
}

func parseDomain(text string) (described, error) {
	var d described
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return described{}, unreachable(malformed("a domain whose XML cannot be read: %s", clean(err.Error(), maxMessage)))
	}
	return d, nil
}
