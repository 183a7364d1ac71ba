package drivertest

import (
	"context"

	"github.com/vagoth/vagoth/virt"
)

func powerStartStop(b *bench) {
	g := b.defined()
	for range 2 {
		b.must("start", b.power(g, virt.PowerStart))
		b.state(g, virt.Running)
		b.must("start what runs", b.power(g, virt.PowerStart))
		b.state(g, virt.Running)
		b.must("stop", b.power(g, virt.PowerStop))
		b.state(g, virt.Stopped)
		b.must("stop what is off", b.power(g, virt.PowerStop))
		b.state(g, virt.Stopped)
	}
	b.is("an operation that does not exist", b.power(g, virt.PowerOp("explode")), virt.ErrInvalid)
	b.state(g, virt.Stopped)
}

func powerShutdown(b *bench) {
	g := b.defined()
	b.must("shut down what is off", b.power(g, virt.PowerShutdown))
	b.state(g, virt.Stopped)
	b.must("start", b.power(g, virt.PowerStart))
	b.must("shutdown", b.power(g, virt.PowerShutdown))
	if b.NoShutdown {
		return
	}
	b.becomes(g, virt.Stopped)
	b.must("start after a shutdown", b.power(g, virt.PowerStart))
	b.state(g, virt.Running)
}

func powerReboot(b *bench) {
	g := b.defined()
	b.fails("reboot what is off", b.power(g, virt.PowerReboot))
	b.state(g, virt.Stopped)
	b.must("start", b.power(g, virt.PowerStart))
	b.must("reboot", b.power(g, virt.PowerReboot))
	b.becomes(g, virt.Running)
}

func suspend(b *bench) {
	s, ok := b.d.(virt.Suspender)
	if !ok {
		b.Skip("the driver is no Suspender")
	}
	hold := func(g virt.Guest) error {
		return b.call(func(ctx context.Context) error { return s.Suspend(ctx, b.h, g) })
	}
	release := func(g virt.Guest) error {
		return b.call(func(ctx context.Context) error { return s.Resume(ctx, b.h, g) })
	}
	g := b.defined()
	b.fails("suspend what is off", hold(g))
	b.fails("resume what is off", release(g))
	b.state(g, virt.Stopped)
	b.must("start", b.power(g, virt.PowerStart))
	b.must("resume what runs", release(g))
	b.must("suspend", hold(g))
	b.state(g, virt.Paused)
	b.must("suspend what is paused", hold(g))
	b.state(g, virt.Paused)
	b.is("undefine what is paused", b.undefine(g), virt.ErrBusy)
	b.is("deprovision what is paused", b.deprovision(g), virt.ErrBusy)
	b.must("resume", release(g))
	b.state(g, virt.Running)
	b.must("suspend", hold(g))
	b.must("stop what is paused", b.power(g, virt.PowerStop))
	b.state(g, virt.Stopped)
}

func migrateLive(b *bench) { migrate(b, true) }
func migrateCold(b *bench) { migrate(b, false) }

func migrate(b *bench, live bool) {
	m, ok := b.d.(virt.Migrator)
	if !ok || len(b.Hosts) < 2 {
		b.Skip("the driver is no Migrator, or there is only one host")
	}
	from, to := b.Hosts[0], b.Hosts[1]
	g, want := b.defined(), virt.Stopped
	if live {
		b.must("start", b.power(g, virt.PowerStart))
		want = virt.Running
	}
	b.mark(g, "moves")
	err := b.call(func(ctx context.Context) error { return m.Migrate(ctx, from, to, g, live) })
	if b.NoMigrate {
		b.is("migrate", err, virt.ErrUnsupported)
		b.state(g, want)
		return
	}
	b.must("migrate", err)
	if _, n := b.listed(from, g); n != 0 {
		b.Error("the guest is still listed where it came from")
	}
	if seen, n := b.listed(to, g); n != 1 || seen.State != want {
		b.Errorf("the guest is listed %d times where it went, as %s, want %s", n, seen.State, want)
	}
	b.h = to
	b.marked(g, "moves")
	b.state(g, want)
	b.h = from
	_, err = b.info(from, g)
	b.is("info where it came from", err, virt.ErrNotFound)
}
