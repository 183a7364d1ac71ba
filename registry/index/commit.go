package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// batch is what is synced together: a layer, its commits and their records.
type batch struct {
	layer   *layer
	records [][]byte
	commits []*commit
	rev     uint64 // of the last commit

	done chan struct{} // closed when err is set
	err  error
}

// newBatch makes a batch that will have about as many commits as the last.
func newBatch(commits int) *batch {
	return &batch{
		layer: newLayer(commits), done: make(chan struct{}),
		records: make([][]byte, 0, commits), commits: make([]*commit, 0, commits),
	}
}

func (b *batch) end(err error) {
	b.err = err
	close(b.done)
}

// ground is what the next Update stands on: the published state, and the batch
// that is being synced, if there is one. It is replaced as a whole.
type ground struct {
	base  *state
	under *batch
}

// Update implements registry.Registry.
func (db *DB) Update(ctx context.Context, fn func(registry.Tx) error) error {
	origin := trail.From(ctx)
	if err := origin.Validate(); err != nil {
		return &registry.InvalidError{Field: "trail", Reason: err.Error()}
	}
	began := time.Now()
	if err := db.lock(ctx); err != nil {
		return err
	}
	b, leads, err := db.run(ctx, origin, fn)
	if b == nil {
		return err
	}
	// Also an error of fn may rest on what an earlier Update wrote and the
	// journal has not taken yet.
	if leads {
		db.lead(b)
	}
	<-b.done
	db.wrote(time.Since(began))
	if b.err != nil {
		return b.err
	}
	return err
}

// lock takes the right to run a function over the stack.
func (db *DB) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case db.turn <- struct{}{}: // a look at one channel costs far less than waiting on three
	default:
		select {
		case db.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		case <-db.closing:
			return registry.ErrClosed
		}
	}
	select {
	case <-db.closing:
		<-db.turn
		return registry.ErrClosed
	default:
		return nil
	}
}

func (db *DB) unlock() { <-db.turn }

// run runs fn, in its turn, which it gives up. It returns the batch whose
// outcome is the Update's, or nil if the Update rests on nothing unsynced. Who
// leads, as the first to commit into the batch, has to see to it that it is
// synced.
func (db *DB) run(ctx context.Context, origin trail.Trail, fn func(registry.Tx) error) (_ *batch, leads bool, _ error) {
	defer db.unlock()
	if db.gathering == nil {
		db.gathering = newBatch(db.usual)
	}
	b, g := db.gathering, db.ground.Load()
	t := &tx{
		ctx: ctx, rev: db.rev + 1, now: storable(db.now()), trail: origin,
		stack: stack{base: g.base, top: b.layer}, undo: db.undo, scratch: db.scratch, words: db.words,
	}
	if g.under != nil {
		t.under = g.under.layer
	}
	kept := false
	defer func() { // also when fn panics or ends its goroutine
		t.ended = true
		if !kept {
			t.rollback()
		}
		clear(t.undo)
		db.undo, db.scratch = t.undo[:0], t.scratch
	}()
	err := fn(t)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if changes := t.committed(); err == nil && len(changes) > 0 {
		kept = true
		db.rev++
		b.rev = t.rev
		b.commits = append(b.commits, &commit{rev: t.rev, changes: changes, cost: costOf(changes)})
		b.records = append(b.records, t.encode())
		return b, len(b.commits) == 1, nil
	}
	switch {
	case len(b.commits) > 0:
		return b, false, err
	case g.under != nil:
		return g.under, false, err
	}
	return nil, false, err
}

// committed is what the transaction changed: first what was deleted, then the
// rest, each ordered by ID. The order does not depend on how the function went
// about it, so that replaying the record gives the same.
func (t *tx) committed() []registry.Change {
	slices.SortFunc(t.changes, func(a, b *change) int { return strings.Compare(a.id, b.id) })
	changes := make([]registry.Change, 0, len(t.changes))
	for _, c := range t.changes {
		if c.before != nil && (c.after == nil || c.again) {
			changes = append(changes, registry.Change{Kind: registry.Deleted, Before: c.before, Revision: t.rev})
		}
	}
	for _, c := range t.changes {
		switch {
		case c.after == nil:
		case c.before == nil || c.again:
			changes = append(changes, registry.Change{Kind: registry.Created, After: c.after, Revision: t.rev})
		default:
			changes = append(changes, registry.Change{Kind: registry.Updated, Before: c.before, After: c.after, Revision: t.rev})
		}
	}
	return changes
}

