package scheduler

import (
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Job is one call of an action, as its submitter wants it.
type Job struct {
	ID     string            `json:"id,omitempty"` // made at submission if empty
	Queue  string            `json:"queue"`        // the resource that the job needs for itself, such as a VM's ID
	Action string            `json:"action"`
	Params registry.Document `json:"params,omitzero"`
	After  []Dependency      `json:"after,omitempty"`

	Timeout Span      `json:"timeout,omitzero"` // of one attempt; 0 takes the action's
	Expires time.Time `json:"expires,omitzero"` // it does not begin after this
	Retry   Retry     `json:"retry,omitzero"`
	Limits  []string  `json:"limits,omitempty"` // names of limits that it takes a slot of

	Urgent     bool `json:"urgent,omitempty"`      // overtakes waiting jobs of its queue
	KeepQueued bool `json:"keep_queued,omitempty"` // an urgent job that supersedes nothing
	// Key is an idempotency key, scoped to the trail's source. Who submits the same
	// content again with it gets the same job. Limits are no part of the content:
	// they say when a job may begin, and depend on where things stand by then.
	Key   string      `json:"key,omitempty"`
	Trail trail.Trail `json:"trail,omitzero"`
}

// Dependency is a job that must end before another begins. Either ID or Index
// names it.
type Dependency struct {
	ID     string  `json:"id,omitempty"`
	Index  *int    `json:"index,omitempty"`  // a position in the same package, counting from 0
	Accept []State `json:"accept,omitempty"` // ends that let the dependent go on; none means succeeded only
}

// Accepts reports whether the dependent may begin after the dependency ended
// as s.
func (d Dependency) Accepts(s State) bool {
	if len(d.Accept) == 0 {
		return s == Succeeded
	}
	for _, a := range d.Accept {
		if a == s {
			return true
		}
	}
	return false
}

// Retry says what follows an attempt that failed. The zero Retry is one attempt.
type Retry struct {
	Attempts int     `json:"attempts,omitempty"` // that may fail; 0 and 1 are one
	Backoff  Span    `json:"backoff,omitzero"`   // before the second attempt; doubled for each one more
	Max      Span    `json:"max,omitzero"`       // the longest backoff; 0 is 5 minutes
	Jitter   float64 `json:"jitter,omitempty"`   // up to this part of a backoff is added at random, 0 to 1
	Park     bool    `json:"park,omitempty"`     // park after the last attempt instead of failing
}

// defaultMaxBackoff is the longest backoff of a job that names none.
const defaultMaxBackoff = 5 * time.Minute

// Delay is the time between an attempt that failed and the next, after so many
// that failed. random is from 0 to 1, for the jitter.
func (r Retry) Delay(failed int, random float64) time.Duration {
	limit := r.Max.D()
	if limit <= 0 {
		limit = defaultMaxBackoff
	}
	d := r.Backoff.D()
	for range failed - 1 {
		if d >= limit {
			break
		}
		d *= 2
	}
	d = min(d, limit)
	return d + time.Duration(float64(d)*r.Jitter*random)
}

// Package is a set of jobs submitted as one: all of them or none.
type Package struct {
	ID   string `json:"id,omitempty"` // made at submission if empty
	Jobs []Job  `json:"jobs"`
}

// State is where a job stands.
type State string

// The states of a job. Succeeded, Failed, Cancelled and Expired are ends.
const (
	Waiting   State = "waiting" // for its turn, a dependency, a limit or a backoff; Status.Waiting says which
	Running   State = "running"
	Parked    State = "parked" // its attempts are used up; an operator decides
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Expired   State = "expired"
)

// Ended reports whether s is an end.
func (s State) Ended() bool {
	return s == Succeeded || s == Failed || s == Cancelled || s == Expired
}

// Attempt is one hand-out of a job.
type Attempt struct {
	Number  int         `json:"number"`
	Token   trail.Token `json:"token"`
	Worker  string      `json:"worker,omitempty"`
	Began   time.Time   `json:"began"`
	Ended   time.Time   `json:"ended,omitzero"`
	Outcome string      `json:"outcome,omitempty"` // succeeded, failed: …, lost, handed back, cancelled
}

// Status is a job and what became of it.
type Status struct {
	Job
	Package string      `json:"package"`
	State   State       `json:"state"`
	Waiting string      `json:"waiting,omitempty"` // for what, such as "waiting for host:h1"
	Overdue bool        `json:"overdue,omitempty"` // its attempt outlived its timeout and cannot be taken back
	Attempt int         `json:"attempt,omitempty"` // the last one that was handed out; it only grows
	Failed  int         `json:"failed,omitempty"`  // attempts that failed, since the last retry by a person
	Lost    int         `json:"lost,omitempty"`    // attempts that ended without an answer
	Token   trail.Token `json:"token,omitzero"`
	Worker  string      `json:"worker,omitempty"` // who has it, if that is a worker outside
	Until   time.Time   `json:"until,omitzero"`   // when its lease ends, if that is a worker outside

	Percent  int    `json:"percent,omitempty"` // 0 to 100, as the action says
	Progress string `json:"progress,omitempty"`

	Result registry.Document `json:"result,omitzero"`
	Error  string            `json:"error,omitempty"`
	Code   string            `json:"code,omitempty"`  // the error's class, see ErrorCode
	Cause  string            `json:"cause,omitempty"` // the job whose end ended this one

	Attempts []Attempt `json:"attempts,omitempty"` // the latest ones, oldest first; only from Status, not in lists

	SubmittedAt time.Time `json:"submitted_at"`
	StartedAt   time.Time `json:"started_at,omitzero"` // of the last attempt
	EndedAt     time.Time `json:"ended_at,omitzero"`
	ParkedAt    time.Time `json:"parked_at,omitzero"`

	err error // the action's own error, while the process remembers it
}

// WithErr returns s with the action's own error, so that errors.Is finds it as
// long as the job is asked about in the process that ran it.
func (s Status) WithErr(err error) Status {
	s.err = err
	return s
}

// Err is nil unless the job ended otherwise than succeeded, and then a
// *JobError.
func (s Status) Err() error {
	if !s.State.Ended() || s.State == Succeeded {
		return nil
	}
	return &JobError{Status: s}
}

// JobError is a job that did not succeed.
type JobError struct{ Status Status }

func (e *JobError) Error() string {
	s := e.Status
	msg := fmt.Sprintf("job %s (%s) %s", s.ID, s.Action, s.State)
	if s.Error != "" {
		msg += ": " + s.Error
	}
	return msg
}

// Unwrap returns the action's own error, if it is known here.
func (e *JobError) Unwrap() error { return e.Status.err }

// Line is one line of a job's log.
type Line struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Text    string    `json:"text"`
}

// What a submission or a question can be refused for; test with errors.Is.
var (
	ErrInvalid     = errors.New("invalid")
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrClosed      = errors.New("the scheduler is closed")
	ErrUnsupported = errors.New("this scheduler cannot do that")
)
