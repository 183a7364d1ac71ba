package mistify

import (
	"time"

	"github.com/vagoth/vagoth/trail"
)

// HeaderJob is the header of an answer that names the job which does what was
// asked for.
const HeaderJob = "X-Guest-Job-ID"

// JobStatus is where a job stands.
type JobStatus string

// The statuses of a job.
const (
	JobQueued   JobStatus = "Queued"
	JobRunning  JobStatus = "Running"
	JobComplete JobStatus = "Complete"
	JobError    JobStatus = "Error"
)

// Ended reports whether the job will not change any more.
func (s JobStatus) Ended() bool { return s == JobComplete || s == JobError }

// Job is one asynchronous action. A time that has not come is the zero time.
type Job struct {
	ID        string
	GuestID   string // "" if it is of no guest
	Action    string
	QueuedAt  time.Time
	StartedAt time.Time
	UpdatedAt time.Time
	Status    JobStatus
	Message   string // why it is JobError, or what the last sub-agent said

	// Additions.
	Attempt int         `json:",omitempty"` // counts from 1; more than 1 after a crash
	Stage   string      `json:",omitempty"` // the stage that runs or failed, such as "2/3 Libvirt.Create of libvirt"
	Kind    ErrorKind   `json:",omitempty"` // what sort of error, if it is JobError
	Trail   trail.Trail `json:",omitzero"`  // on whose behalf
}
