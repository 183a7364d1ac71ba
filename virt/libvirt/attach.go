package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// AttachDisk gives a guest a disk: one that is off is defined anew, one that runs
// gets it plugged in, in its domain and in what the domain is when it starts again.
func (d *Driver) AttachDisk(ctx context.Context, h virt.Host, g virt.Guest, disk virt.Disk) error {
	if err := checkGuest(g); err != nil {
		return err
	}
	if !slices.Contains(g.Definition.Disks, disk) {
		return problem(g, virt.ErrInvalid, "the disk %.16q is none of its definition", disk.Device)
	}
	return d.replug(ctx, h, g, "attach a disk to", func(ctx context.Context, p *plug) error { return p.in(ctx, disk) })
}

// DetachDisk takes a disk away. The operating system of a guest that runs is asked
// to let go of it: until it has, the guest keeps the disk, now and when it starts
// again.
func (d *Driver) DetachDisk(ctx context.Context, h virt.Host, g virt.Guest, disk virt.Disk) error {
	if err := checkGuest(g); err != nil {
		return err
	}
	if slices.ContainsFunc(g.Definition.Disks, func(o virt.Disk) bool { return o.Device == disk.Device }) {
		return problem(g, virt.ErrInvalid, "the disk %.16q is to be detached and is one of its definition", disk.Device)
	}
	without := g
	without.Definition.Disks = append(slices.Clone(g.Definition.Disks), disk)
	if err := checkDisks(without); err != nil {
		return err
	}
	return d.replug(ctx, h, g, "detach a disk from", func(ctx context.Context, p *plug) error { return p.out(ctx, disk) })
}

// plug changes the disks of a domain that runs.
type plug struct {
	c     *conn
	dom   golibvirt.Domain
	host  host
	guest virt.Guest
	buses []string // of the disks that the host can plug in, in this domain
}

// replug runs change on the domain of a guest that runs, and notes in it what the
// guest is defined as now. A guest that is off is defined anew.
func (d *Driver) replug(ctx context.Context, h virt.Host, g virt.Guest, what string, change func(context.Context, *plug) error) error {
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	off := false
	err = d.withDomain(ctx, h, g, changes, what, func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
		state, err := stateOf(c, dom)
		if err != nil {
			return err
		}
		if off = state != virt.Running && state != virt.Paused; off {
			return nil
		}
		there, err := p.hostOf(c, g)
		if err != nil {
			return err
		}
		is, err := domainOf(c, dom, 0)
		if err != nil {
			return err
		}
		if m := is.Metadata.Mark; m == nil || m.Node != g.ID {
			return fmt.Errorf("%w: the domain was not defined for this node: change its disks where it was defined", virt.ErrConflict)
		}
		at := &plug{c: c, dom: dom, host: there, guest: g, buses: []string{"virtio"}}
		if is.hasSCSI() {
			at.buses = append(at.buses, "scsi")
		}
		if err := change(ctx, at); err != nil {
			return err
		}
		return at.note(*is.Metadata.Mark)
	})
	if err == nil && off {
		return d.Define(ctx, h, g)
	}
	return err
}

// The two sides of a domain: what runs, and what starts the next time.
const (
	sideLive   = golibvirt.DomainXMLFlags(0)
	sideConfig = golibvirt.DomainXMLInactive
)

func impact(side golibvirt.DomainXMLFlags) golibvirt.DomainDeviceModifyFlags {
	if side == sideConfig {
		return golibvirt.DomainDeviceModifyConfig
	}
	return golibvirt.DomainDeviceModifyLive
}

