// Package sync is the scheduler without a daemon: Submit runs the package's jobs
// and returns when they have ended.
//
// It keeps the promises of package scheduler for all callers of one process:
// queues, order, dependencies, retries, urgency, idempotency keys, cancelling.
// It keeps nothing on disk, so it refuses what needs that: parking, and limits,
// which are a daemon's to share out.
//
// # How
//
// A caller of Submit looks after its own package: it starts what is ready, each
// job on a goroutine of its own that Submit waits for, and sleeps until one of
// its jobs can begin. Whoever ends a job wakes those whose turn has come. There
// is no other goroutine. When the caller's context ends its jobs are cancelled:
// nobody is left who could wait for them.
//
// # Why
//
// For a command line that opens the cluster, does something and goes, a queue
// that outlives the process would promise what nobody is there to keep. All of
// the API is the same with it and with a daemon's scheduler; so what is written
// against one works with the other.
//
// Handlers may submit jobs and wait for them. If that could never end, because
// the new job would wait, over however many others, for the one that submits it,
// the submission is refused: the graph of who waits for whom only grows when
// jobs are submitted, so that is the time to look.
package sync
