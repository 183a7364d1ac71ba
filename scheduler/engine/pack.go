package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// packs are the packages, the newest last.
type packs struct {
	byID        map[string]*pack
	first, last *pack
	building    int
	unqueued    int              // jobs of packages that are being built
	reserved    map[string]*pack // the IDs of those jobs
}

// pack is a package.
type pack struct {
	id         string
	jobs       []*job // nil where one is forgotten
	open       int32  // of them: have not ended
	kept       int32  // of them: are not forgotten
	created    int64
	build      *build // until it is enqueued
	prev, next *pack
}

// build is what a package has that is not enqueued yet.
type build struct {
	expires int64
	trail   trail.Trail
	jobs    []scheduler.Job
	timer   *timer
	pending bool // a record about it is being written

	enqueues int // how many are about to enqueue it: nothing is added any more
}

func (l *packs) add(p *pack) {
	l.byID[p.id] = p
	p.prev = l.last
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
	if p.build != nil {
		l.building++
		l.reserve(p, p.build.jobs)
	}
}

// reserve keeps the IDs of jobs for a package that is being built.
func (l *packs) reserve(p *pack, jobs []scheduler.Job) {
	l.unqueued += len(jobs)
	for i := range jobs {
		l.reserved[jobs[i].ID] = p
	}
}

// seal is called when p is enqueued or discarded.
func (l *packs) seal(p *pack) {
	if p.build != nil {
		l.building--
		l.unqueued -= len(p.build.jobs)
		for i := range p.build.jobs {
			delete(l.reserved, p.build.jobs[i].ID)
		}
		p.build = nil
	}
}

// sort puts them in the order in which they were made.
func (l *packs) sort() {
	var all []*pack
	for p := l.first; p != nil; p = p.next {
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b *pack) int { return cmp.Compare(a.created, b.created) })
	l.first, l.last = nil, nil
	for _, p := range all {
		p.prev, p.next = l.last, nil
		if l.last == nil {
			l.first = p
		} else {
			l.last.next = p
		}
		l.last = p
	}
}

func (l *packs) remove(p *pack) {
	l.seal(p)
	if l.byID[p.id] == p {
		delete(l.byID, p.id)
	}
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
}

func (r *submitted) apply(c *core) error {
	if r.base != c.seq+1 || len(r.deps) != len(r.jobs) {
		return fmt.Errorf("it begins with job %d, the last one is %d", r.base, c.seq)
	}
	p := c.packs.byID[r.pack]
	if p == nil || p.build == nil {
		if err := c.replace(r.pack); err != nil {
			return err
		}
		p = &pack{id: r.pack, created: r.created}
		c.packs.add(p)
	}
	c.packs.seal(p)
	p.jobs = make([]*job, len(r.jobs))
	r.taken = p.jobs
	p.open, p.kept = int32(len(r.jobs)), int32(len(r.jobs))
	for i := range r.jobs {
		j := c.newJob(&r.jobs[i], r.base+uint64(i), r.at)
		j.pack, j.index, j.mine = p, int32(i), r.mine
		p.jobs[i] = j
		if err := c.register(j); err != nil {
			return err
		}
	}
	c.seq += uint64(len(r.jobs))
	c.since.submitted += uint64(len(r.jobs))
	for i, j := range p.jobs {
		if err := c.connect(j, r.deps[i]); err != nil {
			return err
		}
	}
	for _, j := range p.jobs {
		if j.urgent {
			j.place = j.queue.urgentPlace(j.seq)
		}
		j.queue.enter(j)
		c.change(j)
		c.touchQueue(j.queue)
	}
	for _, o := range r.over {
		if err := c.supersede(o, r.at); err != nil {
			return err
		}
	}
	for _, j := range p.jobs {
		c.endIfVain(j, r.at)
	}
	return nil
}

// newJob makes a job of what its submitter wants.
func (c *core) newJob(w *scheduler.Job, seq uint64, at int64) *job {
	j := &job{
		id: w.ID, queue: c.queue(w.Queue), action: c.word(w.Action), source: c.word(w.Trail.Source), transaction: w.Trail.Transaction,
		seq: seq, place: int64(seq), submitted: at, pos: -1, urgent: w.Urgent, keep: w.KeepQueued, gen: c.gen,
	}
	if !w.Params.IsEmpty() {
		j.params = w.Params.String()
	}
	j.remote = c.remote(j.action, j.queue)
	if len(w.After) > 0 {
		j.after = make([]dependency, len(w.After))
		for i, d := range w.After {
			j.after[i] = dependency{id: d.ID, accept: acceptOf(d.Accept)}
		}
	}
	if w.Timeout != 0 || !w.Expires.IsZero() || w.Retry != (scheduler.Retry{}) || len(w.Limits) > 0 || w.Key != "" || w.Trail.Reason != "" {
		j.more = &more{timeout: w.Timeout.D(), expires: nanos(w.Expires), retry: w.Retry, limits: w.Limits, key: w.Key, reason: w.Trail.Reason}
	}
	return j
}

// register makes a new job known.
func (c *core) register(j *job) error {
	if old := c.jobs[j.id]; old != nil {
		if !old.state.ended() {
			return fmt.Errorf("job %s is there already", j.id)
		}
		c.forget(old) // it was forgotten when this one came
	}
	c.jobs[j.id] = j
	c.table.put(j)
	j.queue.line(j)
	c.count[j.state]++
	if j.more != nil && j.more.key != "" {
		k := key{j.source, j.more.key}
		c.keys[k] = j
		c.stones.remove(k)
	}
	return nil
}

