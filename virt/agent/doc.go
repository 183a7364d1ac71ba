// Package agent is the agent of one host: a REST interface over everything the
// host can do, each action of it a pipeline of calls to sub-agents.
//
//	a, err := agent.Open(ctx, cfg, agent.Deps{Data: "/var/lib/vagoth", Log: log})
//	go http.Serve(listener, a.Handler())
//	err = a.Run(ctx)
//
// The interface is that of the Mistify agent (package mistify has its types),
// so that its clients and sub-agents work unchanged, and its agent.json is read
// as it is (ReadMistify).
//
// # Jobs
//
// An info action is answered at once, a stream is copied as it comes, and an
// async action becomes a job: it is on disk before it is acknowledged with 202
// and its id. The jobs of one guest run one at a time, in the order in which
// they were queued; guests do not wait for each other. After every stage the
// guest that it answered is on disk, in the same record as the job's way to the
// next stage, before that begins.
//
// That a stage runs is on disk before its sub-agent is called. So after a crash
// a job that shows as running may have been begun, and one that shows as queued
// has not: it stays queued. Of the others a stage that is marked idempotent is
// queued again with a higher attempt, and any other ends as an error that names
// it, because nobody knows whether it was done.
//
// # Undo
//
// A stage can name an undo, another method of its service. When a stage fails, or
// the agent was killed in one that is not done again, the undo of that stage and of
// those before it are called, the last first, and the job ends as an error when
// they are through; a guest that the job made known is forgotten then, so that it
// can be made again. The undoing is on disk as the stages are: the job shows it, it
// goes on after a crash, and each undo is tried undo_tries times, with longer and
// longer waits between. Where one cannot be done what stands below it is left
// alone, because it may be in use; the job says what failed and what is left, the
// guest stays known, and deleting it removes the rest. Package subagent says what an
// undo must do. Without an undo nothing is taken back.
//
// # What is on the host
//
// GET /guests is what the agent knows: each guest as the last job left it. What
// is really there is asked of the sub-agents by GET /v1/status: all stages of the
// action `status` side by side, each with a StatusRequest. Their answers are put
// together; who is not known to the agent is marked as a stranger. The listing is
// complete if every stage answered in time and said that it sees all, and
// otherwise names who is in doubt: of a partial listing nothing follows.
//
// # Who may
//
// Without an Authenticator everybody on this machine may everything, but for
// pages of other sites in a browser: those are refused whatever method, header
// or name for this machine they use. With one the roles of package auth count: a
// reader looks, an operator changes and downloads, an admin also profiles and
// resets fences; a worker may nothing. CheckListen says which addresses are safe
// with what.
//
// # Fencing
//
// A guest remembers the highest token that came with a change. A lower one is of
// somebody who was given the guest before and does not know that somebody else
// was given it since; it gets 412. Of guests that are gone the newest 10,000
// are remembered too.
//
// # Why
//
// All of it is in memory and each change is one record of internal/journal,
// which holds whole new values: a job with its stage, the guest, the fence. So
// a crash never leaves a half of a change, recovery is reading, and a change
// costs the same with ten jobs in the log or a thousand. What is decided from
// what is stored is decided under the lock of one guest, held until it is on
// disk; so guests share a sync and never a decision.
//
// A job whose guest is idle and whose first stage has a free place is written as
// running at once, and the end of a stage together with the beginning of the
// next: a pipeline of n stages costs n+1 syncs, shared with those of other
// guests.
package agent
