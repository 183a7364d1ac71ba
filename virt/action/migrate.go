package action

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// migrate moves the VM to another host.
func (r *run) migrate(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{}, r.nowhere("migrate")
	}
	if err := r.tidy(ctx); err != nil {
		return Result{}, fmt.Errorf("cannot migrate %s: what an earlier migration left must go first: %w", r.node.Name(), err)
	}
	d, to, err := r.target(ctx)
	if err != nil {
		return Result{}, err
	}
	// Both at once, before the state is asked for, which may change while it waits.
	if err := r.take(ctx, r.host.ID, to.host.ID); err != nil {
		return Result{}, err
	}
	info, err := r.info(ctx)
	if err != nil {
		return Result{}, err
	}
	runs := !off(info.State)
	if runs && r.params.Cold {
		return Result{}, fmt.Errorf("cannot migrate %s: %w on %s and is to be moved only when it does not: stop it first", r.node.Name(), virt.ErrBusy, r.host.ID)
	}
	if to.host.ID == r.host.ID {
		return Result{Host: r.host.ID, State: info.State, Text: "it is there already"}, r.saw(ctx, info.State)
	}
	if to.driverName != r.driverName {
		return Result{}, fmt.Errorf("cannot migrate %s: %w: %s is driven by %q, %s by %q: stop it, deprovision it and start it there",
			r.node.Name(), virt.ErrUnsupported, r.host.ID, r.driverName, to.host.ID, to.driverName)
	}
	if n := len(virt.DetachedOf(r.node)); n > 0 {
		return Result{}, fmt.Errorf("cannot migrate %s: %w: %d detached disks would stay on %s: attach them, or wipe them (`vagoth disk list %s`)",
			r.node.Name(), virt.ErrConflict, n, r.host.ID, r.node.Name())
	}
	m, ok := r.driver.(virt.Migrator)
	live, moves := r.driver.(virt.LiveMigrator)
	mover, copies := r.driver.(virt.DiskMover)
	disks := virt.DisksOn(r.node) != ""
	switch {
	case ok:
	case runs && !moves || disks && !copies:
		return Result{}, fmt.Errorf("cannot migrate %s: %w: the driver %q moves neither what runs nor disks", r.node.Name(), virt.ErrUnsupported, r.driverName)
	case runs && disks:
		return Result{}, fmt.Errorf("cannot migrate %s: %w on %s, and the driver %q moves disks only while nothing writes them: stop it first", r.node.Name(), virt.ErrBusy, r.host.ID, r.driverName)
	}
	if err := r.reach(ctx, to, "migrate"); err != nil {
		return Result{}, err
	}
	if err := r.reserveMove(ctx, d, !ok && disks); err != nil {
		return Result{}, err
	}
	r.step(30, "moving it from %s to %s", r.host.ID, to.host.ID)
	var moving error
	switch {
	case ok:
		moving = r.call(ctx, r.place, r.cfg.Migrate, "migrate", func(ctx context.Context) error {
			return m.Migrate(ctx, r.host, to.host, r.guest, runs)
		})
	case runs:
		moving = r.call(ctx, r.place, r.cfg.Migrate, "migrate", func(ctx context.Context) error {
			return live.MigrateLive(ctx, r.host, to.host, r.guest)
		})
	case disks:
		moving = r.moveDisks(ctx, to, mover)
	default:
		moving = r.moveDefinition(ctx, to)
	}
	// Whatever the driver said, the VM is where it is found.
	settling, done := unlessHandedBack(ctx)
	defer done()
	if err := r.settle(settling); err != nil {
		return Result{}, errors.Join(moving, err)
	}
	text := ""
	switch err := r.tidy(settling); {
	case errors.Is(err, virt.ErrUnreachable): // the VM need not wait for a host that it has left
		text = fmt.Sprintf("what is left of its disks on %s is still to be wiped: %v", virt.LeftOn(r.node), err)
		r.task.Log(text)
	case err != nil:
		return Result{}, errors.Join(moving, err)
	}
	if r.host.ID != to.host.ID {
		if moving == nil {
			moving = fmt.Errorf("%w: the driver %q said that %s has moved, and it is still on %s", virt.ErrConflict, r.driverName, r.node.Name(), r.host.ID)
		}
		return Result{}, moving
	}
	return Result{Host: r.host.ID, State: virt.State(r.node.State()), Text: text}, nil
}

