package scheduler

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Runner is a scheduler whose own workers run the configured actions.
type Runner interface {
	// Run works until ctx ends. Then it hands out nothing more, ends what runs
	// through its context with ErrHandedBack as the cause, waits for it and
	// hands back the jobs whose functions answered with that cause: they keep
	// their place and begin again with a higher attempt. Only one Run at a time.
	// An error says that the scheduler can do nothing more until it is opened
	// again, as when its disk has failed; nothing that was acknowledged is lost.
	Run(ctx context.Context, o RunOptions) error
}

// RunOptions modify Run.
type RunOptions struct {
	// Submitted runs only jobs that were submitted or retried through this
	// handle since it was opened: what a command does that opens the store of
	// a daemon that is not there.
	Submitted bool
}

// Broker hands jobs to workers outside: agents in any language. Its methods are
// safe for concurrent use.
//
// A worker shows the job's ID and token with everything that it says. What
// comes from a worker whose lease is over, or never was, changes nothing and is
// answered with ErrStale.
type Broker interface {
	// Next leases up to w.Max jobs that may begin now. With nothing to do it
	// waits up to w.Wait, and then returns an empty list, which is no error.
	Next(ctx context.Context, w Want) ([]Lease, error)
	// Heartbeat extends the lease to its full length from now, keeps the
	// progress, and tells the worker whether to stop. It writes nothing to disk.
	Heartbeat(ctx context.Context, b Beat) (Beaten, error)
	// AddLog adds lines to the job's log.
	AddLog(ctx context.Context, h Hold, lines ...string) error
	// Complete ends the attempts of the leases. Each entry stands alone: the
	// errors are those of the entries, in their order, nil for those that were
	// taken. What was taken is on disk. One that was taken already and comes
	// again, with the same token and content, before a later attempt has begun
	// changes nothing and is answered with the job as it is: a worker whose
	// answer was lost may ask again, also after the scheduler was opened again.
	Complete(ctx context.Context, list ...Completion) ([]Status, []error)
	// HandBack gives the lease up without an end: the job keeps its place and
	// is handed out again at once, with a higher attempt that counts for no
	// retry. A worker does it when it is stopped.
	HandBack(ctx context.Context, h Hold, reason string) error
}

// Want is what a worker asks for.
type Want struct {
	Worker  string   `json:"worker,omitempty"`  // its name, for people
	Queues  []string `json:"queues,omitempty"`  // from these only; none are all that are left to workers outside
	Actions []string `json:"actions,omitempty"` // it can do these only; none are all
	Max     int      `json:"max,omitempty"`     // at most so many; 0 is 1, the most is MaxNext
	Wait    Span     `json:"wait,omitzero"`     // how long to wait for the first, at most MaxWait
	Lease   Span     `json:"lease,omitzero"`    // how long it may be silent; 0 is the scheduler's, MinLease to MaxLease

	Identity string `json:"-"` // who it is, see Hold
}

// Bounds of Want.
const (
	MaxNext       = 1_000
	MaxWantQueues = 1_000
	MaxWait       = time.Minute
	MinLease      = time.Second
	MaxLease      = 24 * time.Hour
)

// Hold is what a worker shows: the job, and the token of its lease.
//
// Identity is who shows it. A worker does not say it: whoever let it in by its
// credentials does. A lease is good for the identity that took it, and for
// somebody of this machine, whose identity is empty; so a token that was seen in
// a log or a listing is of no use to others.
type Hold struct {
	Job      string      `json:"job"`
	Token    trail.Token `json:"token"`
	Identity string      `json:"-"`
}

// Lease is a job in the hands of a worker.
type Lease struct {
	Hold
	Queue    string            `json:"queue"`
	Action   string            `json:"action"`
	Params   registry.Document `json:"params,omitzero"`
	Package  string            `json:"package"`
	Attempt  int               `json:"attempt"`
	Length   Span              `json:"length"`            // the worker beats before it is over
	Until    time.Time         `json:"until"`             // by the scheduler's clock
	Deadline time.Time         `json:"deadline,omitzero"` // of the attempt, if it has a timeout
	Trail    trail.Trail       `json:"trail"`             // with job, attempt and token
}

// Beat says that a worker lives.
type Beat struct {
	Hold
	Percent  int    `json:"percent,omitempty"`
	Progress string `json:"progress,omitempty"` // an empty one keeps percent and words as they were
}

// Beaten is the answer to a Beat.
type Beaten struct {
	Until  time.Time `json:"until"`
	Cancel string    `json:"cancel,omitempty"` // why the worker is to stop and complete; empty is no
}

// Completion is how an attempt ended.
type Completion struct {
	Hold
	Result registry.Document `json:"result,omitzero"`
	Error  string            `json:"error,omitempty"` // not empty: it failed
	Code   string            `json:"code,omitempty"`  // the error's class
	Final  bool              `json:"final,omitempty"` // failed, and another attempt makes no sense
}

// Errors of brokers; test with errors.Is.
var (
	// ErrStale: the lease is over, or is somebody else's.
	ErrStale = errors.New("no such lease")
	// ErrTooMany: too much is queued; see TooManyError.
	ErrTooMany = errors.New("too many jobs")
	// ErrCompacted: a cursor is too old, or its reader too slow.
	ErrCompacted = errors.New("the events after the cursor are gone")
	// ErrHandedBack is the cause of a handler's context when its job is to be
	// given back, since the program ends. A handler that returns it, or an
	// error that wraps it, leaves its job to the next attempt.
	ErrHandedBack = errors.New("handed back")
)

// FinalError is the error of a handler after which another attempt makes no
// sense. It reads as Err does.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *FinalError) Unwrap() error { return e.Err }

// IsFinal reports whether err says that another attempt makes no sense.
func IsFinal(err error) bool {
	var f *FinalError
	return errors.As(err, &f)
}

// TooManyError is an ErrTooMany with the time after which to try again.
type TooManyError struct {
	Queued, Max int
	After       time.Duration
}

func (e *TooManyError) Error() string {
	return "too many jobs are queued (" + plural(e.Queued) + ", at most " + plural(e.Max) + " are taken): wait, or cancel some"
}

// Is makes the error an ErrTooMany.
func (e *TooManyError) Is(target error) bool { return target == ErrTooMany }

// Shared is a scheduler that several managers share, so that a job may be given to
// another one while this one, held up, goes on with it.
type Shared interface {
	// NeedsFencing reports whether every driver is to refuse calls of lower tokens.
	NeedsFencing() bool
	// Managers tells who shares it, ordered by host and name, as it was seen last; err
	// says why nothing newer is seen.
	Managers() (all []Manager, err error)
}

// Manager is one of several that share a scheduler.
type Manager struct {
	Name    string `json:"name"` // of its session
	Host    string `json:"host,omitempty"`
	Address string `json:"address,omitempty"` // where the others reach it
	Leads   bool   `json:"leads,omitempty"`   // it decides what is done next
	Self    bool   `json:"self,omitempty"`    // it is who asks
}

// Server is a scheduler with a protocol of its own, which the daemon serves for
// it beside the management interface.
type Server interface {
	// Listeners may be empty. Each address is on the loopback.
	Listeners() []Listener
}

// Listener is an address and what is served there.
type Listener struct {
	Name    string // for the log
	Address string // host:port
	Handler http.Handler
	Small   bool // requests and answers are small and none is a stream, so that it can be served with less effort
}
