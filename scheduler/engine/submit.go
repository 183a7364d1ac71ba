package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Submit implements scheduler.Submitter. It returns when the package is on disk.
func (b *Engine) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	resolved, err := b.resolve(ctx, p)
	if err != nil {
		return nil, err
	}
	cmd := &submitCmd{pack: resolved, parent: b.caller(ctx)}
	for i := range resolved.Jobs {
		cmd.urgent = cmd.urgent || resolved.Jobs[i].Urgent
	}
	if err := b.do(ctx, cmd); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return cmd.answer(b), nil
}

// resolve checks what can be checked without looking at other jobs, and fills in
// what the package leaves open. If it follows others in a package that is being
// built, these are before.
func (b *Engine) resolve(ctx context.Context, p scheduler.Package, before ...scheduler.Job) (scheduler.Package, error) {
	if err := (scheduler.Checking{Find: b.action, Known: b.actions, Before: before}).Check(p); err != nil {
		return p, err
	}
	t := trail.From(ctx)
	t.Job, t.Attempt, t.Token = "", 0, trail.Token{}
	if p.ID == "" && before == nil {
		p.ID = newID()
	}
	p.Jobs = scheduler.ResolveMore(b.actions, before, p.Jobs, t)
	var problems []string
	for i := range p.Jobs {
		j := &p.Jobs[i]
		j.Trail.Job, j.Trail.Attempt, j.Trail.Token = "", 0, trail.Token{}
		j.Limits = unique(j.Limits)
		for _, l := range j.Limits {
			if _, ok := b.cfg.limit(l); !ok {
				problems = append(problems, fmt.Sprintf("job %d (%s): there is no limit %.64q: name it in a section [limit.%.64s]", len(before)+i, j.Action, l, l))
			}
		}
		var err error
		if j.After, err = uniqueAfter(j.After); err != nil {
			problems = append(problems, fmt.Sprintf("job %d (%s): %v", len(before)+i, j.Action, err))
		}
	}
	if len(problems) > 0 {
		return p, &scheduler.CheckError{Problems: problems[:min(len(problems), 50)]}
	}
	return p, nil
}

