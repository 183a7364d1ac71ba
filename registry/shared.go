package registry

import (
	"context"
	"time"
)

// Restorer is what a Tx can do beyond writing that lets a copy of a store keep
// when, and on whose behalf, its nodes were written.
type Restorer interface {
	// Restore gives a node that this Update has written the times and the trail of
	// s in place of the Update's own. The rest of s is not used.
	Restore(id string, s Stamp) error
}

// Shared is a Registry whose store several processes can have open at once.
type Shared interface {
	// Store names the store: handles of one store agree on it.
	Store() string
	// Members asks the store who has it open. A process that was killed is among
	// them until its mark expires.
	Members(ctx context.Context) ([]Member, error)
}

// Member is a process that has a shared store open.
type Member struct {
	ID    string    `json:"id"` // of this opening
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Self  bool      `json:"self,omitempty"`  // it is who asks
	Works []string  `json:"works,omitempty"` // what it does as one of several, see Divider
}

// Divider is a Registry that several processes share, and that tells them which
// part of a work is whose.
type Divider interface {
	// Divide makes this process one of those that share the work, which is one word,
	// until Leave. longest is how long one piece of it takes at most, once Mine has
	// said yes. Where the store cannot be asked nothing is this process's until it can.
	Divide(ctx context.Context, work string, longest time.Duration) Share
}

// Share is a process's part of a work.
type Share interface {
	// Mine reports whether what id names is this process's to do, now. Of all that
	// take part one at a time is told so, and when it has ended, another, without
	// anybody's doing.
	Mine(id string) bool
	// Leave gives the part up.
	Leave()
}
