package registry

import "time"

// Remote is a Registry whose store is elsewhere and can be away. While it is,
// reads answer from the last state that was seen.
type Remote interface {
	Health() Health
}

// Health is how it stands with a Remote.
type Health struct {
	Engine   string    // what keeps the store
	Contact  time.Time // when it last answered; reads are as of then, or newer
	Err      error     // why it does not answer now; nil if it does
	Revision uint64    // the last commit that is seen here
	Head     uint64    // the last commit that the store has told of
	Members  []Member  // who had it open then
}
