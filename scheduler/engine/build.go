package engine

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// buildCmd changes packages that are not enqueued.
type buildCmd struct {
	id      string
	prepare func(b *Engine, t *tx, p *pack) error // p is nil if there is none
}

// asCommand makes it a command that goes together with others.
type together struct{ buildCmd }

func (together) alone() bool { return false }

func (c together) prepare(b *Engine, t *tx) error {
	if b.closing {
		return scheduler.ErrClosed
	}
	if t.ids[c.id] {
		return errLater
	}
	p := b.core.packs.byID[c.id]
	if p != nil && p.build != nil && !t.claimPack(p.build) {
		return errLater
	}
	return c.buildCmd.prepare(b, t, p)
}

func (b *Engine) build(ctx context.Context, id string, f func(b *Engine, t *tx, p *pack) error) error {
	cmd := together{buildCmd{id, f}}
	if b.drafts != nil {
		return b.drafts.group.do(ctx, cmd)
	}
	return b.do(ctx, cmd)
}

// NewPackage implements scheduler.Builder.
func (b *Engine) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	origin := trail.From(ctx)
	origin.Job, origin.Attempt, origin.Token = "", 0, trail.Token{}
	if err := origin.Validate(); err != nil {
		return scheduler.PackageStatus{}, fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	if len(p.Jobs) > 0 {
		var err error
		if p, err = b.resolve(ctx, p); err != nil {
			return scheduler.PackageStatus{}, err
		}
	} else {
		if p.ID == "" {
			p.ID = newID()
		}
		if err := registry.CheckName(p.ID); err != nil {
			return scheduler.PackageStatus{}, &scheduler.CheckError{Problems: []string{fmt.Sprintf("the package's ID: %v", err)}}
		}
	}
	at := b.now()
	r := &built{pack: p.ID, at: at.UnixNano(), expires: at.Add(b.cfg.PackageExpiry).UnixNano(), trail: origin, jobs: p.Jobs}
	if err := b.build(ctx, p.ID, func(b *Engine, t *tx, had *pack) error {
		if had != nil {
			return fmt.Errorf("%w: there is a package with the ID %s already", scheduler.ErrConflict, p.ID)
		}
		if err := b.free(t, p.ID); err != nil {
			return err
		}
		if err := b.room(len(p.Jobs), false); err != nil {
			return err
		}
		if b.core.packs.building >= maxBuilding {
			return &scheduler.TooManyError{Queued: b.core.packs.building, Max: maxBuilding, After: retryWrite}
		}
		if err := b.known(t, p.Jobs, nil, 0); err != nil {
			return err
		}
		t.comes(p.ID)
		t.queued += len(p.Jobs)
		t.add(r)
		return nil
	}); err != nil {
		return scheduler.PackageStatus{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.core.packs.byID[p.ID]; k != nil {
		b.armPack(k)
		b.setAlarm()
		return b.packStatus(k), nil
	}
	return scheduler.PackageStatus{}, fmt.Errorf("%w: the package %s was discarded at once", scheduler.ErrNotFound, p.ID)
}

// maxBuilding is how many packages may be built at once.
const maxBuilding = 100_000

func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}

// known refuses jobs whose ID is known, or that depend on what is neither known
// nor in the package p, nil if it is new, in which they follow so many others.
func (b *Engine) known(t *tx, jobs []scheduler.Job, p *pack, before int) error {
	c := b.core
	depend := 0
	for i := range jobs {
		id := jobs[i].ID
		depend += len(jobs[i].After)
		if c.taken(id, nil) {
			return fmt.Errorf("%w: there is a job with the ID %s already", scheduler.ErrConflict, id)
		}
		if err := b.free(t, id); err != nil {
			return err
		}
	}
	for i := range jobs {
		t.comes(jobs[i].ID)
	}
	if depend == 0 {
		return nil
	}
	inside := make(map[string]bool, len(jobs))
	for i := range jobs {
		inside[jobs[i].ID] = true
	}
	for i := range jobs {
		for _, d := range jobs[i].After {
			switch {
			case inside[d.ID], p != nil && c.packs.reserved[d.ID] == p, c.jobs[d.ID] != nil:
			case t.ids[d.ID]:
				return errLater
			default:
				return fmt.Errorf("%w: job %d (%s) depends on job %q, which is not known (any more)", scheduler.ErrInvalid, before+i, jobs[i].Action, d.ID)
			}
		}
	}
	return nil
}

// AddJobs implements scheduler.Builder.
func (b *Engine) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	if len(jobs) == 0 {
		_, err := b.Package(ctx, id)
		return nil, err
	}
	b.mu.Lock()
	p, err := b.buildable(id)
	var before []scheduler.Job
	if err == nil {
		before = p.build.jobs
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	more, err := b.resolve(ctx, scheduler.Package{Jobs: jobs}, before...)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(more.Jobs))
	for i := range more.Jobs {
		ids[i] = more.Jobs[i].ID
	}
	return ids, b.add(ctx, id, before, more.Jobs)
}

