package virt

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// VMClass is what a node of type vm means.
func VMClass() provisioner.Class {
	return provisioner.Class{
		Help:     "a virtual machine or container",
		Only:     TypeVM,
		Validate: func(doc registry.Document) error { _, err := ParseDefinition(doc); return err },
		Keys:     vmKeys,
		Busy:     vmBusy,
		Initial:  string(New),
		Columns: []provisioner.Column{
			{Name: "host", Value: func(n *registry.Node) string { return orElse(n.Parent(), "-") }},
			{Name: "cpu", Value: func(n *registry.Node) string { d, _ := needOf(n); return strconv.FormatInt(d.CPU, 10) }},
			{Name: "memory", Value: func(n *registry.Node) string { d, _ := needOf(n); return megabytes(d.Memory) }},
			{Name: "address", Value: vmAddress},
			{Name: "disk", Wide: true, Value: func(n *registry.Node) string { d, _ := needOf(n); return megabytes(d.resources().Disk) }},
			{Name: "disks on", Wide: true, Value: disksOn},
			{Name: "uuid", Wide: true, Value: NodeUUID},
		},
		Verbs: []string{
			ActionDefine, ActionProvision, ActionStart, ActionStop, ActionShutdown, ActionReboot, ActionSuspend, ActionResume,
			ActionUndefine, ActionDeprovision, ActionMigrate, ActionPoll,
			ActionSnapshot, ActionRollback, ActionSnapshotDelete, ActionAttachDisk, ActionDetachDisk, ActionSaveImage,
		},
	}
}

// HypervisorClass is what a node of type hv means.
func HypervisorClass() provisioner.Class {
	return provisioner.Class{
		Help:     "a hypervisor: a host that runs virtual machines",
		Only:     TypeHypervisor,
		Validate: func(doc registry.Document) error { _, err := ParseHost(doc); return err },
		Columns: []provisioner.Column{
			{Name: "driver", Value: func(n *registry.Node) string { _, d, _ := HostOf(n); return orElse(d.Driver, "-") }},
			{Name: "cpu", Value: hostColumn(func(c Capacity) string { return strconv.FormatInt(c.CPU, 10) })},
			{Name: "memory", Value: hostColumn(func(c Capacity) string { return megabytes(c.Memory) })},
			{Name: "maintenance", Value: func(n *registry.Node) string {
				if m, ok := MaintenanceOf(n); ok {
					return orElse(m.Reason, "yes")
				}
				return "-"
			}},
			{Name: "disk", Wide: true, Value: hostColumn(func(c Capacity) string { return megabytes(c.Disk % unlimitedDisk) })},
			{Name: "address", Wide: true, Value: func(n *registry.Node) string { h, _, _ := HostOf(n); return orElse(h.Address, "-") }},
		},
		Verbs: []string{ActionFetchImage, ActionDeleteImage},
	}
}

func hostColumn(show func(Capacity) string) func(*registry.Node) string {
	return func(n *registry.Node) string {
		h, _ := AllocatorHost(n)
		return show(Capacity{CPU: h.Capacity.CPU, Memory: h.Capacity.Memory, Disk: h.Capacity.Disk})
	}
}

// vmKeys are what no two VMs of a cluster may share.
func vmKeys(id string, doc registry.Document) ([]string, error) {
	d, err := ParseDefinition(doc)
	if err != nil {
		return nil, err
	}
	named := make([]bool, len(d.Disks))
	for i := range d.Disks {
		named[i] = d.Disks[i].Volume != ""
	}
	d = Filled(id, d)
	keys := []string{"uuid-" + d.UUID}
	for _, n := range d.NICs {
		if n.Type != "user" { // those of user-mode NICs meet nobody
			keys = append(keys, "mac-"+n.MAC)
		}
		if a, err := netip.ParseAddr(n.Address); err == nil && n.Type != "user" {
			keys = append(keys, "ip-"+a.String())
		}
	}
	for i, disk := range d.Disks {
		if named[i] {
			keys = append(keys, "disk-"+disk.Volume)
		}
	}
	if len(keys) > registry.MaxKeys {
		return nil, &DefinitionError{Problems: []string{fmt.Sprintf(
			"it claims %d unique keys (its UUID, MAC and IP addresses and named volumes), a node can hold %d: leave out NICs or volume names", len(keys), registry.MaxKeys)}}
	}
	for _, k := range keys {
		if err := registry.CheckKey(k); err != nil {
			return nil, &DefinitionError{Problems: []string{fmt.Sprintf("it cannot claim the unique key %q: %v", k, err)}}
		}
	}
	return keys, nil
}

// disksOn tells where a VM's disks are, and where some are left.
func disksOn(n *registry.Node) string {
	on := orElse(DisksOn(n), "-")
	if left := LeftOn(n); left != "" {
		on += " (left on " + left + ")"
	}
	return on
}

func vmBusy(n *registry.Node) error {
	if on := DisksOn(n); on != "" {
		return fmt.Errorf("%s has disks on host %s: wipe them with `vagoth deprovision %s` first", n.Name(), on, n.Name())
	}
	if on := LeftOn(n); on != "" {
		return fmt.Errorf("%s has left disks on host %s: wipe them with `vagoth deprovision %s` first", n.Name(), on, n.Name())
	}
	if to := MovesTo(n); to != "" {
		return fmt.Errorf("%s is moving to host %s: wait for its migration", n.Name(), to)
	}
	return nil
}

func vmAddress(n *registry.Node) string {
	var d struct {
		NICs []struct {
			Address string `json:"address"`
		} `json:"nics"`
	}
	if n.Definition().Decode(&d) != nil {
		return "-"
	}
	var list []string
	for _, nic := range d.NICs {
		if nic.Address != "" {
			list = append(list, nic.Address)
		}
	}
	return orElse(strings.Join(list, ","), "-")
}

// megabytes writes an amount of MB as people say it.
func megabytes(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "T"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "G"
	}
	return strconv.FormatInt(n, 10) + "M"
}
