package drivertest

import (
	"github.com/vagoth/vagoth/virt"
)

// mark writes text into all disks of g that Provision made, where the fixture
// can.
func (b *bench) mark(g virt.Guest, text string) {
	b.Helper()
	if b.Disks == nil {
		return
	}
	for i, d := range g.Definition.Disks {
		if d.Source == "" {
			b.Disks.Mark(b.T, b.h, g, i, text)
		}
	}
}

// marked checks that the disks of g that Provision made hold text.
func (b *bench) marked(g virt.Guest, text string) {
	b.Helper()
	if b.Disks == nil {
		return
	}
	for i, d := range g.Definition.Disks {
		if d.Source != "" {
			continue
		}
		if got, ok := b.Disks.Read(b.T, b.h, g, i); !ok || got != text {
			b.Errorf("disk %d of %s holds %q (there: %v), want %q", i, g.Name, got, ok, text)
		}
	}
}

// wiped checks that the disks of g that Provision made are not there.
func (b *bench) wiped(g virt.Guest) {
	b.Helper()
	for i, d := range g.Definition.Disks {
		if d.Source != "" || b.Disks == nil {
			continue
		}
		if text, ok := b.Disks.Read(b.T, b.h, g, i); ok {
			b.Errorf("disk %d of %s is on %s and holds %q", i, g.Name, b.h.ID, text)
		}
	}
}

// needDisks skips where the fixture cannot look into disks.
func (b *bench) needDisks() {
	b.Helper()
	if b.Disks == nil {
		b.Skip("the fixture cannot look into disks")
	}
}

func provisionOnce(b *bench) {
	b.needDisks()
	g := b.guest()
	if len(g.Definition.Disks) == 0 {
		b.Fatal("the fixture's guests have no disks")
	}
	b.must("provision", b.provision(g))
	b.mark(g, "precious")
	b.must("provision again", b.provision(g))
	b.marked(g, "precious")
	b.must("define", b.define(g))
	b.must("provision what is defined", b.provision(g))
	b.marked(g, "precious")
	b.must("start", b.power(g, virt.PowerStart))
	b.must("provision what runs", b.provision(g))
	b.must("stop", b.power(g, virt.PowerStop))
	b.marked(g, "precious")
}

func deprovisionWipes(b *bench) {
	b.needDisks()
	g := b.defined()
	b.mark(g, "secret")
	b.must("undefine", b.undefine(g))
	b.must("deprovision", b.deprovision(g))
	for i := range g.Definition.Disks {
		if text, ok := b.Disks.Read(b.T, b.h, g, i); ok {
			b.Errorf("disk %d is there after Deprovision and holds %q", i, text)
		}
	}
	b.must("deprovision again", b.deprovision(g))
	b.must("provision", b.provision(g))
	for i := range g.Definition.Disks {
		if text, ok := b.Disks.Read(b.T, b.h, g, i); !ok || text == "secret" {
			b.Errorf("disk %d, made anew, holds %q (there: %v)", i, text, ok)
		}
	}
	b.must("define", b.define(g))
	b.must("deprovision what is defined", b.deprovision(g))
	if _, ok := b.Disks.Read(b.T, b.h, g, 0); ok {
		b.Error("disk 0 of a defined guest is there after Deprovision")
	}
}

func deprovisionOnlyItsOwn(b *bench) {
	b.needDisks()
	other := b.defined()
	b.mark(other, "not yours")
	g := b.guest()
	if b.Disks.Source != nil {
		g.Definition.Disks = append(append([]virt.Disk(nil), g.Definition.Disks...),
			virt.Disk{Source: b.Disks.Source(b.T, b.h, "given"), Format: "raw"})
		last := &g.Definition.Disks[len(g.Definition.Disks)-1]
		last.Bus, last.Device = g.Definition.Disks[0].Bus, "vdz"
	}
	b.must("provision", b.provision(g))
	b.must("define", b.define(g))
	b.must("undefine", b.undefine(g))
	b.must("deprovision", b.deprovision(g))
	b.marked(other, "not yours")
	for i, d := range g.Definition.Disks {
		if d.Source == "" {
			continue
		}
		if text, ok := b.Disks.Read(b.T, b.h, g, i); !ok || text != "given" {
			b.Errorf("the source %s holds %q (there: %v), want it as it was", d.Source, text, ok)
		}
	}
}

func deprovisionBusy(b *bench) {
	g := b.running()
	b.is("deprovision", b.deprovision(g), virt.ErrBusy)
	b.state(g, virt.Running)
	if b.Disks != nil && len(g.Definition.Disks) > 0 {
		if _, ok := b.Disks.Read(b.T, b.h, g, 0); !ok {
			b.Error("the disk of a running guest is gone")
		}
	}
}
