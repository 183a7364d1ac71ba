package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// order is an asynchronous action that somebody asks for.
type order struct {
	action string         // without the prefix of containers
	kind   string         // type of guest or image, if there is no guest yet
	guest  string         // its id; "" is of the host
	given  *mistify.Guest // what it is to be
	known  knowledge

	image    *mistify.ImageRequest
	snapshot *mistify.SnapshotRequest
	save     *mistify.SaveRequest
	to       string // of a migrate
}

// knowledge is what an action needs, and makes, of what the agent knows.
type knowledge int

const (
	mustKnow  knowledge = iota // the guest is there
	mustNot                    // it is not, and is from now on
	mayMake                    // it may be, and is from now on
	mayBorrow                  // it may be, and stays as it is
)

// submit queues an action. When it returns a job is on disk, with what else
// belongs to it, and about to run. The guest is what is known of it then.
func (a *Agent) submit(ctx context.Context, o order) (*state, *guest, error) {
	queue := o.guest
	if queue == "" {
		queue = hostQueue
	}
	leave, err := a.locks.enter(ctx, queue)
	if err != nil {
		return nil, nil, err
	}
	defer leave()

	known := a.store.guest(o.guest)
	p, c, err := a.prepare(ctx, o, known)
	if err != nil {
		return nil, nil, err
	}
	own, all := a.store.lengths(queue)
	switch {
	case own >= a.cfg.QueueJobs:
		return nil, nil, tooMany("%d jobs wait for the guest %s already: nothing was queued, wait for some of them to end", own, queue)
	case all >= a.cfg.MaxJobs:
		return nil, nil, tooMany("%d jobs wait already: nothing was queued, wait for some of them to end", all)
	}
	st := c.jobs[0]
	begun := own == 0 && a.begin(st, p, queue)
	if err := a.store.do(ctx, c); err != nil {
		if begun {
			a.takeHeld(queue)
			p.stages[0].service.release()
		}
		return nil, nil, err
	}
	if !a.wake(queue) && begun {
		// It was stopped meanwhile: the job has not been begun after all.
		a.takeHeld(queue)
		p.stages[0].service.release()
		waiting := *st
		waiting.Status, waiting.StartedAt = mistify.JobQueued, time.Time{}
		st = &waiting
		if err := a.store.do(context.WithoutCancel(ctx), &change{jobs: []*state{st}}); err != nil {
			return nil, nil, err
		}
	}
	if c.put != nil {
		known = c.put
	}
	return st, known, nil
}

// prepare makes the change that queues the job, or refuses. The caller has the
// guest's lock.
func (a *Agent) prepare(ctx context.Context, o order, known *guest) (*pipeline, *change, error) {
	kind := o.kind
	switch {
	case o.guest == "":
	case known != nil && o.known == mustNot:
		return nil, nil, fmt.Errorf("%w: the guest %s is there already", virt.ErrConflict, o.guest)
	case known != nil:
		kind = known.kind
	case o.known == mustKnow || o.given == nil:
		return nil, nil, notFound("there is no guest %s", o.guest)
	default:
		kind = o.given.Type
	}
	p, err := a.pipeline(kind, o.action)
	if err != nil {
		return nil, nil, err
	}
	t := trail.From(ctx)
	c := &change{}
	if o.guest != "" {
		if c.fence, err = a.fenced(o.guest, t.Token); err != nil {
			return nil, nil, err
		}
		if o.action == mistify.ActionMigrate {
			if err := a.settled.refuse(o.guest, t.Token); err != nil {
				return nil, nil, err
			}
		}
	}
	at := since(a.now())
	st := &state{Job: mistify.Job{
		ID: newID(), GuestID: o.guest, Action: p.action.Name, QueuedAt: at, UpdatedAt: at,
		Status: mistify.JobQueued, Attempt: 1, Stage: p.stages[0].text, Trail: t,
	}, Image: o.image, Snapshot: o.snapshot, Save: o.save, To: o.to}
	if o.guest == "" {
		st.GuestID = hostQueue
	}
	c.jobs = []*state{st}
	if o.given == nil {
		return p, c, nil
	}
	given := o.given.Clone()
	given.ID, given.Type = o.guest, kind
	if known == nil && o.known != mayBorrow {
		if n := a.store.count(); n >= a.cfg.MaxGuests {
			return nil, nil, tooMany("there are %d guests, as many as are kept", n)
		}
		given.State = o.action
		st.Made = p.undoes(len(p.stages)) >= 0
		c.put, err = newGuest(given)
		return p, c, err
	}
	if known != nil {
		stored, err := known.decode()
		if err != nil {
			return nil, nil, err
		}
		given.State = stored.State
		if given.Metadata == nil {
			given.Metadata = stored.Metadata
		}
	}
	if _, err := newGuest(given); err != nil {
		return nil, nil, err
	}
	st.Guest = given
	return p, c, nil
}
