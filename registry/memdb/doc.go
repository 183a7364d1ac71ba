// Package memdb is the embedded registry: every node in memory, every change in
// a synced journal before it is acknowledged.
//
// Reads never wait. They use a published state, which is immutable and changes
// as a whole when a batch of Updates has been synced. An Update runs its
// function on its caller's goroutine, one at a time, over the published state
// and over what earlier Updates have written since; the functions therefore
// should be quick. It then waits, together with all that gathered meanwhile, for
// one sync, after which they become visible at once. Nothing is visible that
// could still be lost.
//
// # Index
//
// Nodes stand in hashicorp/go-memdb by id and, as names and unique keys share
// one namespace, by reference. For type, state, tenant, parent, tag and tag with
// value there are postings: rows of go-memdb, one for each value, each an
// immutable B-tree of the nodes that have it, ordered by ID.
//
// # Why
//
// A go-memdb index costs about 400 bytes for each entry, and a node has a dozen
// entries. In a posting an entry costs about 12 bytes, a listing walks arrays
// instead of a radix tree, comes out ordered by ID, and its length is known, so
// that a query starts from its most selective condition. go-memdb does not
// enforce uniqueness; as Updates run one at a time, a look at the references
// does.
//
// The caller that finds nobody else syncing syncs for all that wait, so that a
// lone caller pays for no switch. Only while a large batch is synced, the state
// after it is prepared on another core; it is published after the sync, or
// thrown away.
package memdb
