package drivertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// Fixture is an open driver with what the suite must know about it. Whoever
// opened it releases it with t.Cleanup.
type Fixture struct {
	Driver virt.Driver
	// Hosts are one or two hosts that answer. With two, and a driver that is a
	// Migrator, guests are moved from the first to the second.
	Hosts []virt.Host
	// Guest makes a guest that the driver accepts, different in UUID, name,
	// volumes, MACs and ports from every other that it made. If Disks is set
	// the guest has at least one disk that Provision makes.
	Guest func(t *testing.T) virt.Guest
	// Change returns g with another number of CPUs or another memory, that a
	// host accepts. Nil adds one CPU.
	Change func(g virt.Guest) virt.Guest

	// Hung, if set, returns a host that takes a call and never answers.
	Hung func(t *testing.T) virt.Host
	// Disks, if set, looks into the hosts' disks.
	Disks *Disks

	// Image, if set, returns a request that the hosts can fetch, each time with
	// another ID and another source.
	Image func(t *testing.T) virt.ImageRequest
	// Container, if set, makes a guest as Guest does that is a container, for a
	// driver that is a Saver.
	Container func(t *testing.T) virt.Guest
	// Console, if set, is what the consoles of the factory's guests say.
	Console *Console

	// NoSnapshots: there are no snapshots of the factory's disks although the
	// driver is a Snapshotter. CreateSnapshot then has to be ErrUnsupported.
	NoSnapshots bool
	// NoLiveSnapshots: a snapshot of a guest that runs is ErrBusy.
	NoLiveSnapshots bool
	// NoLiveDisks: a disk for a guest that runs is ErrBusy.
	NoLiveDisks bool
	// NoLiveDetach: the factory's guests never let go of a disk while they run.
	NoLiveDetach bool
	// NoShutdown: the factory's guests do not react to a shutdown or a reboot.
	NoShutdown bool
	// NoMigrate: the hosts cannot move guests between each other although the
	// driver is a Migrator. Migrate then has to be ErrUnsupported.
	NoMigrate bool

	Timeout time.Duration // of one call; 0 is 10s
	Settle  time.Duration // how long a shutdown or a reboot may take to take effect; 0 is 10s
	Grace   time.Duration // how long after the end of its context a call may take to return; 0 is 2s
	Guests  int           // how many guests live at once in Concurrent; 0 is 8
}

// Console is what is typed into a guest's console, if anything, and what comes
// out of it then.
type Console struct{ Type, Says string }

// Disks looks into the disks of a fixture's hosts.
type Disks struct {
	// Mark writes text into the i-th disk of the guest.
	Mark func(t *testing.T, h virt.Host, g virt.Guest, i int, text string)
	// Read returns the text that Mark left in the i-th disk, and whether there
	// is such a disk.
	Read func(t *testing.T, h virt.Host, g virt.Guest, i int) (text string, ok bool)
	// Source, if set, makes a disk that Provision did not make, holding text
	// where Mark puts it, and returns its path on the host, for Disk.Source.
	Source func(t *testing.T, h virt.Host, text string) string
}

// bench is a fixture in the hands of one subtest.
type bench struct {
	*testing.T
	Fixture
	d virt.Driver
	h virt.Host
}

func newBench(t *testing.T, open func(*testing.T) Fixture) *bench {
	t.Helper()
	f := open(t)
	if f.Driver == nil || f.Guest == nil || len(f.Hosts) == 0 {
		t.Fatal("the fixture needs Driver, Guest and at least one of Hosts")
	}
	for _, d := range []struct {
		d *time.Duration
		v time.Duration
	}{{&f.Timeout, 10 * time.Second}, {&f.Settle, 10 * time.Second}, {&f.Grace, 2 * time.Second}} {
		if *d.d == 0 {
			*d.d = d.v
		}
	}
	if f.Guests == 0 {
		f.Guests = 8
	}
	if f.Change == nil {
		f.Change = func(g virt.Guest) virt.Guest { g.Definition.CPU++; return g }
	}
	return &bench{T: t, Fixture: f, d: f.Driver, h: f.Hosts[0]}
}

// guest makes a guest and takes care that nothing of it is left behind.
func (b *bench) guest() virt.Guest {
	b.Helper()
	g := b.Guest(b.T)
	b.Cleanup(func() {
		for _, h := range b.Hosts {
			for _, do := range []func(context.Context) error{
				func(ctx context.Context) error { return b.d.Power(ctx, h, g, virt.PowerStop) },
				func(ctx context.Context) error { return b.d.Undefine(ctx, h, g) },
				func(ctx context.Context) error { return b.d.Deprovision(ctx, h, g) },
			} {
				if err := b.call(do); err != nil && !errors.Is(err, virt.ErrNotFound) {
					b.Errorf("cannot clean up %s on %s: %v", g.Name, h.ID, err)
				}
			}
		}
	})
	return g
}