func (b *Engine) add(ctx context.Context, id string, before, fresh []scheduler.Job) error {
	return b.build(ctx, id, func(b *Engine, t *tx, _ *pack) error {
		p, err := b.buildable(id)
		if err != nil {
			return err
		}
		if p.build.enqueues > 0 {
			return fmt.Errorf("%w: the package %s is being enqueued", scheduler.ErrConflict, id)
		}
		if len(p.build.jobs) != len(before) {
			return fmt.Errorf("%w: somebody else added to the package %s at the same time: look at it and add again", scheduler.ErrConflict, id)
		}
		if err := b.room(len(fresh), false); err != nil {
			return err
		}
		if err := b.known(t, fresh, p, len(before)); err != nil {
			return err
		}
		t.queued += len(fresh)
		t.add(&added{pack: id, jobs: fresh})
		return nil
	})
}

// buildable finds a package that is not enqueued.
func (b *Engine) buildable(id string) (*pack, error) {
	p := b.core.packs.byID[id]
	switch {
	case p == nil:
		return nil, fmt.Errorf("%w: there is no package %.64q: one that is not enqueued is discarded after %s", scheduler.ErrNotFound, id, b.cfg.PackageExpiry)
	case p.build == nil:
		return nil, fmt.Errorf("%w: the package %s is enqueued: make another one", scheduler.ErrConflict, id)
	}
	return p, nil
}

// Enqueue implements scheduler.Builder.
func (b *Engine) Enqueue(ctx context.Context, id string) ([]scheduler.Status, error) {
	cmd := &enqueueCmd{id: id}
	b.mu.Lock()
	if p := b.core.packs.byID[id]; p != nil && p.build != nil {
		for i := range p.build.jobs {
			cmd.urgent = cmd.urgent || p.build.jobs[i].Urgent
		}
	}
	b.mu.Unlock()
	cmd.parent = b.caller(ctx)
	if err := b.enqueue(ctx, cmd); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if cmd.rec != nil || cmd.earlier != nil {
		return cmd.answer(b), nil
	}
	list := make([]scheduler.Status, 0, len(cmd.jobs))
	for _, j := range cmd.jobs {
		if j != nil {
			list = append(list, b.status(j))
		}
	}
	return list, nil
}

// enqueueCmd submits what was built.
type enqueueCmd struct {
	submitCmd
	id   string
	jobs []*job // of one that was enqueued already
}

func (e *enqueueCmd) prepare(b *Engine, t *tx) error {
	if b.closing {
		return scheduler.ErrClosed
	}
	if err := b.free(t, e.id); err != nil {
		return err
	}
	p := b.core.packs.byID[e.id]
	if p != nil && p.build == nil {
		e.jobs = p.jobs
		return nil
	}
	p, err := b.buildable(e.id)
	if err != nil {
		return err
	}
	if len(p.build.jobs) == 0 {
		return &scheduler.CheckError{Problems: []string{"it has no jobs"}}
	}
	if !t.claimPack(p.build) {
		return errLater
	}
	e.built, e.pack = true, scheduler.Package{ID: p.id, Jobs: p.build.jobs}
	return e.submitCmd.prepare(b, t)
}

