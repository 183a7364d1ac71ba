package scheduler

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Operator is what people do to jobs and queues. The trail of ctx says who and
// why, and is kept with what they did.
type Operator interface {
	Canceller
	// Retry gives a parked, failed, cancelled or expired job another round of
	// attempts, at the head of its queue. WithDependents does the same to those
	// that ended because of it, and to those that ended because of these.
	Retry(ctx context.Context, id string, o RetryOptions) ([]Status, error)
	// Skip cancels a parked job and lets its dependents go on.
	Skip(ctx context.Context, id string) (Status, error)
	// Done marks a parked job as succeeded: somebody did by hand what it could
	// not.
	Done(ctx context.Context, id string, result registry.Document) (Status, error)
	// SetQueue pauses, resumes or drains a queue, which need not exist yet.
	SetQueue(ctx context.Context, name string, m QueueMode) (QueueStatus, error)
}

// RetryOptions modify Retry.
type RetryOptions struct {
	WithDependents bool `json:"with_dependents,omitempty"`
}

// QueueMode is what a queue does.
type QueueMode string

// The modes of a queue.
const (
	Open     QueueMode = "open"
	Paused   QueueMode = "paused"   // hands out nothing; takes jobs
	Draining QueueMode = "draining" // takes no jobs; hands out what it has
)

// QueueInspector tells what stands in the queues.
type QueueInspector interface {
	// Queue returns one queue, an empty open one if nothing is known of it.
	Queue(ctx context.Context, name string) (QueueStatus, error)
	// Queues yields the queues that have jobs which have not ended, are not
	// open, or stand in the configuration, ordered by name.
	Queues(ctx context.Context) iter.Seq2[QueueStatus, error]
	// Limits returns the limits that are configured by name or in use, ordered
	// by name.
	Limits(ctx context.Context) ([]LimitStatus, error)
	// Stats returns the figures of the scheduler as a whole.
	Stats(ctx context.Context) (Stats, error)
}

// QueueStatus is what stands in a queue.
type QueueStatus struct {
	Name      string    `json:"name"`
	Mode      QueueMode `json:"mode"`
	Reason    string    `json:"reason,omitempty"` // of the mode
	Remote    bool      `json:"remote,omitempty"` // it is left to workers outside
	Depth     int       `json:"depth"`            // jobs that have not ended and do not run, the parked apart
	Parked    int       `json:"parked,omitempty"`
	Blocked   int       `json:"blocked,omitempty"`    // of Depth: those that wait for a dependency
	BlockedBy []string  `json:"blocked_by,omitempty"` // some of the jobs that those wait for
	Running   string    `json:"running,omitempty"`    // the job that holds the queue
	Waiting   string    `json:"waiting,omitempty"`    // why the next one does not begin
	Oldest    time.Time `json:"oldest,omitzero"`      // when the longest waiting job was submitted
	Rate      string    `json:"rate,omitempty"`       // hand-outs, such as 10/s
}

// LimitStatus is what a limit lends out.
type LimitStatus struct {
	Name    string   `json:"name"`
	Slots   int      `json:"slots,omitempty"` // 0 is no bound
	Rate    string   `json:"rate,omitempty"`
	Taken   int      `json:"taken"`
	Holders []string `json:"holders,omitempty"` // some of the jobs that hold a slot
	Waiting int      `json:"waiting"`           // jobs that wait for it
}

// Stats are figures of a scheduler since it was opened, and of what is in it.
type Stats struct {
	Waiting  int `json:"waiting"`
	Blocked  int `json:"blocked"` // of Waiting
	Running  int `json:"running"`
	Parked   int `json:"parked"`
	History  int `json:"history"`  // ended jobs that are kept
	Building int `json:"building"` // packages that are not enqueued yet
	Workers  int `json:"workers"`  // workers outside that wait for a job now

	Submitted uint64           `json:"submitted"`
	HandedOut uint64           `json:"handed_out"`
	Lost      uint64           `json:"lost"` // leases that ran out
	Ended     map[State]uint64 `json:"ended"`

	Records uint64 `json:"records"` // written to the journal
	Syncs   uint64 `json:"syncs"`
	Bytes   uint64 `json:"bytes"`
}

// Limiter is a Task whose scheduler shares out limits.
type Limiter interface {
	// TakeLimits returns when the attempt holds a slot of each of the limits
	// and of no others, or with ctx's error. An attempt that holds them all
	// already is answered at once; any other first gives back what it holds and
	// then takes all together, so that attempts never wait for each other in a
	// circle. The time that it waits counts for no timeout, and the job shows
	// what it waits for.
	TakeLimits(ctx context.Context, names ...string) error
}

