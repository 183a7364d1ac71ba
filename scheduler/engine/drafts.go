package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/vagoth/vagoth/internal/scratch"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// drafts are the packages that are being built, in a file of their own that is written
// and not synced: what counts is the enqueueing, which the log has. A process that is
// killed leaves them whole; if the machine goes down they are gone, all of them, so that
// none is continued from which steps are missing.
//
// They have a turn of their own to commit, beside that of the log. Each of the two
// transactions refuses IDs that the other is about to use. What is to be enqueued is held
// first, in this turn, so that nothing is added to it meanwhile; and it is let go here,
// which notes in the file that it is over.
type drafts struct {
	log       *scratch.Log
	group     *group
	tx        tx
	known     map[string]bool // those that the file says are being built
	inLog     []string        // those of an older program, which had them in the log
	rewriteAt int64           // bytes
	records   [][]byte
}

// draftsAtLeast is how large the file is before what is over is dropped from it.
const draftsAtLeast = 1 << 20

// openDrafts reads the file, after the log.
func (b *Engine) openDrafts(path, boot string) error {
	d, lost, err := readDrafts(b.core, path, boot)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		b.log.Warn("scheduler: the machine went down while packages were being built; they are to be built again", "packages", len(lost), "some", lost[:min(len(lost), 10)])
	}
	d.group = newGroup(b.commitDrafts)
	b.drafts, b.core.draftsApart = d, true
	if len(d.inLog) > 0 {
		if err := d.rewrite(b); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
	}
	return nil
}

// readDrafts brings a core that was loaded from the log to what the file says; lost are
// the packages that have to be built again.
func readDrafts(c *core, path, boot string) (d *drafts, lost []string, err error) {
	log, held, err := scratch.Open(path, boot)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the packages that are being built: %w", err)
	}
	d = &drafts{log: log, known: map[string]bool{}, rewriteAt: draftsAtLeast}
	for p := c.packs.first; p != nil; p = p.next {
		if p.build != nil {
			d.inLog = append(d.inLog, p.id)
		}
	}
	switch clean := c.clean && len(d.inLog) == 0; {
	case clean && (held.Size != c.drafts || held.Sealed != (c.drafts > 0)):
		err = fmt.Errorf("%s is damaged: when it was closed in order it had %d bytes of packages that are being built, now it has %d: bring it back, or move all of its folder away", path, c.drafts, held.Size)
	case held.Lost:
		return d, c.lost(held.Records), nil
	default:
		if err = d.redo(c, held.Records); err != nil {
			err = fmt.Errorf("cannot read %s: %w", path, err)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, log.Leave())
	}
	return d, nil, nil
}

// redo does again what the file says. A name may have been used before, so what it comes
// to is found first.
func (d *drafts) redo(c *core, records [][]byte) error {
	last := map[string]*built{}
	var order []*built
	for i, rec := range records {
		r, err := decode(&dec{b: rec, name: c.wordOf})
		if err != nil {
			return fmt.Errorf("record %d: %w", i+1, err)
		}
		switch r := r.(type) {
		case *built:
			last[r.pack] = r
			order = append(order, r)
		case *added:
			if last[r.pack] == nil {
				return fmt.Errorf("record %d: the package %s is not being built", i+1, r.pack)
			}
			last[r.pack].jobs = append(last[r.pack].jobs, r.jobs...)
		case *discarded:
			delete(last, r.pack)
		default:
			return fmt.Errorf("record %d is of kind %d, which has no place there", i+1, r.kind())
		}
	}
	for _, r := range order {
		if last[r.pack] != r {
			continue
		}
		d.known[r.pack] = true
		switch had := c.packs.byID[r.pack]; {
		case had == nil:
		case had.build != nil: // from the log; the file is newer
			c.packs.remove(had)
		case had.created == r.at || had.open > 0: // it is enqueued, and the file was not told
			continue
		}
		if err := r.apply(c); err != nil {
			return err
		}
	}
	if len(order) > 0 {
		c.packs.sort()
	}
	return nil
}

// tidyDrafts tells the file of what was enqueued and is not known there.
func (b *Engine) tidyDrafts() error {
	if b.drafts == nil {
		return nil
	}
	for id := range b.drafts.known {
		if p := b.core.packs.byID[id]; p == nil || p.build == nil {
			return b.drafts.rewrite(b)
		}
	}
	return nil
}

