package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

const mega = component.Size(1 << 20)

// capacity is what a host with the state has.
func (d *Driver) capacity(s *state) virt.Capacity {
	if s.Capacity != nil {
		return *s.Capacity
	}
	return virt.Capacity{CPU: d.cfg.CPU, Memory: int64(d.cfg.Memory / mega), Disk: int64(d.cfg.Disk / mega)}
}

// Status lists every guest of the host, ordered by UUID.
func (d *Driver) Status(ctx context.Context, h virt.Host) (l virt.Listing, err error) {
	keep := -1
	if sh, err := d.host(nameOf(h)); err == nil {
		sh.mu.Lock()
		if sh.faults.partial {
			keep = sh.faults.keep
		}
		sh.mu.Unlock()
	}
	err = d.call(ctx, h, "status", "", func(s *state, now time.Time) (bool, error) {
		n := len(s.Guests)
		l.Complete, l.Capacity = keep < 0, d.capacity(s)
		if keep >= 0 {
			n = min(n, keep)
		}
		l.Guests = make([]virt.Seen, n)
		for i := range l.Guests {
			s.Guests[i].settle(now)
			l.Guests[i] = s.Guests[i].seen()
		}
		return false, nil
	})
	if err != nil {
		return virt.Listing{}, err
	}
	return l, nil
}

// Info looks at one guest.
func (d *Driver) Info(ctx context.Context, h virt.Host, vg virt.Guest) (info virt.Info, err error) {
	if err := checkUUID(vg.UUID); err != nil {
		return info, err
	}
	err = d.call(ctx, h, "info", vg.UUID, func(s *state, now time.Time) (bool, error) {
		g, err := s.find(vg.UUID, now)
		if err != nil {
			return false, err
		}
		info = virt.Info{Seen: g.seen(), Extra: map[string]string{"driver": "sim"}}
		if g.State == virt.Running && !g.Since.IsZero() {
			info.CPUTime = max(0, now.Sub(g.Since)/10)
		}
		return false, nil
	})
	if err != nil {
		return virt.Info{}, err
	}
	return info, nil
}

// Define makes the guest known to the host.
func (d *Driver) Define(ctx context.Context, h virt.Host, vg virt.Guest) error {
	if err := check(vg); err != nil {
		return err
	}
	defined, err := digest(vg)
	if err != nil {
		return err
	}
	return d.call(ctx, h, "define", vg.UUID, func(s *state, now time.Time) (bool, error) {
		g := guest{UUID: vg.UUID, State: virt.Stopped}
		if old, err := s.find(vg.UUID, now); err == nil {
			if old.Defined == defined {
				return false, nil
			}
			if old.active() {
				return false, fmt.Errorf("%w: %s cannot be defined anew: stop it first", virt.ErrBusy, vg.Name)
			}
			g = *old
		}
		for i := range s.Guests {
			if o := &s.Guests[i]; o.Name == vg.Name && o.UUID != vg.UUID {
				return false, fmt.Errorf("%w: the name %s is that of guest %s on this host", virt.ErrConflict, vg.Name, o.UUID)
			}
		}
		if len(s.Guests) >= maxGuests {
			return false, fmt.Errorf("%w: the host has %d guests, which is the limit", virt.ErrInvalid, maxGuests)
		}
		g.Name, g.CPU, g.Memory, g.Defined, g.Volumes = vg.Name, vg.Definition.CPU, int64(vg.Definition.Memory), defined, volumes(vg)
		s.put(g)
		return true, nil
	})
}

// Undefine makes the host forget a guest that does not run.
func (d *Driver) Undefine(ctx context.Context, h virt.Host, vg virt.Guest) error {
	return d.onGuest(ctx, h, vg, "undefine", func(s *state, g *guest, _ time.Time) (bool, error) {
		if g.active() {
			return false, fmt.Errorf("%w: %s is %s: stop it first", virt.ErrBusy, g.Name, g.State)
		}
		s.remove(vg.UUID)
		return true, nil
	})
}

// Provision makes the disks that are not there yet.
func (d *Driver) Provision(ctx context.Context, h virt.Host, vg virt.Guest) error {
	if err := check(vg); err != nil {
		return err
	}
	return d.call(ctx, h, "provision", vg.UUID, func(s *state, _ time.Time) (bool, error) {
		for _, disk := range vg.Definition.Disks {
			if old, ok := s.Disks[disk.Volume]; ok && disk.Source == "" && old.Owner != vg.UUID {
				return false, fmt.Errorf("%w: the volume %s was made for guest %s", virt.ErrConflict, disk.Volume, old.Owner)
			}
		}
		changed := false
		for _, want := range vg.Definition.Disks {
			if _, ok := s.Disks[want.Volume]; ok || want.Source != "" {
				continue
			}
			if s.Disks == nil {
				s.Disks = map[string]disk{}
			}
			s.Disks[want.Volume] = disk{Owner: vg.UUID, Size: want.Size, Image: want.Image}
			changed = true
		}
		return changed, nil
	})
}