// packStatus is a package as it is now.
func (b *Engine) packStatus(p *pack) scheduler.PackageStatus {
	st := scheduler.PackageStatus{ID: p.id, CreatedAt: moment(p.created)}
	if p.build != nil {
		st.State, st.ExpiresAt, st.Trail = scheduler.Building, moment(p.build.expires), p.build.trail
		for i := range p.build.jobs {
			st.Jobs = append(st.Jobs, p.build.jobs[i].ID)
		}
		return st
	}
	st.State, st.Counts = scheduler.Queued, map[scheduler.State]int{}
	var last int64
	for _, j := range p.jobs {
		if j == nil {
			continue
		}
		st.Jobs = append(st.Jobs, j.id)
		st.Counts[j.state.word()]++
		if st.Trail.Transaction == "" && st.Trail.Source == "" {
			st.Trail = j.call().Trail
		}
		if j.past != nil {
			last = max(last, j.past.ended)
		}
	}
	if p.open == 0 {
		st.State, st.EndedAt = scheduler.Ended, moment(last)
	}
	return st
}

func (b *Engine) findPack(id string) (*pack, error) {
	if p := b.core.packs.byID[id]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: there is no package %.64q: it is kept as long as its jobs, or %s if it is not enqueued", scheduler.ErrNotFound, id, b.cfg.PackageExpiry)
}

// Package implements scheduler.Builder.
func (b *Engine) Package(_ context.Context, id string) (scheduler.PackageStatus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.findPack(id)
	if err != nil {
		return scheduler.PackageStatus{}, err
	}
	return b.packStatus(p), nil
}

// Packages implements scheduler.Builder.
func (b *Engine) Packages(ctx context.Context) iter.Seq2[scheduler.PackageStatus, error] {
	return func(yield func(scheduler.PackageStatus, error) bool) {
		b.mu.Lock()
		ids := make([]string, 0, len(b.core.packs.byID))
		for p := b.core.packs.last; p != nil; p = p.prev {
			ids = append(ids, p.id)
		}
		b.mu.Unlock()
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				yield(scheduler.PackageStatus{}, err)
				return
			}
			b.mu.Lock()
			p := b.core.packs.byID[id]
			var st scheduler.PackageStatus
			if p != nil {
				st = b.packStatus(p)
			}
			b.mu.Unlock()
			if p != nil && !yield(st, nil) {
				return
			}
		}
	}
}

// CancelPackage implements scheduler.Builder.
func (b *Engine) CancelPackage(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	origin := trail.From(ctx)
	why := by("cancelled with its package", origin, origin.Reason)
	if st, ok, err := b.cancelDraft(ctx, id); ok || err != nil {
		return st, err
	}
	var gone *scheduler.PackageStatus
	var p *pack
	err := b.operate(ctx, func(b *Engine, t *tx) (err error) {
		gone = nil
		if p, err = b.findPack(id); err != nil {
			return err
		}
		if p.build != nil && b.drafts != nil {
			return fmt.Errorf("%w: the package %s was begun at this moment", scheduler.ErrConflict, id)
		}
		if p.build != nil {
			st := b.packStatus(p)
			st.State, st.EndedAt = scheduler.Ended, b.now()
			gone = &st
			t.add(&discarded{id})
			return nil
		}
		// From the last to the first, so that each ends for this reason and not
		// because one that it depends on has.
		for i := len(p.jobs) - 1; i >= 0; i-- {
			if j := p.jobs[i]; j != nil && !j.state.ended() {
				b.cancel(t, j, why)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return scheduler.PackageStatus{}, err
	case gone != nil:
		return *gone, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.packStatus(p), nil
}
