package drivertest

import (
	"context"
	"slices"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func imageSave(b *bench) {
	s, ok := b.d.(virt.Saver)
	i, lists := b.d.(virt.Imager)
	if !ok || !lists || b.Container == nil {
		b.Skip("the driver is no Saver and Imager, or the fixture has no containers")
	}
	all := &images{bench: b, i: i}
	save := func(g virt.Guest, id, job string) (got virt.Image, err error) {
		err = b.call(func(ctx context.Context) error {
			got, err = s.SaveImage(trail.With(ctx, trail.Trail{Job: job}), b.h, g, id)
			return err
		})
		return got, err
	}
	machine := b.Guest
	b.Guest = b.Container
	g := b.running()
	made, err := save(g, "saved/of-suite:1", "job-1")
	b.must("save", err)
	b.Cleanup(func() { _ = all.remove("saved/of-suite:1") })
	if made.ID != "saved/of-suite:1" || made.Status != virt.ImageComplete || made.Type != virt.TypeContainer {
		b.Errorf("saved %+v, want a complete image of a container", made)
	}
	b.state(g, virt.Running)
	if now, err := all.get(made.ID); err != nil || now != made || !slices.Contains(all.ids(), made.ID) {
		b.Errorf("it is %+v (%v), saved was %+v", now, err, made)
	}
	again, err := save(g, made.ID, "job-1")
	b.must("save again for the same job", err)
	if again != made {
		b.Errorf("again it is %+v, was %+v", again, made)
	}
	for _, job := range []string{"job-2", ""} {
		_, err = save(g, made.ID, job)
		b.is("a name that is taken", err, virt.ErrConflict)
	}
	b.must("stop", b.power(g, virt.PowerStop))
	_, err = save(g, "saved/of-suite:2", "job-1")
	b.must("save what is off", err)
	b.must("delete it", all.remove("saved/of-suite:2"))
	for _, id := range []string{"", "-rf", "../up", "a b", "a\nb", "a//b"} {
		_, err = save(g, id, "job-3")
		b.is("save as "+id, err, virt.ErrInvalid)
	}
	_, err = save(b.guest(), "saved/of-suite:3", "job-3")
	b.is("a container that never was", err, virt.ErrNotFound)
	if b.Guest = machine; b.Guest(b.T).Definition.Type != virt.TypeContainer {
		_, err = save(b.defined(), "saved/of-suite:3", "job-3")
		b.is("a virtual machine", err, virt.ErrUnsupported)
	}
	if slices.Contains(all.ids(), "saved/of-suite:3") {
		b.Error("what was refused is an image")
	}
}
