package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// longestCopy bounds one that goes on and never ends.
const longestCopy = 7 * 24 * time.Hour

// moveDisks moves a VM that is off with its disks. They are copied; only when the
// copy is whole does the other host hear of the VM, and only then does this one
// forget it. So whoever finds it on the other host knows that its disks there are
// whole, and until then the copy is what virt.MetaLeft says that it is: to be wiped.
func (r *run) moveDisks(ctx context.Context, to place, mover virt.DiskMover) error {
	size := int64(0)
	for _, d := range r.guest.Definition.Disks {
		if d.Source == "" {
			size += d.Size << 20
		}
	}
	// It may take long; only standing still is bounded.
	copying, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	still := time.AfterFunc(r.cfg.Migrate, func() { stop(fmt.Errorf("%w: nothing was copied for %s", virt.ErrUnreachable, r.cfg.Migrate)) })
	defer still.Stop()
	progress := func(done int64) {
		still.Reset(r.cfg.Migrate)
		percent := 30
		if size > 0 {
			percent += int(min(done, size) * 40 / size)
		}
		r.task.Progress(percent, fmt.Sprintf("copied %d MB of its disks from %s to %s", done>>20, r.host.ID, to.host.ID))
	}
	err := r.call(copying, to, longestCopy, "bring the disks of", func(ctx context.Context) error {
		return mover.CopyDisks(ctx, r.host, to.host, r.guest, progress)
	})
	if err != nil {
		return err
	}
	return r.moveDefinition(ctx, to)
}

// tidy wipes what a migration left of the VM's disks on a host that is not its own.
func (r *run) tidy(ctx context.Context) error {
	left := virt.LeftOn(r.node)
	switch {
	case left == "":
		return nil
	case virt.MovesTo(r.node) != "":
		return fmt.Errorf("%w: %s still moves to %s", virt.ErrConflict, r.node.Name(), virt.MovesTo(r.node))
	case left == virt.DisksOn(r.node):
		return fmt.Errorf("%w: the disks of %s on %s are to be wiped, and are those that it has: look there, and take %q out of its metadata by force", virt.ErrConflict, r.node.Name(), left, virt.MetaLeft)
	case virt.State(r.node.State()) == virt.Missing:
		return fmt.Errorf("%w: %s is missing on %s, and what is left on %s may be all there is of its disks: look at both, and take %q out of its metadata by force", virt.ErrConflict, r.node.Name(), r.host.ID, left, virt.MetaLeft)
	}
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	p, err := r.placeOf(v, left)
	if errors.Is(err, registry.ErrNotFound) {
		r.task.Log("host " + left + " was removed from the registry, with what was left there")
		return r.tidied(ctx, left)
	}
	if err != nil {
		return err
	}
	if err := r.take(ctx, r.host.ID, left); err != nil {
		return err
	}
	mover, ok := p.driver.(virt.DiskMover)
	if !ok {
		return fmt.Errorf("%w: the driver %q of %s wipes no copies of disks", virt.ErrUnsupported, p.driverName, left)
	}
	if err := r.reach(ctx, p, "wipe what is left of"); err != nil {
		return err
	}
	r.step(90, "wiping what is left of its disks on %s", left)
	err = r.call(ctx, p, r.cfg.Disks, "wipe what is left of", func(ctx context.Context) error { return mover.TidyDisks(ctx, r.host, p.host, r.guest) })
	if err != nil {
		return err
	}
	return r.tidied(ctx, left)
}

func (r *run) tidied(ctx context.Context, left string) error {
	return r.change(ctx, func(d *registry.Draft, n *registry.Node) (err error) {
		if virt.LeftOn(n) != left {
			return nil
		}
		d.Metadata, err = d.Metadata.Merge(nil, virt.MetaLeft)
		return err
	})
}
