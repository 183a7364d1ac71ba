package index

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Replica is the index of a store whose log somebody else keeps. What that log
// committed is told to it with Apply, in order; what is to be committed is staged
// on its latest state with Stage, together with what that rests on. It answers
// View and Watch as a registry does.
//
// Load, Apply and Close are called by one goroutine at a time, the rest by any.
type Replica struct {
	db *DB

	mu   sync.Mutex
	wait chan struct{} // closed and replaced with each state
}

// NewReplica makes one that has no state yet: Load gives it the first.
func NewReplica(deps registry.Deps, history int, historyBytes int64) (*Replica, error) {
	db, err := newDB(deps.WithDefaults())
	if err != nil {
		return nil, err
	}
	if history > 0 {
		db.history.maxCount = history
	}
	if historyBytes > 0 {
		db.history.maxBytes = int(historyBytes)
	}
	return &Replica{db: db, wait: make(chan struct{})}, nil
}

// Image is what a store holds, for Load. Load calls each once, in this order.
type Image struct {
	Store    string // names it, in cursors
	Revision uint64 // of its last commit
	Nodes    iter.Seq2[*registry.Node, error]
	Edges    iter.Seq2[Edge, error]
	Blobs    iter.Seq2[Blob, error]
}

// Edge is the edge revision of a parent.
type Edge struct {
	Parent   string
	Revision uint64
}

// Blob is a node's blob.
type Blob struct {
	Node, Key string
	Data      []byte
}

// Load replaces the state by an image. Who watches is told ErrCompacted, if there
// was another before: what happened in between is not known. After an error the
// state is what it was.
func (r *Replica) Load(img Image) error {
	fresh, err := newDB(registry.Deps{Log: r.db.slog, Now: r.db.now})
	if err != nil {
		return err
	}
	txn := fresh.tables.Txn(true)
	edits := newEdits(newFinder(), loaded)
	fill := inserter{make: edits}
	defer fill.settle() // after an error a chunk can be under way
	for n, err := range img.Nodes {
		if err != nil {
			return err
		}
		edits.list(entry{after: n})
		fill.add(n)
	}
	fill.wait()
	for e, err := range img.Edges {
		if err != nil {
			return err
		}
		if err := txn.Insert(edgesTable, &edgeRow{parent: e.Parent, rev: e.Revision}); err != nil {
			return err
		}
	}
	for b, err := range img.Blobs {
		if err != nil {
			return err
		}
		if err := txn.Insert(blobsTable, &blobRow{key: blobKey(b.Node, b.Key), data: b.Data}); err != nil {
			return err
		}
	}
	edits.settle()
	txn.Commit()

	db, last := r.db, r.db.state.Load()
	switch {
	case last == nil:
		db.store = img.Store
	case db.store != img.Store:
		return fmt.Errorf("the store is %s now and was %s: another one stands in its place", img.Store, db.store)
	}
	db.tables = fresh.tables
	db.history.restart(img.Revision)
	r.publish(newState(db.tables, edits.done(), img.Revision, 0))
	if last != nil {
		close(last.next)
	}
	return nil
}

// publish makes s the state.
func (r *Replica) publish(s *state) {
	r.db.state.Store(s)
	r.db.begin(s)
	r.db.ground.Store(&ground{base: s})
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.wait)
	r.wait = make(chan struct{})
}

// Commit is what the log says of one commit.
type Commit struct {
	Revision uint64
	Deleted  []string         // nodes, which take their blobs along; also those whose ID goes to a new node in Put
	Put      []*registry.Node // as they are now, of this revision
	Blobs    []Blob           // nil Data removes one
	Edges    []string         // parents whose edge revision becomes the commit's
}

// Apply takes commits, in the order of the log, and publishes the state after the
// last of them. Those that the state holds already are passed over. After an error
// the state is what it was, and what is to be done is Load.
func (r *Replica) Apply(commits []Commit) error {
	base, layer := r.db.state.Load(), newLayer(len(commits))
	rev := base.rev
	var seen []*commit
	for _, c := range commits {
		if c.Revision <= rev {
			continue
		}
		s := stack{base: base, top: layer}
		done, err := replay(s, c.Revision, c.operations(s))
		if err != nil {
			return err
		}
		rev = c.Revision
		seen = append(seen, done)
	}
	if len(seen) == 0 {
		return nil
	}
	next := prepared(r.db.tables, base, layer).state(r.db.tables, base, rev, 0)
	r.db.history.add(seen...)
	r.publish(next)
	close(base.next)
	return nil
}

// operations are those of a record. What the deletion of a node implies is left
// out.
func (c Commit) operations(s stack) []operation {
	var ops []operation
	gone := map[string]bool{}
	for _, id := range c.Deleted {
		if s.node(id) != nil {
			gone[id] = true
			ops = append(ops, operation{op: opDelete, id: id})
		}
	}
	for _, n := range c.Put {
		delete(gone, n.ID())
		ops = append(ops, operation{op: opPut, id: n.ID(), node: n})
	}
	for _, b := range c.Blobs {
		switch {
		case gone[b.Node] || b.Data == nil && s.node(b.Node) == nil:
		case b.Data == nil:
			ops = append(ops, operation{op: opDeleteBlob, id: b.Node, key: b.Key})
		default:
			ops = append(ops, operation{op: opPutBlob, id: b.Node, key: b.Key, data: string(b.Data)})
		}
	}
	for _, id := range c.Edges {
		if !gone[id] {
			ops = append(ops, operation{op: opEdge, id: id})
		}
	}
	return ops
}