// apply is for records of the file. That a package is over may be said when the log has
// it already.
func (d *drafts) apply(c *core, r record) error {
	switch r := r.(type) {
	case *built:
		d.known[r.pack] = true
	case *discarded:
		delete(d.known, r.pack)
		if p := c.packs.byID[r.pack]; p == nil || p.build == nil {
			return nil
		}
	}
	return r.apply(c)
}

// lost are the packages that have to be begun again, as far as the records tell.
func (c *core) lost(records [][]byte) (names []string) {
	for _, rec := range records {
		r, err := decode(&dec{b: rec, name: c.wordOf})
		if err != nil {
			break // it is damaged from here on, as it may be
		}
		switch r := r.(type) {
		case *built:
			names = append(names, r.pack)
		case *discarded:
			names = slices.DeleteFunc(names, func(s string) bool { return s == r.pack })
		}
	}
	return slices.DeleteFunc(names, func(s string) bool { return c.packs.byID[s] != nil })
}

// inLog are the packages which the log has, of an older program, and which from now on
// the file has; and what says so in the log.
func (b *Engine) inLog() (moved, gone []record) {
	if b.drafts == nil {
		return nil, nil
	}
	for _, id := range b.drafts.inLog {
		if p := b.core.packs.byID[id]; p != nil && p.build != nil {
			gone = append(gone, &discarded{id})
			moved = append(moved, &built{p.id, p.created, p.build.expires, p.build.trail, p.build.jobs})
		}
	}
	return moved, gone
}

// commitDrafts is called by the group of the drafts for one batch after the other.
func (b *Engine) commitDrafts(batch []command, errs []error) {
	todo := make([]int, len(batch))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		todo = b.roundDrafts(batch, errs, todo)
	}
}

