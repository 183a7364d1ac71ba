package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	gosync "sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// moving is a snapshot that is being written: the core as it was when it began.
// A few jobs at a time are encoded with the core locked; a job that is about to
// change, or to be forgotten, before its turn is encoded just before it does.
type moving struct {
	last   uint64 // the last job that belongs to it
	cursor uint64 // the last one that was looked at
	out    [][]byte
}

// atOnce is how many jobs are encoded with the core locked.
const atOnce = 128

// What the records of a snapshot hold.
const (
	snapHead = 'h'
	snapMode = 'm'
	snapPack = 'p'
	snapKey  = 'k'
	snapJob  = 'j'
)

func (m *moving) save(c *core, j *job) {
	j.gen = c.gen
	if j.seq > m.last {
		return
	}
	e := &enc{b: make([]byte, 0, 512)}
	e.byte(format)
	e.byte(snapJob)
	putState(e, j)
	m.out = append(m.out, e.b)
}

// snapshot begins one. The sequence locks the core for a short time now and then,
// and ends it.
func (c *core) snapshot(mu *gosync.Mutex) iter.Seq2[[]byte, error] {
	c.gen++
	m := &moving{last: c.seq}
	c.moving = m
	first := c.frame()
	stones := slices.Clone(c.stones.list)
	return func(yield func([]byte, error) bool) {
		defer func() {
			mu.Lock()
			c.moving = nil
			mu.Unlock()
		}()
		for _, b := range first {
			if !yield(b, nil) {
				return
			}
		}
		e := &enc{}
		for _, s := range stones {
			e.b = e.b[:0]
			putStone(e, s)
			if !yield(e.b, nil) {
				return
			}
		}
		for more := true; more; {
			mu.Lock()
			more = m.step(c)
			out := m.out
			m.out = nil
			mu.Unlock()
			for _, b := range out {
				if !yield(b, nil) {
					return
				}
			}
		}
	}
}

