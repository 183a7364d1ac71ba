package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// AttachDisk gives a guest a disk, running or not.
func (d *Driver) AttachDisk(ctx context.Context, h virt.Host, vg virt.Guest, want virt.Disk) error {
	if err := check(vg); err != nil {
		return err
	}
	return d.redefine(ctx, h, vg, "attach disk", func(s *state, _ *guest) error {
		has, ok := s.Disks[want.Volume]
		switch {
		case want.Source != "":
		case !ok:
			return fmt.Errorf("%w: the volume %s is not there: provision it first", virt.ErrConflict, want.Volume)
		case has.Owner != vg.UUID:
			return fmt.Errorf("%w: the volume %s was made for guest %s", virt.ErrConflict, want.Volume, has.Owner)
		}
		return nil
	})
}

// DetachDisk takes a disk from a guest, running or not.
func (d *Driver) DetachDisk(ctx context.Context, h virt.Host, vg virt.Guest, gone virt.Disk) error {
	if err := check(vg); err != nil {
		return err
	}
	return d.redefine(ctx, h, vg, "detach disk", func(*state, *guest) error {
		if slices.ContainsFunc(vg.Definition.Disks, func(o virt.Disk) bool { return o.Device == gone.Device }) {
			return fmt.Errorf("%w: the disk %s is in the definition still", virt.ErrInvalid, gone.Device)
		}
		return nil
	})
}

// redefine gives a guest that is there the disks of its definition.
func (d *Driver) redefine(ctx context.Context, h virt.Host, vg virt.Guest, op string, allowed func(*state, *guest) error) error {
	sum, err := digest(vg)
	if err != nil {
		return err
	}
	return d.onGuest(ctx, h, vg, op, func(s *state, g *guest, _ time.Time) (bool, error) {
		if err := allowed(s, g); err != nil {
			return false, err
		}
		if g.Defined == sum {
			return false, nil
		}
		g.Defined, g.Volumes = sum, volumes(vg)
		return true, nil
	})
}
