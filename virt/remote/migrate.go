package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// MigrateLive moves a guest that runs. The agent where it is to go hears of it first:
// it knows the guest from then on, which is off there and no more than a definition, and
// refuses whoever has a lower token. Then the agent where it runs has its libvirtd move
// it, which starts it there in the moment in which it is stopped here.
func (d *Driver) MigrateLive(ctx context.Context, from, to virt.Host, g virt.Guest) error {
	switch {
	case to.Peer == "":
		return fmt.Errorf("%w: what runs is not moved to %.64q: its definition names no peer, the libvirt URI by which other hosts reach it", virt.ErrUnsupported, to.ID)
	case slices.ContainsFunc(g.Definition.Disks, func(d virt.Disk) bool { return d.Source == "" }):
		return fmt.Errorf("%w: the disks of %s are on the host that it leaves, and agents move them only while it is off", virt.ErrUnsupported, g.ID)
	}
	if err := d.Define(ctx, to, g); err != nil {
		return err
	}
	return d.about(ctx, from, g, "move", func(ctx context.Context, t *task) error {
		err := t.job(ctx, func(ctx context.Context) (string, error) {
			return t.c[changes].MigrateGuest(ctx, g.UUID, mistify.MigrateRequest{To: to.Peer})
		})
		if errors.Is(err, virt.ErrNotFound) {
			return t.missing(ctx, err)
		}
		return err
	})
}

// Settle returns when nothing that the agent was asked for a guest is under way, or
// will be. To ask twice does no harm, and so an answer that was lost is asked for again,
// within the time of a request. An agent that cannot do that moves no guests, and has
// nothing to settle.
func (d *Driver) Settle(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.about(ctx, h, g, "settle", func(ctx context.Context, t *task) error {
		for heard := time.Now(); ; {
			s, err := t.c[waits].Settle(ctx, g.UUID, longPoll)
			switch {
			case errors.Is(err, virt.ErrUnsupported):
				return nil
			case err == nil && s.Jobs == 0:
				return nil
			case err == nil: // an agent that ends answers before it has waited
				heard = time.Now()
			case ctx.Err() != nil || !errors.Is(as(err, true), virt.ErrUnreachable) || time.Since(heard) > t.cfg.Timeout+longPoll:
				return err
			}
			timer := time.NewTimer(t.cfg.Timeout / 20)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				if err == nil {
					err = fmt.Errorf("%w: its agent is still at %d jobs for it: see `vagoth agent call jobs --guest %s`, and try again", virt.ErrBusy, s.Jobs, g.UUID)
				}
				return err
			}
		}
	})
}