// Deprovision wipes the disks that Provision made for the guest. There being
// none is no error.
func (d *Driver) Deprovision(ctx context.Context, h virt.Host, vg virt.Guest) error {
	if err := check(vg); err != nil {
		return err
	}
	return d.call(ctx, h, "deprovision", vg.UUID, func(s *state, now time.Time) (bool, error) {
		if g, err := s.find(vg.UUID, now); err == nil && g.active() {
			return false, fmt.Errorf("%w: %s is %s: stop it first", virt.ErrBusy, g.Name, g.State)
		}
		changed := false
		for _, v := range volumes(vg) {
			if old, ok := s.Disks[v]; ok && old.Owner == vg.UUID {
				delete(s.Disks, v)
				changed = true
			}
		}
		if len(s.Snapshots[vg.UUID]) > 0 && !s.owns(vg.UUID) {
			s.setShots(vg.UUID, nil)
			changed = true
		}
		return changed, nil
	})
}

// Power starts or stops.
func (d *Driver) Power(ctx context.Context, h virt.Host, vg virt.Guest, op virt.PowerOp) error {
	do, ok := map[virt.PowerOp]func(*state, *guest, string, time.Time) (bool, error){
		virt.PowerStart: d.start, virt.PowerStop: d.stop, virt.PowerShutdown: d.shutdown, virt.PowerReboot: d.reboot,
	}[op]
	if !ok {
		return fmt.Errorf("%w: there is no power operation %.32q: use start, stop, shutdown or reboot", virt.ErrInvalid, op)
	}
	return d.onGuest(ctx, h, vg, string(op), func(s *state, g *guest, now time.Time) (bool, error) {
		return do(s, g, nameOf(h), now)
	})
}

func (d *Driver) start(s *state, g *guest, host string, now time.Time) (bool, error) {
	switch g.State {
	case virt.Running:
		return false, nil
	case virt.Paused:
		return false, fmt.Errorf("%w: %s is paused: resume it", virt.ErrConflict, g.Name)
	}
	for _, v := range g.Volumes {
		if _, ok := s.Disks[v]; !ok {
			return false, fmt.Errorf("%w: %s cannot start: its volume %s is not there: provision it first", virt.ErrConflict, g.Name, v)
		}
	}
	g.State, g.Since, g.OffAt = virt.Running, now, time.Time{}
	d.started(g.UUID, host, now)
	return true, nil
}

func (d *Driver) stop(_ *state, g *guest, host string, _ time.Time) (bool, error) {
	if g.State == virt.Stopped {
		return false, nil
	}
	g.State, g.OffAt = virt.Stopped, time.Time{}
	d.ended(g.UUID, host, time.Time{})
	return true, nil
}

func (d *Driver) shutdown(_ *state, g *guest, host string, now time.Time) (bool, error) {
	if g.State != virt.Running || !g.OffAt.IsZero() || g.Deaf {
		return false, nil // a paused guest hears nothing; one that is off is off
	}
	g.OffAt = now.Add(d.cfg.Shutdown)
	d.ended(g.UUID, host, g.OffAt)
	return true, nil
}

func (d *Driver) reboot(_ *state, g *guest, _ string, now time.Time) (bool, error) {
	if g.State != virt.Running {
		return false, fmt.Errorf("%w: %s is %s and cannot reboot: start it", virt.ErrConflict, g.Name, g.State)
	}
	if !g.Deaf {
		g.Since = now
	}
	return true, nil
}

// Suspend holds a guest.
func (d *Driver) Suspend(ctx context.Context, h virt.Host, vg virt.Guest) error {
	return d.hold(ctx, h, vg, "suspend", virt.Running, virt.Paused)
}

// Resume lets a guest go on.
func (d *Driver) Resume(ctx context.Context, h virt.Host, vg virt.Guest) error {
	return d.hold(ctx, h, vg, "resume", virt.Paused, virt.Running)
}

func (d *Driver) hold(ctx context.Context, h virt.Host, vg virt.Guest, op string, from, to virt.State) error {
	return d.onGuest(ctx, h, vg, op, func(_ *state, g *guest, _ time.Time) (bool, error) {
		switch g.State {
		case to:
			return false, nil
		case from:
			g.State, g.OffAt = to, time.Time{}
			return true, nil
		}
		return false, fmt.Errorf("%w: %s is %s: %s needs it %s", virt.ErrConflict, g.Name, g.State, op, from)
	})
}

// Capacity says what the host has.
func (d *Driver) Capacity(ctx context.Context, h virt.Host) (c virt.Capacity, err error) {
	err = d.call(ctx, h, "capacity", "", func(s *state, _ time.Time) (bool, error) { c = d.capacity(s); return false, nil })
	return c, err
}

// onGuest runs a deed on a guest that is there.
func (d *Driver) onGuest(ctx context.Context, h virt.Host, vg virt.Guest, op string, deed func(*state, *guest, time.Time) (bool, error)) error {
	if err := checkUUID(vg.UUID); err != nil {
		return err
	}
	return d.call(ctx, h, op, vg.UUID, func(s *state, now time.Time) (bool, error) {
		g, err := s.find(vg.UUID, now)
		if err != nil {
			return false, err
		}
		return deed(s, g, now)
	})
}
