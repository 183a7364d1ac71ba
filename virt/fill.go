package virt

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// uuidSpace is the namespace of UUIDs that follow from a node's ID.
var uuidSpace = uuid.MustParse("5b0f8a5e-1d0c-5c59-9a5e-8f2f3a6f4c11")

// UUIDOf returns the UUID of the VM with the node ID and definition: the
// definition's, or the ID if it is a UUID, or one that follows from the ID.
func UUIDOf(id string, d Definition) string { return uuidFor(id, d.UUID) }

func uuidFor(id, defined string) string {
	for _, s := range []string{defined, id} {
		if u, err := uuid.Parse(s); err == nil && len(s) == 36 {
			return u.String()
		}
	}
	return uuid.NewSHA1(uuidSpace, []byte(id)).String()
}

// Filled returns d with everything filled in that follows from what is there:
// the defaults, device names by order, volumes ID-disk-N, and MAC addresses
// from a hash of UUID and index. d itself stays as it is.
func Filled(id string, d Definition) Definition {
	d.UUID = UUIDOf(id, d)
	d.Type = orElse(d.Type, "vm")
	d.Disks = filledDisks(id, d.Disks)
	d.NICs = slices.Clone(d.NICs)
	for i := range d.NICs {
		d.NICs[i] = d.NICs[i].filled(d.UUID, i)
	}
	d.Boot.Firmware = orElse(d.Boot.Firmware, "bios")
	d.Boot.Order = orElse(d.Boot.Order, "disk")
	d.Console.Serial = orElse(d.Console.Serial, "pty")
	return d
}

func filledDisks(id string, disks []Disk) []Disk {
	disks = slices.Clone(disks)
	taken := map[string]bool{}
	for _, d := range disks {
		taken["device "+d.Device] = true
		taken["volume "+d.Volume] = true
	}
	for i := range disks {
		d := &disks[i]
		d.Bus = orElse(d.Bus, "virtio")
		if d.Source == "" {
			d.Format = orElse(d.Format, "qcow2")
		} else {
			d.Format = orElse(d.Format, "raw")
		}
		for n := 0; d.Device == ""; n++ {
			if name := devicePrefix(d.Bus) + letters(n); !taken["device "+name] {
				d.Device = name
				taken["device "+name] = true
			}
		}
		if d.Source == "" && d.Volume == "" {
			d.Volume = fmt.Sprintf("%s-disk-%d", id, i)
			for n := 0; taken["volume "+d.Volume]; n++ {
				d.Volume = fmt.Sprintf("%s-disk-%d-%d", id, i, n)
			}
			taken["volume "+d.Volume] = true
		}
	}
	return disks
}

func devicePrefix(bus string) string {
	switch bus {
	case "scsi", "sata":
		return "sd"
	case "ide":
		return "hd"
	}
	return "vd"
}

// letters counts a … z, aa, ab, … as the kernel does.
func letters(n int) string {
	if n < 26 {
		return string(rune('a' + n))
	}
	return letters(n/26-1) + string(rune('a'+n%26))
}

func (n NIC) filled(id string, index int) NIC {
	n.Type = orElse(n.Type, "network")
	n.Model = orElse(n.Model, "virtio")
	if n.Type == "network" {
		n.Network = orElse(n.Network, "default")
	}
	if mac, err := cleanMAC(n.MAC); err == nil {
		n.MAC = mac
	} else {
		n.MAC = derivedMAC(id, index)
	}
	if a, err := netip.ParseAddr(n.Address); err == nil {
		n.Address = a.String()
	}
	n.VLANs = slices.Clone(n.VLANs)
	n.Forward = slices.Clone(n.Forward)
	for i := range n.Forward {
		n.Forward[i].Protocol = orElse(n.Forward[i].Protocol, "tcp")
		n.Forward[i].Address = orElse(n.Forward[i].Address, "127.0.0.1")
	}
	return n
}

// derivedMAC is a locally administered address, 52 and forty bits of a hash.
// The 24 bits below QEMU's usual 52:54:00 would make two of some 5,000 VMs meet
// more often than not.
func derivedMAC(id string, index int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s nic %d", strings.ToLower(id), index))
	return net.HardwareAddr{0x52, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}
