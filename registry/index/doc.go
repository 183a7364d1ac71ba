// Package index is a registry in memory: every node, and all that finds them. Its
// commits go to a Log, which is memdb's journal, or come from one that somebody else
// keeps, as a Replica's do, which is how registry/etcd follows etcd.
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
// What finds nodes belongs to each state and is immutable like it: a hash trie of
// all references, as IDs, names and unique keys share one namespace, and for type,
// state, tenant, parent, tag and tag with value a posting each, which is a B-tree
// of the nodes that have it, ordered by ID. Edge revisions and blobs stand in
// hashicorp/go-memdb.
//
// Writing these trees was most of what a create cost, so a batch does not write
// them. It puts what it changed into a hash table of the recent changes, which the
// states share: each looks into it first, and passes over what came after it. When
// there are a sixteenth as many of these changes as nodes, and at most 2,048, the
// trees take them all at once, so that what has to be copied is copied once for
// several. That happens beside the batches that follow, which wait for it only when
// as many changes again have come; the first of them after it forgets what the trees
// have. Somebody who lists nodes or keys has the trees take the rest, and waits for
// it: milliseconds in a small store, some tens of them in a large one.
//
// What most nodes have is not kept in a tree at all: who lists it walks all nodes
// and skips the others.
//
// # Why
//
// A go-memdb index costs about 400 bytes for each entry, a node has a dozen
// entries, and each insertion copies a path of a radix tree for each of them. In a
// posting an entry costs about 12 bytes, a listing walks arrays instead of a radix
// tree, comes out ordered by ID, and its length is known, so that a query starts
// from its most selective condition. A reference is found in a third of the time.
// go-memdb does not enforce uniqueness; as Updates run one at a time, a look at
// the references does.
//
// The caller that finds nobody else syncing syncs for all that wait, so that a
// lone caller pays for no switch. Only while a large batch is synced, the state
// after it is prepared on another core; it is published after the sync, or
// thrown away.
package index
