package api

import (
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// AddRequest adds jobs to a package that is not enqueued yet.
type AddRequest struct {
	Jobs []scheduler.Job `json:"jobs"`
}

// Added are the IDs of the jobs, in their order.
type Added struct {
	Jobs []string `json:"jobs"`
}

// DoneRequest marks a parked job as succeeded.
type DoneRequest struct {
	Result registry.Document `json:"result,omitzero"`
}

// LogRequest adds lines to a job's log.
type LogRequest struct {
	scheduler.Hold
	Lines []string `json:"lines"`
}

// CompleteRequest ends attempts: one, whose members stand in the request
// itself, or a list of them.
type CompleteRequest struct {
	scheduler.Completion
	Completions []scheduler.Completion `json:"completions,omitempty"`
}

// Completed is the answer to a list of completions: one result for each, in
// their order. To a single completion its status is the whole answer.
type Completed struct {
	Results []CompleteResult `json:"results"`
}

// CompleteResult is the status of the job, or why the completion was refused.
type CompleteResult struct {
	Status *scheduler.Status `json:"status,omitempty"`
	Error  *Problem          `json:"error,omitempty"`
}

// ReturnRequest gives a lease up.
type ReturnRequest struct {
	scheduler.Hold
	Reason string `json:"reason,omitempty"`
}

// Empty is an answer that only says that it was done.
type Empty struct{}

// JobEvent and the others are the types of an Event.
const (
	EventBegin = "begin" // the stream has begun: what changes from now on follows
	EventNode  = "node"
	EventJob   = "job"
	EventPlace = "place" // nothing that matches has changed; the cursor is newer
	EventEnd   = "end"   // the server is being shut down; the cursor resumes
	EventGone  = "gone"  // changes were lost, and the stream ends: list again
)

// Event is a change of a node or of a job.
type Event struct {
	Type   string            // EventBegin, EventNode, EventJob or EventPlace
	Cursor string            // behind it; resumes there
	Node   *NodeEvent        // of EventNode
	Job    *scheduler.Status // of EventJob, as the job is now
	Begun  *Begun            // of EventBegin
}

// NodeEvent is a change of a node.
type NodeEvent struct {
	Kind     registry.ChangeKind `json:"kind"`     // created, updated or deleted
	Node     *registry.Node      `json:"node"`     // as it is now or, if it was deleted, as it was
	Revision uint64              `json:"revision"` // of the commit
}

// Begun says what a stream of events shows.
type Begun struct {
	Nodes bool `json:"nodes"`
	Jobs  bool `json:"jobs"`
}

// EventFilter selects events. The zero EventFilter is all that there are.
type EventFilter struct {
	Nodes bool // nodes only, unless Jobs is set too
	Jobs  bool // jobs only, unless Nodes is set too; refused where the scheduler cannot tell

	Type    string // of nodes
	Queue   string // of jobs
	Action  string // of jobs
	Package string // of jobs
	Job     string // this job alone
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status"` // ok, ready, draining
}
