package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Create makes a guest of disks that are there, and starts it. One that is there
// as it is to be is started.
func (a *Agent) Create(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(withJob(ctx, r), "create", r, a.define, a.power(virt.PowerStart))
}

// withJob makes the driver note the agent's job with what it makes.
func withJob(ctx context.Context, r *mistify.GuestRequest) context.Context {
	t := trail.From(ctx)
	t.Job = r.Job
	return trail.With(ctx, t)
}

// UndoCreate stops and forgets a guest that was made known by the job of the
// request. One that was there before stays as it is now.
func (a *Agent) UndoCreate(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "undo create", r, gone(func(ctx context.Context, v virt.Guest) error {
		info, err := a.driver.Info(ctx, a.host, v)
		if err != nil || r.Job == "" || info.Extra["job"] != r.Job {
			return err
		}
		return errors.Join(gone(a.power(virt.PowerStop))(ctx, v), gone(a.erase)(ctx, v))
	}))
}

func (a *Agent) define(ctx context.Context, v virt.Guest) error {
	if err := sourced(v); err != nil {
		return err
	}
	return a.driver.Define(ctx, a.host, v)
}

// erase forgets a guest with all that is kept of it but its disks.
func (a *Agent) erase(ctx context.Context, v virt.Guest) error {
	if e, ok := a.driver.(Eraser); ok {
		return e.Erase(ctx, a.host, v)
	}
	return a.driver.Undefine(ctx, a.host, v)
}

// Define makes a guest known to the host without starting it.
func (a *Agent) Define(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(withJob(ctx, r), "define", r, a.define)
}

// Undefine makes the host forget a guest that does not run. Its disks stay.
func (a *Agent) Undefine(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "undefine", r, gone(func(ctx context.Context, v virt.Guest) error { return a.driver.Undefine(ctx, a.host, v) }))
}

// Delete stops a guest as if the plug were pulled and makes the host forget it.
// Its disks are for the stage behind this one to remove.
func (a *Agent) Delete(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "delete", r, gone(a.power(virt.PowerStop)), gone(a.erase))
}

// Start starts a guest.
func (a *Agent) Start(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "start", r, a.power(virt.PowerStart))
}

// Run makes a guest run: it is started, or let go on if it is suspended.
func (a *Agent) Run(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "run", r, func(ctx context.Context, v virt.Guest) error {
		info, err := a.driver.Info(ctx, a.host, v)
		switch {
		case err != nil:
			return err
		case info.State == virt.Paused:
			return a.driver.Resume(ctx, a.host, v)
		}
		return a.driver.Power(ctx, a.host, v, virt.PowerStart)
	})
}

// Reboot asks a guest to restart.
func (a *Agent) Reboot(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "reboot", r, a.power(virt.PowerReboot))
}

// Restart stops a guest as if the plug were pulled, and starts it.
func (a *Agent) Restart(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "restart", r, a.power(virt.PowerStop), a.power(virt.PowerStart))
}

// Poweroff stops a guest as if the plug were pulled.
func (a *Agent) Poweroff(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "poweroff", r, a.power(virt.PowerStop))
}

// Shutdown asks a guest to stop.
func (a *Agent) Shutdown(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "shutdown", r, a.power(virt.PowerShutdown))
}

// Suspend holds a guest.
func (a *Agent) Suspend(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "suspend", r, func(ctx context.Context, v virt.Guest) error { return a.driver.Suspend(ctx, a.host, v) })
}

// Resume lets a held guest go on.
func (a *Agent) Resume(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "resume", r, func(ctx context.Context, v virt.Guest) error { return a.driver.Resume(ctx, a.host, v) })
}

// Status lists what is on the host now, or looks at one guest.
func (a *Agent) Status(ctx context.Context, r *mistify.StatusRequest) (*mistify.StatusResponse, error) {
	if r.ID != "" {
		return a.one(ctx, r.ID)
	}
	l, err := a.driver.Status(ctx, a.host)
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: l.Complete, Guests: make([]mistify.Seen, len(l.Guests)), Capacity: l.Capacity}
	for i, s := range l.Guests {
		out.Guests[i] = seen(s)
	}
	return out, nil
}

func (a *Agent) one(ctx context.Context, id string) (*mistify.StatusResponse, error) {
	id, err := mistify.ParseGuestID(id)
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: true, Guests: []mistify.Seen{}}
	info, err := a.driver.Info(ctx, a.host, virt.Guest{ID: id, UUID: id, Name: id})
	if errors.Is(err, virt.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the guest %s: %w", id, err)
	}
	s := seen(info.Seen)
	s.CPUTime, s.VNC, s.Console, s.Addresses = info.CPUTime.Seconds(), info.VNC, info.Console, info.Addresses
	out.Guests = append(out.Guests, s)
	return out, nil
}

func seen(s virt.Seen) mistify.Seen {
	return mistify.Seen{ID: s.UUID, Name: s.Name, State: s.State, CPU: s.CPU, Memory: s.Memory}
}
