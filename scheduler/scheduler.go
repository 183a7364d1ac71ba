// Package scheduler orders what is done to the cluster's resources.
//
// A Job is one call of an action on a named queue. A queue is named after the
// resource that it protects and hands out one job at a time, in the order
// submitted. A Package is a set of jobs with dependencies, submitted as one.
//
// # Why
//
// Whoever submits, looks, operates or works needs only one small interface, so
// they stand apart: a script takes a Submitter, the command line an Inspector
// and, where there is one, an Operator. The types are those of every scheduler;
// what one of them cannot do it refuses with ErrUnsupported when a job is
// submitted, never later.
package scheduler

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// Scheduler is what the manager holds. Its methods are safe for concurrent use.
type Scheduler interface {
	Submitter
	Inspector
	// Close releases the scheduler. Jobs that run are ended through their
	// context, and waited for.
	Close() error
}

// Submitter takes jobs.
type Submitter interface {
	// Submit takes all of p's jobs or none, and returns their states in the
	// order of p. The error is a refusal (ErrInvalid, ErrConflict, ErrClosed);
	// that a job failed is in its Status. The trail is that of ctx where a job
	// has none.
	Submit(ctx context.Context, p Package) ([]Status, error)
}

// Inspector answers what became of jobs.
type Inspector interface {
	Status(ctx context.Context, id string) (Status, error)
	// List yields the jobs that match f, the newest first.
	List(ctx context.Context, f Filter) iter.Seq2[Status, error]
	// Wait returns when the job has ended, or with ctx's error.
	Wait(ctx context.Context, id string) (Status, error)
	// Log returns the job's lines, oldest first.
	Log(ctx context.Context, id string) ([]Line, error)
}

// Canceller ends jobs early. A running one is told through its context and ends
// when its function returns.
type Canceller interface {
	Cancel(ctx context.Context, id, reason string) error
}

// Filter selects jobs: those that match every field that is set.
type Filter struct {
	Queue   string
	Action  string
	Package string
	States  []State
	Limit   int // at most so many; 0 is no limit
}

// Matches reports whether s matches f, apart from Limit.
func (f Filter) Matches(s Status) bool {
	if f.Queue != "" && s.Queue != f.Queue || f.Action != "" && s.Action != f.Action || f.Package != "" && s.Package != f.Package {
		return false
	}
	if len(f.States) == 0 {
		return true
	}
	for _, st := range f.States {
		if s.State == st {
			return true
		}
	}
	return false
}

// Action is something that jobs can do.
type Action struct {
	Name    string
	Help    string        // one line
	Params  []Param       // all it takes; others are refused at submission
	Timeout time.Duration // of one attempt, where the job names none; 0 is none
	Urgent  bool          // its jobs are urgent
	// Superseded actions lose their sense when an urgent job of their queue
	// overtakes them, as a start that waits does by a stop: they are cancelled.
	Superseded bool
	// AnyParams takes whatever it is given: what it takes is declared elsewhere.
	AnyParams bool
	// Remote is an action of workers outside; Run is nil.
	Remote bool
	Run    Handler
}

// ParamType is the JSON type of a parameter.
type ParamType string

// The types of parameters.
const (
	String   ParamType = "string"
	Integer  ParamType = "integer"
	Number   ParamType = "number"
	Boolean  ParamType = "boolean"
	Object   ParamType = "object"
	Array    ParamType = "array"
	Duration ParamType = "duration" // a string such as "30s"
)

// Param is one parameter of an action.
type Param struct {
	Name     string
	Type     ParamType
	Required bool
	Help     string
}

// Handler does the work of one attempt. It returns soon after ctx ends. Its
// result is encoded as a JSON object; nil is {}. A panic fails the job alone.
type Handler func(ctx context.Context, t Task) (result any, err error)

// Task is an attempt in the hands of a Handler.
type Task interface {
	// Job is the job with its defaults filled in. The trail, with job, attempt
	// and token, is also in the handler's context.
	Job() Job
	// Progress reports how far the attempt is: percent from 0 to 100 and a few
	// words.
	Progress(percent int, text string)
	// Log adds a line to the job's log.
	Log(text string)
}

// Deps is what a scheduler is given.
type Deps struct {
	Actions  map[string]Action // by name; not modified afterwards
	Data     string            // the data directory
	Log      *slog.Logger
	Now      func() time.Time
	LockWait time.Duration // how long to wait for another process that has the store open
	// Still opens a Store instead of a scheduler that works, if the kind has one.
	Still bool
}

// DecodeParams decodes the task's parameters into v.
func DecodeParams(t Task, v any) error { return t.Job().Params.Decode(v) }

// MustParams encodes v as parameters; it panics if v does not make a JSON
// object, which is a mistake in the program.
func MustParams(v any) registry.Document {
	d, err := registry.NewDocument(v)
	if err != nil {
		panic(err)
	}
	return d
}
