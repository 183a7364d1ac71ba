package action

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// attachDisk gives the VM a disk. The definition has it before it is made, so
// that no disk is forgotten; a host that refuses it has it taken back out.
func (r *run) attachDisk(ctx context.Context) (Result, error) {
	const what = "attach a disk to"
	if r.params.Disk == nil {
		return Result{}, fmt.Errorf("%w: %s: the parameter disk is missing", virt.ErrInvalid, virt.ActionAttachDisk)
	}
	def, disk, err := virt.WithDisk(r.node, *r.params.Disk, r.task.Job().ID)
	if err != nil {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
	}
	if !r.there() {
		if err := r.redefine(ctx, def); err != nil {
			return Result{}, err
		}
		return Result{State: virt.State(r.node.State()), Text: disk.Device + ": it is made when the VM is placed"}, nil
	}
	if err := r.changeable(ctx, what); err != nil {
		return Result{}, err
	}
	if err := r.roomFor(ctx, disk); err != nil {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
	}
	was := r.guest.Definition.Disks
	if err := r.redefine(ctx, def); err != nil {
		return Result{}, err
	}
	if err = r.makeDisks(ctx); err == nil {
		r.step(80, "attaching %s on %s", disk.Device, r.host.ID)
		err = r.giveDisk(ctx, what, func(ctx context.Context, a virt.DiskAttacher) error { return a.AttachDisk(ctx, r.host, r.guest, disk) })
	}
	if err != nil {
		if refused(err) && !slices.ContainsFunc(was, func(o virt.Disk) bool { return o.Device == disk.Device }) {
			_, undo := r.withoutDisk(ctx, disk)
			err = errors.Join(err, undo)
		}
		return Result{}, err
	}
	if err := r.setDetached(ctx, func(list []virt.Detached) []virt.Detached {
		return slices.DeleteFunc(list, func(o virt.Detached) bool { return o.Volume == disk.Volume })
	}); err != nil {
		return Result{}, err
	}
	return r.outcomeText(ctx, disk.Device)
}

// changeable refuses a VM that runs under a driver that gives disks only to one
// that is off.
func (r *run) changeable(ctx context.Context, what string) error {
	if err := r.reach(ctx, r.place, what); err != nil {
		return err
	}
	if _, ok := r.driver.(virt.DiskAttacher); ok {
		return nil
	}
	return r.notRunning(ctx, what)
}

// giveDisk changes the disks that the host knows of: by the driver's own way, or
// by defining the VM anew.
func (r *run) giveDisk(ctx context.Context, what string, fn func(context.Context, virt.DiskAttacher) error) error {
	return r.call(ctx, r.place, r.cfg.Disks, what, func(ctx context.Context) error {
		a, ok := r.driver.(virt.DiskAttacher)
		if !ok {
			return r.driver.Define(ctx, r.host, r.guest)
		}
		err := fn(ctx, a)
		if errors.Is(err, virt.ErrNotFound) { // it is placed and not defined yet
			err = r.driver.Define(ctx, r.host, r.guest)
		}
		return err
	})
}

