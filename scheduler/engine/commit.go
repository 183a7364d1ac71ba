package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// command is what somebody wants to be changed. prepare looks at the core, which
// has all that is on disk and nothing more, refuses, or adds records to the
// transaction. They are applied when they are on disk.
type command interface {
	prepare(b *Engine, t *tx) error
	// alone reports whether nothing else may be prepared beside it, nor anything
	// handed out until its records are applied.
	alone() bool
}

// errLater puts a command off to the next round: it speaks of something that a
// command before it is about to change.
var errLater = errors.New("in the next round")

// tx is what one round writes.
type tx struct {
	buf      enc
	ends     []int // where each record ends in buf
	records  []record
	jobs     []*job // pending
	packs    []*build
	ids      map[string]bool // of jobs and packages that come
	keys     map[key]bool
	queued   int    // jobs that come
	seqs     uint64 // of them those that get a number
	flush    bool
	prepared []int // the commands whose records these are
	refused  error // one of the records cannot be written
	written  enc   // the records as they are given to the journal
	slices   [][]byte
}

func (t *tx) reset() {
	if cap(t.buf.b) > 8<<20 {
		t.buf.b, t.written.b = nil, nil
	}
	t.buf.b, t.ends = t.buf.b[:0], t.ends[:0]
	clear(t.records)
	clear(t.jobs)
	clear(t.packs)
	t.records, t.jobs, t.packs, t.prepared = t.records[:0], t.jobs[:0], t.packs[:0], t.prepared[:0]
	t.seqs, t.flush = 0, false
}

// maxRecord is the largest record, with room for being bundled.
const maxRecord = journal.MaxRecord - 64

// add takes a record.
func (t *tx) add(r record) {
	start := len(t.buf.b)
	encode(&t.buf, r)
	if size := len(t.buf.b) - start; size > maxRecord {
		t.refused = fmt.Errorf("%w: it needs %d bytes on disk, at most %d are taken at once: submit it in parts", scheduler.ErrInvalid, size, maxRecord)
	}
	t.ends = append(t.ends, len(t.buf.b))
	t.records = append(t.records, r)
}

// cut drops the records after the first n.
func (t *tx) cut(n int) {
	t.records = t.records[:n]
	t.ends = t.ends[:n]
	end := 0
	if n > 0 {
		end = t.ends[n-1]
	}
	t.buf.b = t.buf.b[:end]
}

// claim marks a job about which a record is being written. It is false if one is
// already.
func (t *tx) claim(j *job) bool {
	if j.pending {
		return false
	}
	j.pending = true
	t.jobs = append(t.jobs, j)
	return true
}

// release takes the marks and claims off again. The caller holds the engine's mutex, as
// other transactions look at them.
func (t *tx) release() {
	for _, j := range t.jobs {
		j.pending = false
	}
	for _, p := range t.packs {
		p.pending = false
	}
	clear(t.ids)
	clear(t.keys)
	t.queued = 0
}

func (t *tx) claimPack(p *build) bool {
	if p.pending {
		return false
	}
	p.pending = true
	t.packs = append(t.packs, p)
	return true
}

func (t *tx) comes(id string) {
	if t.ids == nil {
		t.ids = map[string]bool{}
	}
	t.ids[id] = true
}

// free refuses an ID that is about to be taken.
func (b *Engine) free(t *tx, id string) error {
	if t.ids[id] {
		return errLater
	}
	for _, o := range b.txs() {
		if o != t && o.ids[id] {
			return fmt.Errorf("%w: somebody else is about to use the ID %s", scheduler.ErrConflict, id)
		}
	}
	return nil
}

// txs are the transactions that may be on their way.
func (b *Engine) txs() []*tx {
	if b.drafts == nil {
		return []*tx{&b.tx}
	}
	return []*tx{&b.tx, &b.drafts.tx}
}

// do commits a command, together with those that come at the same time. It ends
// when what the command changed is on disk and applied.
func (b *Engine) do(ctx context.Context, cmd command) error {
	return b.group.do(ctx, cmd)
}

// commit is called by the group for one batch after the other.
func (b *Engine) commit(batch []command, errs []error) {
	todo := make([]int, len(batch))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		todo = b.round(batch, errs, todo)
	}
}

