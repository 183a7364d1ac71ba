package registry

import (
	"context"
	"time"
)

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
	Engines  []Engine  // what the store is made of, as it was looked at last
}

// Engine is one of several that keep a store together.
type Engine struct {
	Name   string `json:"name"`
	Leads  bool   `json:"leads,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`  // of its files
	Error  string `json:"error,omitempty"`  // why it does not answer, or what it complains of
	Behind uint64 `json:"behind,omitempty"` // how many of the log's entries that it knows of it has not applied yet
}

// Breaker is a Registry that can come to take no writes any more, for as long as it
// is open: what its store holds is not known then. Reads go on.
type Breaker interface {
	// Broken returns why, when that has happened, and nil when ctx has ended.
	Broken(ctx context.Context) error
}