// snapshot writes one, beside all else.
func (b *Broker) snapshot(index uint64, records iter.Seq2[[]byte, error]) {
	var size int64
	err := b.journal.WriteSnapshot(context.Background(), index, func(yield func([]byte, error) bool) {
		for r, err := range records {
			size += int64(len(r))
			if !yield(r, err) {
				return
			}
		}
	})
	if err != nil {
		b.log.Error("broker: the log cannot be shortened, it grows", "err", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.core.moving = nil // also if it was refused before it began
	b.snapping = false
	if err == nil {
		b.lastSnap = size
	} else {
		b.lastSnap += b.snapEvery // not again at once
	}
}

// step encodes some jobs and reports whether there may be more.
func (m *moving) step(c *core) bool {
	for range atOnce {
		j := c.table.after(m.cursor)
		if j == nil || j.seq > m.last {
			return false
		}
		m.cursor = j.seq
		if j.gen != c.gen {
			m.save(c, j)
		}
	}
	return true
}

// frame encodes what is no job.
func (c *core) frame() [][]byte {
	head := &enc{}
	head.byte(format)
	head.byte(snapHead)
	head.s(c.store)
	head.u(c.epoch)
	head.u(c.number)
	head.u(c.seq)
	head.u(c.order)
	head.bool(c.clean)
	list := [][]byte{head.b}
	for _, q := range c.queues {
		if q.mode != "" {
			e := &enc{}
			e.byte(format)
			e.byte(snapMode)
			(&moded{q.name, string(q.mode), q.reason}).put(e)
			list = append(list, e.b)
		}
	}
	for p := c.packs.first; p != nil; p = p.next {
		if p.build != nil {
			e := &enc{}
			e.byte(format)
			e.byte(snapPack)
			(&built{p.id, p.created, p.build.expires, p.build.trail, p.build.jobs}).put(e)
			list = append(list, e.b)
		}
	}
	return list
}

func putStone(e *enc, s *stone) {
	e.byte(format)
	e.byte(snapKey)
	for _, t := range []string{s.key.source, s.key.key, s.job, s.pack, s.queue, s.action, string(s.content[:])} {
		e.s(t)
	}
	e.byte(byte(s.state))
	e.i(s.submitted)
	e.i(s.ended)
}

func getStone(d *dec) *stone {
	s := &stone{key: key{d.word(), d.s()}, job: d.s(), pack: d.s(), queue: d.word(), action: d.word()}
	if n := copy(s.content[:], d.bytes()); n != len(s.content) {
		d.fail(errShort)
	}
	s.state, s.submitted, s.ended = state(d.byte()), d.i(), d.i()
	return s
}

// putState encodes a job with all that became of it.
func putState(e *enc, j *job) {
	call := j.call()
	putJob(e, &call, trail.Trail{})
	for _, d := range j.after {
		e.u(d.seq)
	}
	e.s(j.pack.id)
	e.i(j.pack.created)
	e.u(uint64(j.index))
	e.u(j.seq)
	e.i(j.place)
	e.i(j.submitted)
	e.u(uint64(j.attempt))
	e.u(uint64(j.failed))
	e.u(uint64(j.lost))
	e.byte(byte(j.state))
	e.byte(j.gap)
	e.bool(j.moved)
	e.s(j.cancelling())
	e.bool(j.run != nil)
	if r := j.run; r != nil {
		e.s(r.worker)
		e.bool(r.remote)
		e.i(int64(r.length))
	}
	e.bool(j.past != nil)
	if j.past != nil {
		j.past.put(e)
	}
}

func (p *past) put(e *enc) {
	for _, v := range []int64{p.started, p.ended, p.parked, p.ready, int64(p.delay), int64(p.percent), int64(p.logBytes), int64(p.logCount)} {
		e.i(v)
	}
	for _, v := range []uint64{p.order, p.token.Epoch, p.token.Number, p.said} {
		e.u(v)
	}
	for _, s := range []string{p.progress, p.result, p.errText, p.code, p.cause} {
		e.s(s)
	}
	e.bool(p.skipped)
	e.u(uint64(len(p.attempts)))
	for _, a := range p.attempts {
		e.u(uint64(a.number))
		e.u(a.token.Epoch)
		e.u(a.token.Number)
		e.s(a.worker)
		e.i(a.began)
		e.i(a.ended)
		e.s(a.outcome)
	}
	putLines(e, p.lines)
}

func (p *past) get(d *dec) {
	p.started, p.ended, p.parked, p.ready, p.delay = d.i(), d.i(), d.i(), d.i(), time.Duration(d.i())
	p.percent, p.logBytes, p.logCount = int(d.i()), int(d.i()), int(d.i())
	p.order, p.token.Epoch, p.token.Number, p.said = d.u(), d.u(), d.u(), d.u()
	p.progress, p.result, p.errText, p.code, p.cause = d.s(), d.s(), d.s(), d.word(), d.s()
	p.skipped = d.bool()
	p.attempts = make([]attempt, d.count())
	for i := range p.attempts {
		p.attempts[i] = attempt{number: uint32(d.u()), token: trail.Token{Epoch: d.u(), Number: d.u()}, worker: d.word(), began: d.i(), ended: d.i(), outcome: d.word()}
	}
	p.lines = getLines(d)
}

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
			q := c.queue(c.word(m.queue))
			q.mode, q.reason = scheduler.QueueMode(m.mode), m.reason
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
	deps := make([]uint64, len(w.After))
	for i := range deps {
		deps[i] = d.u()
	}
	name, created, index := d.s(), d.i(), d.small(scheduler.MaxJobs, "a place in a package")
	if d.err != nil {
		return
	}
	j := r.c.newJob(&w, 0, 0)
	for i, seq := range deps {
		j.after[i].seq = seq
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
		c.ended.add(j)
	}
	return nil
}

// place makes a job's edges and puts it into its queue.
func (r *restorer) place(j *job) {
	c := r.c
	for i := range j.after {
		d := &j.after[i]
		on := c.table.get(d.seq)
		if on == nil {
			continue
		}
		d.id = on.id
		if !on.state.ended() {
			if j.state == waiting {
				j.blockers++
			}
		} else if d.accept.takes(on) {
			continue
		}
		on.dependents = append(on.dependents, edge{j, d.accept})
	}
	switch q := j.queue; j.state {
	case waiting:
		if j.urgent && !j.moved {
			q.base = j.place - int64(j.seq)
		}
		q.enter(j)
	case running:
		q.link(j)
		q.holder = j
	case parked:
		q.parked++
	}
}