// defined makes a guest with its disks.
func (b *bench) defined() virt.Guest {
	b.Helper()
	g := b.guest()
	b.must("provision", b.provision(g))
	b.must("define", b.define(g))
	return g
}

// running makes a guest that runs.
func (b *bench) running() virt.Guest {
	b.Helper()
	g := b.defined()
	b.must("start", b.power(g, virt.PowerStart))
	b.state(g, virt.Running)
	return g
}

// call gives do a context with the timeout of one call.
func (b *bench) call(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
	defer cancel()
	return do(ctx)
}

func (b *bench) define(g virt.Guest) error {
	return b.call(func(ctx context.Context) error { return b.d.Define(ctx, b.h, g) })
}

func (b *bench) undefine(g virt.Guest) error {
	return b.call(func(ctx context.Context) error { return b.d.Undefine(ctx, b.h, g) })
}

func (b *bench) provision(g virt.Guest) error {
	return b.call(func(ctx context.Context) error { return b.d.Provision(ctx, b.h, g) })
}

func (b *bench) deprovision(g virt.Guest) error {
	return b.call(func(ctx context.Context) error { return b.d.Deprovision(ctx, b.h, g) })
}

func (b *bench) power(g virt.Guest, op virt.PowerOp) error {
	return b.call(func(ctx context.Context) error { return b.d.Power(ctx, b.h, g, op) })
}

func (b *bench) info(h virt.Host, g virt.Guest) (info virt.Info, err error) {
	err = b.call(func(ctx context.Context) error { info, err = b.d.Info(ctx, h, g); return err })
	return info, err
}

func (b *bench) status(h virt.Host) virt.Listing {
	b.Helper()
	var l virt.Listing
	b.must("status", b.call(func(ctx context.Context) (err error) { l, err = b.d.Status(ctx, h); return err }))
	if !l.Complete {
		b.Fatalf("the listing of %s is not complete", h.ID)
	}
	return l
}

// listed finds g in a listing of h.
func (b *bench) listed(h virt.Host, g virt.Guest) (seen virt.Seen, n int) {
	b.Helper()
	for _, s := range b.status(h).Guests {
		if s.UUID == g.UUID {
			seen, n = s, n+1
		}
	}
	return seen, n
}

// state checks that Info says want.
func (b *bench) state(g virt.Guest, want virt.State) {
	b.Helper()
	info, err := b.info(b.h, g)
	b.must("info", err)
	if info.State != want {
		b.Fatalf("guest %s is %s, want %s", g.Name, info.State, want)
	}
}

// becomes waits until Info says want.
func (b *bench) becomes(g virt.Guest, want virt.State) {
	b.Helper()
	var last virt.State
	for end := time.Now().Add(b.Settle); ; {
		info, err := b.info(b.h, g)
		b.must("info", err)
		if last = info.State; last == want {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("guest %s is still %s after %v, want %s", g.Name, last, b.Settle, want)
		}
		time.Sleep(b.Settle / 200)
	}
}

func (b *bench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *bench) is(what string, err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

// fails checks that a call was refused, whatever for.
func (b *bench) fails(what string, err error) {
	b.Helper()
	if err == nil {
		b.Errorf("%s: succeeded, want it refused", what)
	}
}

// verb is one method of a driver about one guest, for tests of all of them.
type verb struct {
	name string
	do   func(context.Context, virt.Host, virt.Guest) error
}

// verbs are the calls about a guest that is already there.
func (b *bench) verbs() []verb {
	vs := []verb{
		{"info", func(ctx context.Context, h virt.Host, g virt.Guest) error { _, err := b.d.Info(ctx, h, g); return err }},
		{"undefine", b.d.Undefine},
	}
	for _, op := range []virt.PowerOp{virt.PowerStart, virt.PowerStop, virt.PowerShutdown, virt.PowerReboot} {
		vs = append(vs, verb{fmt.Sprintf("power %s", op), func(ctx context.Context, h virt.Host, g virt.Guest) error {
			return b.d.Power(ctx, h, g, op)
		}})
	}
	if s, ok := b.d.(virt.Suspender); ok {
		vs = append(vs, verb{"suspend", s.Suspend}, verb{"resume", s.Resume})
	}
	return vs
}

// making are the calls that make something.
func (b *bench) making() []verb {
	return []verb{{"define", b.d.Define}, {"provision", b.d.Provision}}
}
