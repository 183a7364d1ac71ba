// Package engine is a scheduler that survives: queues, leases and packages that
// are in its log before anybody is told of them, worked on by functions of this
// process and by workers outside.
//
// # How
//
// All that the engine knows stands in memory, in one [core], and changes in one
// way only: a record is applied to it. Records are what the log holds, so opening
// the store is doing again what was done. They carry whatever was decided when
// they were made (times, random delays, who was superseded, the token), so that
// applying them needs neither clock nor configuration.
//
// Whoever wants a change brings a command. Commands that come at about the same
// time are committed together: each looks at the core, refuses or adds records;
// all records are written with one sync; then they are applied, and the callers
// answered. So the core never shows what is not on disk: a job is handed out after
// its submission is safe, the next one of a queue after the end of the one before
// is safe, and if the disk refuses, nothing has happened.
//
// Two things are applied first and written with the next commit, within a second:
// hand-outs and log lines. Nobody was promised that they survive. A job that may
// have been handed out unrecorded gets a higher attempt number than it can have
// had, and every token of a new epoch is greater than those before. A hand-out
// may happen beside a sync, since submissions and ends of attempts do not care in
// which order it stands to them. Commands that do (cancel, urgent jobs, what an
// operator or a timer does) are committed alone, and nothing is handed out
// meanwhile.
//
// A package that is being built step by step is not submitted yet. Its steps stand in
// a file of their own, which is written and not synced (drafts.go): they survive the
// process, and if the machine goes down the package is dropped as a whole, so that
// nobody goes on with half of it. Over a log that is elsewhere they are commands like
// all others.
//
//	core.go, pack.go      the state, and what each record does to it
//	record.go, codec.go   the records
//	commit.go, group.go   from commands to records on disk
//	submit.go, complete.go, due.go, operate.go, build.go   the commands
//	queue.go, dispatch.go, limit.go, next.go               who gets what
//	run.go, task.go       the workers of this process
//	circle.go, deadlock.go   waits that could never end
//	status.go, watch.go, follow.go   what can be seen, and waited for
//	snapshot.go           the state on disk, written beside all else
//	still.go              the state copied into another store, with nothing begun
//
// A queue has its jobs in a list, and in a heap those that nothing but their turn
// keeps: one that waits for a dependency costs the others nothing, and takes its
// place when the last dependency ends. Queues whose next job could begin stand in
// two lanes, for workers of this process and for those outside, there also by
// action; workers that wait are found by queue, by action, or as the one that has
// waited longest. So each step costs the logarithm of what is queued, and wakes
// nobody for whom there is nothing.
//
// A snapshot is written while jobs change: a few at a time are encoded with the
// core locked, and one that is about to change before its turn just before it
// does.
//
// # Why
//
// A database (bbolt was tried) writes a page for each node that it touches, and
// finds the next job by reading. A million jobs fit into the memory of every
// machine that runs a cluster; then the disk needs only to remember, in one file,
// in order.
//
// Leases are timed by the monotonic clock, so that no jump of the wall clock ends
// one early. Expiry, backoff and parking are times of the wall clock, as they
// outlive the process.
//
// An operator's retry of a job that waits for one that failed is refused: it would
// end at once. A handler's submission is refused if its own job would wait for
// itself over a queue that it holds; what it waits for by Wait is looked at then.
// A slot of a limit is somebody's of several, so a circle over limits is a set of
// jobs each of which waits for one of the set, or for a slot that only they hold
// (deadlock.go). Both searches are bounded: of what takes longer, waits that never
// end are not seen.
//
// A disk that is full refuses what is new, and what has ended is written when there
// is room again. A journal that failed (ErrFailed of package journal: what is on
// disk is not known any more) ends Run with an error and hands nothing out: whoever
// runs the process starts it anew, and all that was acknowledged is there.
package engine
