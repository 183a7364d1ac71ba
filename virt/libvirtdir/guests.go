package libvirtdir

import (
	"context"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

// plain is a disk as libvirt is told of it: what it began as is of no meaning to a
// domain, and neither is its size once it is made.
func plain(disk virt.Disk) virt.Disk {
	if disk.Source == "" && disk.Image != "" {
		disk.Image, disk.Size = "", max(disk.Size, 1)
	}
	return disk
}

// plainGuest is a guest with plain disks.
func plainGuest(g virt.Guest) virt.Guest {
	disks := slices.Clone(g.Definition.Disks)
	for i := range disks {
		disks[i] = plain(disks[i])
	}
	g.Definition.Disks = disks
	return g
}

// own are the disks that Provision makes, as the store calls them.
func own(g virt.Guest) (files []dir.File, devices []string) {
	for _, disk := range g.Definition.Disks {
		if disk.Source == "" {
			files, devices = append(files, fileOf(disk)), append(devices, disk.Device)
		}
	}
	return files, devices
}

// idOf is the UUID of a guest as the store has it.
func idOf(g virt.Guest) string { return strings.ToLower(g.UUID) }

func fileOf(disk virt.Disk) dir.File { return dir.File{Name: disk.Volume, Format: disk.Format} }

// Define makes a guest known to a host.
func (d *Driver) Define(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.Driver.Define(ctx, h, plainGuest(g))
}

// Migrate moves a guest.
func (d *Driver) Migrate(ctx context.Context, from, to virt.Host, g virt.Guest, live bool) error {
	return d.Driver.Migrate(ctx, from, to, plainGuest(g), live)
}

// AttachDisk gives a guest a disk.
func (d *Driver) AttachDisk(ctx context.Context, h virt.Host, g virt.Guest, disk virt.Disk) error {
	return d.Driver.AttachDisk(ctx, h, plainGuest(g), plain(disk))
}

// DetachDisk takes a disk away.
func (d *Driver) DetachDisk(ctx context.Context, h virt.Host, g virt.Guest, disk virt.Disk) error {
	return d.Driver.DetachDisk(ctx, h, plainGuest(g), plain(disk))
}

// Provision makes the disks that are not there yet, those first that begin as an
// image.
func (d *Driver) Provision(ctx context.Context, h virt.Host, g virt.Guest) error {
	cloned := func(disk virt.Disk) bool { return disk.Source == "" && disk.Image != "" }
	if slices.ContainsFunc(g.Definition.Disks, cloned) {
		if err := d.Check(plainGuest(g)); err != nil {
			return err
		}
		s, err := d.disks(ctx, h)
		if err != nil {
			return err
		}
		// The image is a clone's as soon as the clone is there.
		files, _ := own(g)
		id := idOf(g)
		if _, err := s.Adopt(ctx, id, files); err != nil {
			return err
		}
		for _, disk := range g.Definition.Disks {
			if cloned(disk) {
				if err := s.MakeFile(ctx, id, fileOf(disk), disk.Image, uint64(max(0, disk.Size))); err != nil {
					return err
				}
			}
		}
		g.Definition.Disks = slices.DeleteFunc(slices.Clone(g.Definition.Disks), cloned)
	}
	return d.Driver.Provision(ctx, h, g)
}

// Deprovision wipes the disks that Provision makes, with their snapshots.
func (d *Driver) Deprovision(ctx context.Context, h virt.Host, g virt.Guest) error {
	if err := d.Driver.Deprovision(ctx, h, plainGuest(g)); err != nil || !d.kept(h, g) {
		return err
	}
	s, err := d.disks(ctx, h)
	if err != nil {
		return err
	}
	return s.Release(ctx, idOf(g))
}