// round prepares as many of the commands as go together, writes their records,
// and applies them. It returns those that are left.
func (b *Engine) round(batch []command, errs []error, todo []int) (later []int) {
	t := &b.tx
	t.reset()
	b.mu.Lock()
	ride := b.ride
	b.ride = nil
	for _, r := range ride {
		t.add(r)
	}
	later, alone := b.prepare(t, batch, errs, todo)
	if len(t.records) == len(ride) && !(t.flush && len(ride) > 0) {
		b.ride = ride
		t.release()
		b.mu.Unlock()
		return later
	}
	b.frozen = alone
	err := b.broken
	b.mu.Unlock()

	if err == nil {
		err = b.write(t)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	t.release()
	if err != nil {
		b.ride = append(ride, b.ride...)
		b.breaks(err)
		for _, i := range t.prepared {
			errs[i] = err
		}
	} else {
		for _, r := range t.records[len(ride):] {
			if err := r.apply(b.core); err != nil {
				// It is on disk and cannot be applied: nothing that follows would be right.
				panic(fmt.Sprintf("the scheduler contradicts itself: a record of kind %d: %v", r.kind(), err))
			}
		}
		b.prune(8 + 2*len(t.records))
	}
	if b.frozen {
		b.frozen = false
		b.thawed.Broadcast()
	}
	if b.core.live {
		b.settle()
		b.wantSnapshot()
	}
	return later
}

// prepare asks the commands for their records. One that must be alone is.
func (b *Engine) prepare(t *tx, batch []command, errs []error, todo []int) (later []int, alone bool) {
	for n, i := range todo {
		cmd := batch[i]
		if cmd.alone() && len(t.prepared) > 0 {
			later = append(later, i)
			continue
		}
		before := len(t.records)
		err := cmd.prepare(b, t)
		if t.refused != nil {
			err, t.refused = t.refused, nil
		}
		switch {
		case errors.Is(err, errLater):
			t.cut(before)
			later = append(later, i)
		case err != nil:
			t.cut(before)
			errs[i] = err
		case len(t.records) > before || t.flush:
			t.prepared = append(t.prepared, i)
			if cmd.alone() {
				return append(later, todo[n+1:]...), true
			}
		}
	}
	return later, false
}

// write returns when the transaction is on disk.
func (b *Engine) write(t *tx) error {
	if b.journal == nil {
		return nil
	}
	t.bundle()
	if _, err := b.journal.AppendBatch(context.Background(), t.slices); err != nil {
		return fmt.Errorf("it cannot be written: %w", err)
	}
	return nil
}

// breaks notes that the store can take nothing more, if that is what err says. What
// it holds is what was acknowledged; all else waits for the next time that it is
// opened. The caller holds b.mu.
func (b *Engine) breaks(err error) {
	if b.broken == nil && errors.Is(err, journal.ErrFailed) {
		b.broken = err
		close(b.dead)
	}
}

// bundleSize is how many bytes of records go into one bundle, or the first of
// them alone if it is larger.
const bundleSize = 1 << 20

// bundle puts the records together into few that the journal writes, since each
// of those costs it much more than its bytes.
func (t *tx) bundle() {
	if len(t.ends) == 1 {
		t.slices = append(t.slices[:0], t.buf.b)
		return
	}
	w := &t.written
	w.b, t.slices = slices.Grow(w.b[:0], len(t.buf.b)+binary.MaxVarintLen64*len(t.ends)), t.slices[:0]
	begin, start := 0, 0
	for _, end := range t.ends {
		if size := len(w.b) - begin; size > 0 && size+end-start > bundleSize {
			t.slices = append(t.slices, w.b[begin:])
			begin = len(w.b)
		}
		if len(w.b) == begin {
			w.byte(format)
			w.byte(byte(kindBundle))
		}
		w.u(uint64(end - start))
		w.b = append(w.b, t.buf.b[start:end]...)
		start = end
	}
	t.slices = append(t.slices, w.b[begin:])
}

// note applies a record at once and lets it be written with the next commit. The
// caller holds b.mu.
func (b *Engine) note(r record) {
	if err := r.apply(b.core); err != nil {
		panic(fmt.Sprintf("the scheduler contradicts itself: a record of kind %d: %v", r.kind(), err))
	}
	if b.journal == nil {
		return
	}
	b.ride = append(b.ride, r)
	if b.flushTimer == nil {
		b.setTimer(&b.flushTimer, b.mono()+int64(flushAfter), timer{what: dutyFlush})
	}
}

// flushAfter is how long a hand-out or a log line may be unwritten.
const flushAfter = time.Second

// prune forgets some of what is too old, and returns how many ended jobs are
// kept.
func (b *Engine) prune(n int) int {
	now := b.now()
	if due := b.core.prune(now, n); due != 0 && b.core.live {
		wait := max(moment(due).Sub(now), time.Millisecond)
		if b.pruneTimer == nil {
			b.setTimer(&b.pruneTimer, b.mono()+int64(wait), timer{what: dutyPrune})
		}
	}
	return b.core.ended.n
}

// plain is a command that needs no look at the core.
type plain struct{ records []record }

func (p *plain) alone() bool { return true }

func (p *plain) prepare(_ *Engine, t *tx) error {
	for _, r := range p.records {
		t.add(r)
	}
	return nil
}

// wantSnapshot begins a snapshot if the log has grown enough.
func (b *Engine) wantSnapshot() {
	if b.journal == nil || b.snapping || b.closing {
		return
	}
	s := b.journal.Stats()
	if s.BytesSinceSnapshot < max(b.snapEvery, b.lastSnap) {
		return
	}
	b.snapping = true
	index := s.LastIndex
	records := b.core.snapshot(&b.mu)
	ctx, stop := context.WithCancel(context.Background())
	b.stopSnap = stop
	b.work.Go(func() {
		defer stop()
		b.snapshot(ctx, index, records)
	})
}
