// Package monitor keeps the registry true to what the hosts say.
//
// A Monitor polls hypervisors side by side and writes what it saw, never what
// it wishes: it does not move, restart or unassign anything because a host
// cannot be asked.
//
// # Why
//
// A host that does not answer may be dead, or cut off, or slow; from outside
// nobody can tell. A VM that is started elsewhere on such a guess runs twice
// and destroys its disk. So the only way out of "unreachable" other than the
// host's own answer is a person's confirmation, which is recorded.
package monitor

import (
	"context"
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Monitor polls. Its methods are safe for concurrent use; two polls of one host
// never run at once.
type Monitor interface {
	// Poll polls the hosts with the given IDs, or all of them if there are
	// none, once, and returns when every one has answered or run out of time.
	// A host that cannot be asked is in the Report, it is no error.
	Poll(ctx context.Context, hosts ...string) (Report, error)
	// Run polls on its schedule until ctx ends, and returns when its polls
	// have ended. Of several managers that share a cluster each polls its part.
	Run(ctx context.Context) error
	Close() error
}

// Report is what a poll found.
type Report struct {
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	Hosts   []HostReport  `json:"hosts"`   // ordered by ID
	Written int           `json:"written"` // nodes that changed
}

// HostReport is what a poll found of one host.
type HostReport struct {
	Host     string         `json:"host"`
	Name     string         `json:"name"`
	State    virt.HostState `json:"state"`
	Error    string         `json:"error,omitempty"`
	Took     time.Duration  `json:"took"`
	Complete bool           `json:"complete"`          // the listing
	Guests   int            `json:"guests"`            // in the listing
	Skipped  string         `json:"skipped,omitempty"` // why the host was not asked, such as a poll already under way
	Findings []Finding      `json:"findings,omitempty"`
}

// Finding is something that changed or that somebody has to look at.
type Finding struct {
	Kind string `json:"kind"` // state, missing, unknown, seen-twice, assigned, adopted, stranger
	Node string `json:"node,omitempty"`
	Text string `json:"text"`
}

// The kinds of findings.
const (
	FoundState    = "state"      // a state changed
	FoundMissing  = "missing"    // a VM is not on its host
	FoundTwice    = "seen-twice" // an alarm: a VM is on two hosts
	FoundAssigned = "assigned"   // a VM without a parent was found on one host
	FoundAdopted  = "adopted"    // an unknown VM has become a node
	FoundStranger = "stranger"   // an unknown VM was listed
)

// Deps is what a monitor is given.
type Deps struct {
	Cluster virt.Cluster
	Jobs    scheduler.Inspector // which jobs are in flight
	Log     *slog.Logger
	Now     func() time.Time
	Divide  registry.Divider // whose a host is to poll where several managers share a cluster; nil is this one's
	Polled  func(Report)     // is told of each poll, asked for or scheduled; it must not block. nil is nobody
}