// connect makes the edges to what j depends on.
func (c *core) connect(j *job, deps []uint64) error {
	if len(deps) != len(j.after) {
		return errors.New("its dependencies are incomplete")
	}
	for i, seq := range deps {
		d := &j.after[i]
		d.seq = seq
		on := c.table.get(seq)
		if on == nil {
			d.met = true // it is forgotten, so it has ended
			continue
		}
		d.id = on.id // one string for both
		if !on.state.ended() {
			j.blockers++
		} else if d.accept.takes(on) {
			d.met = true
			continue
		}
		on.dependents = append(on.dependents, edge{j, d.accept, uint16(i)})
	}
	return nil
}

// endIfVain ends a new job that depends on one whose end it does not accept.
func (c *core) endIfVain(j *job, at int64) {
	for _, d := range j.after {
		if j.state != waiting {
			return
		}
		if on := c.table.get(d.seq); !d.met && on != nil && on.state.ended() && !d.accept.takes(on) {
			c.endBlocked(j, on, at)
			c.endDependents(j, at)
			return
		}
	}
}

func (c *core) supersede(o overtaken, at int64) error {
	j, err := c.find(o.victim)
	if err != nil {
		return err
	}
	by, err := c.find(o.by)
	if err != nil {
		return err
	}
	if j.state == waiting {
		c.end(j, cancelled, at, fmt.Sprintf("superseded by job %s (%s)", by.id, by.action), by.id)
	}
	return nil
}

func (r *retried) apply(c *core) error {
	set := make([]*job, 0, len(r.seqs))
	for _, seq := range r.seqs {
		j, err := c.find(seq)
		if err != nil {
			return err
		}
		if j.state != parked && (!j.state.ended() || j.state == succeeded) {
			return misfit(j, "retries")
		}
		set = append(set, j)
	}
	for _, j := range set {
		c.touch(j)
		if j.state == parked {
			j.queue.parked--
		} else {
			c.unremember(j)
			j.pack.open++
		}
		p := j.past
		j.mine = j.mine || r.mine
		p.ended, p.order, p.parked, p.errText, p.code, p.cause, p.result, p.skipped, p.err, p.ready = 0, 0, 0, "", "", "", "", false, nil, 0
		j.failed, j.lost, p.said = 0, 0, 0
		if j.more != nil {
			j.more.expires = 0
		}
		c.setState(j, waiting)
		if r.note != "" {
			p.addLine(line{at: r.at, attempt: j.attempt, text: r.note})
		}
	}
	c.reconnect(set)
	head := map[*queue]int64{}
	for _, j := range slices.Backward(set) { // so that they stand at the heads in their order
		low, ok := head[j.queue]
		if !ok {
			low = j.queue.lowest()
		}
		j.place, j.moved = low-1, true
		head[j.queue] = low - 1
		j.queue.enter(j)
		c.change(j)
		c.touchQueue(j.queue)
	}
	return nil
}

// reconnect counts again what jobs that were brought back wait for, and makes the
// edges that are missing, since ends that were accepted have dropped theirs.
func (c *core) reconnect(set []*job) {
	edges := map[*job]map[*job]bool{}
	for _, j := range set {
		j.blockers = 0
		for i := range j.after {
			d := &j.after[i]
			on := c.table.get(d.seq)
			if d.met = on == nil || on.state.ended(); d.met {
				continue
			}
			j.blockers++
			if edges[on] == nil {
				edges[on] = make(map[*job]bool, len(on.dependents))
				for _, e := range on.dependents {
					edges[on][e.job] = true
				}
			}
			if !edges[on][j] {
				on.dependents = append(on.dependents, edge{j, d.accept, uint16(i)})
				edges[on][j] = true
			}
		}
	}
}

func (r *built) apply(c *core) error {
	if err := c.replace(r.pack); err != nil {
		return err
	}
	c.packs.add(&pack{id: r.pack, created: r.at, build: &build{expires: r.expires, trail: r.trail, jobs: r.jobs}})
	return nil
}

func (r *added) apply(c *core) error {
	p := c.packs.byID[r.pack]
	if p == nil || p.build == nil {
		return fmt.Errorf("its package %s is not being built", r.pack)
	}
	p.build.jobs = append(p.build.jobs, r.jobs...)
	c.packs.reserve(p, r.jobs)
	return nil
}

func (r *discarded) apply(c *core) error {
	p := c.packs.byID[r.pack]
	if p == nil || p.build == nil {
		return fmt.Errorf("its package %s is not being built", r.pack)
	}
	c.packs.remove(p)
	return nil
}

// forget drops a job that has ended. Its idempotency key may have to be kept
// longer, which is the caller's business.
func (c *core) forget(j *job) {
	c.touch(j)
	c.unremember(j)
	c.table.remove(j.seq)
	j.queue.unline(j)
	if j.queue.newest == nil {
		c.touchQueue(j.queue) // there may be nothing left of it to remember
	}
	c.count[j.state]--
	if c.jobs[j.id] == j {
		delete(c.jobs, j.id)
	}
	if j.more != nil && j.more.key != "" {
		if k := (key{j.source, j.more.key}); c.keys[k] == j {
			delete(c.keys, k)
		}
	}
	p := j.pack
	p.jobs[j.index] = nil
	if p.kept--; p.kept == 0 {
		c.packs.remove(p)
	}
	j.dependents = nil
}

// replace makes room for a package with this ID: one that has ended and was
// forgotten when it came, but whose end had not been written to a snapshot.
func (c *core) replace(id string) error {
	p := c.packs.byID[id]
	if p == nil {
		return nil
	}
	if p.build != nil || p.open > 0 {
		return fmt.Errorf("its package %s is there already", id)
	}
	for _, j := range p.jobs {
		if j != nil {
			c.forget(j)
		}
	}
	return nil
}
