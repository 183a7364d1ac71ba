package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
)

// found is a container of a guest.
type found struct {
	id    string
	state virt.State
	word  string // dockerd's for it
	is    container.InspectResponse
}

// foreignError is a container with the name of a guest that is not the guest.
type foreignError struct{ guest string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%v: the container %s was not made by vagoth, and is left alone: rename or remove it", virt.ErrConflict, e.guest)
}

func (e *foreignError) Unwrap() error { return virt.ErrConflict }

// find looks for the container of a guest.
func (d *Docker) find(ctx context.Context, id string) (*found, error) {
	what := "look at the container " + id
	got, err := quick(ctx, d, what, func(ctx context.Context, c *moby.Client) (moby.ContainerInspectResult, error) {
		return c.ContainerInspect(ctx, id, moby.ContainerInspectOptions{})
	})
	if errors.Is(err, virt.ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no container of the guest %s", virt.ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	is := got.Container
	switch {
	case !idWord.MatchString(is.ID):
		return nil, nonsense(what, "its id is %.80q", is.ID)
	case is.Name != "/"+id:
		return nil, nonsense(what, "the container is called %.80q", is.Name)
	case is.State == nil || is.Config == nil || is.HostConfig == nil || is.NetworkSettings == nil:
		return nil, nonsense(what, "it says neither a state nor a config")
	case is.Config.Labels[labelGuest] != id:
		return nil, &foreignError{id}
	}
	f := &found{id: is.ID, word: string(is.State.Status), is: is}
	if f.state = stateFrom(f.word); f.state == virt.Unknown {
		return nil, nonsense(what, "the container is %.40q", f.word)
	}
	return f, nil
}

// ours is find, where one that is not the guest's is none.
func (d *Docker) ours(ctx context.Context, id string) (*found, error) {
	f, err := d.find(ctx, id)
	var foreign *foreignError
	if errors.As(err, &foreign) || errors.Is(err, virt.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none
	}
	return f, err
}

// job is for which of the agent's jobs it was made.
func (f *found) job() string { return f.is.Config.Labels[labelJob] }

// active reports whether it runs, or is held.
func (f *found) active() bool { return f.state == virt.Running || f.state == virt.Paused }

// until looks at a container of a guest again and again until it is as wanted, as
// long as a call may take. nil is one that is gone.
func (d *Docker) until(ctx context.Context, id, what string, wanted func(*found) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.o.Timeout, &lateError{d.o.Timeout})
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		f, err := d.ours(ctx, id)
		if err != nil {
			return err
		}
		if wanted(f) {
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return d.fault(ctx, what, err)
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do is a call that answers nothing which is of use.
func (d *Docker) do(ctx context.Context, what string, within time.Duration, call func(context.Context, *moby.Client) error) error {
	_, err := ask(ctx, d, what, within, func(ctx context.Context, c *moby.Client) (struct{}, error) { return struct{}{}, call(ctx, c) })
	return err
}
