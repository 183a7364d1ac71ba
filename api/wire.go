package api

import (
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Limits of a request.
const (
	MaxBody      = 1 << 20          // bytes of a JSON body
	MaxPackage   = 16 << 20         // bytes of a package of jobs
	PageSize     = 500              // nodes of a page, or jobs of a list, where the request names no limit
	MaxPage      = 5000             // nodes of a page, or jobs of a list
	MaxPageBytes = 8 << 20          // of documents, after which a page ends early
	MaxImport    = int64(4 << 30)   // bytes of an import
	MaxWait      = 10 * time.Minute // for the end of a job
	MaxLines     = 1000             // lines of a log in one request
	MaxComplete  = scheduler.MaxNext
)

// The headers of a trail. Their values are escaped as a URL's path segment.
const (
	HeaderTransaction = "Vagoth-Transaction"
	HeaderSource      = "Vagoth-Source"
	HeaderReason      = "Vagoth-Reason"
)

// HeaderConsistent with the value true has a request see all that any manager
// acknowledged before, where several share a registry: the manager that is asked
// catches up first.
const HeaderConsistent = "Vagoth-Consistent"

// Item is a node with what the server knows how to show of it.
type Item struct {
	Node       *registry.Node `json:"node"`
	ParentName string         `json:"parent_name,omitempty"`
	View       []Cell         `json:"view,omitempty"`
	Seen       *Seen          `json:"seen,omitempty"`
	Alarm      string         `json:"alarm,omitempty"`
}

// Cell is one column of a node's type with its value.
type Cell struct {
	Column string `json:"column"`
	Value  string `json:"value"`
	Wide   bool   `json:"wide,omitempty"` // for wide tables only
}

// Seen is the last evidence of a node's state. It may have been seen later
// still: what changes nothing is written only now and then.
type Seen struct {
	At     time.Time     `json:"at"`
	Age    time.Duration `json:"age"` // nanoseconds
	Reason string        `json:"reason,omitempty"`
}

// Page is a part of a list of nodes, ordered by ID.
type Page struct {
	Items []Item `json:"items"`
	Next  string `json:"next,omitempty"` // the `after` of the next page; "" on the last one
}

// CreateRequest asks for a node.
type CreateRequest struct {
	provisioner.Spec
	DryRun bool `json:"dry_run,omitempty"` // answer with the draft and create nothing
}

// Created is the answer to a CreateRequest: the node, or the draft of a dry run.
type Created struct {
	Node  *registry.Node  `json:"node,omitempty"`
	Draft *registry.Draft `json:"draft,omitempty"`
}

// Patch changes a node. A definition is changed in a request of its own.
//
// Members of the metadata that vagoth keeps itself (disks_on, evidence, …) are
// changed with Force only, and a key that follows from the definition is not
// released.
type Patch struct {
	Name       *string            `json:"name,omitempty"`
	Tenant     *string            `json:"tenant,omitempty"`
	Tags       map[string]*string `json:"tags,omitempty"`       // null removes
	Metadata   map[string]any     `json:"metadata,omitempty"`   // null removes
	Claim      []string           `json:"claim,omitempty"`      // unique keys
	Release    []string           `json:"release,omitempty"`    // unique keys
	Definition map[string]any     `json:"definition,omitempty"` // a merge patch (RFC 7396)
	Force      bool               `json:"force,omitempty"`      // change a definition in use, or what vagoth keeps itself
	Revision   uint64             `json:"revision,omitempty"`   // refuse if the node has another by now
}

// JobRequest asks for an action on a node, on the node's own queue.
type JobRequest struct {
	Action  string            `json:"action"`
	Params  registry.Document `json:"params,omitzero"` // beside vm, which is the node
	Timeout scheduler.Span    `json:"timeout,omitzero"`
	Key     string            `json:"key,omitempty"`

	KeepQueued bool `json:"keep_queued,omitempty"` // an urgent action that supersedes nothing
}

// DecisionRequest asks where a VM would be placed now.
type DecisionRequest struct {
	Host string `json:"host,omitempty"` // ID or name of a host that is asked for
}

// DecisionAnswer says where and why.
type DecisionAnswer struct {
	Decision *allocator.Decision `json:"decision"`
	Error    string              `json:"error,omitempty"` // why there is no host
}

// PollRequest asks for a poll of some hosts, by ID or name, or of all.
type PollRequest struct {
	Hosts []string `json:"hosts,omitempty"`
}

// ConfirmRequest is an operator's word that a host is down. How they made sure
// is the reason of the trail, without which it is refused.
type ConfirmRequest struct {
	// AbandonDisks gives up the disks on the host, so that its VMs can be placed
	// elsewhere with new ones.
	AbandonDisks bool `json:"abandon_disks,omitempty"`
}

// Confirmed are the VMs that were freed.
type Confirmed struct {
	Freed []string `json:"freed"`
}

// MaintenanceRequest switches a host's maintenance.
type MaintenanceRequest struct {
	On bool `json:"on"`
}

// ImportReport is what an import did or, on a dry run, would do.
type ImportReport struct {
	registry.Counts
	DryRun bool `json:"dry_run,omitempty"`
}

// Version says what answers.
type Version struct {
	Version string            `json:"version"`
	Go      string            `json:"go"`
	Uses    map[string]string `json:"uses"` // section to kind
	Store   *Store            `json:"store,omitempty"`
	Shared  *Shared           `json:"shared,omitempty"`
}

// Shared is how it stands with a scheduler that several managers share.
type Shared struct {
	Managers []scheduler.Manager `json:"managers"`        // as they were seen last
	Error    string              `json:"error,omitempty"` // why nothing newer is seen
}

// Store is how it stands with a registry whose store is elsewhere.
type Store struct {
	Engine   string    `json:"engine"`
	Contact  time.Time `json:"contact"`         // when it last answered: what is read is as of then, or newer
	Error    string    `json:"error,omitempty"` // why it does not answer now
	Revision uint64    `json:"revision"`        // the last commit that this manager has seen
	Head     uint64    `json:"head"`            // the last commit that the store has told of

	Members []registry.Member `json:"members,omitempty"` // the processes that had it open then
	Engines []registry.Engine `json:"engines,omitempty"` // the members of the engine that keeps it, as they were looked at last
}

// Problem is the body of every error.
type Problem struct {
	Message  string              `json:"message"`
	Code     string              `json:"code"`
	Owner    string              `json:"owner,omitempty"` // of a unique key that is taken
	Decision *allocator.Decision `json:"decision,omitempty"`
	After    scheduler.Span      `json:"retry_after,omitzero"` // when to try again, as the header Retry-After says
	Trail    trail.Trail         `json:"trail,omitzero"`
}
