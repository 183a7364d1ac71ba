package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// deed is one thing done to a guest.
type deed func(context.Context, virt.Guest) error

// act runs deeds in their order, one guest's after the other, and answers the guest
// as it is then.
func (d *Docker) act(ctx context.Context, what string, r *mistify.GuestRequest, deeds ...deed) (*mistify.GuestResponse, error) {
	v, err := read(r.Guest)
	if err != nil {
		return nil, err
	}
	d.o.Log.DebugContext(ctx, "asked of dockerd", "action", what, "guest", v.UUID, "trail", trail.From(ctx))
	release, err := d.locks.Hold(ctx, "guest "+v.UUID)
	if err != nil {
		return nil, fmt.Errorf("the container of guest %s is being changed: %w", v.UUID, err)
	}
	defer release()
	for _, do := range deeds {
		if err := do(ctx, v); err != nil {
			return d.later(r, err)
		}
	}
	answer, err := d.answer(ctx, r.Guest, v.UUID)
	if err != nil {
		return d.later(r, err)
	}
	return answer, nil
}

// retryAfter is when a job is tried again for which nothing was begun.
const retryAfter = 2 * time.Second

// later asks to be asked again while dockerd is gone for a moment: it is restarted
// with every update.
func (d *Docker) later(r *mistify.GuestRequest, err error) (*mistify.GuestResponse, error) {
	if !isGone(err) || d.gone.lasts(d.o.Now()) >= d.o.Patience {
		return nil, err
	}
	return &mistify.GuestResponse{Guest: r.Guest, Message: err.Error(), Retry: int(retryAfter / time.Second)}, nil
}

// answer is the guest of a request with what dockerd has of it.
func (d *Docker) answer(ctx context.Context, asked *mistify.Guest, id string) (*mistify.GuestResponse, error) {
	g := asked.Clone()
	g.ID, g.State, g.VNC = id, "", 0
	f, err := d.ours(ctx, id)
	if err != nil {
		return nil, err
	}
	if f != nil {
		g.State = stateName(f.state)
	}
	return &mistify.GuestResponse{Guest: g}, nil
}

// CreateContainer makes a container of an image that is here, without starting it:
// that is the next stage. One that is there as it is to be stays; where only its
// limits differ it gets the new ones.
func (d *Docker) CreateContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "create", r, func(ctx context.Context, v virt.Guest) error { return d.create(ctx, v, r.Job) })
}

// ProvisionContainer makes nothing, as a container has no disks: it says whether
// one could be made.
func (d *Docker) ProvisionContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "provision", r, func(ctx context.Context, v virt.Guest) error {
		p, err := planned(v)
		if err != nil {
			return err
		}
		if _, err := d.inspect(ctx, p.image); errors.Is(err, virt.ErrNotFound) {
			return notHere(v.Definition.Image)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// DeprovisionContainer wipes nothing, for the same reason, and refuses a container
// that runs.
func (d *Docker) DeprovisionContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "deprovision", r, d.idle)
}

func notHere(image string) error {
	return fmt.Errorf("%w: the image %s is not here: fetch it first", virt.ErrConflict, image)
}

// create makes the container, or does what is missing of it. What was asked for
// before, by somebody who did not wait for the answer, can still be under way: then
// the name is taken and nothing is there yet.
func (d *Docker) create(ctx context.Context, v virt.Guest, job string) error {
	p, err := planned(v)
	if err != nil {
		return err
	}
	until := d.o.Now().Add(d.o.Timeout)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		f, err := d.find(ctx, v.UUID)
		switch {
		case err == nil && (f.state == virt.Crashed || d.unwanted(v.UUID, f.job())):
			// dockerd ended in the middle of something, or made at last what was taken back: of another job, whose undo this one's is not.
			if err := errors.Join(d.remove(ctx, v.UUID, f), d.came(v.UUID, f.job())); err != nil {
				return err
			}
			continue
		case err == nil:
			return errors.Join(d.complete(ctx, p, f), d.came(v.UUID, f.job()))
		case !errors.Is(err, virt.ErrNotFound):
			return err
		}
		var taken *takenError
		if err := d.make(ctx, p, job); !errors.As(err, &taken) || !d.o.Now().Before(until) {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// takenError is a container that dockerd did not make, as there is one of that name
// or is about to be.
type takenError struct{ err error }

func (e *takenError) Error() string { return e.err.Error() }

func (e *takenError) Unwrap() error { return e.err }

// make makes the container. One that cannot be made as a whole is taken back.
func (d *Docker) make(ctx context.Context, p *plan, job string) (err error) {
	v := p.guest
	release, err := d.locks.Hold(ctx, "names")
	if err != nil {
		return err
	}
	defer release()
	if err := d.nameIsFree(ctx, v); err != nil {
		return err
	}
	_, err = quick(ctx, d, "make the container "+v.UUID, func(ctx context.Context, c *moby.Client) (moby.ContainerCreateResult, error) {
		return c.ContainerCreate(ctx, d.creation(p, job))
	})
	err = d.givenUp(v.UUID, job, err)
	switch {
	case errors.Is(err, virt.ErrConflict):
		return &takenError{err}
	case errors.Is(err, virt.ErrNotFound):
		if _, none := d.inspect(ctx, p.image); errors.Is(none, virt.ErrNotFound) {
			return notHere(v.Definition.Image)
		}
		return unmissed(err)
	case err != nil:
		return err
	}
	f, err := d.find(ctx, v.UUID)
	if err != nil {
		return err
	}
	if err := d.complete(ctx, p, f); err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.o.Timeout)
		defer cancel()
		return errors.Join(unmissed(err), d.remove(after, v.UUID, f))
	}
	return nil
}