// TakeLimits takes the limits if the task's scheduler shares them out.
func TakeLimits(ctx context.Context, t Task, names ...string) error {
	if l, ok := t.(Limiter); ok {
		return l.TakeLimits(ctx, names...)
	}
	return nil
}

// HostLimit is the limit that jobs of VMs on a host take.
func HostLimit(host string) string { return "host:" + host }

// Builder makes packages step by step.
type Builder interface {
	// NewPackage makes an empty package, with p's ID if it has one, and adds
	// p's jobs. A package that is not enqueued expires; and what is not enqueued may
	// be dropped, as a whole, if the machine goes down.
	NewPackage(ctx context.Context, p Package) (PackageStatus, error)
	// AddJobs adds jobs to a package that is not enqueued yet, and returns
	// their IDs. They are checked now; what they depend on may be in the
	// package, by index or ID, or have been submitted earlier.
	AddJobs(ctx context.Context, id string, jobs ...Job) ([]string, error)
	// Enqueue submits the package, all of it or nothing. Once more gives the
	// same answer and queues nothing.
	Enqueue(ctx context.Context, id string) ([]Status, error)
	// Package returns a package, one that has ended as long as its jobs are
	// kept.
	Package(ctx context.Context, id string) (PackageStatus, error)
	// Packages yields packages, the newest first.
	Packages(ctx context.Context) iter.Seq2[PackageStatus, error]
	// CancelPackage cancels all of its jobs that have not ended, or discards a
	// package that is not enqueued.
	CancelPackage(ctx context.Context, id string) (PackageStatus, error)
}

// PackageState is where a package stands.
type PackageState string

// The states of a package.
const (
	Building PackageState = "building" // jobs can be added
	Queued   PackageState = "queued"   // some of its jobs have not ended
	Ended    PackageState = "ended"
)

// PackageStatus is a package and what became of it.
type PackageStatus struct {
	ID        string        `json:"id"`
	State     PackageState  `json:"state"`
	Jobs      []string      `json:"jobs"` // their IDs, in the order added
	Counts    map[State]int `json:"counts,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	ExpiresAt time.Time     `json:"expires_at,omitzero"` // if it is not enqueued before
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	Trail     trail.Trail   `json:"trail,omitzero"`
}

// Watcher tells of changes as they happen.
type Watcher interface {
	// Watch yields the changes after the cursor, each once and in their order,
	// until ctx ends. An empty cursor begins with what happens now. It ends
	// with ErrCompacted when changes after the cursor are gone, as they are
	// when the reader is too slow, and when the scheduler was opened again.
	Watch(ctx context.Context, cursor string, f Filter) iter.Seq2[Event, error]
	// Cursor is the place behind the last change so far: Watch from there yields
	// what follows. It lets a reader resume who has seen no change yet.
	Cursor(ctx context.Context) (string, error)
}

// Event is a change of a job.
type Event struct {
	Cursor string `json:"cursor"` // after it
	Job    Status `json:"job"`    // as it is now
}

// LogFollower wakes those who follow a job's log.
type LogFollower interface {
	// LogAfter gives the lines of a job's log behind the first so many. If there
	// are none it waits for the next, for the job's end or until it is parked,
	// or for the end of ctx, which is no error.
	LogAfter(ctx context.Context, id string, after int) (LogPart, error)
}

// LogPart is a part of a job's log.
type LogPart struct {
	Lines []Line `json:"lines"`
	Next  int    `json:"next"`  // the lines up to here: ask for those after it
	State State  `json:"state"` // of the job; when it has ended nothing follows
}

func plural(n int) string {
	if n == 1 {
		return "one job"
	}
	return strconv.Itoa(n) + " jobs"
}

// Rate is a number of hand-outs in a time.
type Rate struct {
	Count int
	Per   time.Duration
}

// String is such as 10/s; no rate is empty.
func (r Rate) String() string {
	switch r.Per {
	case 0:
		return ""
	case time.Second:
		return fmt.Sprintf("%d/s", r.Count)
	case time.Minute:
		return fmt.Sprintf("%d/m", r.Count)
	case time.Hour:
		return fmt.Sprintf("%d/h", r.Count)
	}
	return fmt.Sprintf("%d/%s", r.Count, r.Per)
}