// action is the one that a job calls. In a queue that is left to workers outside
// it may be one that only they know.
func (b *Engine) action(j *scheduler.Job) (scheduler.Action, bool) {
	a, ok := b.actions[j.Action]
	if !ok && b.cfg.queue(j.Queue).Remote && registry.CheckName(j.Action) == nil {
		return scheduler.Action{Name: j.Action, AnyParams: true, Remote: true}, true
	}
	return a, ok
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func uniqueAfter(list []scheduler.Dependency) ([]scheduler.Dependency, error) {
	if len(list) < 2 {
		return list, nil
	}
	seen := make(map[string]accept, len(list))
	out := list[:0]
	for _, d := range list {
		a := acceptOf(d.Accept)
		if had, ok := seen[d.ID]; ok {
			if had != a {
				return nil, fmt.Errorf("it depends on job %s twice, with other ends accepted", d.ID)
			}
			continue
		}
		seen[d.ID] = a
		out = append(out, d)
	}
	return out, nil
}

// submitCmd takes a package.
type submitCmd struct {
	pack   scheduler.Package
	built  bool // its package was built step by step
	parent *job // in whose handler it was submitted
	urgent bool

	rec     *submitted
	earlier []scheduler.Status // of an earlier submission with the same keys
}

func (s *submitCmd) alone() bool { return s.urgent }

func (s *submitCmd) answer(b *Engine) []scheduler.Status {
	if s.rec == nil {
		return s.earlier
	}
	list := make([]scheduler.Status, len(s.rec.taken))
	for i, j := range s.rec.taken {
		list[i] = b.status(j)
	}
	return list
}

func (s *submitCmd) prepare(b *Engine, t *tx) error {
	if b.closing {
		return scheduler.ErrClosed
	}
	c, p := b.core, &s.pack
	known, err := s.known(b, t)
	if known || err != nil {
		return err
	}
	if err := b.room(len(p.Jobs), s.onlyUrgent()); err != nil && !s.built {
		return err
	}
	if err := b.free(t, p.ID); err != nil {
		return err
	}
	at := b.now().UnixNano()
	created := at
	if k := c.packs.byID[p.ID]; k != nil {
		if !s.built {
			return fmt.Errorf("%w: there is a package with the ID %s already", scheduler.ErrConflict, p.ID)
		}
		created = k.created
	}
	r := &submitted{pack: p.ID, at: at, created: created, base: c.seq + t.seqs + 1, jobs: p.Jobs, mine: true}
	if err := s.depend(b, t, r); err != nil {
		return err
	}
	if err := s.enqueue(b, r); err != nil {
		return err
	}
	t.comes(p.ID)
	for i := range p.Jobs {
		j := &p.Jobs[i]
		t.comes(j.ID)
		if j.Key != "" {
			if t.keys == nil {
				t.keys = map[key]bool{}
			}
			t.keys[key{j.Trail.Source, j.Key}] = true
		}
	}
	t.queued += len(p.Jobs)
	t.seqs += uint64(len(p.Jobs))
	t.add(r)
	s.rec = r
	return nil
}

func (s *submitCmd) onlyUrgent() bool {
	return !slices.ContainsFunc(s.pack.Jobs, func(j scheduler.Job) bool { return !j.Urgent })
}

// room refuses what is too much. Urgent jobs pass, within reason: they end
// others.
func (b *Engine) room(n int, urgent bool) error {
	limit := b.cfg.MaxQueued
	if urgent {
		limit += limit/10 + 1000
	}
	queued := b.core.unended() + b.core.packs.unqueued
	for _, t := range b.txs() {
		queued += t.queued
	}
	if queued+n <= limit {
		return nil
	}
	return &scheduler.TooManyError{Queued: queued, Max: b.cfg.MaxQueued, After: time.Second}
}

func (c *core) unended() int { return c.count[waiting] + c.count[running] + c.count[parked] }

// depend finds what the jobs depend on.
func (s *submitCmd) depend(b *Engine, t *tx, r *submitted) error {
	c, jobs := b.core, s.pack.Jobs
	var inside map[string]uint64
	if len(jobs) > 1 {
		inside = make(map[string]uint64, len(jobs))
	}
	for i := range jobs {
		id := jobs[i].ID
		if c.taken(id, c.packs.byID[r.pack]) {
			return fmt.Errorf("%w: there is a job with the ID %s already", scheduler.ErrConflict, id)
		}
		if err := b.free(t, id); err != nil {
			return err
		}
		if inside != nil {
			inside[id] = r.base + uint64(i)
		}
	}
	r.deps = make([][]uint64, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if len(j.After) == 0 {
			continue
		}
		r.deps[i] = make([]uint64, len(j.After))
		for k, d := range j.After {
			if seq, ok := inside[d.ID]; ok {
				r.deps[i][k] = seq
			} else if on := c.jobs[d.ID]; on != nil {
				r.deps[i][k] = on.seq
			} else if t.ids[d.ID] {
				return errLater
			} else {
				return fmt.Errorf("%w: job %d (%s) depends on job %q, which is not known (any more)", scheduler.ErrInvalid, i, j.Action, d.ID)
			}
		}
	}
	return nil
}

// enqueue refuses what a queue does not take, finds who is superseded, and sees
// that no handler would wait for itself.
func (s *submitCmd) enqueue(b *Engine, r *submitted) error {
	c := b.core
	for i := range r.jobs {
		j := &r.jobs[i]
		if q := c.queues[j.Queue]; q != nil && q.modeNow() == scheduler.Draining {
			return fmt.Errorf("%w: job %d (%s): the queue %s is being drained and takes no jobs: %s", scheduler.ErrConflict, i, j.Action, j.Queue, q.reasonNow())
		}
		if j.Urgent && !j.KeepQueued {
			b.overtakes(r, i)
		}
	}
	if s.parent == nil {
		return nil
	}
	for i := range r.jobs {
		j := &r.jobs[i]
		var first []*job
		if q := c.queues[j.Queue]; q != nil && q.holder != nil {
			first = append(first, q.holder)
		}
		for _, seq := range r.deps[i] {
			if on := c.table.get(seq); on != nil {
				first = append(first, on)
			}
		}
		if chain := b.circle(s.parent, first); chain != "" {
			return fmt.Errorf("%w: job %s would wait for itself, as it holds the queue %s: %s waits for %s waits for %s: let another job do it, after this one",
				scheduler.ErrInvalid, s.parent.id, s.parent.queue.name, s.parent.id, j.ID, chain)
		}
	}
	return nil
}

// overtakes finds the waiting jobs that lose their sense by the urgent job number
// i of the package.
func (b *Engine) overtakes(r *submitted, i int) {
	j, by := &r.jobs[i], r.base+uint64(i)
	if q := b.core.queues[j.Queue]; q != nil {
		place := q.urgentPlace(by)
		for o := q.first; o != nil; o = o.next {
			gone := slices.ContainsFunc(r.over, func(v overtaken) bool { return v.victim == o.seq })
			if o.state == waiting && o.place > place && !gone && b.actions[o.action].Superseded {
				r.over = append(r.over, overtaken{o.seq, by})
			}
		}
	}
	for k := range r.jobs[:i] {
		if o := &r.jobs[k]; o.Queue == j.Queue && !o.Urgent && b.actions[o.Action].Superseded {
			r.over = append(r.over, overtaken{r.base + uint64(k), by})
		}
	}
}

// known finds the jobs of an earlier submission with the same idempotency keys
// and content; other content is a conflict.
func (s *submitCmd) known(b *Engine, t *tx) (bool, error) {
	s.earlier = nil
	for i := range s.pack.Jobs {
		j := &s.pack.Jobs[i]
		if j.Key == "" {
			continue
		}
		k := key{j.Trail.Source, j.Key}
		if t.keys[k] {
			return false, errLater
		}
		st, ok, err := b.byKey(k, *j)
		if err != nil {
			return false, err
		}
		if ok {
			s.earlier = append(s.earlier, st)
		}
	}
	switch n := len(s.earlier); {
	case n == 0:
		return false, nil
	case n < len(s.pack.Jobs):
		return false, fmt.Errorf("%w: some of the package's jobs are known by their idempotency keys, others are not: submit the same package, or other keys", scheduler.ErrConflict)
	}
	return true, nil
}

func (b *Engine) byKey(k key, j scheduler.Job) (st scheduler.Status, ok bool, err error) {
	var content [16]byte
	if known := b.core.keys[k]; known != nil {
		st, content = b.status(known), contentOf(known.call())
	} else if s := b.core.stones.byKey[k]; s != nil && b.now().Sub(moment(s.ended)) < keepKeys {
		content = s.content
		st = scheduler.Status{
			Job:     scheduler.Job{ID: s.job, Queue: s.queue, Action: s.action, Key: k.key, Trail: trail.Trail{Source: k.source}},
			Package: s.pack, State: s.state.word(), SubmittedAt: moment(s.submitted), EndedAt: moment(s.ended),
		}
	} else {
		return st, false, nil
	}
	if content != contentOf(j) {
		return st, false, fmt.Errorf("%w: the idempotency key %q of %q is that of job %s, which says something else: use another key",
			scheduler.ErrConflict, k.key, k.source, st.ID)
	}
	return st, true, nil
}
