package index

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
)

// The tables. Every index is unique, and its keys are the bare strings.
const (
	edgesTable = "edges" // *edgeRow
	blobsTable = "blobs" // *blobRow
)

// finder is what finds nodes. It belongs to a state.
type finder struct {
	refs  trie[string, ref]    // by ID, name or key
	lists trie[attr, *posting] // by what they have in common; none is empty
	keys  *sorted[owned]       // the unique keys, in order
	names *sorted[owned]       // the names that are not also the ID, in order
	broad []attr               // the lists that are broad
}

// newFinder makes an empty one. Where things stand in it depends on the seed,
// so that nobody can choose names that get in each other's way.
func newFinder() finder {
	seed := maphash.MakeSeed()
	text := func(s string) uint64 { return maphash.String(seed, s) }
	return finder{
		refs: trie[string, ref]{hash: text},
		lists: trie[attr, *posting]{hash: func(a attr) uint64 {
			h := text(a.a) + uint64(a.kind)*0x9e3779b97f4a7c15
			if a.b != "" {
				h = bits.RotateLeft64(h, 29)*0xbf58476d1ce4e5b9 ^ text(a.b)
			}
			return h
		}},
		keys:  new(sorted[owned]),
		names: new(sorted[owned]),
	}
}

// ref is a node, found by what names it: its ID, its name or a key.
type ref struct{ node *registry.Node }

func (r ref) is(ref string) bool { return holds(r.node, ref) }

// owned is a key or a name, and the ID of the node that it belongs to.
type owned struct{ ref, id string }

// ID is what it is ordered by.
func (o owned) ID() string { return o.ref }

// attr is what a posting gathers nodes by.
type attr struct {
	kind byte
	a, b string
}

// The kinds of attr.
const (
	attrAll    = '*'
	attrType   = 't'
	attrState  = 's'
	attrTenant = 'n'
	attrParent = 'p' // with "" for the nodes without a parent
	attrTag    = 'g' // a is the tag's key
	attrTagged = 'v' // a is the tag's key, b its value, which is not empty
)

// String is the attr as people read it.
func (a attr) String() string {
	if a.kind == attrTagged {
		return string(a.kind) + a.a + "=" + a.b
	}
	return string(a.kind) + a.a
}

// attrs calls yield with each attr of n.
func attrs(n *registry.Node, yield func(attr)) {
	yield(attr{kind: attrAll})
	yield(attr{kind: attrType, a: n.Type()})
	if n.State() != "" {
		yield(attr{kind: attrState, a: n.State()})
	}
	if n.Tenant() != "" {
		yield(attr{kind: attrTenant, a: n.Tenant()})
	}
	yield(attr{kind: attrParent, a: n.Parent()})
	for i := range n.NumTags() {
		t := n.TagAt(i)
		yield(attr{kind: attrTag, a: t.Key})
		if t.Value != "" { // a bare tag is found among all that have it
			yield(attr{kind: attrTagged, a: t.Key, b: t.Value})
		}
	}
}

// of reports whether n has the attr.
func (a attr) of(n *registry.Node) bool {
	switch a.kind {
	case attrAll:
		return true
	case attrType:
		return n.Type() == a.a
	case attrState:
		return n.State() == a.a
	case attrTenant:
		return n.Tenant() == a.a
	case attrParent:
		return n.Parent() == a.a
	default:
		v, ok := n.Tag(a.a)
		return ok && (a.kind == attrTag || v == a.b)
	}
}

// edgeRow is the edge revision of a parent.
type edgeRow struct {
	parent string
	rev    uint64
}

type blobRow struct {
	key  string // blobKey
	data []byte
}

func blobKey(id, key string) string { return id + "\x00" + key }

// stringIndex indexes rows by one string.
type stringIndex struct{ of func(any) string }

func (x stringIndex) FromObject(obj any) (bool, []byte, error) { return true, []byte(x.of(obj)), nil }
func (x stringIndex) FromArgs(args ...any) ([]byte, error)     { return fromArgs(args) }

