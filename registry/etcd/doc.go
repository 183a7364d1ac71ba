// Package etcd is the registry that several managers can share: etcd keeps the nodes
// and decides who is first, and each manager holds the same index in memory as the
// embedded registry, fed by a watch.
//
// A read is local, and answers as of a moment ago: it holds at least what was
// committed through this handle. With Consistent it asks etcd which commit is the
// last, and waits until that one has arrived.
//
// An Update runs its function over the local state, and then commits what it wrote
// in one transaction of etcd, on condition that everything the function was told by
// Get, ByName, ByKey, Blob and Children is still so: a node by its revision, a free
// word by its absence, a set of children by its edge revision. If it is not, the
// function runs again on a newer state. So is an error of the function only
// returned, and a transaction that writes nothing only believed, when what it rests
// on has been confirmed. Updates that have nothing to do with each other do not
// wait for each other, in one manager or in several.
//
// # When etcd is away
//
// Reads go on, from the last state there was; Health tells its age. Writes fail
// with ErrUnavailable, or, if one was on its way, ErrUnknownOutcome, unless it can
// be found out in time. What follows again when etcd is back: a lost watch resumes
// where it broke off, and where etcd has forgotten what came after that, all is
// loaded anew and those who watch are told ErrCompacted.
//
// # A lost answer
//
// Every transaction is committed only if the session's ticket is what it was when
// the transaction was made, and writes its own name into the key head. When an
// answer is lost, the ticket is replaced first: after that the transaction can no
// longer happen. Then the watch is followed to the head; if the transaction's name
// has gone by, it was committed, and if not, it never will be.
//
// # Why
//
// Every word (an ID, a name, a unique key) is one key of etcd, so that uniqueness
// is etcd's own: a key has one value. That a transaction compares what was read,
// and not only what it writes, makes every Update serializable, which is what
// callers have from the embedded registry too. One common counter would do the same
// with less code, and make every two Updates of the cluster conflict.
package etcd