// redefine writes the definition, and reads the node as it is then.
func (r *run) redefine(ctx context.Context, def virt.Definition) error {
	doc, err := registry.NewDocument(def)
	if err != nil {
		return err
	}
	if doc == r.node.Definition() {
		return nil
	}
	on := r.host.ID
	if _, err := r.parts.Provisioner.Redefine(ctx, r.id, doc, true); err != nil {
		return fmt.Errorf("cannot change the definition of %s: %w", r.node.Name(), err)
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	if r.host.ID != on {
		return fmt.Errorf("%w: %s was on host %q and is on %q by now: look, and try again", registry.ErrConflict, r.node.Name(), on, r.host.ID)
	}
	return nil
}

// roomFor refuses a disk that the host has no room for, by the factors of the
// decision that placed the VM.
func (r *run) roomFor(ctx context.Context, disk virt.Disk) error {
	if disk.Source != "" || slices.ContainsFunc(r.guest.Definition.Disks, func(o virt.Disk) bool { return o.Volume == disk.Volume }) {
		return nil
	}
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	host, ok := virt.AllocatorHost(r.hypervisor)
	if !ok {
		return nil
	}
	children, err := v.Children(r.host.ID)
	if err != nil {
		return err
	}
	var d allocator.Decision
	if data, err := v.Blob(r.id, virt.BlobDecision); err == nil {
		if err := d.UnmarshalJSON(data); err != nil {
			return fmt.Errorf("cannot read the decision about %s: %w", r.id, err)
		}
	}
	need := allocator.Resources{Disk: disk.Size}
	for _, why := range allocator.Fits(host, d.Over, allocator.Occupy(children.Nodes, r.need, "").Used, need) {
		return fmt.Errorf("%w: host %s: %s: it needs %s, there is %s", virt.ErrConflict, r.host.ID, why.Filter, why.Required, why.Observed)
	}
	return nil
}

// detachDisk takes a disk away: from the host first, so that one that is still
// written down can be taken away again.
func (r *run) detachDisk(ctx context.Context) (Result, error) {
	const what = "detach a disk from"
	def, disk, err := virt.WithoutDisk(r.node, r.params.Device)
	if errors.Is(err, virt.ErrNotFound) {
		list := virt.DetachedOf(r.node)
		i := slices.IndexFunc(list, func(o virt.Detached) bool {
			return o.Job == r.task.Job().ID && (r.again(ctx) || virt.DiskRef([]virt.Disk{o.Disk}, r.params.Device) == 0)
		})
		switch {
		case i >= 0 && r.params.Wipe: // an earlier attempt took it away
			return r.wipeDetached(ctx, list[i].Disk)
		case i >= 0, r.again(ctx):
			r.task.Log("an earlier attempt has taken it away")
			return Result{Host: r.host.ID, State: virt.State(r.node.State()), Text: r.params.Device}, nil
		}
	}
	if err != nil {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
	}
	if !r.there() && virt.DisksOn(r.node) == "" {
		return Result{State: virt.State(r.node.State()), Text: disk.Device}, r.redefine(ctx, def)
	}
	if r.there() {
		if err := r.changeable(ctx, what); err != nil {
			return Result{}, err
		}
		if r.params.Wipe {
			if err := r.notRunning(ctx, "wipe a disk of"); err != nil {
				return Result{}, err
			}
		}
		r.guest.Definition.Disks = slices.DeleteFunc(slices.Clone(r.guest.Definition.Disks), func(o virt.Disk) bool { return o.Device == disk.Device })
		r.step(50, "detaching %s on %s", disk.Device, r.host.ID)
		if err := r.giveDisk(ctx, what, func(ctx context.Context, a virt.DiskAttacher) error { return a.DetachDisk(ctx, r.host, r.guest, disk) }); err != nil {
			return Result{}, err
		}
	}
	text, err := r.withoutDisk(ctx, disk)
	if err != nil {
		return Result{}, err
	}
	if r.params.Wipe && disk.Source == "" {
		return r.wipeDetached(ctx, disk)
	}
	if !r.there() {
		return Result{State: virt.State(r.node.State()), Text: text}, nil
	}
	return r.outcomeText(ctx, text)
}

// withoutDisk writes down that the VM has not the disk any more. One that was made
// for it is noted first: between the two it is in both lists, and in neither never.
func (r *run) withoutDisk(ctx context.Context, disk virt.Disk) (string, error) {
	text := disk.Device
	if disk.Source == "" {
		text += ": what it holds stays as volume " + disk.Volume
		if err := r.setDetached(ctx, func(list []virt.Detached) []virt.Detached {
			list = slices.DeleteFunc(list, func(o virt.Detached) bool { return o.Volume == disk.Volume })
			return append(list, virt.Detached{Disk: disk, Job: r.task.Job().ID})
		}); err != nil {
			return "", err
		}
	}
	def, _, err := virt.WithoutDisk(r.node, disk.Device)
	if errors.Is(err, virt.ErrNotFound) {
		return text, nil
	}
	if err != nil {
		return "", err
	}
	return text, r.redefine(ctx, def)
}

// maxDetached bounds how many disks of one VM are detached.
const maxDetached = 64

// setDetached changes the list of detached disks.
func (r *run) setDetached(ctx context.Context, fn func([]virt.Detached) []virt.Detached) error {
	return r.change(ctx, func(d *registry.Draft, n *registry.Node) (err error) {
		old := virt.DetachedOf(n)
		list := fn(slices.Clone(old))
		switch {
		case slices.Equal(old, list):
			return nil
		case len(list) > maxDetached:
			return fmt.Errorf("%w: %s has %d detached disks, which is the limit: attach some, or wipe them with `vagoth deprovision`", virt.ErrConflict, n.Name(), len(list)-1)
		case len(list) == 0:
			d.Metadata, err = d.Metadata.Merge(nil, virt.MetaDetached)
		default:
			d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaDetached: list})
		}
		return err
	})
}

// wipeDetached wipes a disk that is detached.
func (r *run) wipeDetached(ctx context.Context, disk virt.Disk) (Result, error) {
	p := r.place
	if on := virt.DisksOn(r.node); on != "" && on != r.host.ID {
		v, err := r.parts.Registry.View(ctx)
		if err != nil {
			return Result{}, err
		}
		if p, err = r.placeOf(v, on); err != nil {
			return Result{}, err
		}
		if err := r.take(ctx, r.host.ID, on); err != nil {
			return Result{}, err
		}
	}
	if p.there() {
		if err := r.reach(ctx, p, "wipe a disk of"); err != nil {
			return Result{}, err
		}
		g := r.guest
		g.Definition.Disks = []virt.Disk{disk}
		r.step(80, "wiping %s on %s", disk.Volume, p.host.ID)
		if err := r.call(ctx, p, r.cfg.Disks, "wipe a disk of", func(ctx context.Context) error { return p.driver.Deprovision(ctx, p.host, g) }); err != nil && !errors.Is(err, virt.ErrNotFound) {
			return Result{}, err
		}
	}
	err := r.setDetached(ctx, func(list []virt.Detached) []virt.Detached {
		return slices.DeleteFunc(list, func(o virt.Detached) bool { return o.Volume == disk.Volume })
	})
	return Result{Host: r.host.ID, State: virt.State(r.node.State()), Text: disk.Device + ": it is wiped"}, err
}