// Revision is that of the last commit in the state.
func (r *Replica) Revision() uint64 { return r.db.state.Load().rev }

// Store names the store.
func (r *Replica) Store() string { return r.db.store }

// Wait returns when the state holds the commit rev.
func (r *Replica) Wait(ctx context.Context, rev uint64) error {
	for {
		r.mu.Lock()
		wait := r.wait
		r.mu.Unlock()
		if r.Revision() >= rev {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.db.closing:
			return registry.ErrClosed
		}
	}
}

// View is that of a registry.
func (r *Replica) View(ctx context.Context) (registry.Reader, error) { return r.db.View(ctx) }

// Watch is that of a registry.
func (r *Replica) Watch(ctx context.Context, q registry.Query, from registry.Cursor) iter.Seq2[registry.Change, error] {
	return r.db.Watch(ctx, q, from)
}

// Decode makes a node of a StagedNode's Data. It becomes one of revision rev.
func Decode(data string, rev uint64) (*registry.Node, error) {
	d := decoder{s: data}
	n := d.node()
	if err := d.end(); err != nil {
		return nil, err
	}
	registry.Restamp(n, rev)
	return n, nil
}

// Staged is what a function wrote: the net of it, and what it rests on.
type Staged struct {
	Base   uint64 // the revision of the state that the function saw
	Guards *Guards
	Nodes  []StagedNode
	Words  map[string]string // names and unique keys: the ID of who holds them from now on, "" where they become free
	Edges  map[string]bool   // parents whose edge revision moves; false where the parent goes
	Blobs  []Blob            // nil Data removes one that was there

	written []*registry.Node
}

// StagedNode is one node of a Staged.
type StagedNode struct {
	ID    string
	Data  string // for Decode; "" if the node goes
	Again bool   // it is a new one in the place of another
}

// IsEmpty reports whether nothing is written.
func (s *Staged) IsEmpty() bool { return len(s.Nodes) == 0 }

// Settle gives the nodes that the function was answered the revision that they
// were committed as. Until then they have a guess.
func (s *Staged) Settle(rev uint64) {
	for _, n := range s.written {
		registry.Restamp(n, rev)
	}
}

// Stage runs fn over the latest state. An error is fn's, or says that it could not
// be run; Staged then says what an error of fn rests on, if there is any.
func (r *Replica) Stage(ctx context.Context, fn func(registry.Tx) error) (*Staged, error) {
	origin := trail.From(ctx)
	if err := origin.Validate(); err != nil {
		return nil, &registry.InvalidError{Field: "trail", Reason: err.Error()}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.Closed() {
		return nil, registry.ErrClosed
	}
	base := r.db.state.Load()
	t := &tx{
		ctx: ctx, rev: base.rev + 1, now: storable(r.db.now()), trail: origin,
		stack: stack{base: base, top: newLayer(1), saw: newGuards()},
	}
	defer func() { t.ended = true }()
	staged := &Staged{Base: base.rev, Guards: t.saw}
	if err := fn(t); err != nil {
		return staged, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.committed() // puts the changes in order
	t.stage(staged)
	return staged, nil
}

// stage takes the net of what was written out of the top layer.
func (t *tx) stage(s *Staged) {
	for _, c := range t.changes {
		if c.before == nil && c.after == nil {
			continue
		}
		n := StagedNode{ID: c.id, Again: c.again}
		if c.after != nil {
			n.Data = c.encoded
			s.written = append(s.written, c.after)
		}
		s.Nodes = append(s.Nodes, n)
	}
	s.Words = map[string]string{}
	for ref, owner := range t.top.refs {
		if owner == ref {
			continue // the node itself
		}
		if owner == "" && (t.base.owner(ref) == nil || t.base.node(ref) != nil) {
			continue // it was free before, or goes as a node
		}
		s.Words[ref] = owner
	}
	s.Edges = map[string]bool{}
	for parent, rev := range t.top.edges {
		if rev > 0 || t.base.edge(parent) > 0 {
			s.Edges[parent] = rev > 0
		}
	}
	for key, data := range t.top.blobs {
		id, name, _ := strings.Cut(key, "\x00")
		if _, had := t.base.blob(id, name); data != nil || had {
			s.Blobs = append(s.Blobs, Blob{Node: id, Key: name, Data: data})
		}
	}
	slices.SortFunc(s.Blobs, func(a, b Blob) int { return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Key, b.Key)) })
}

// Closed reports whether Close was called.
func (r *Replica) Closed() bool {
	select {
	case <-r.db.closing:
		return true
	default:
		return false
	}
}

// Close ends watches and what waits.
func (r *Replica) Close() {
	r.db.once.Do(func() {
		close(r.db.closing)
		r.db.folds.Wait()
	})
}