// unlessHandedBack goes on when ctx ends, unless it does because the job is to be
// handed back: to look takes time, the program ends, and the next attempt begins
// with it.
func unlessHandedBack(ctx context.Context) (context.Context, func()) {
	on, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	tell := func() {
		if cause := context.Cause(ctx); errors.Is(cause, scheduler.ErrHandedBack) {
			cancel(cause)
		}
	}
	tell() // at once, if it is so already
	stop := context.AfterFunc(ctx, tell)
	return on, func() { stop(); cancel(nil) }
}

// moveDefinition is what a driver can do that is no Migrator, for a VM that is
// off and has no disks.
func (r *run) moveDefinition(ctx context.Context, to place) error {
	if err := r.call(ctx, to, r.cfg.Call, "define", func(ctx context.Context) error { return to.driver.Define(ctx, to.host, r.guest) }); err != nil {
		return err
	}
	return r.forget(ctx)
}

// target chooses the host to move to.
func (r *run) target(ctx context.Context) (*allocator.Decision, place, error) {
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return nil, place{}, err
	}
	req, err := virt.RequestOf(r.node)
	if err != nil {
		return nil, place{}, err
	}
	req.Constraints.Hosts = nil // its disks come along
	if r.params.To != "" {
		n, err := registry.Find(v, r.params.To)
		if err != nil {
			return nil, place{}, err
		}
		to, err := r.placeOf(v, n.ID())
		if err != nil || to.host.ID == r.host.ID {
			return nil, to, err
		}
		req.Hint, req.Constraints.Hosts = n.ID(), []string{n.ID()}
	}
	req.Constraints.Exclude = []string{r.host.ID}
	d, err := r.parts.Allocator.Decide(ctx, v, req)
	if err != nil {
		return nil, place{}, r.noHost(ctx, err)
	}
	to, err := r.placeOf(v, d.Host)
	return d, to, err
}

// reserveMove notes that the VM moves, and reserves its place on the target, in
// one transaction that checks that it fits there.
func (r *run) reserveMove(ctx context.Context, d *allocator.Decision, copies bool) error {
	id := virt.ReservationID(r.id)
	return r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
		if _, err := r.same(tx); err != nil {
			return err
		}
		if err := r.fits(tx, d, id); err != nil {
			return fmt.Errorf("cannot migrate %s: %w: try again", r.node.Name(), err)
		}
		n, err := registry.ModifyIn(tx, r.id, func(dr *registry.Draft) (err error) {
			set := map[string]any{virt.MetaMigrate: d.Host}
			if copies {
				set[virt.MetaLeft] = d.Host // until they are known to be whole
			}
			dr.Metadata, err = dr.Metadata.Merge(set)
			return err
		})
		if err != nil {
			return err
		}
		r.node = n
		_, err = tx.Create(registry.Draft{ID: id, Name: id, Type: virt.TypeReservation, Tenant: n.Tenant(), Parent: d.Host,
			Definition: n.Definition(), Tags: n.Tags()})
		return err
	})
}

// settle ends a migration, this attempt's or one that was interrupted: it finds
// out where the VM is and writes that down. It does nothing if none is under
// way.
func (r *run) settle(ctx context.Context) error {
	to := virt.MovesTo(r.node)
	if to == "" {
		return r.dropReservation(ctx)
	}
	from := r.place
	here, found, err := r.find(ctx, from)
	if err != nil {
		return fmt.Errorf("its migration to %s is not settled: %w", to, err)
	}
	var target place
	var there virt.Info
	arrived := false
	if to != from.host.ID {
		if target, there, arrived, err = r.arrived(ctx, to, found); err != nil {
			return fmt.Errorf("its migration to %s is not settled: %w", to, err)
		}
	}
	switch {
	case found && arrived && !off(here.State) && !off(there.State):
		return fmt.Errorf("%w: %s is on %s and on %s at once: look at both hosts, and stop one of the two there", virt.ErrConflict, r.node.Name(), from.host.ID, to)
	case found && arrived && off(there.State):
		// Interrupted between two steps: one of them is a definition and no more.
		if err := r.forgetAt(ctx, target); err != nil {
			return err
		}
		return r.settleOn(ctx, from, here.State)
	case found && arrived:
		if err := r.forgetAt(ctx, from); err != nil {
			return err
		}
		return r.settleOn(ctx, target, there.State)
	case arrived:
		return r.settleOn(ctx, target, there.State)
	case found:
		return r.settleOn(ctx, from, here.State)
	case !from.there():
		return r.settleOn(ctx, from, virt.New) // it was freed while it moved, and did not arrive
	}
	return r.settleOn(ctx, from, virt.Missing)
}

