package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// restorer takes the records of a snapshot.
type restorer struct {
	c     *core
	jobs  []*job
	packs map[string]*pack
	head  bool
}

// one takes a record. Its bytes are not kept.
func (r *restorer) one(b []byte) error {
	d := &dec{b: b, name: r.c.wordOf}
	if f := d.byte(); d.err == nil && f != format {
		return fmt.Errorf("its format is %d, this program reads %d: a newer program has written it", f, format)
	}
	c := r.c
	switch kind := d.byte(); kind {
	case snapHead:
		c.store, c.epoch, c.number, c.seq, c.order, c.clean = d.s(), d.u(), d.u(), d.u(), d.u(), d.bool()
		r.head = true
	case snapMode:
		m := &moded{}
		if m.get(d); d.err == nil {
			c.setMode(c.queue(m.queue), scheduler.QueueMode(m.mode), m.reason)
		}
	case snapPack:
		m := &built{}
		if m.get(d); d.err == nil {
			return errors.Join(m.apply(c), d.end())
		}
	case snapKey:
		if s := getStone(d); d.err == nil {
			c.stones.add(s)
		}
	case snapJob:
		r.job(d)
	default:
		if d.err == nil {
			d.fail(fmt.Errorf("its kind %d is unknown: a newer program has written it", kind))
		}
	}
	return d.end()
}

func (r *restorer) job(d *dec) {
	var w scheduler.Job
	getJob(d, &w, trail.Trail{})
	deps := make([]dependency, len(w.After))
	for i := range deps {
		deps[i] = dependency{seq: d.u(), met: d.bool()}
	}
	name, created, index := d.s(), d.i(), d.small(scheduler.MaxJobs, "a place in a package")
	if d.err != nil {
		return
	}
	j := r.c.newJob(&w, 0, 0)
	for i, on := range deps {
		j.after[i].seq, j.after[i].met = on.seq, on.met
	}
	j.index = int32(index)
	j.seq, j.place, j.submitted = d.u(), d.i(), d.i()
	j.attempt, j.failed, j.lost = uint32(d.u()), uint32(d.u()), uint32(d.u())
	j.state, j.gap, j.moved = state(d.byte()), d.byte(), d.bool()
	if why := d.s(); why != "" {
		j.wants().cancel = why
	}
	if d.bool() {
		j.run = &run{worker: d.word(), remote: d.bool(), length: time.Duration(d.i())}
	}
	if d.bool() {
		j.past = &past{}
		j.past.get(d)
		if d.more() {
			j.past.identity = d.word()
		}
	}
	if d.err != nil || j.state > expired || j.seq > r.c.seq || (j.state == running) != (j.run != nil) || j.state != waiting && j.past == nil {
		d.fail(errors.New("a job that cannot be"))
		return
	}
	if j.run != nil {
		j.run.token = j.past.token
	}
	p := r.packs[name]
	if p == nil {
		p = &pack{id: name, created: created}
		r.packs[name] = p
	}
	j.pack = p
	r.jobs = append(r.jobs, j)
}

// done puts the jobs together.
func (r *restorer) done() error {
	c := r.c
	if !r.head {
		return errors.New("the snapshot has no beginning")
	}
	slices.SortFunc(r.jobs, func(a, b *job) int { return cmp.Compare(a.seq, b.seq) })
	var ended []*job
	for _, j := range r.jobs {
		p := j.pack
		if p.kept == 0 {
			c.packs.add(p)
		}
		for int(j.index) >= len(p.jobs) {
			p.jobs = append(p.jobs, nil)
		}
		if p.jobs[j.index] != nil || c.jobs[j.id] != nil {
			return fmt.Errorf("job %s is in the snapshot twice", j.id)
		}
		p.jobs[j.index] = j
		p.kept++
		if err := c.register(j); err != nil {
			return err
		}
		if j.state.ended() {
			ended = append(ended, j)
		} else {
			p.open++
		}
	}
	for _, j := range r.jobs {
		r.place(j)
	}
	slices.SortFunc(ended, func(a, b *job) int { return cmp.Compare(a.past.order, b.past.order) })
	for _, j := range ended {
		c.remember(j)
	}
	return nil
}

// place makes a job's edges and puts it into its queue.
func (r *restorer) place(j *job) {
	c := r.c
	for i := range j.after {
		d := &j.after[i]
		on := c.table.get(d.seq)
		if on != nil {
			d.id = on.id
		}
		if d.met {
			continue
		}
		if j.state == waiting {
			j.blockers++
		}
		if on != nil {
			on.dependents = append(on.dependents, edge{j, d.accept, uint16(i)})
		}
	}
	switch q := j.queue; j.state {
	case waiting:
		q.enter(j)
	case running:
		q.link(j)
		q.holder = j
	case parked:
		q.parked++
	}
}