func fromArgs(args []any) ([]byte, error) {
	if len(args) == 1 {
		if s, ok := args[0].(string); ok {
			return []byte(s), nil
		}
	}
	return nil, fmt.Errorf("an index takes one string, not %v", args)
}

// newTables makes the empty tables. They are go-memdb's snapshot of an empty
// database: a snapshot can be written like the original, but keeps no record of
// changed tree nodes for go-memdb's own watches, which nobody here uses.
func newTables() (*gomemdb.MemDB, error) {
	table := func(name string, id func(any) string) *gomemdb.TableSchema {
		return &gomemdb.TableSchema{Name: name, Indexes: map[string]*gomemdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: stringIndex{id}},
		}}
	}
	db, err := gomemdb.NewMemDB(&gomemdb.DBSchema{Tables: map[string]*gomemdb.TableSchema{
		edgesTable: table(edgesTable, func(o any) string { return o.(*edgeRow).parent }),
		blobsTable: table(blobsTable, func(o any) string { return o.(*blobRow).key }),
	}})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the tables: %w", err)
	}
	return db.Snapshot(), nil
}

// state is a published state: immutable, and read without locks. Its
// transaction is shared by all readers, which go-memdb allows for one that was
// not opened for writing: it only ever looks at immutable trees.
type state struct {
	txn   *gomemdb.Txn // edges and blobs
	nodes int          // how many there are
	rev   uint64
	index uint64        // of its last record in the journal
	next  chan struct{} // closed when a later state has been published

	find    finder  // which lacks what the latest batches changed,
	late    []entry // which is this, in their order: a part of an array that is only ever appended to
	recent  *recent // where that is found; nil if there is nothing
	fold    *fold   // of the first of late, perhaps under way; nil if there is none
	settle  sync.Once
	settled atomic.Pointer[finder] // the finder with late, once somebody has asked
}

// newState makes a state of a finder that lacks nothing.
func newState(db *gomemdb.MemDB, find finder, rev, index uint64) *state {
	return &state{
		txn: db.Txn(false), find: find, nodes: find.listing(attr{kind: attrAll}).len(),
		rev: rev, index: index, next: make(chan struct{}),
	}
}

// whole is the finder with all changes. Who asks for it first makes it.
func (s *state) whole() *finder {
	if len(s.late) == 0 {
		return &s.find
	}
	s.settle.Do(func() {
		find, late := s.find, s.late
		if s.fold != nil {
			find, late = *s.fold.wait(), late[len(s.fold.late):]
		}
		f := folded(find, late)
		s.settled.Store(&f)
	})
	return s.settled.Load()
}

// first looks up one row. Its error could only be a misspelt table.
func first[T any](txn *gomemdb.Txn, table, key string) (row T, ok bool) {
	obj, err := txn.First(table, "id", key)
	if err != nil {
		panic(fmt.Sprintf("memdb: %v", err))
	}
	if obj == nil {
		return row, false
	}
	return obj.(T), true
}

func (s *state) node(id string) *registry.Node {
	if n := s.owner(id); n != nil && n.ID() == id {
		return n
	}
	return nil
}

// owner is the node that ref names as its ID, its name or a key.
func (s *state) owner(ref string) *registry.Node {
	hash := s.find.refs.hash(ref)
	if len(s.late) > 0 {
		if n, ok := s.recent.owner(hash, ref, len(s.late)); ok {
			return n
		}
	}
	r, _ := s.find.refs.find(hash, ref)
	return r.node
}

// family returns the children that find knows of, and calls yield with the ID of
// each node that may have come or gone or become another since, with some twice.
func (s *state) family(parent string, yield func(id string)) listing {
	if len(s.late) > 0 {
		s.recent.kids(s.find.refs.hash(parent), parent, yield)
	}
	return s.find.listing(attr{kind: attrParent, a: parent})
}

func (s *state) edge(parent string) uint64 {
	if row, ok := first[*edgeRow](s.txn, edgesTable, parent); ok {
		return row.rev
	}
	return 0
}

func (s *state) blob(id, key string) ([]byte, bool) {
	row, ok := first[*blobRow](s.txn, blobsTable, blobKey(id, key))
	if !ok {
		return nil, false
	}
	return row.data, true
}
