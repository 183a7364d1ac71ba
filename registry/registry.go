// Package registry keeps the cluster's nodes: what exists, how it is defined,
// where it stands and which unique keys it holds.
//
// A Node is an immutable snapshot. View gives a Reader over one consistent
// state of the store; Update runs a function whose writes commit together or
// not at all; Watch delivers every change once, in commit order. The everyday
// verbs (SetParent, UpdateMetadata, Rename, …) are functions over Update, so
// that every backend has them alike.
//
// # Why
//
// Four methods are enough for a backend to implement, and all else can be
// proved once, by package registrytest. What people call an identity — a node's
// ID, its name and its unique keys — shares one namespace: whatever somebody
// types names at most one node.
package registry

import (
	"context"
	"iter"
)

// Registry is a store of nodes. Its methods are safe for concurrent use.
type Registry interface {
	// View returns a snapshot that holds at least every Update acknowledged
	// through this handle. It stays valid, and unchanged, for as long as it is
	// referenced. ctx bounds View and the reader's later calls.
	View(ctx context.Context, opts ...ReadOption) (Reader, error)

	// Update runs fn and commits what it wrote, all or nothing; an error of fn
	// aborts and is returned as it is. When Update returns nil the change has
	// survived a crash. fn may run several times, on newer states, and has no
	// effects outside of tx. What tx answered from Get, ByName, ByKey, Blob and
	// Children still holds at commit; List and Keys are not guarded.
	//
	// An Update that writes nothing commits nothing. One that ends because of
	// ctx may or may not have committed, and says so with ErrUnknownOutcome if
	// it cannot tell.
	Update(ctx context.Context, fn func(tx Tx) error) error

	// Watch yields changes of the nodes that match q, each once, in commit
	// order, until ctx ends or the caller stops; it ends silently with ctx.
	// Of one commit come the deletions first, then the rest, each ordered by
	// ID. q's After and Limit are ignored. See Cursor for where it begins. It
	// ends with ErrCompacted when it fell too far behind: list again, and
	// watch from there.
	Watch(ctx context.Context, q Query, from Cursor) iter.Seq2[Change, error]

	// Close releases the store. Later calls answer ErrClosed.
	Close() error
}

// Reader answers from one consistent snapshot. Nodes that do not exist are
// ErrNotFound (as *NotFoundError).
type Reader interface {
	Get(id string) (*Node, error)
	ByName(name string) (*Node, error)
	// ByKey finds the node that holds a unique key.
	ByKey(key string) (*Node, error)
	// List yields the nodes that match q, ordered by ID.
	List(q Query) iter.Seq2[*Node, error]
	// Children returns the nodes whose parent is id. It is empty, not an
	// error, where id has none or does not exist.
	Children(id string) (Children, error)
	// Keys yields the unique keys that start with prefix and are not less than
	// from, in order.
	Keys(prefix, from string) iter.Seq2[Key, error]
	// Blob returns a copy of a blob: ErrNotFound if there is none.
	Blob(id, key string) ([]byte, error)
}

// Tx is a Reader that sees its own writes, and writes.
type Tx interface {
	Reader
	// Create adds a node. Its ID, name and keys must be free.
	Create(d Draft) (*Node, error)
	// Put replaces the node d.ID. Its type is fixed; for its parent and its
	// definition see WriteOption. Putting what is there already writes nothing:
	// the node keeps its revision, and nobody who watches hears of it.
	Put(d Draft, opts ...WriteOption) (*Node, error)
	// Delete removes a node that has neither parent nor children, with its
	// blobs, and frees its name and keys.
	Delete(id string) error
	// PutBlob stores data under the node and key, or removes it if data is nil:
	// ErrNotFound if there is none. Storing what is there already writes nothing.
	PutBlob(id, key string, data []byte) error
}

// Children are the nodes below a parent.
type Children struct {
	// Edge grows with each change of the set and of a definition in it, and of
	// nothing else: while it is the same, what was computed from both holds.
	Edge  uint64
	Nodes []*Node // ordered by ID; not to be modified
}

// Key is a unique key and the node that holds it.
type Key struct {
	Key   string `json:"key"`
	Owner string `json:"owner"`
}

// Delta is what a Reader can do beyond reading whose store remembers recent
// changes: it lets a cache follow the store without scanning it.
type Delta interface {
	// Revision is the number of the last commit that this snapshot holds.
	Revision() uint64
	// Since returns the changes after revision from, up to this snapshot, in
	// commit order. ok is false when they are no longer remembered: scan.
	Since(from uint64) (changes iter.Seq[Change], ok bool)
}

// ChangeKind says what a Change is.
type ChangeKind string

// The kinds of change. To a Watch with a Query a node that begins to match is
// Created or Updated as it was committed, and one that stops matching has Left.
const (
	Existing ChangeKind = "existing" // it was there when the watch began from the start
	Synced   ChangeKind = "synced"   // no node: all Existing ones have been delivered
	Created  ChangeKind = "created"
	Updated  ChangeKind = "updated"
	Left     ChangeKind = "left"
	Deleted  ChangeKind = "deleted"
)

// Change is one change of one node.
type Change struct {
	Kind     ChangeKind `json:"kind"`
	Before   *Node      `json:"before,omitempty"` // nil for Existing, Synced and Created
	After    *Node      `json:"after,omitempty"`  // nil for Synced and Deleted
	Revision uint64     `json:"revision"`         // the commit; the changes of one commit share it
	Cursor   Cursor     `json:"cursor"`           // resumes behind this change; Start for Existing, as only Synced ends them
}

// Node returns the node after the change, or the last there was.
func (c Change) Node() *Node {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

// Cursor is a place in a store's history. It names its store: another store
// refuses it with ErrCursor.
type Cursor string

const (
	// Start begins with the nodes that match now (Existing), then Synced, then
	// changes.
	Start Cursor = ""
	// Now begins with the first change after the call.
	Now Cursor = "now"
)

// ReadOption modifies View.
type ReadOption func(*ReadOptions)

// ReadOptions is what ReadOption sets; backends read it through
// ReadOptionsOf.
type ReadOptions struct{ Consistent bool }

// Consistent makes a View linearizable: it holds every Update acknowledged
// anywhere before the call.
func Consistent() ReadOption { return func(o *ReadOptions) { o.Consistent = true } }

// ReadOptionsOf folds opts.
func ReadOptionsOf(opts ...ReadOption) ReadOptions {
	var o ReadOptions
	for _, f := range opts {
		f(&o)
	}
	return o
}

// WriteOption modifies Put.
type WriteOption func(*WriteOptions)

// WriteOptions is what WriteOption sets; backends read it through
// WriteOptionsOf.
type WriteOptions struct {
	From  *string // the parent that the writer expects to move away from
	Force bool    // change a definition although the node has a parent
}

// MovingFrom allows Put to move a node from parent to another, or to none. It
// fails with *ParentError if the node's parent is another by now. Without it a
// parent can only be set where there was none.
func MovingFrom(parent string) WriteOption {
	return func(o *WriteOptions) { o.From = &parent }
}

// Forced allows Put to change the definition of a node that has a parent.
func Forced() WriteOption { return func(o *WriteOptions) { o.Force = true } }

// WriteOptionsOf folds opts.
func WriteOptionsOf(opts ...WriteOption) WriteOptions {
	var o WriteOptions
	for _, f := range opts {
		f(&o)
	}
	return o
}
