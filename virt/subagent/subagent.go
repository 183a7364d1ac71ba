// Package subagent is the contract of the sub-agents that vagoth comes with: what
// does an agent's actions on a host, inside the agent's process or as a process
// of its own.
//
// Package virt/mistify has the wire; any program that speaks it is a sub-agent.
// Those of this contract are kinds of a menu: they have a config, and a place to
// keep what they must.
//
// # Undo
//
// A stage of a pipeline can name another method of its service that takes it
// back. It is called after the stage failed, or any stage behind it, and perhaps
// after the stage was never begun or was killed in the middle; and again until it
// succeeds. It removes what the stage made for this job (mistify.GuestRequest.Job)
// and only that: disks that a guest left here when it was undefined, or a domain
// that was there before, stay. So the stage writes down for which job it makes
// something before it makes it. Where nothing is left to remove it succeeds.
// It answers the guest without what it removed.
//
// # Why
//
// A sub-agent registers its methods at a server and knows nothing of where that
// listens. So the agent can ask it without a socket between, and it can be run
// apart, for its own user and rights, without a change.
//
// Each knows what it does for which action, and when among the others: disks
// come before the domain that has them, and go after it. So an agent whose
// config names its sub-agents needs to say nothing of its pipelines.
package subagent

import (
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Deps is what a sub-agent is given.
type Deps struct {
	Name string // of the service that it answers for
	Data string // a directory of its own, which need not be there yet
	Log  *slog.Logger
	Now  func() time.Time
}

// SubAgent does actions. Its methods are safe for concurrent use.
type SubAgent interface {
	// Register makes a server answer the methods.
	Register(s *mistify.Server)
	// Close ends what opening began. No call is under way any more.
	Close() error
}
