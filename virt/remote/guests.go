package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Define makes a guest known to a host. One that is there and was defined that
// way already stays as it is; one that runs is not defined anew (ErrBusy).
func (d *Driver) Define(ctx context.Context, h virt.Host, g virt.Guest) error {
	w, err := wire(g)
	if err != nil {
		return err
	}
	digest, err := mistify.Digest(g)
	if err != nil {
		return err
	}
	return d.about(ctx, h, g, "define", func(ctx context.Context, t *task) error {
		old, there, err := t.known(ctx)
		if err != nil {
			return err
		}
		if there {
			done, err := t.same(ctx, old, digest)
			if done || err != nil {
				return err
			}
			w.Metadata = noted(old, w)
			delete(w.Metadata, mistify.MetaDefined)
		}
		err = t.job(ctx, func(ctx context.Context) (string, error) {
			_, job, err := t.c[changes].DefineGuest(ctx, *w)
			return job, err
		})
		if err != nil {
			return err
		}
		asking, cancel := t.quick(ctx)
		defer cancel()
		// Without the note the next Define is done again, and changes nothing.
		if _, err := t.c[changes].PatchGuestMetadata(asking, g.UUID, mistify.MetadataPatch{mistify.MetaDefined: &digest}); err != nil {
			t.log.WarnContext(ctx, "what a guest is defined as could not be noted on its agent", "node", g.ID, "error", err, "trail", trail.From(ctx))
		}
		return nil
	})
}

// known is the guest as the agent remembers it, if it does.
func (t *task) known(ctx context.Context) (old mistify.Guest, there bool, err error) {
	asking, cancel := t.quick(ctx)
	defer cancel()
	old, err = t.c[looks].Guest(asking, t.g.UUID)
	switch node := old.Metadata[mistify.MetaNode]; {
	case errors.Is(err, virt.ErrNotFound):
		return mistify.Guest{}, false, nil
	case err != nil:
		return mistify.Guest{}, false, err
	case old.ID != t.g.UUID:
		return mistify.Guest{}, false, fmt.Errorf("%w: the agent answered with another guest than %s", virt.ErrUnreachable, t.g.UUID)
	case node != "" && node != t.g.ID:
		return mistify.Guest{}, false, fmt.Errorf("%w: the guest with UUID %s belongs to the node %q", virt.ErrConflict, t.g.UUID, clean(node, 128))
	}
	return old, true, nil
}

// noted is the metadata that a guest has, with what we write into it: that of
// others is theirs.
func noted(old mistify.Guest, w *mistify.Guest) map[string]string {
	all := maps.Clone(old.Metadata)
	if all == nil {
		all = map[string]string{}
	}
	delete(all, mistify.MetaTenant)
	maps.Copy(all, w.Metadata)
	return all
}

// onDisks asks for an action on the disks of a guest. One that the agent knows as
// we do is only named; another is sent along, with the metadata that others gave
// it.
func (t *task) onDisks(ctx context.Context, w *mistify.Guest, action string, send func(context.Context, mistify.Guest) (string, error)) error {
	old, there, err := t.known(ctx)
	if err != nil {
		return err
	}
	digest, err := mistify.Digest(t.g)
	if err != nil {
		return err
	}
	if there && old.Metadata[mistify.MetaDefined] == digest {
		err := t.job(ctx, func(ctx context.Context) (string, error) {
			_, job, err := t.c[changes].Act(ctx, t.g.UUID, action)
			return job, err
		})
		var refused *mistify.Error
		if !errors.As(err, &refused) || !errors.Is(err, virt.ErrNotFound) {
			return err
		}
		// It was undefined meanwhile, and its disks are there still.
	}
	if there {
		w.Metadata = noted(old, w)
	}
	return t.job(ctx, func(ctx context.Context) (string, error) { return send(ctx, *w) })
}

// same reports whether a guest is on the host as it is to be defined. What the
// agent remembers is not enough: the host may have lost it.
func (t *task) same(ctx context.Context, old mistify.Guest, digest string) (bool, error) {
	if old.Metadata[mistify.MetaDefined] != digest {
		return false, nil
	}
	_, err := t.look(ctx, t.c, t.g)
	if errors.Is(err, virt.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Undefine makes a host forget a guest that does not run. Its disks stay: an
// agent that cannot do that is not asked for anything else.
func (d *Driver) Undefine(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.about(ctx, h, g, "undefine", func(ctx context.Context, t *task) error {
		return t.act(ctx, mistify.ActionUndefine)
	})
}

// Provision makes the disks that are not there yet.
func (d *Driver) Provision(ctx context.Context, h virt.Host, g virt.Guest) error {
	w, err := wire(g)
	if err != nil {
		return err
	}
	return d.about(ctx, h, g, "make the disks of", func(ctx context.Context, t *task) error {
		return t.onDisks(ctx, w, mistify.ActionProvision, t.c[changes].ProvisionGuest)
	})
}

// Deprovision wipes the disks that Provision made. It refuses a guest that runs,
// and does so before the agent is asked for anything.
func (d *Driver) Deprovision(ctx context.Context, h virt.Host, g virt.Guest) error {
	w, err := wire(g)
	if err != nil {
		return err
	}
	return d.about(ctx, h, g, "wipe the disks of", func(ctx context.Context, t *task) error {
		info, err := t.look(ctx, t.c, g)
		switch {
		case errors.Is(err, virt.ErrNotFound):
		case err != nil:
			return err
		case info.State != virt.Stopped && info.State != virt.Crashed:
			return fmt.Errorf("%w: it is %s: stop it first", virt.ErrBusy, info.State)
		}
		return t.onDisks(ctx, w, mistify.ActionDeprovision, t.c[changes].DeprovisionGuest)
	})
}

// Power starts or stops a guest.
func (d *Driver) Power(ctx context.Context, h virt.Host, g virt.Guest, op virt.PowerOp) error {
	off := []virt.State{virt.Stopped, virt.Crashed}
	do, ok := map[virt.PowerOp]struct {
		action string
		wanted []virt.State
	}{
		virt.PowerStart: {"start", []virt.State{virt.Running}}, virt.PowerStop: {"poweroff", off},
		virt.PowerShutdown: {"shutdown", off}, virt.PowerReboot: {"reboot", nil},
	}[op]
	if !ok {
		return fmt.Errorf("%w: there is no power operation %.32q: use start, stop, shutdown or reboot", virt.ErrInvalid, op)
	}
	return d.about(ctx, h, g, string(op), func(ctx context.Context, t *task) error {
		return t.unless(ctx, t.act(ctx, do.action), do.wanted...)
	})
}

// Suspend holds a guest.
func (d *Driver) Suspend(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.about(ctx, h, g, "suspend", func(ctx context.Context, t *task) error {
		return t.unless(ctx, t.act(ctx, "suspend"), virt.Paused)
	})
}

// Resume lets a guest go on.
func (d *Driver) Resume(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.about(ctx, h, g, "resume", func(ctx context.Context, t *task) error {
		return t.unless(ctx, t.act(ctx, mistify.ActionResume), virt.Running)
	})
}