// unmissed is an error of making something: that a network is not there does not
// say that the guest is not.
func unmissed(err error) error {
	var e *Error
	if errors.As(err, &e) && errors.Is(e.Kind, virt.ErrNotFound) {
		return &Error{What: e.What, Kind: virt.ErrConflict, Err: e.Err}
	}
	return err
}

// nameIsFree refuses the name of another guest of this host.
func (d *Docker) nameIsFree(ctx context.Context, v virt.Guest) error {
	all, err := d.list(ctx, labelName+"="+v.Name)
	if err != nil {
		return err
	}
	for _, one := range all {
		if one.uuid != v.UUID && !d.unwanted(one.uuid, one.job) {
			return fmt.Errorf("%w: the guest %s is called %.64q too", virt.ErrConflict, one.uuid, v.Name)
		}
	}
	return nil
}

// complete does what is missing of a container that is there.
func (d *Docker) complete(ctx context.Context, p *plan, f *found) error {
	v := p.guest
	if made := f.is.Config.Labels[labelMade]; made != p.made {
		return fmt.Errorf("%w: the container of guest %s was made of another image, for other networks or with another console, and none of these can be changed: undefine it first", virt.ErrConflict, v.UUID)
	}
	for _, l := range p.networks {
		if _, on := f.is.NetworkSettings.Networks[l.network]; on {
			continue
		}
		if err := d.do(ctx, "join the network "+l.network, d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
			_, err := c.NetworkConnect(ctx, l.network, moby.NetworkConnectOptions{Container: f.id, EndpointConfig: l.settings})
			return err
		}); err != nil {
			return err
		}
	}
	want := d.resources(v)
	if is := f.is.HostConfig.Resources; is.Memory == want.Memory && is.NanoCPUs == want.NanoCPUs {
		return nil
	}
	if want.Memory == 0 || want.NanoCPUs == 0 {
		return fmt.Errorf("%w: limits of the container of guest %s cannot be taken away: undefine it first", virt.ErrConflict, v.UUID)
	}
	d.limits.forget(f.id)
	return d.do(ctx, "change the limits of the container "+v.UUID, d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerUpdate(ctx, f.id, moby.ContainerUpdateOptions{Resources: &want})
		return err
	})
}

// remove stops and removes a container with what is its own, and returns when it
// is gone.
func (d *Docker) remove(ctx context.Context, id string, f *found) error {
	what := "remove the container " + id
	err := d.do(ctx, what, d.o.Timeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerRemove(ctx, f.id, moby.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		return err
	})
	// A conflict is that somebody removes it already.
	if err != nil && !errors.Is(err, virt.ErrNotFound) && !errors.Is(err, virt.ErrConflict) {
		return err
	}
	return d.until(ctx, id, what, func(now *found) bool { return now == nil || now.id != f.id })
}

// DeleteContainer removes the container of a guest, running or not.
func (d *Docker) DeleteContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "delete", r, func(ctx context.Context, v virt.Guest) error {
		return d.erase(ctx, v, anyJob)
	})
}

func anyJob(string) bool { return true }

// UndoCreate removes a container that was made for the job of the request.
func (d *Docker) UndoCreate(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "undo create", r, func(ctx context.Context, v virt.Guest) error {
		return d.erase(ctx, v, func(job string) bool { return r.Job != "" && job == r.Job })
	})
}

// erase removes the container of a guest if it was made for such a job. What may
// still be made for one is not wanted from now on.
func (d *Docker) erase(ctx context.Context, v virt.Guest, of func(job string) bool) error {
	f, err := d.ours(ctx, v.UUID)
	if err != nil {
		return err
	}
	if err := d.takenBack(v.UUID, of); err != nil || f == nil || !of(f.job()) {
		return err
	}
	if err := d.remove(ctx, v.UUID, f); err != nil {
		return err
	}
	return d.came(v.UUID, f.job())
}

// UndefineContainer removes a container that does not run, with what it wrote into
// its own layer.
func (d *Docker) UndefineContainer(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return d.act(ctx, "undefine", r, d.idle, func(ctx context.Context, v virt.Guest) error {
		return d.erase(ctx, v, anyJob)
	})
}

// idle refuses a guest that runs, or is held.
func (d *Docker) idle(ctx context.Context, v virt.Guest) error {
	f, err := d.ours(ctx, v.UUID)
	if err == nil && f != nil && f.active() {
		return fmt.Errorf("%w: the container of guest %s is %s: stop it first", virt.ErrBusy, v.UUID, f.state)
	}
	return err
}

// in reports whether a state is one of those.
func (f *found) in(states ...virt.State) bool { return slices.Contains(states, f.state) }
