// Package worker runs jobs for a manager that is somewhere else.
//
// A Worker has a table of actions, each with the parameters that it takes, and a
// scheduler.Broker: the client of package api, or a scheduler in this process.
// Run asks for jobs with long polling, checks each one's parameters, calls its
// function, beats while it runs, and tells how it ended.
//
//	w, err := worker.New(client, worker.Config{
//		Queues:  []string{"storage"},
//		Actions: []scheduler.Action{{Name: "volume_create", Params: …, Run: create}},
//	})
//	…
//	err = w.Run(ctx) // until ctx ends
//
// What a function can rely on:
//
//   - Its parameters are there and of their types. A job with others, or with an
//     action that is not in the table, fails by itself, and the next one is taken.
//   - Its context ends when the job is cancelled, its time is over, the lease is
//     lost or the worker stops; context.Cause says which. It returns soon after.
//   - A panic fails its job alone.
//   - It may be called again for the same job, with a higher attempt: it begins by
//     looking at what is there already. Task.Job has attempt and token in its trail.
//
// # Why
//
// The table holds scheduler.Action, the same type that the manager's own actions
// have, so that a function moves from one side to the other without a change, and
// what it takes is declared and checked by the same code.
//
// The lease is what keeps two workers off one resource. So a worker that hears
// nothing from the manager for the length of its lease ends what it does, even if
// the manager is only slow: by then somebody else may have the job. It counts that
// time by its own clock, from before it asked, so clocks need not agree. Longer
// leases ride out longer restarts of the manager; they also delay the next attempt
// after this machine burns down.
//
// How an attempt ended is told until it is taken or known to be too late, since
// work that was done and not told is done again.
package worker