// encode makes the transaction's record, once its changes are in order.
func (t *tx) encode() []byte {
	size := 16
	for _, c := range t.changes {
		size += len(c.encoded) + len(c.id) + 8
	}
	for _, o := range t.blobs {
		size += len(o.id) + len(o.key) + len(o.data) + 16
	}
	b := append(make([]byte, 0, size), format, recCommit)
	b = binary.AppendUvarint(b, t.rev)
	for _, c := range t.changes {
		if c.before != nil && (c.after == nil || c.again) {
			b = appendString(append(b, opDelete), c.id)
		}
	}
	for _, c := range t.changes {
		if c.after != nil {
			b = binary.AppendUvarint(append(b, opPut), uint64(len(c.encoded)))
			b = append(b, c.encoded...)
		}
	}
	for _, o := range t.blobs {
		b = appendString(appendString(append(b, o.op), o.id), o.key)
		if o.op == opPutBlob {
			b = appendString(b, o.data)
		}
	}
	for _, parent := range t.idle() {
		b = appendString(append(b, opEdge), parent)
	}
	return b
}

// idle returns the parents whose edge revision moved although, over the whole
// Update, nothing about their children changed. Replaying the record would not
// find them.
func (t *tx) idle() []string {
	if len(t.bumped) == 0 {
		return nil
	}
	found := map[string]bool{}
	for _, c := range t.changes {
		from, to := "", ""
		if c.before != nil {
			from = c.before.Parent()
		}
		if c.after != nil {
			to = c.after.Parent()
		}
		redefined := c.before != nil && c.after != nil && c.before.Definition() != c.after.Definition()
		if from != to || c.again || redefined {
			found[from], found[to] = true, true
		}
	}
	var idle []string
	for _, parent := range t.bumped {
		if !found[parent] && t.top.edges[parent] == t.rev {
			idle = append(idle, parent)
			found[parent] = true
		}
	}
	return idle
}

// lead sees to it that b is synced, as soon as the batch before it has been.
func (db *DB) lead(b *batch) {
	select {
	case <-b.done:
		return
	case db.syncing <- struct{}{}:
	}
	defer func() { <-db.syncing }()
	// Those that the batch before has just woken get to come back first: with many
	// callers that makes fewer and larger batches, and costs nothing where nobody
	// else is.
	runtime.Gosched()
	select {
	case <-b.done:
	default:
		db.flush() // b is the gathering batch, as no other was left
	}
}

// flush syncs the gathering batch and publishes it. Its caller holds syncing.
func (db *DB) flush() {
	db.turn <- struct{}{}
	b := db.gathering
	db.gathering = nil
	base := db.ground.Load().base
	if b == nil || len(b.commits) == 0 {
		db.unlock()
		return
	}
	db.usual = len(b.commits)
	db.ground.Store(&ground{base: base, under: b})
	db.unlock()

	next, index, err := db.written(b, base)
	if err != nil {
		next.drop()
		db.fail(b, base, err)
		return
	}
	s := next.state(db.tables, base, b.rev, index)
	// Whoever sees the state finds its changes in the history.
	db.history.add(b.commits...)
	db.state.Store(s)
	db.ground.Store(&ground{base: s})
	db.begin(s)
	db.stats.batches.Add(1)
	db.stats.commits.Add(uint64(len(b.commits)))
	close(base.next)
	b.end(nil)
	db.log.Published(Snapshot{s, db.store})
}

// written syncs b and prepares the state after it, which is not to be published
// if there is an error.
func (db *DB) written(b *batch, base *state) (_ successor, index uint64, err error) {
	if len(b.commits) < worthwhile {
		index, err = db.log.Append(b.records)
		return prepared(db.tables, base, b.layer), index, err
	}
	next := make(chan successor, 1)
	go func() { next <- prepared(db.tables, base, b.layer) }()
	index, err = db.log.Append(b.records)
	return <-next, index, err
}

// worthwhile is how many commits a batch must have for preparing it while the
// disk syncs it: fewer do not earn what waking another core costs.
const worthwhile = 8

// fail gives up b and what was written over it meanwhile.
func (db *DB) fail(b *batch, base *state, err error) {
	db.turn <- struct{}{}
	over := db.gathering
	db.gathering = nil
	db.ground.Store(&ground{base: base})
	db.unlock()
	b.end(err)
	if over != nil {
		over.end(fmt.Errorf("%w: an earlier change could not be written: %w", registry.ErrUnavailable, err))
	}
}
