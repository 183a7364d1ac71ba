package index

import (
	"fmt"
	"iter"
	"strings"

	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
)

// Loader fills an empty store from a snapshot and the records after it.
type Loader struct {
	db   *DB
	txn  *gomemdb.Txn // while a snapshot is being read
	fill inserter     // of the snapshot's nodes into make
	make *edits       // while a snapshot is being read
	want header       // of the snapshot
	got  header

	base  *state // once the snapshot has been read
	layer *layer
	count int // commits in the layer
	rev   uint64
	index uint64 // of the record taken last
}

// replayed is how many commits are applied at a time.
const replayed = 4096

// loaded is how many changes a list gathers while a snapshot is read, before they
// go into its tree.
const loaded = 1 << 16

func newLoader(db *DB) *Loader { return &Loader{db: db} }

// snapshot takes one record of a snapshot.
func (l *Loader) snapshot(rec []byte) error {
	d, kind := record(string(rec))
	d.words = l.db.words
	if l.txn == nil && kind != recHeader || l.base != nil {
		return fmt.Errorf("a snapshot's record of kind %q stands outside of it: %w", kind, registry.ErrCorrupt)
	}
	switch kind {
	case recHeader:
		l.want = d.header()
		if err := d.end(); err != nil {
			return err
		}
		l.got = header{store: l.want.store, rev: l.want.rev}
		l.txn = l.db.tables.Txn(true)
		l.make = newEdits(newFinder(), loaded)
		l.fill = inserter{make: l.make}
	case recNode:
		n := d.node()
		if err := d.end(); err != nil {
			return err
		}
		l.got.nodes++
		l.make.list(entry{after: n})
		l.fill.add(n)
	case recEdge:
		row := &edgeRow{parent: d.string(), rev: d.uint()}
		l.got.edges++
		if err := d.end(); err != nil {
			return err
		}
		return l.txn.Insert(edgesTable, row)
	case recBlob:
		row := &blobRow{key: blobKey(d.string(), d.string()), data: []byte(d.string())}
		l.got.blobs++
		if err := d.end(); err != nil {
			return err
		}
		return l.txn.Insert(blobsTable, row)
	case recEnd:
		if l.got != l.want {
			return fmt.Errorf("the snapshot has %d nodes, %d edges and %d blobs instead of %d, %d and %d: %w",
				l.got.nodes, l.got.edges, l.got.blobs, l.want.nodes, l.want.edges, l.want.blobs, registry.ErrCorrupt)
		}
		l.endSnapshot()
	default:
		return fmt.Errorf("a snapshot's record has the kind %q: %w", kind, errRecord)
	}
	return nil
}

func (l *Loader) endSnapshot() {
	l.fill.wait()
	l.make.settle()
	l.txn.Commit()
	l.begin(l.want, l.make.done())
	l.txn, l.make = nil, nil
}

// begin makes the store ready for commits after h.
func (l *Loader) begin(h header, find finder) {
	l.db.store, l.rev = h.store, h.rev
	l.db.history.before = h.rev
	l.base, l.layer = newState(l.db.tables, find, h.rev, l.index), newLayer(0)
}

// entry takes one record of the journal.
func (l *Loader) entry(rec []byte) error {
	d, kind := record(string(rec))
	d.words = l.db.words
	switch {
	case kind == recHeader && l.base == nil:
		h := d.header()
		if err := d.end(); err != nil {
			return err
		}
		l.begin(h, newFinder())
		return nil
	case kind != recCommit:
		return fmt.Errorf("the journal holds a record of kind %q: %w", kind, errRecord)
	case l.base == nil:
		return fmt.Errorf("the journal begins with a commit, its header is missing: %w", registry.ErrCorrupt)
	}
	rev, ops := d.commit()
	if err := d.end(); err != nil {
		return err
	}
	if rev <= l.rev {
		if rev <= l.want.rev {
			return nil // the snapshot holds it
		}
		return fmt.Errorf("commit %d follows commit %d: %w", rev, l.rev, registry.ErrCorrupt)
	}
	return l.commit(rev, ops)
}

func (l *Loader) commit(rev uint64, ops []operation) error {
	c, err := replay(stack{base: l.base, top: l.layer}, rev, ops)
	if err != nil {
		return err
	}
	l.db.history.add(c)
	l.rev = rev
	if l.count++; l.count >= replayed {
		l.flush()
	}
	return nil
}

// replay writes a commit into the top layer.
func replay(s stack, rev uint64, ops []operation) (*commit, error) {
	t := &tx{stack: s, rev: rev}
	for _, o := range ops {
		old := t.node(o.id)
		if old == nil && o.op != opPut {
			return nil, fmt.Errorf("commit %d changes node %q, which does not exist: %w", rev, o.id, registry.ErrCorrupt)
		}
		switch o.op {
		case opPut:
			t.record(t.joined(old, o.node))
			t.apply(old, o.node, nil)
		case opDelete:
			t.record(t.joined(old, nil))
			t.apply(old, nil, nil)
		case opEdge:
			t.bump(o.id)
		default:
			o.data = strings.Clone(o.data) // not to pin the whole record
			t.apply(old, old, &o)
		}
	}
	for _, parent := range t.bumped {
		if t.node(parent) == nil { // its last child left, then it was deleted
			t.putEdge(parent, 0)
		}
	}
	changes := t.committed()
	return &commit{rev: rev, changes: changes, cost: costOf(changes)}, nil
}

func (l *Loader) flush() {
	l.base = prepared(l.db.tables, l.base, l.layer).state(l.db.tables, l.base, l.rev, l.index)
	l.layer, l.count = newLayer(0), 0
}

// end publishes what was loaded.
func (l *Loader) end() {
	l.flush()
	l.db.publish(*l.base.whole(), l.rev, l.index)
}

// Header is the record that begins the log of a new store; nil where there is one.
func (l *Loader) Header() []byte {
	if l.base != nil {
		return nil
	}
	return appendHeader(nil, header{store: newStore()})
}

// Restore is that of a journal's loader.
func (l *Loader) Restore(index uint64, records iter.Seq2[[]byte, error]) error {
	l.index = index
	defer l.fill.settle() // after an error a chunk can be under way
	for rec, err := range records {
		if err != nil {
			return err
		}
		if err := l.snapshot(rec); err != nil {
			return fmt.Errorf("snapshot %d: %w", index, err)
		}
	}
	if l.txn != nil || l.base == nil {
		return fmt.Errorf("snapshot %d has no end: %w", index, registry.ErrCorrupt)
	}
	return nil
}

// Replay is that of a journal's loader.
func (l *Loader) Replay(index uint64, rec []byte) error {
	l.index = index
	if err := l.entry(rec); err != nil {
		return fmt.Errorf("record %d: %w", index, err)
	}
	return nil
}
