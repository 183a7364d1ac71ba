package sim

import (
	"context"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Create makes a guest's disks, defines it and starts it.
func (a *Agent) Create(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return made(a.do(ctx, "create", r, a.provision(r.Guest), a.driver.Define, a.power(virt.PowerStart)))
}

// Delete removes a guest with its disks, running or not.
func (a *Agent) Delete(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	out, err := a.do(ctx, "delete", r, gone(a.power(virt.PowerStop)), gone(a.driver.Undefine), a.deprovision)
	if err == nil {
		a.forget(out.Guest.ID)
	}
	return out, err
}

// Define makes a guest known without starting it.
func (a *Agent) Define(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "define", r, a.driver.Define)
}

// Undefine makes the host forget a guest that does not run. Its disks stay.
func (a *Agent) Undefine(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "undefine", r, a.driver.Undefine)
}

// Provision makes the disks that are not there yet.
func (a *Agent) Provision(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return made(a.do(ctx, "provision", r, a.provision(r.Guest)))
}

// Deprovision wipes the disks of a guest that does not run, and their snapshots.
func (a *Agent) Deprovision(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "deprovision", r, a.deprovision)
}

// Start starts a guest.
func (a *Agent) Start(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "start", r, a.power(virt.PowerStart))
}

// Run looks at a guest that runs.
func (a *Agent) Run(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "run", r)
}

// Reboot asks a guest to start again.
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
	return a.do(ctx, "suspend", r, a.driver.Suspend)
}

// Resume lets a guest go on.
func (a *Agent) Resume(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "resume", r, a.driver.Resume)
}

// deprovision wipes disks, and the snapshots with them.
func (a *Agent) deprovision(ctx context.Context, h virt.Host, v virt.Guest) error {
	if err := a.driver.Deprovision(ctx, h, v); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.shelves, v.UUID)
	return nil
}

func (a *Agent) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.guests, id)
	delete(a.shelves, id)
}
