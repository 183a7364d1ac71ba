package drivertest

import (
	"context"
	"slices"

	"github.com/vagoth/vagoth/virt"
)

func attachOff(b *bench)  { attach(b, false) }
func attachLive(b *bench) { attach(b, true) }

func attach(b *bench, live bool) {
	a, ok := b.d.(virt.DiskAttacher)
	if !ok {
		b.Skip("the driver is no DiskAttacher")
	}
	g := b.defined()
	if len(g.Definition.Disks) == 0 {
		b.Skip("the fixture's guests have no disks")
	}
	want := virt.Stopped
	if live {
		b.must("start", b.power(g, virt.PowerStart))
		want = virt.Running
	}
	b.mark(g, "first")
	disk := g.Definition.Disks[0]
	disk.Device, disk.Volume = "vdk", g.ID+"-more"
	if disk.Bus != "virtio" {
		b.Skip("the fixture's disks are not virtio")
	}
	with := g
	with.Definition.Disks = append(slices.Clone(g.Definition.Disks), disk)
	b.must("make the disk", b.provision(with))
	b.Cleanup(func() {
		if err := b.call(func(ctx context.Context) error { return b.d.Power(ctx, b.h, with, virt.PowerStop) }); err == nil {
			b.must("wipe the disk", b.deprovision(with))
		}
	})
	attach := func() error {
		return b.call(func(ctx context.Context) error { return a.AttachDisk(ctx, b.h, with, disk) })
	}
	detach := func() error {
		return b.call(func(ctx context.Context) error { return a.DetachDisk(ctx, b.h, g, disk) })
	}
	err := attach()
	if live && b.NoLiveDisks {
		b.is("attach to what runs", err, virt.ErrBusy)
		return
	}
	b.must("attach", err)
	b.must("attach again", attach())
	b.state(g, want)
	b.must("define as it is now", b.define(with))
	b.state(g, want)
	if b.Disks != nil {
		b.Disks.Mark(b.T, b.h, with, len(g.Definition.Disks), "second")
	}
	if live && b.NoLiveDetach {
		b.must("stop", b.power(g, virt.PowerStop))
		want = virt.Stopped
	}
	b.must("detach", detach())
	b.must("detach again", detach())
	b.state(g, want)
	b.must("define as it was", b.define(g))
	b.marked(g, "first")
	if b.Disks != nil {
		if text, ok := b.Disks.Read(b.T, b.h, with, len(g.Definition.Disks)); !ok || text != "second" {
			b.Errorf("the detached disk holds %q (there: %v), want it as it was", text, ok)
		}
	}
	b.must("stop", b.power(g, virt.PowerStop))
	b.must("attach it once more", attach())
	b.must("start with it", b.power(with, virt.PowerStart))
	b.state(with, virt.Running)
	never := b.guest()
	b.is("attach to a guest that never was", b.call(func(ctx context.Context) error { return a.AttachDisk(ctx, b.h, never, never.Definition.Disks[0]) }), virt.ErrNotFound)
}
