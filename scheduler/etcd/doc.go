// Package etcd is the scheduler that any number of managers share: the queues,
// leases and packages of the scheduler broker, with etcd in the place of its disk.
//
// One of the managers leads. It holds a key of etcd under its lease; the revision
// that made the key is its term. It runs the very engine of the broker, whose records
// go to etcd, one transaction for each commit of many callers, on condition that the
// term is still on: who was taken for dead cannot write, however late it wakes. The
// other managers pass on what they are asked, and answer with what it answered.
//
// The functions of jobs are called by all managers whose Run runs: the leader gives
// each job to one of them, the least busy, and of equals always the same one for a
// queue. A hand-out to another manager is in etcd before it is told. If the leader dies,
// the functions of the others run on; the next leader reads what is stored, asks each
// manager that lives for what it has, and hands out again only what was in the hands
// of one whose session has ended. So a queue is worked by one manager at a time, also
// over a change of leader.
//
// A manager that is silent for a session is dead to the others: its jobs are handed
// out again, with a greater token. It ends its session itself before etcd does, by
// the monotonic clock, and tells its functions. One that was held by its machine and
// could not is fenced: tokens (the epoch of the engine, which only rises, and a number)
// travel to drivers and agents, which refuse the lower one. A driver that cannot is
// refused when the configuration is read, unless [scheduler] says unfenced = accept.
//
// # What is asked again
//
// A call that finds no leader waits for one. A call whose answer is lost is asked again
// where that changes nothing: what only looks; what workers say, since a completion can
// be repeated; and Submit, since package and jobs get their IDs first and are known
// again. Of the others (Cancel, Retry, Skip, Done, steps of a package) it is said that
// the outcome is not known. Watch ends with ErrCompacted when another leads.
//
// # How it is stored
//
// A commit is one key; one that is too large for a transaction is written in parts
// first, under the writer's lease, so that they vanish if it never comes to the
// commit, which takes the lease off them and makes them visible. When there is enough
// of it, a snapshot is written, and what it holds is deleted. Space comes back when
// etcd compacts its history, which is for its operator to configure
// (--auto-compaction-retention), as others may want that history.
//
// # Who reaches whom
//
// Managers call the leader only, over TLS, at the address that it tells in etcd. Each
// process makes a key for itself and tells its certificate there too; that, and nothing
// else, is compared on both sides. So whoever may write below our prefix of etcd is a
// manager, no more credentials are to be configured, and none are left when a session
// ends.
//
// # Why
//
// Limits that several queues share, dependencies over queues, and one order of all
// submissions need one place that decides. A leader for each queue would have to ask
// others for each of these, in transactions that conflict where it is busiest; one
// leader decides in memory and pays one round trip for many jobs. It is the broker's
// core, so what was proven there once holds here: the suites are the same. What one
// process can decide is far more than etcd can write.
//
// A mailbox in etcd instead of connections between managers would need no address, and
// write each question and answer through a log that all members sync.
package etcd