// arrived asks the host that the VM was to move to. One that was removed, or
// that is dead while the VM is seen elsewhere, does not have it.
func (r *run) arrived(ctx context.Context, to string, found bool) (target place, info virt.Info, arrived bool, err error) {
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return target, info, false, err
	}
	target, err = r.placeOf(v, to)
	if errors.Is(err, registry.ErrNotFound) || err == nil && found && virt.HostState(target.hypervisor.State()) == virt.Down {
		return target, info, false, nil
	}
	if err == nil {
		info, arrived, err = r.find(ctx, target)
	}
	return target, info, arrived, err
}

// find asks a host whether it has the VM, once nothing is under way there any more
// that could change it.
func (r *run) find(ctx context.Context, p place) (info virt.Info, found bool, err error) {
	if !p.there() {
		return info, false, nil
	}
	if d, ok := p.driver.(virt.Settler); ok {
		if err := r.reach(ctx, p, "settle"); err != nil {
			return info, false, err
		}
		if err := r.call(ctx, p, r.cfg.Migrate, "settle", func(ctx context.Context) error { return d.Settle(ctx, p.host, r.guest) }); err != nil {
			return info, false, err
		}
	}
	info, err = r.infoAt(ctx, p)
	if errors.Is(err, virt.ErrNotFound) {
		return info, false, nil
	}
	return info, err == nil, err
}

// settleOn writes that the VM is on the host now and moves no more.
func (r *run) settleOn(ctx context.Context, p place, s virt.State) error {
	from, at := r.node.Parent(), r.now()
	err := r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := r.same(tx)
		if err != nil {
			return err
		}
		if err := r.dropIn(tx); err != nil {
			return err
		}
		n, err = registry.ModifyIn(tx, r.id, func(d *registry.Draft) (err error) {
			set, remove := map[string]any{}, []string{virt.MetaMigrate}
			if s != virt.Missing && p.there() {
				set[virt.MetaEvidence] = virt.Evidence{At: at, Host: p.host.ID}
			}
			copied := virt.LeftOn(n) != ""
			switch on := virt.DisksOn(n); {
			case copied && p.there() && p.host.ID == virt.MovesTo(n):
				// It was defined there once they were whole. What they were copied from is left.
				set[virt.MetaDisksOn] = p.host.ID
				if set[virt.MetaLeft] = on; on == "" {
					delete(set, virt.MetaLeft)
					remove = append(remove, virt.MetaLeft)
				}
			case copied: // and perhaps not whole
			case on != "" && p.there() && p.host.ID != from:
				set[virt.MetaDisksOn] = p.host.ID // they came along
			case on == virt.MovesTo(n) && !p.there():
				remove = append(remove, virt.MetaDisksOn) // given up when it was freed, and they did not arrive
			}
			d.Parent, d.State = p.host.ID, string(s)
			d.Metadata, err = d.Metadata.Merge(set, remove...)
			return err
		}, registry.MovingFrom(from))
		r.node = n
		return err
	})
	if err != nil {
		return fmt.Errorf("its migration is not settled: %w", err)
	}
	r.place = p
	r.task.Log(fmt.Sprintf("its migration is settled: it is on host %q, %s", p.host.ID, s))
	return nil
}

// dropReservation removes a reservation that nothing needs any more, such as
// that of a VM that was freed while it moved.
func (r *run) dropReservation(ctx context.Context) error {
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	if _, err := v.Get(virt.ReservationID(r.id)); errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	return r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := tx.Get(r.id)
		if err != nil || virt.MovesTo(n) != "" {
			return err
		}
		return r.dropIn(tx)
	})
}

func (r *run) dropIn(tx registry.Tx) error {
	n, err := tx.Get(virt.ReservationID(r.id))
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if n.Parent() != "" {
		d := n.Draft()
		d.Parent = ""
		if _, err := tx.Put(d, registry.MovingFrom(n.Parent())); err != nil {
			return err
		}
	}
	return tx.Delete(n.ID())
}
