package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// on is a deed to the container of a guest.
func (d *Docker) on(do func(context.Context, virt.Guest, *found) error) deed {
	return func(ctx context.Context, v virt.Guest) error {
		f, err := d.find(ctx, v.UUID)
		if err != nil {
			return err
		}
		return do(ctx, v, f)
	}
}

// tell calls dockerd about a container. An error that says only that it is as it is
// wanted already is none.
func (d *Docker) tell(ctx context.Context, v virt.Guest, what string, within time.Duration, call func(context.Context, *moby.Client) error, wanted ...virt.State) error {
	err := d.do(ctx, what+" the container "+v.UUID, within, call)
	if err == nil || errors.Is(err, virt.ErrUnreachable) {
		return err
	}
	now, look := d.find(ctx, v.UUID)
	if look == nil && now.in(wanted...) {
		return nil
	}
	return err
}

func wrongState(f *found, v virt.Guest, want string) error {
	return fmt.Errorf("%w: the container of guest %s is %s: %s it first", virt.ErrConflict, v.UUID, f.state, want)
}

func (d *Docker) start(ctx context.Context, v virt.Guest, f *found) error {
	switch f.state {
	case virt.Running:
		return nil
	case virt.Paused:
		return fmt.Errorf("%w: the container of guest %s is suspended: resume it", virt.ErrBusy, v.UUID)
	}
	return d.tell(ctx, v, "start", d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerStart(ctx, f.id, moby.ContainerStartOptions{})
		return err
	}, virt.Running)
}

// kill ends a container as if the plug were pulled.
func (d *Docker) kill(ctx context.Context, v virt.Guest, f *found) error {
	if !f.active() {
		return nil
	}
	if err := d.tell(ctx, v, "kill", d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerKill(ctx, f.id, moby.ContainerKillOptions{Signal: "SIGKILL"})
		return err
	}, virt.Stopped); err != nil {
		return err
	}
	return d.until(ctx, v.UUID, "kill the container "+v.UUID, func(now *found) bool { return now == nil || !now.active() })
}

// seconds is the grace, as dockerd is told it.
func (d *Docker) seconds() *int {
	s := int(d.o.Grace / time.Second)
	return &s
}

// StartContainer starts a container.
func (d *Docker) StartContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "start", r, d.on(d.start))
}

// RunContainer makes a container run: it is started, or let go on if it is held.
func (d *Docker) RunContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "run", r, d.on(func(ctx context.Context, v virt.Guest, f *found) error {
		if f.state == virt.Paused {
			return d.resume(ctx, v, f)
		}
		return d.start(ctx, v, f)
	}))
}

// StopContainer asks a container to end, and kills it after the grace.
func (d *Docker) StopContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "stop", r, d.on(func(ctx context.Context, v virt.Guest, f *found) error {
		if !f.active() {
			return nil
		}
		if f.state == virt.Paused {
			return d.kill(ctx, v, f) // it could not hear
		}
		return d.tell(ctx, v, "stop", d.o.Grace+d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
			_, err := c.ContainerStop(ctx, f.id, moby.ContainerStopOptions{Timeout: d.seconds()})
			return err
		}, virt.Stopped)
	}))
}

// PoweroffContainer ends a container at once.
func (d *Docker) PoweroffContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "poweroff", r, d.on(d.kill))
}

// ShutdownContainer asks a container to end, and returns when it was asked.
func (d *Docker) ShutdownContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "shutdown", r, d.on(func(ctx context.Context, v virt.Guest, f *found) error {
		switch {
		case f.state == virt.Paused:
			return wrongState(f, v, "resume")
		case !f.active():
			return nil
		}
		signal := f.is.Config.StopSignal // as the image has it
		if !signalWord.MatchString(signal) {
			signal = "SIGTERM"
		}
		return d.tell(ctx, v, "ask to end", d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
			_, err := c.ContainerKill(ctx, f.id, moby.ContainerKillOptions{Signal: signal})
			return err
		}, virt.Stopped)
	}))
}

// RebootContainer asks a container to end, kills it after the grace, and starts it
// again.
func (d *Docker) RebootContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "reboot", r, d.on(func(ctx context.Context, v virt.Guest, f *found) error {
		switch {
		case f.state == virt.Paused:
			return wrongState(f, v, "resume")
		case !f.active():
			return wrongState(f, v, "start")
		}
		return d.do(ctx, "restart the container "+v.UUID, d.o.Grace+d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
			_, err := c.ContainerRestart(ctx, f.id, moby.ContainerRestartOptions{Timeout: d.seconds()})
			return err
		})
	}))
}

// RestartContainer ends a container at once, and starts it.
func (d *Docker) RestartContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "restart", r, d.on(d.kill), d.on(d.start))
}

// PauseContainer holds a container.
func (d *Docker) PauseContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "pause", r, d.on(func(ctx context.Context, v virt.Guest, f *found) error {
		switch {
		case f.state == virt.Paused:
			return nil
		case !f.active():
			return wrongState(f, v, "start")
		}
		return d.tell(ctx, v, "pause", d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
			_, err := c.ContainerPause(ctx, f.id, moby.ContainerPauseOptions{})
			return err
		}, virt.Paused)
	}))
}

// UnpauseContainer lets a container go on that was held.
func (d *Docker) UnpauseContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "unpause", r, d.on(d.resume))
}

func (d *Docker) resume(ctx context.Context, v virt.Guest, f *found) error {
	switch {
	case f.state == virt.Running:
		return nil
	case !f.active():
		return wrongState(f, v, "start")
	}
	return d.tell(ctx, v, "unpause", d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerUnpause(ctx, f.id, moby.ContainerUnpauseOptions{})
		return err
	}, virt.Running)
}
