package drivertest

import (
	"context"
	"testing"

	"github.com/vagoth/vagoth/virt"
)

// Run checks every promise of the package's list. open is called once for each
// subtest.
func Run(t *testing.T, open func(*testing.T) Fixture) {
	for _, s := range []struct {
		name string
		run  func(*bench)
	}{
		{"Define/Appears", defineAppears},
		{"Define/Twice", defineTwice},
		{"Define/Changed", defineChanged},
		{"Define/NameTaken", defineNameTaken},
		{"Undefine/Forgets", undefineForgets},
		{"Undefine/Busy", undefineBusy},
		{"Provision/Once", provisionOnce},
		{"Deprovision/Wipes", deprovisionWipes},
		{"Deprovision/OnlyItsOwn", deprovisionOnlyItsOwn},
		{"Deprovision/Busy", deprovisionBusy},
		{"Power/StartStop", powerStartStop},
		{"Power/Shutdown", powerShutdown},
		{"Power/Reboot", powerReboot},
		{"NotFound", notFound},
		{"Status/MatchesInfo", statusMatchesInfo},
		{"Status/ByUUID", statusByUUID},
		{"Suspend", suspend},
		{"Migrate/Live", migrateLive},
		{"Migrate/Cold", migrateCold},
		{"Copy/Moves", copyMoves},
		{"Copy/Anew", copyAnew},
		{"Copy/Refused", copyRefused},
		{"Capacity", capacity},
		{"Context/Cancelled", contextCancelled},
		{"Context/Deadline", contextDeadline},
		{"Concurrent/Guests", concurrentGuests},
		{"Concurrent/OneGuest", concurrentOneGuest},
		{"Hostile", hostile},
		{"Snapshot/Create", snapshotCreate},
		{"Snapshot/Rollback", snapshotRollback},
		{"Snapshot/Newer", snapshotNewer},
		{"Snapshot/Delete", snapshotDelete},
		{"Snapshot/Running", snapshotRunning},
		{"Snapshot/Download", snapshotDownload},
		{"Snapshot/Gone", snapshotGone},
		{"Snapshot/Refused", snapshotRefused},
		{"Metrics", metrics},
		{"Image/Fetch", imageFetch},
		{"Image/Delete", imageDelete},
		{"Image/Refused", imageRefused},
		{"Image/Save", imageSave},
		{"Disk/Off", attachOff},
		{"Disk/Live", attachLive},
		{"Console", console},
		{"Fenced", fenced},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(newBench(t, open)) })
	}
}

// RunConsole checks the promise about consoles alone, for fixtures whose guests
// are slow to say something.
func RunConsole(t *testing.T, open func(*testing.T) Fixture) {
	t.Run("Console", func(t *testing.T) { console(newBench(t, open)) })
}

func defineAppears(b *bench) {
	g := b.defined()
	b.state(g, virt.Stopped)
	seen, n := b.listed(b.h, g)
	if n != 1 {
		b.Fatalf("the listing has the guest %d times, want once", n)
	}
	if seen.State != virt.Stopped || seen.CPU != g.Definition.CPU || seen.Memory != int64(g.Definition.Memory) {
		b.Errorf("the listing says %+v of a stopped guest with %d CPUs and %d MB", seen, g.Definition.CPU, g.Definition.Memory)
	}
}

func defineTwice(b *bench) {
	g := b.defined()
	b.must("define again", b.define(g))
	b.must("start", b.power(g, virt.PowerStart))
	b.must("define what runs", b.define(g))
	b.state(g, virt.Running)
	if _, n := b.listed(b.h, g); n != 1 {
		b.Errorf("the listing has the guest %d times, want once", n)
	}
}

func defineChanged(b *bench) {
	g := b.defined()
	changed := b.Change(g)
	b.must("define anew", b.define(changed))
	info, err := b.info(b.h, g)
	b.must("info", err)
	if info.CPU != changed.Definition.CPU || info.Memory != int64(changed.Definition.Memory) {
		b.Errorf("the host has %d CPUs and %d MB, want %d and %d", info.CPU, info.Memory, changed.Definition.CPU, changed.Definition.Memory)
	}
	if _, n := b.listed(b.h, g); n != 1 {
		b.Errorf("the listing has the guest %d times, want once", n)
	}
	b.must("start", b.power(changed, virt.PowerStart))
	b.state(changed, virt.Running)
}

