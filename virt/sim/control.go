package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// The methods below are for tests. A host is named as its address, or its ID;
// a name that none can have panics.

// steer changes what the host does wrong.
func (d *Driver) steer(name string, fn func(*faults)) {
	h, err := d.host(name)
	if err != nil {
		panic(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	fn(&h.faults)
}

// Hang lets every call to the host wait until its context ends or the host is
// healed.
func (d *Driver) Hang(host string) { d.hang(host, false) }

// HangDeaf lets every call to the host wait until the host is healed, whatever
// its context says, as a library does that takes none.
func (d *Driver) HangDeaf(host string) { d.hang(host, true) }

func (d *Driver) hang(host string, deaf bool) {
	d.steer(host, func(f *faults) {
		if f.hang == nil {
			f.hang = make(chan struct{})
		}
		f.deaf = deaf
	})
}

// Unhang lets the calls that wait go on, and new ones pass.
func (d *Driver) Unhang(host string) {
	d.steer(host, func(f *faults) {
		if f.hang != nil {
			close(f.hang)
		}
		f.hang, f.deaf = nil, false
	})
}

// Fail lets every call to the host fail with err; nil ends it.
func (d *Driver) Fail(host string, err error) { d.steer(host, func(f *faults) { f.err = err }) }

// Unreachable lets every call to the host fail with virt.ErrUnreachable.
func (d *Driver) Unreachable(host string) {
	d.Fail(host, fmt.Errorf("%w: %s: connection refused (simulated)", virt.ErrUnreachable, host))
}

// Partial makes the host's listings incomplete: they have the first keep guests
// in the order of their UUIDs.
func (d *Driver) Partial(host string, keep int) {
	d.steer(host, func(f *faults) { f.partial, f.keep = true, keep })
}

// Intercept calls fn at the beginning of every call to the host. Its error is
// the call's; it may panic or wait. nil ends it.
func (d *Driver) Intercept(host string, fn func(context.Context, Call) error) {
	d.steer(host, func(f *faults) { f.intercept = fn })
}

// Heal ends all that Hang, Fail, Unreachable, Partial and Intercept began.
func (d *Driver) Heal(host string) {
	d.Unhang(host)
	d.steer(host, func(f *faults) { *f = faults{} })
}

// alter changes what the host has, past all faults.
func (d *Driver) alter(name string, deed func(*state, time.Time) (bool, error)) error {
	h, err := d.host(name)
	if err != nil {
		return err
	}
	return d.change(h, Call{}, deed)
}

// alterGuest is alter for one guest that is there.
func (d *Driver) alterGuest(host, uuid string, deed func(*state, *guest) error) error {
	return d.alter(host, func(s *state, now time.Time) (bool, error) {
		g, err := s.find(uuid, now)
		if err != nil {
			return false, err
		}
		return true, deed(s, g)
	})
}

// AddStranger puts a guest on the host that nobody defined, or changes how one
// is seen. Its name may be anything: hosts are not trusted.
func (d *Driver) AddStranger(host string, seen virt.Seen) error {
	return d.alter(host, func(s *state, now time.Time) (bool, error) {
		s.put(guest{UUID: seen.UUID, Name: seen.Name, State: seen.State, CPU: seen.CPU, Memory: seen.Memory, Since: now})
		return true, nil
	})
}

// Remove takes a guest from the host, running or not, with its disks.
func (d *Driver) Remove(host, uuid string) error {
	return d.alterGuest(host, uuid, func(s *state, g *guest) error {
		for _, v := range g.Volumes {
			delete(s.Disks, v)
		}
		s.remove(uuid)
		s.setShots(uuid, nil)
		d.ended(uuid, host, time.Time{})
		return nil
	})
}

// Crash lets a guest crash.
func (d *Driver) Crash(host, uuid string) error {
	return d.alterGuest(host, uuid, func(_ *state, g *guest) error {
		g.State, g.OffAt = virt.Crashed, time.Time{}
		d.ended(uuid, host, time.Time{})
		return nil
	})
}

// Restart is a power cut of the host: every guest is off.
func (d *Driver) Restart(host string) error {
	return d.alter(host, func(s *state, _ time.Time) (bool, error) {
		for i := range s.Guests {
			g := &s.Guests[i]
			g.State, g.OffAt = virt.Stopped, time.Time{}
			d.ended(g.UUID, host, time.Time{})
		}
		return true, nil
	})
}

// IgnoreShutdown makes a guest deaf to shutdowns and reboots, or hear again.
func (d *Driver) IgnoreShutdown(host, uuid string, ignore bool) error {
	return d.alterGuest(host, uuid, func(_ *state, g *guest) error { g.Deaf = ignore; return nil })
}

// SetCapacity gives the host another capacity than the config's.
func (d *Driver) SetCapacity(host string, c virt.Capacity) error {
	return d.alter(host, func(s *state, _ time.Time) (bool, error) { s.Capacity = &c; return true, nil })
}

// Disk returns the text of a volume of the host, and whether it is there.
func (d *Driver) Disk(host, volume string) (text string, ok bool, err error) {
	err = d.alter(host, func(s *state, _ time.Time) (bool, error) {
		var found disk
		found, ok = s.Disks[volume]
		text = found.Text
		return false, nil
	})
	return text, ok, err
}

// WriteDisk writes text into a volume of the host.
func (d *Driver) WriteDisk(host, volume, text string) error {
	if err := registry.CheckName(volume); err != nil {
		return fmt.Errorf("%w: the volume: %w", virt.ErrInvalid, err)
	}
	return d.alter(host, func(s *state, _ time.Time) (bool, error) {
		old, ok := s.Disks[volume]
		if !ok {
			return false, fmt.Errorf("%w: volume %s", virt.ErrNotFound, volume)
		}
		old.Text = text
		s.Disks[volume] = old
		return true, nil
	})
}
