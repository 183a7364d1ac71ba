package action

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// provision makes the VM's disks on its host.
func (r *run) provision(ctx context.Context) (Result, error) {
	if !r.hasDisks() {
		return Result{Host: r.host.ID, Text: "it has no disks to be made"}, nil
	}
	if err := r.placed(ctx, virt.ActionProvision); err != nil {
		return Result{}, err
	}
	if err := r.held(ctx); err != nil {
		return Result{}, err
	}
	if err := r.reach(ctx, r.place, "make the disks of"); err != nil {
		return Result{}, err
	}
	if err := r.makeDisks(ctx); err != nil {
		return Result{}, err
	}
	return Result{Host: r.host.ID, State: virt.State(r.node.State())}, nil
}

// hasDisks reports whether there are disks that vagoth makes and wipes.
func (r *run) hasDisks() bool {
	if r.guest.Definition.Image != "" || len(virt.DetachedOf(r.node)) > 0 {
		return true
	}
	for _, d := range r.guest.Definition.Disks {
		if d.Source == "" {
			return true
		}
	}
	return false
}

// makeDisks writes down where the disks are before the driver makes those that
// are not there yet.
func (r *run) makeDisks(ctx context.Context) error {
	if !r.hasDisks() {
		return nil
	}
	if on := virt.DisksOn(r.node); on != "" && on != r.host.ID {
		return fmt.Errorf("%w: %s is on %s and its disks are on %s: undefine it, or wipe them with `vagoth deprovision %s`",
			virt.ErrConflict, r.node.Name(), r.host.ID, on, r.node.Name())
	}
	if virt.LeftOn(r.node) == r.host.ID {
		// A part of a disk would pass for the disk.
		if err := r.tidy(ctx); err != nil {
			return err
		}
	}
	err := r.change(ctx, func(d *registry.Draft, n *registry.Node) (err error) {
		switch on := virt.DisksOn(n); on {
		case r.host.ID:
			return nil
		case "":
			d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaDisksOn: r.host.ID})
			return err
		default:
			return fmt.Errorf("%w: the disks of %s are on %s", virt.ErrConflict, n.Name(), on)
		}
	})
	if err != nil {
		return err
	}
	r.step(60, "making its disks on %s", r.host.ID)
	return r.call(ctx, r.place, r.cfg.Disks, "make the disks of", func(ctx context.Context) error { return r.driver.Provision(ctx, r.host, r.guest) })
}

// detachedAs is a detached disk among the others: its device may be another's by
// now.
func detachedAs(d virt.Disk, n int) virt.Disk {
	d.Bus, d.Device = "virtio", fmt.Sprintf("vd%c%c", 'a'+n/26%26, 'a'+n%26)
	return d
}

// undefine takes the VM off its host. Its disks stay.
func (r *run) undefine(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{State: virt.State(r.node.State()), Text: "it is on no host"}, nil
	}
	from := r.host.ID
	if err := r.notRunning(ctx, "undefine"); err != nil {
		return Result{}, err
	}
	if err := r.forget(ctx); err != nil {
		return Result{}, err
	}
	return Result{State: virt.New, Text: "it is off " + from}, r.clear(ctx, false)
}

// notRunning refuses a VM that runs, or of which that cannot be told.
func (r *run) notRunning(ctx context.Context, what string) error {
	info, err := r.info(ctx)
	switch {
	case errors.Is(err, virt.ErrNotFound):
		return nil
	case err != nil:
		return err
	case info.State == virt.Running || info.State == virt.Paused:
		if err := r.saw(ctx, info.State); err != nil {
			return err
		}
		return fmt.Errorf("cannot %s %s: %w on %s (%s): stop it first", what, r.node.Name(), virt.ErrBusy, r.host.ID, info.State)
	}
	return nil
}

// forget makes the host forget the VM.
func (r *run) forget(ctx context.Context) error {
	return r.forgetAt(ctx, r.place)
}

func (r *run) forgetAt(ctx context.Context, p place) error {
	r.step(50, "undefining it on %s", p.host.ID)
	err := r.call(ctx, p, r.cfg.Call, "undefine", func(ctx context.Context) error { return p.driver.Undefine(ctx, p.host, r.guest) })
	if errors.Is(err, virt.ErrNotFound) {
		return nil
	}
	return err
}

// clear writes down that no host has the VM any more, nor its disks if they
// were wiped.
func (r *run) clear(ctx context.Context, wiped bool) error {
	return r.change(ctx, func(d *registry.Draft, _ *registry.Node) (err error) {
		d.Parent, d.State = "", string(virt.New)
		if wiped {
			d.Metadata, err = d.Metadata.Merge(nil, virt.MetaDisksOn, virt.MetaDetached, virt.MetaSnapshotting)
		}
		return err
	}, registry.MovingFrom(r.node.Parent()))
}

// deprovision wipes the disks and takes the VM off its host.
func (r *run) deprovision(ctx context.Context) (Result, error) {
	if r.there() {
		if err := r.notRunning(ctx, "deprovision"); err != nil {
			return Result{}, err
		}
	}
	if err := r.tidy(ctx); err != nil {
		return Result{}, err
	}
	wiped, err := r.wipe(ctx)
	if err != nil {
		return Result{}, err
	}
	if r.there() {
		if err := r.forget(ctx); err != nil {
			return Result{}, err
		}
	}
	return Result{State: virt.New, Text: wiped}, r.clear(ctx, true)
}

// wipe wipes the disks where they are.
func (r *run) wipe(ctx context.Context) (string, error) {
	on := virt.DisksOn(r.node)
	if on == "" {
		return "it had no disks", nil
	}
	p := r.place
	if on != r.host.ID {
		v, err := r.parts.Registry.View(ctx)
		if err != nil {
			return "", err
		}
		p, err = r.placeOf(v, on)
		if errors.Is(err, registry.ErrNotFound) {
			r.task.Log("host " + on + " was removed from the registry, its disks with it")
			return "its disks were on " + on + ", which has been removed", nil
		}
		if err != nil {
			return "", err
		}
		if err := r.take(ctx, r.host.ID, on); err != nil {
			return "", err
		}
	}
	if err := r.reach(ctx, p, "wipe the disks of"); err != nil {
		return "", err
	}
	r.step(30, "wiping its disks on %s", on)
	g := r.guest
	g.Definition.Disks = slices.Clone(g.Definition.Disks)
	for _, o := range virt.DetachedOf(r.node) {
		g.Definition.Disks = append(g.Definition.Disks, detachedAs(o.Disk, len(g.Definition.Disks)))
	}
	err := r.call(ctx, p, r.cfg.Disks, "wipe the disks of", func(ctx context.Context) error { return p.driver.Deprovision(ctx, p.host, g) })
	if err != nil && !errors.Is(err, virt.ErrNotFound) {
		return "", err
	}
	return "its disks on " + on + " were wiped", nil
}
