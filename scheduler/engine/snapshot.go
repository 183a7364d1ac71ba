package engine

import (
	"context"
	"iter"
	"maps"
	"slices"
	gosync "sync"
	"time"

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
func (b *Engine) snapshot(ctx context.Context, index uint64, records iter.Seq2[[]byte, error]) {
	var size int64
	err := b.journal.WriteSnapshot(ctx, index, func(yield func([]byte, error) bool) {
		for r, err := range records {
			size += int64(len(r))
			if !yield(r, err) {
				return
			}
		}
	})
	if err != nil && ctx.Err() == nil {
		b.log.Error("scheduler: the log cannot be shortened, it grows", "err", err)
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

// head encodes what there is one of.
func (c *core) head() []byte {
	e := &enc{}
	e.byte(format)
	e.byte(snapHead)
	e.s(c.store)
	e.u(c.epoch)
	e.u(c.number)
	e.u(c.seq)
	e.u(c.order)
	e.bool(c.clean)
	return e.b
}

// frame encodes what is no job.
func (c *core) frame() [][]byte {
	list := [][]byte{c.head()}
	for _, name := range slices.Sorted(maps.Keys(c.modes)) {
		q, e := c.modes[name], &enc{}
		e.byte(format)
		e.byte(snapMode)
		(&moded{q.name, string(q.mode), q.reason}).put(e)
		list = append(list, e.b)
	}
	for p := c.packs.first; p != nil; p = p.next {
		if p.build != nil && !c.draftsApart {
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
		e.bool(d.met)
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
		if j.past.identity != "" {
			e.s(j.past.identity)
		}
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