func (b *Engine) roundDrafts(batch []command, errs []error, todo []int) (later []int) {
	d := b.drafts
	t := &d.tx
	t.reset()
	b.mu.Lock()
	later, _ = b.prepare(t, batch, errs, todo)
	if len(t.records) == 0 {
		t.release()
		b.mu.Unlock()
		return later
	}
	err := b.broken
	b.mu.Unlock()

	if err == nil {
		err = d.write(b, t)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	t.release()
	if err != nil {
		for _, i := range t.prepared {
			errs[i] = err
		}
		return later
	}
	for _, r := range t.records {
		if err := d.apply(b.core, r); err != nil {
			panic(fmt.Sprintf("the scheduler contradicts itself: a record of kind %d: %v", r.kind(), err))
		}
	}
	return later
}

// write returns when the transaction is in the file.
func (d *drafts) write(b *Engine, t *tx) error {
	if begun := d.log.Begun(); !begun || d.log.Size() > d.rewriteAt {
		switch err := d.rewrite(b); {
		case err != nil && !begun:
			return fmt.Errorf("it cannot be written: %w", err)
		case err != nil:
			d.rewriteAt = 2 * d.log.Size() // not again at once
			b.log.Warn("scheduler: the file of the packages that are being built cannot be shortened, it grows", "err", err)
		}
	}
	d.records = d.records[:0]
	start := 0
	for _, end := range t.ends {
		d.records = append(d.records, t.buf.b[start:end])
		start = end
	}
	if err := d.log.Append(d.records...); err != nil {
		return fmt.Errorf("it cannot be written: %w", err)
	}
	return nil
}

// rewrite makes a file without what is over. The caller has the turn, so that nothing is
// added meanwhile.
func (d *drafts) rewrite(b *Engine) error {
	b.mu.Lock()
	var list []*pack
	for p := b.core.packs.first; p != nil; p = p.next {
		if p.build != nil {
			list = append(list, p)
		}
	}
	b.mu.Unlock()
	known := map[string]bool{}
	err := d.log.Rewrite(func(yield func([]byte) bool) {
		for _, p := range list {
			for r := range b.redrawn(p) {
				e := &enc{}
				encode(e, r)
				if known[p.id] = true; !yield(e.b) {
					return
				}
			}
		}
	})
	if err != nil {
		return err
	}
	d.known, d.rewriteAt = known, max(draftsAtLeast, 2*d.log.Size())
	return nil
}

// jobsAtOnce is how many jobs a record of the file has at most when it is rewritten.
const jobsAtOnce = 16

// redrawn are the records that make the package as it is, if it is still being built.
func (b *Engine) redrawn(p *pack) iter.Seq[record] {
	return func(yield func(record) bool) {
		b.mu.Lock()
		var first *built
		var jobs []scheduler.Job
		if p.build != nil {
			first = &built{p.id, p.created, p.build.expires, p.build.trail, nil}
			jobs = p.build.jobs
		}
		b.mu.Unlock()
		if first == nil || !yield(first) {
			return
		}
		for some := range slices.Chunk(jobs, jobsAtOnce) {
			if !yield(&added{pack: p.id, jobs: some}) {
				return
			}
		}
	}
}

// hold keeps others from adding to a package that is about to be enqueued.
type hold struct {
	id    string
	build *build
}

func (h *hold) alone() bool { return false }

func (h *hold) prepare(b *Engine, t *tx) error {
	if b.closing {
		return scheduler.ErrClosed
	}
	p := b.core.packs.byID[h.id]
	switch {
	case t.ids[h.id] || p != nil && p.build != nil && !t.claimPack(p.build):
		return errLater
	case p != nil && p.build != nil:
		h.build = p.build
		h.build.enqueues++
	}
	return nil
}

// letGo is the end of a hold.
type letGo struct{ *hold }

func (h letGo) prepare(b *Engine, t *tx) error {
	if h.build != nil {
		h.build.enqueues--
	}
	if p := b.core.packs.byID[h.id]; b.drafts.known[h.id] && (p == nil || p.build == nil) {
		if t.ids[h.id] {
			return nil // another one says so
		}
		t.comes(h.id)
		t.add(&discarded{h.id})
	}
	return nil
}

// enqueue commits the end of a package's building.
func (b *Engine) enqueue(ctx context.Context, cmd *enqueueCmd) error {
	if b.drafts == nil {
		return b.do(ctx, cmd)
	}
	h := &hold{id: cmd.id}
	if err := b.drafts.group.do(ctx, h); err != nil {
		return err
	}
	err := b.do(ctx, cmd)
	if late := b.drafts.group.do(context.WithoutCancel(ctx), letGo{h}); late != nil && !errors.Is(late, scheduler.ErrClosed) {
		b.log.Warn("scheduler: the file of the packages that are being built does not say that one is enqueued", "package", cmd.id, "err", late)
	}
	return err
}

// cancelDraft ends a package that is being built; ok is false if it is none.
func (b *Engine) cancelDraft(ctx context.Context, id string) (st scheduler.PackageStatus, ok bool, err error) {
	if b.drafts == nil {
		return st, false, nil
	}
	if err := trail.From(ctx).Validate(); err != nil {
		return st, false, fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	err = b.build(ctx, id, func(b *Engine, t *tx, p *pack) error {
		if ok = p != nil && p.build != nil; !ok {
			return nil
		}
		if p.build.enqueues > 0 {
			return fmt.Errorf("%w: the package %s is being enqueued", scheduler.ErrConflict, id)
		}
		st = b.packStatus(p)
		st.State, st.EndedAt = scheduler.Ended, b.now()
		t.add(&discarded{id})
		return nil
	})
	return st, ok, err
}

// dueDrafts discards packages that were not enqueued in time.
func (b *Engine) dueDrafts(packs []*pack) error {
	if b.drafts == nil || len(packs) == 0 {
		return nil
	}
	err := b.drafts.group.do(context.Background(), expiry{&dueCmd{packs: packs}})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setAlarm()
	return err
}

type expiry struct{ *dueCmd }

func (x expiry) prepare(b *Engine, t *tx) error { return x.expire(b, t) }

// closeDrafts lets nobody in any more, and closes the file, which is then whole whatever
// happens to the machine. It returns its size.
func (b *Engine) closeDrafts() (int64, error) {
	d := b.drafts
	if d == nil {
		return 0, nil
	}
	d.group.close()
	b.mu.Lock()
	left := b.core.packs.building
	b.mu.Unlock()
	err := d.log.Close(left == 0)
	return d.log.Size(), err
}