// in plugs a disk in where it is not yet.
func (p *plug) in(ctx context.Context, disk virt.Disk) error {
	text, err := p.xml(disk)
	if err != nil {
		return err
	}
	for _, side := range []golibvirt.DomainXMLFlags{sideLive, sideConfig} {
		has, err := p.has(side, disk)
		if err != nil {
			return err
		}
		if has {
			continue
		}
		if !slices.Contains(p.buses, disk.Bus) {
			return fmt.Errorf("%w: a disk on the bus %s is attached only while the guest is off: stop it first", virt.ErrBusy, disk.Bus)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.c.DomainAttachDeviceFlags(p.dom, text, uint32(impact(side))); err != nil {
			return translate(err)
		}
	}
	return nil
}

const (
	letGo     = 10 * time.Second // how long a guest has to let go of a disk
	letGoLook = 100 * time.Millisecond
)

// out unplugs a disk: first where it runs, which is for the guest to allow.
func (p *plug) out(ctx context.Context, disk virt.Disk) error {
	text, err := p.xml(disk)
	if err != nil {
		return err
	}
	has, err := p.has(sideLive, disk)
	if err != nil {
		return err
	}
	if has {
		// Where the guest was asked before and has not done it, libvirt says that the disk is on its way out already.
		err := translate(p.c.DomainDetachDeviceFlags(p.dom, text, uint32(impact(sideLive))))
		if isUnreachable(err) {
			return err
		}
		if has, looked := p.waitGone(ctx, disk); looked != nil || has {
			if err == nil {
				err = fmt.Errorf("it was asked %v ago", letGo)
			}
			return errors.Join(looked, fmt.Errorf("%w: the guest has not let go of the disk %s (%w): stop it first, or try again", virt.ErrBusy, disk.Device, err))
		}
	}
	if has, err = p.has(sideConfig, disk); err != nil || !has {
		return err
	}
	return translate(p.c.DomainDetachDeviceFlags(p.dom, text, uint32(impact(sideConfig))))
}

// waitGone waits until the guest has let go of a disk; true if it has not in time.
func (p *plug) waitGone(ctx context.Context, disk virt.Disk) (bool, error) {
	over := time.NewTimer(letGo)
	defer over.Stop()
	look := time.NewTicker(letGoLook)
	defer look.Stop()
	for {
		has, err := p.has(sideLive, disk)
		if err != nil || !has {
			return has, err
		}
		select {
		case <-look.C:
		case <-over.C:
			return true, nil
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// xml writes a disk as a domain has it.
func (p *plug) xml(disk virt.Disk) (string, error) {
	one := domainDisk(disk, p.host.disks)
	text, err := one.Marshal()
	if err != nil {
		return "", problem(p.guest, virt.ErrInvalid, "its disk %s cannot be encoded: %v", disk.Device, err)
	}
	return text, nil
}

// has reports whether a domain has a disk. Another one of that name is in the way.
func (p *plug) has(side golibvirt.DomainXMLFlags, disk virt.Disk) (bool, error) {
	is, err := domainOf(p.c, p.dom, side)
	if err != nil {
		return false, err
	}
	file := diskFile(disk, p.host.disks)
	for _, o := range is.Disks {
		same := o.Source.File == file || o.Source.Dev == file
		switch {
		case same && o.Target.Dev == disk.Device:
			return true, nil
		case same:
			return false, fmt.Errorf("%w: the guest has the disk %s already, as %s", virt.ErrConflict, file, clean(o.Target.Dev, 16))
		case o.Target.Dev == disk.Device:
			return false, fmt.Errorf("%w: the guest has another disk as %s", virt.ErrConflict, disk.Device)
		}
	}
	return false, nil
}

// note writes down what the guest is defined as now, so that defining it that way
// finds nothing to do.
func (p *plug) note(m mark) error {
	sum, err := hash(p.guest)
	if err != nil || sum == m.Hash {
		return err
	}
	m.Hash = sum
	text, err := xml.Marshal(m)
	if err != nil {
		return problem(p.guest, virt.ErrInvalid, "its metadata cannot be encoded: %v", err)
	}
	impact := golibvirt.DomainAffectLive | golibvirt.DomainAffectConfig
	return translate(p.c.DomainSetMetadata(p.dom, int32(golibvirt.DomainMetadataElement), golibvirt.OptString{string(text)},
		golibvirt.OptString{"vagoth"}, golibvirt.OptString{markSpace}, impact))
}

// domainOf reads a domain, as it runs or as it starts the next time.
func domainOf(c *conn, dom golibvirt.Domain, side golibvirt.DomainXMLFlags) (described, error) {
	text, err := c.DomainGetXMLDesc(dom, side)
	if err != nil {
		return described{}, translate(err)
	}
	return parseDomain(text)
}
