package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// outcome is what a stage answered.
type outcome struct {
	in, guest *mistify.Guest // what it was given, and what it answered
	message   string
	retry     int // seconds
}

// callStage calls one stage, with a place of its service that it gives back.
func (a *Agent) callStage(ctx context.Context, p *pipeline, at step, st *state) (out outcome, err error) {
	t := st.Trail
	if t.Job == "" {
		t.Job, t.Attempt = st.ID, st.Attempt
	}
	ctx = trail.With(ctx, t)
	switch p.action.On {
	case mistify.OnImage:
		req := mistify.ImageRequest{}
		if st.Image != nil {
			req = *st.Image
		}
		return out, at.service.call(ctx, a.cfg.AsyncTimeout, at.Method, &req, &mistify.ImageResponse{})
	case mistify.OnSnapshot:
		req := mistify.SnapshotRequest{}
		if st.Snapshot != nil {
			req = *st.Snapshot
		}
		return out, at.service.call(ctx, a.cfg.AsyncTimeout, at.Method, &req, &mistify.SnapshotResponse{})
	case mistify.OnSave:
		req := mistify.SaveRequest{}
		if st.Save != nil {
			req = *st.Save
		}
		// The job of a manager is the same one with each of its attempts.
		req.Job, req.Args = t.Job, at.Args
		return out, at.service.call(ctx, a.cfg.AsyncTimeout, at.Method, &req, &mistify.ImageResponse{})
	}
	if out.in = st.Guest; out.in == nil {
		known := a.store.guest(st.GuestID)
		if known == nil {
			at.service.release()
			return out, notFound("there is no guest %s any more", st.GuestID)
		}
		if out.in, err = known.decode(); err != nil {
			at.service.release()
			return out, err
		}
	}
	var resp mistify.GuestResponse
	req := mistify.GuestRequest{Guest: out.in, Action: p.action.Name, Args: at.Args, To: st.To}
	if at.Undo != "" {
		req.Job = st.ID
	}
	if err := at.service.call(ctx, a.cfg.AsyncTimeout, at.Method, &req, &resp); err != nil {
		return out, err
	}
	out.guest, out.message, out.retry = resp.Guest, clip(resp.Message), resp.Retry
	return out, out.check(at)
}

// check refuses an answer that cannot be about the guest.
func (o *outcome) check(at step) error {
	switch g := o.guest; {
	case g == nil && o.retry > 0:
		return nil
	case g == nil:
		return fmt.Errorf("%s of the sub-agent %s answered without a guest: it must answer with the guest as it is now", at.Method, at.Service)
	case !strings.EqualFold(g.ID, o.in.ID):
		return fmt.Errorf("%s of the sub-agent %s answered with the guest %.64q and was asked for %s", at.Method, at.Service, g.ID, o.in.ID)
	}
	g := o.guest
	g.ID, g.Type = o.in.ID, o.in.Type // whatever it says: neither changes
	g.Carry(o.in)
	if err := g.Validate(); err != nil {
		// It is the sub-agent's fault, and no invalid request of who queued the job.
		return fmt.Errorf("%s of the sub-agent %s answered with a guest that is not kept: %s", at.Method, at.Service, err.Error())
	}
	return nil
}

// after is what follows from the outcome of a stage. The caller has the guest's
// lock. Where a next stage can be called at once it is marked as running in the
// same record, with a place taken for it.
func (a *Agent) after(r *run, p *pipeline, st *state, out outcome, err error) *change {
	if st.Undo != nil {
		return a.afterUndo(r, p, st, out, err)
	}
	next := a.fresh(st)
	next.UpdatedAt, next.Message = since(a.now()), out.message
	c := &change{jobs: []*state{&next}}
	if err == nil && out.guest != nil {
		err = a.keep(c, &next, out)
	}
	switch {
	case err != nil:
		if isPanic(err) {
			err = fmt.Errorf("%s of %s: %w", p.stages[st.Index].Method, p.stages[st.Index].Service, err)
		}
		a.failed(r, p, &next, err)
	case out.retry > 0 && st.Retries >= a.cfg.MaxRetries:
		a.failed(r, p, &next, fmt.Errorf("stage %s asked %d times to be tried again, which is as often as it is (max_retries); it said: %s", st.Stage, st.Retries+1, out.message))
	case out.retry > 0:
		wait := a.cfg.MaxRetryWait
		if s := time.Duration(out.retry); s < wait/time.Second {
			wait = s * time.Second
		}
		next.Status, next.Attempt, next.Retries = mistify.JobQueued, st.Attempt+1, st.Retries+1
		next.RetryAt = a.now().Add(wait).UnixMilli()
	case st.Index+1 < len(p.stages):
		at := p.stages[st.Index+1]
		next.Index, next.Stage, next.Retries, next.RetryAt, next.Status = st.Index+1, at.text, 0, 0, mistify.JobQueued
		if a.hold(r, st.queue(), at) {
			next.Status = mistify.JobRunning
		}
	default:
		next.end(mistify.JobComplete)
		next.Stage = ""
		a.forget(c, p, &next)
	}
	return c
}

// keep makes what a stage answered what is known of the guest, or of the one
// that the job has borrowed.
func (a *Agent) keep(c *change, next *state, out outcome) error {
	g := out.guest.Clone()
	known := a.store.guest(g.ID)
	if known == nil {
		next.Guest = g
		return nil
	}
	stored, err := known.decode()
	if err != nil {
		return err
	}
	before := stored.Metadata
	if next.Guest != nil { // what was asked for with the job, and what was patched since
		before = next.Guest.Metadata
	}
	g.Metadata = merge(before, out.in.Metadata, out.guest.Metadata)
	next.Guest = nil
	c.put, err = newGuest(g)
	return err
}

// fresh is a copy of a job with the guest that it has now: whoever patches the
// metadata of a guest patches those of the jobs that bring it, too. The caller
// has the guest's lock.
func (a *Agent) fresh(st *state) state {
	next := *st
	if now := a.store.job(st.ID); now != nil && !now.Status.Ended() {
		next.Guest = now.Guest
	}
	return next
}

var errGone = errors.New("the guest was deleted before the job's turn came")

// forget drops a guest that was deleted, undefined or moved away, with the jobs
// behind that.
func (a *Agent) forget(c *change, p *pipeline, done *state) {
	base := p.action.Base
	if p.action.On != mistify.OnGuest || base != "delete" && base != "undefine" && base != mistify.ActionMigrate || a.store.guest(done.GuestID) == nil {
		return
	}
	a.drop(c, done, base != "delete", errGone)
}

// drop forgets the guest of a job that has ended, and ends the jobs behind it,
// but for those that bring a guest of their own if such are kept.
func (a *Agent) drop(c *change, done *state, keepOwn bool, why error) {
	c.put, c.drop = nil, done.GuestID
	for _, st := range a.store.waiting(done.queue()) {
		if st.ID == done.ID || keepOwn && st.Guest != nil {
			continue
		}
		ended := *st
		ended.UpdatedAt = done.UpdatedAt
		ended.fail(why)
		c.jobs = append(c.jobs, &ended)
	}
}
