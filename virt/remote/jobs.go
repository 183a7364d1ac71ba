package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// task is one call about one guest.
type task struct {
	*Driver
	c client
	g virt.Guest
}

// about runs a call about a guest, and tells of its failure what it was.
func (d *Driver) about(ctx context.Context, h virt.Host, g virt.Guest, what string, do func(context.Context, *task) error) error {
	if err := checkID(g); err != nil {
		return err
	}
	c, address, err := d.agent(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.JobTimeout)
	defer cancel()
	if err := do(ctx, &task{Driver: d, c: c, g: g}); err != nil {
		return &Error{What: what + " " + g.ID, Address: address, Kind: as(err, false), Err: err}
	}
	return nil
}

// quick gives one request its time.
func (t *task) quick(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.cfg.Timeout)
}

// job sends a request that is answered with a job, and waits for its end. The
// agent holds the request that waits, so that nobody asks in vain.
func (t *task) job(ctx context.Context, send func(context.Context) (job string, err error)) error {
	asking, cancel := t.quick(ctx)
	id, err := send(asking)
	cancel()
	if err != nil {
		return err
	}
	j, err := t.wait(ctx, id)
	if err != nil {
		return &LostJobError{Job: id, Err: err}
	}
	return j.Err()
}

// wait waits for the end of a job. An agent that is started again meanwhile goes
// on with its jobs, and so it is given the time of a request to come back.
func (t *task) wait(ctx context.Context, id string) (mistify.Job, error) {
	for gone := (time.Time{}); ; {
		asked := time.Now()
		j, err := t.c[waits].WaitJob(ctx, id)
		if err == nil || ctx.Err() != nil || !errors.Is(as(err, true), virt.ErrUnreachable) {
			return j, err
		}
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			return j, err // it is there and says nothing
		}
		// What broke off after a while of waiting was there until now.
		if gone.IsZero() || time.Since(asked) > time.Second {
			gone = time.Now()
		}
		if time.Since(gone) > t.cfg.Timeout {
			return j, err
		}
		timer := time.NewTimer(t.cfg.Timeout / 20)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return j, err
		}
	}
}

// act asks for an action of the guest and waits for its end.
func (t *task) act(ctx context.Context, action string) error {
	err := t.job(ctx, func(ctx context.Context) (string, error) {
		_, job, err := t.c[changes].Act(ctx, t.g.UUID, action)
		return job, err
	})
	if errors.Is(err, virt.ErrNotFound) {
		return t.missing(ctx, err)
	}
	return err
}

// missing finds out what it means that the agent does not know the guest: only
// what is not on the host is not there.
func (t *task) missing(ctx context.Context, refusal error) error {
	_, err := t.look(ctx, t.c, t.g)
	if err != nil {
		return err
	}
	var failed *mistify.JobFailure
	if errors.As(refusal, &failed) {
		return fmt.Errorf("%w: guest %s is on the host, and something of it is not: %w", virt.ErrConflict, t.g.UUID, unmarked{refusal})
	}
	return fmt.Errorf("%w: guest %s is on the host, but its agent did not make it: `vagoth define` it first (%w)", virt.ErrConflict, t.g.UUID, unmarked{refusal})
}

// unmarked is an error that is told, but not for what it is.
type unmarked struct{ error }

// unless drops a refusal that says only that the guest is in the state that was
// wanted.
func (t *task) unless(ctx context.Context, err error, wanted ...virt.State) error {
	kind := as(err, false)
	if err == nil || errors.Is(kind, virt.ErrNotFound) || errors.Is(kind, virt.ErrUnreachable) || errors.Is(kind, virt.ErrUnsupported) {
		return err
	}
	info, problem := t.look(ctx, t.c, t.g)
	if problem != nil {
		return err
	}
	for _, w := range wanted {
		if info.State == w {
			return nil
		}
	}
	return err
}
