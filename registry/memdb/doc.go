// Package memdb is the embedded registry: every node in memory, every change in
// a synced journal before it is acknowledged.
//
// Package index has the nodes and runs the Updates; here is the journal that it
// waits for, and the snapshots that keep it short.
//
// # Snapshots
//
// A snapshot is written beside the work when the journal since the last one is
// 64 MiB, or half of the last one if that is more, up to 512 MiB: a store of a
// million nodes is not written as a whole for each small part of it that changes,
// and yet what is replayed when it is opened stays a part of what is loaded.
//
// # Why
//
// A store that is one directory, synced and checksummed, needs nobody to run it, and
// is all that one manager needs. What finds nodes is a package of its own, as the
// registry on etcd finds them in the same way.
package memdb