func defineNameTaken(b *bench) {
	g, other := b.defined(), b.guest()
	other.Name = g.Name
	b.is("define under a name that is taken", b.define(other), virt.ErrConflict)
	if _, n := b.listed(b.h, other); n != 0 {
		b.Error("the refused guest is listed")
	}
	b.state(g, virt.Stopped)
}

func undefineForgets(b *bench) {
	g := b.defined()
	b.mark(g, "kept")
	b.must("undefine", b.undefine(g))
	if _, n := b.listed(b.h, g); n != 0 {
		b.Error("an undefined guest is listed")
	}
	_, err := b.info(b.h, g)
	b.is("info", err, virt.ErrNotFound)
	b.marked(g, "kept")
	b.must("define again", b.define(g))
	b.must("start", b.power(g, virt.PowerStart))
	b.state(g, virt.Running)
}

func undefineBusy(b *bench) {
	g := b.running()
	b.is("undefine", b.undefine(g), virt.ErrBusy)
	b.state(g, virt.Running)
	b.must("stop", b.power(g, virt.PowerStop))
	b.must("undefine", b.undefine(g))
}

func notFound(b *bench) {
	g := b.guest()
	for _, v := range b.verbs() {
		err := b.call(func(ctx context.Context) error { return v.do(ctx, b.h, g) })
		b.is(v.name+" of a guest that never was", err, virt.ErrNotFound)
	}
	b.must("deprovision of a guest that never was", b.deprovision(g))
	if m, ok := b.d.(virt.Migrator); ok && len(b.Hosts) > 1 && !b.NoMigrate {
		err := b.call(func(ctx context.Context) error { return m.Migrate(ctx, b.h, b.Hosts[1], g, true) })
		b.is("migrate of a guest that never was", err, virt.ErrNotFound)
	}
	g = b.defined()
	b.must("undefine", b.undefine(g))
	for _, v := range b.verbs() {
		err := b.call(func(ctx context.Context) error { return v.do(ctx, b.h, g) })
		b.is(v.name+" of an undefined guest", err, virt.ErrNotFound)
	}
}

func statusMatchesInfo(b *bench) {
	b.defined()
	b.running()
	times := map[string]int{}
	for _, s := range b.status(b.h).Guests {
		times[s.UUID]++
		info, err := b.info(b.h, virt.Guest{ID: s.UUID, UUID: s.UUID, Name: s.Name})
		b.must("info of "+s.Name, err)
		if info.Seen != s {
			b.Errorf("the listing says %+v, Info says %+v", s, info.Seen)
		}
	}
	for u, n := range times {
		if n != 1 {
			b.Errorf("guest %s is listed %d times", u, n)
		}
	}
	if len(times) < 2 {
		b.Errorf("%d guests are listed, want at least 2", len(times))
	}
}

func statusByUUID(b *bench) {
	g := b.defined()
	renamed := g
	renamed.Name = "renamed-" + g.UUID[:8]
	info, err := b.info(b.h, renamed)
	b.must("info under another name", err)
	if info.UUID != g.UUID {
		b.Errorf("Info found %s, want %s", info.UUID, g.UUID)
	}
	b.must("start under another name", b.power(renamed, virt.PowerStart))
	b.state(g, virt.Running)
}

func capacity(b *bench) {
	m, ok := b.d.(virt.Measurer)
	if !ok {
		b.Skip("the driver is no Measurer")
	}
	var c virt.Capacity
	b.must("capacity", b.call(func(ctx context.Context) (err error) { c, err = m.Capacity(ctx, b.h); return err }))
	if c.CPU <= 0 || c.Memory <= 0 {
		b.Errorf("the host has %+v, want CPUs and memory", c)
	}
	l := b.status(b.h).Capacity
	if l.CPU != 0 && l.CPU != c.CPU || l.Memory != 0 && l.Memory != c.Memory {
		b.Errorf("the listing says %+v, Capacity says %+v", l, c)
	}
}
