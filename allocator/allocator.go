// Package allocator decides where something is placed, and says why.
//
// An Allocator looks at every host of one snapshot of the registry, rules out
// those that do not fit the Request and scores the others. Its Decision lists,
// for every host, what ruled it out (required against observed) or its score by
// term. It reserves nothing: whoever places reads the chosen host and its
// children again in the transaction that sets the parent, and checks with Fits.
//
// # Why
//
// Used capacity is the sum over a host's children, never a stored counter, so
// there is nothing that can drift. The Request is the allocator's own, so that
// what is placed need not be a virtual machine.
package allocator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// Allocator chooses hosts. Its methods are safe for concurrent use. The same
// snapshot and request give the same decision.
type Allocator interface {
	// Decide returns the decision on the reader's snapshot. A request that fits
	// nowhere is a *NoHostError that holds the Decision.
	Decide(ctx context.Context, r registry.Reader, req Request) (*Decision, error)
}

// Resources is an amount of what hosts have. A host's capacity and a child's
// demand are both Resources.
type Resources struct {
	CPU    int64            `json:"cpu"`              // virtual CPUs, or hardware threads of a host
	Memory int64            `json:"memory"`           // MB (2^20 bytes)
	Disk   int64            `json:"disk"`             // MB
	Custom map[string]int64 `json:"custom,omitempty"` // such as gpu
}

// Request is what is to be placed.
type Request struct {
	ID          string      `json:"id"`   // the node to be placed, or "" for a question in general
	Type        string      `json:"type"` // what a host must be able to run, such as "vm" or "container"
	Need        Resources   `json:"need"`
	Hint        string      `json:"hint,omitempty"` // the host that was asked for by name
	Constraints Constraints `json:"constraints,omitzero"`
}

// Constraints narrow and order the hosts.
type Constraints struct {
	Hosts       []string           `json:"hosts,omitempty"`        // only these, such as where its disks are
	Exclude     []string           `json:"exclude,omitempty"`      // none of these
	Require     map[string]*string `json:"require,omitempty"`      // tags that the host has; nil means that it exists
	Forbid      map[string]*string `json:"forbid,omitempty"`       // tags that the host has not
	Apart       []string           `json:"apart,omitempty"`        // tags, key or key=value: never beside a child that has the same
	PreferApart []string           `json:"prefer_apart,omitempty"` // the same as a wish
	Prefer      map[string]*string `json:"prefer,omitempty"`       // host tags as a wish
}

// Decision is what an allocator found.
type Decision struct {
	Request  Request   `json:"request"`
	Host     string    `json:"host,omitempty"` // the choice, or "" if none fits
	Policy   string    `json:"policy"`         // how it was scored
	Revision uint64    `json:"revision"`       // of the snapshot
	At       time.Time `json:"at"`
	// Over is the overcommit of hosts that leave theirs at 0. Whoever reserves
	// the chosen host hands it to Fits, so that both count alike.
	Over Overcommit `json:"over,omitzero"`
	// Hosts yields the verdict on every host, the best first and the ruled-out
	// ones, by ID, behind them. It may compute them when asked.
	Hosts func() []Verdict `json:"-"`
}

// Verdict is what a Decision says of one host.
type Verdict struct {
	Host   string  `json:"host"`
	Name   string  `json:"name,omitempty"`
	Ruled  []Ruled `json:"ruled_out,omitempty"` // empty if the host fits
	Score  float64 `json:"score"`
	Terms  []Term  `json:"terms,omitempty"` // they add up to Score
	Chosen bool    `json:"chosen,omitempty"`
}

// Ruled is one reason why a host does not fit.
type Ruled struct {
	Filter   string `json:"filter"` // such as "memory"
	Required string `json:"required"`
	Observed string `json:"observed"`
}

// Term is one weighted part of a score.
type Term struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	Value  float64 `json:"value"` // 0 (worst) to 1 (best); it adds Weight*Value
}

// ErrNoHost: the request fits nowhere now.
var ErrNoHost = errors.New("no host fits")

// Deps is what an allocator is given.
type Deps struct {
	Log  *slog.Logger
	Now  func() time.Time
	Host func(*registry.Node) (Host, bool)       // reads a node as a host; false if it is none
	Need func(*registry.Node) (Resources, error) // what a child takes of its host; depends on its type and definition only
}

// Host is a node as the allocator sees it.
type Host struct {
	ID, Name    string
	Types       []string  // what it can run; empty means everything
	Capacity    Resources // of the hardware
	Overcommit  Overcommit
	State       string // "up" is the only one in which it is given anything
	Maintenance bool
	Tags        map[string]string
}

// Overcommit multiplies a capacity; 0 takes the allocator's default.
type Overcommit struct {
	CPU    float64 `json:"cpu,omitempty"`
	Memory float64 `json:"memory,omitempty"`
	Disk   float64 `json:"disk,omitempty"`
}
