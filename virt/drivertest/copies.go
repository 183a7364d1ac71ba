package drivertest

import (
	"context"
	"sync/atomic"

	"github.com/vagoth/vagoth/virt"
)

// copies are the calls of a DiskMover about one guest, which is defined on the first
// host and has disks there.
type copies struct {
	*bench
	m        virt.DiskMover
	g        virt.Guest
	from, to virt.Host
	told     atomic.Int64
}

func (b *bench) copies() *copies {
	m, ok := b.d.(virt.DiskMover)
	if !ok || len(b.Hosts) < 2 {
		b.Skip("the driver is no DiskMover, or there is only one host")
	}
	b.needDisks()
	return &copies{bench: b, m: m, g: b.defined(), from: b.Hosts[0], to: b.Hosts[1]}
}

func (c *copies) copy() error {
	return c.call(func(ctx context.Context) error { return c.m.CopyDisks(ctx, c.from, c.to, c.g, c.told.Store) })
}

func (c *copies) tidy(home, left virt.Host) error {
	return c.call(func(ctx context.Context) error { return c.m.TidyDisks(ctx, home, left, c.g) })
}

// at looks at one of the hosts.
func (c *copies) at(h virt.Host, look func()) {
	c.h = h
	look()
	c.h = c.from
}

// The whole way of a guest that is off: its disks are copied, it is defined there,
// forgotten here, and what is left here is wiped.
func copyMoves(b *bench) {
	c := b.copies()
	b.mark(c.g, "moves")
	b.must("copy", c.copy())
	if c.told.Load() == 0 {
		b.Error("nobody was told how much was copied")
	}
	b.marked(c.g, "moves")
	c.at(c.to, func() { b.marked(c.g, "moves") })
	b.state(c.g, virt.Stopped)
	if _, n := b.listed(c.to, c.g); n != 0 {
		b.Error("the guest is listed where only its disks are")
	}
	c.at(c.to, func() { b.must("define there", b.define(c.g)) })
	b.must("undefine here", b.undefine(c.g))
	b.must("tidy", c.tidy(c.to, c.from))
	b.must("tidy again", c.tidy(c.to, c.from))
	b.wiped(c.g)
	c.at(c.to, func() {
		b.marked(c.g, "moves")
		b.must("start", b.power(c.g, virt.PowerStart))
		b.state(c.g, virt.Running)
		b.must("stop", b.power(c.g, virt.PowerStop))
		b.marked(c.g, "moves")
		b.must("undefine", b.undefine(c.g))
		b.must("deprovision", b.deprovision(c.g))
		b.wiped(c.g)
	})
}

// What an earlier copy left is no part of the next one, and no image or snapshot of a
// copy stays.
func copyAnew(b *bench) {
	c := b.copies()
	b.mark(c.g, "old")
	b.must("copy", c.copy())
	b.mark(c.g, "new")
	b.must("copy again", c.copy())
	b.marked(c.g, "new")
	c.at(c.to, func() { b.marked(c.g, "new") })
	b.must("tidy", c.tidy(c.from, c.to))
	c.at(c.to, func() { b.wiped(c.g) })
	if i, ok := b.d.(virt.Imager); ok {
		list, err := i.Images(b.Context(), c.to)
		b.must("images", err)
		if len(list) != 0 {
			b.Errorf("the images %+v are left", list)
		}
	}
	if s, ok := b.d.(virt.Snapshotter); ok && !b.NoSnapshots {
		list, err := s.Snapshots(b.Context(), c.from, c.g)
		b.must("snapshots", err)
		if len(list) != 0 {
			b.Errorf("the snapshots %+v are left", list)
		}
	}
	b.marked(c.g, "new")
	b.state(c.g, virt.Stopped)
	b.must("tidy of what has no home", c.tidy(virt.Host{}, c.to))
}

// Disks whose snapshots would not come along are not copied, nor is a container, nor
// those of a guest that never was.
func copyRefused(b *bench) {
	c := b.copies()
	b.mark(c.g, "stays")
	if s, ok := b.d.(virt.Snapshotter); ok && !b.NoSnapshots {
		b.must("snapshot", b.call(func(ctx context.Context) error { return s.CreateSnapshot(ctx, c.from, c.g, "kept") }))
		b.is("copy of disks with a snapshot", c.copy(), virt.ErrUnsupported)
		c.at(c.to, func() { b.wiped(c.g) })
		b.marked(c.g, "stays")
	}
	if b.Container != nil {
		c.g = b.Container(b.T)
		b.must("provision a container", b.provision(c.g))
		b.is("copy of a container", c.copy(), virt.ErrUnsupported)
	}
	c.g = b.guest()
	b.fails("copy of what never was", c.copy())
	c.at(c.to, func() { b.wiped(c.g) })
}
