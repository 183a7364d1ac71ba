package etcd

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/trail"
)

// request is the body of what one manager asks another.
type request struct {
	Trail  trail.Trail     `json:"trail,omitzero"`
	Caller ref             `json:"caller,omitzero"` // in whose function it is asked
	Args   json.RawMessage `json:"args"`
}

// item is one of the values of an answer, or its end.
type item struct {
	Value json.RawMessage `json:"v,omitempty"`
	Err   *farError       `json:"e,omitempty"`
	End   bool            `json:"end,omitempty"`
}

// asked is what a call needs of the manager that leads.
type asked struct {
	ctx    context.Context
	from   string // the session of who asks
	office *office
	args   json.RawMessage
	send   func(any) error // at once
	answer func(any) error // the only value, together with the end
}

// What the calls carry. The identities stand apart, since workers do not say them.
type (
	named    struct{ Name, Text string }
	retrying struct {
		ID string
		O  scheduler.RetryOptions
	}
	done struct {
		ID     string
		Result registry.Document
	}
	mode struct {
		Name string
		Mode scheduler.QueueMode
	}
	lines struct {
		ID    string
		After int
	}
	watching struct {
		Cursor string
		Filter scheduler.Filter
	}
	adding struct {
		ID   string
		Jobs []scheduler.Job
	}
	want struct {
		Want     scheduler.Want
		Identity string
	}
	beat struct {
		Beat     scheduler.Beat
		Identity string
	}
	held struct {
		Hold     scheduler.Hold
		Identity string
		Reason   string
		Lines    []string
	}
	completing struct {
		List       []scheduler.Completion
		Identities []string
	}
	completed struct {
		States []scheduler.Status
		Errs   []*farError
	}
	joining struct {
		Submitted bool
		Has       []ref
	}
	telling struct {
		At   ref
		List []told
	}
	answering struct {
		At     ref
		Answer *answer
	}
	limiting struct {
		At    ref
		Names []string
	}
)

func (h held) hold() scheduler.Hold {
	h.Hold.Identity = h.Identity
	return h.Hold
}

// route answers one kind of call.
type route func(asked) error

// single is a route with one value.
func single[A, R any](f func(ctx context.Context, e *engine.Engine, a A) (R, error)) route {
	return func(q asked) error {
		var a A
		if err := json.Unmarshal(q.args, &a); err != nil {
			return err
		}
		r, err := f(q.ctx, q.office.engine, a)
		if err != nil {
			return err
		}
		return q.answer(r)
	}
}

// many is a route with a value after the other.
func many[A, R any](f func(ctx context.Context, e *engine.Engine, a A) iter.Seq2[R, error]) route {
	return func(q asked) error {
		var a A
		if err := json.Unmarshal(q.args, &a); err != nil {
			return err
		}
		for r, err := range f(q.ctx, q.office.engine, a) {
			if err == nil {
				err = q.send(r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// routes are all calls, by name.
func routes() map[string]route {
	type none struct{}
	return map[string]route{
		"submit": single(func(ctx context.Context, e *engine.Engine, p scheduler.Package) ([]scheduler.Status, error) {
			return e.Submit(ctx, p)
		}),
		"status": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.Status, error) {
			return e.Status(ctx, a.Name)
		}),
		"list": many(func(ctx context.Context, e *engine.Engine, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
			return e.List(ctx, f)
		}),
		"wait": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.Status, error) {
			return e.Wait(ctx, a.Name)
		}),
		"log": single(func(ctx context.Context, e *engine.Engine, a named) ([]scheduler.Line, error) {
			return e.Log(ctx, a.Name)
		}),
		"log-after": single(func(ctx context.Context, e *engine.Engine, a lines) (scheduler.LogPart, error) {
			return e.LogAfter(ctx, a.ID, a.After)
		}),
		"log-now": single(func(ctx context.Context, e *engine.Engine, a lines) (scheduler.LogPart, error) {
			ctx, end := context.WithCancel(ctx)
			end() // so that it does not wait
			return e.LogAfter(ctx, a.ID, a.After)
		}),
		"cancel": single(func(ctx context.Context, e *engine.Engine, a named) (bool, error) {
			return true, e.Cancel(ctx, a.Name, a.Text)
		}),
		"retry": single(func(ctx context.Context, e *engine.Engine, a retrying) ([]scheduler.Status, error) {
			return e.Retry(ctx, a.ID, a.O)
		}),
		"skip": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.Status, error) {
			return e.Skip(ctx, a.Name)
		}),
		"done": single(func(ctx context.Context, e *engine.Engine, a done) (scheduler.Status, error) {
			return e.Done(ctx, a.ID, a.Result)
		}),
		"set-queue": single(func(ctx context.Context, e *engine.Engine, a mode) (scheduler.QueueStatus, error) {
			return e.SetQueue(ctx, a.Name, a.Mode)
		}),
		"queue": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.QueueStatus, error) {
			return e.Queue(ctx, a.Name)
		}),
		"queues": many(func(ctx context.Context, e *engine.Engine, _ none) iter.Seq2[scheduler.QueueStatus, error] {
			return e.Queues(ctx)
		}),
		"limits": single(func(ctx context.Context, e *engine.Engine, _ none) ([]scheduler.LimitStatus, error) {
			return e.Limits(ctx)
		}),
		"stats": single(func(ctx context.Context, e *engine.Engine, _ none) (scheduler.Stats, error) { return e.Stats(ctx) }),
		"new-package": single(func(ctx context.Context, e *engine.Engine, p scheduler.Package) (scheduler.PackageStatus, error) {
			return e.NewPackage(ctx, p)
		}),
		"add-jobs": single(func(ctx context.Context, e *engine.Engine, a adding) ([]string, error) {
			return e.AddJobs(ctx, a.ID, a.Jobs...)
		}),
		"enqueue": single(func(ctx context.Context, e *engine.Engine, a named) ([]scheduler.Status, error) {
			return e.Enqueue(ctx, a.Name)
		}),
		"package": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.PackageStatus, error) {
			return e.Package(ctx, a.Name)
		}),
		"packages": many(func(ctx context.Context, e *engine.Engine, _ none) iter.Seq2[scheduler.PackageStatus, error] {
			return e.Packages(ctx)
		}),
		"cancel-package": single(func(ctx context.Context, e *engine.Engine, a named) (scheduler.PackageStatus, error) {
			return e.CancelPackage(ctx, a.Name)
		}),
		"cursor": single(func(ctx context.Context, e *engine.Engine, _ none) (string, error) { return e.Cursor(ctx) }),
		"watch": many(func(ctx context.Context, e *engine.Engine, a watching) iter.Seq2[scheduler.Event, error] {
			return e.Watch(ctx, a.Cursor, a.Filter)
		}),
		"next": single(func(ctx context.Context, e *engine.Engine, a want) ([]scheduler.Lease, error) {
			a.Want.Identity = a.Identity
			return e.Next(ctx, a.Want)
		}),
		"heartbeat": single(func(ctx context.Context, e *engine.Engine, a beat) (scheduler.Beaten, error) {
			a.Beat.Identity = a.Identity
			return e.Heartbeat(ctx, a.Beat)
		}),
		"add-log": single(func(ctx context.Context, e *engine.Engine, a held) (bool, error) {
			return true, e.AddLog(ctx, a.hold(), a.Lines...)
		}),
		"hand-back": single(func(ctx context.Context, e *engine.Engine, a held) (bool, error) {
			return true, e.HandBack(ctx, a.hold(), a.Reason)
		}),
		"complete": single(complete),

		"join":        join,
		"left":        func(q asked) error { return q.office.crew.left(q.ctx, q.from) },
		"bye":         func(q asked) error { return q.office.crew.bye(q.ctx, q.from) },
		"tell":        tell,
		"answer":      answered,
		"take-limits": limits,
	}
}

func complete(ctx context.Context, e *engine.Engine, a completing) (completed, error) {
	for i := range a.List {
		if i < len(a.Identities) {
			a.List[i].Identity = a.Identities[i]
		}
	}
	var r completed
	var errs []error
	r.States, errs = e.Complete(ctx, a.List...)
	for _, err := range errs {
		r.Errs = append(r.Errs, newFarError(err))
	}
	return r, nil
}

func join(q asked) error {
	var a joining
	if err := json.Unmarshal(q.args, &a); err != nil {
		return err
	}
	return q.office.crew.join(q.ctx, q.from, a.Submitted, a.Has, func(o order) error { return q.send(o) })
}

func tell(q asked) error {
	var a telling
	if err := json.Unmarshal(q.args, &a); err != nil {
		return err
	}
	q.office.crew.tells(a.At, a.List)
	return nil
}

func answered(q asked) error {
	var a answering
	if err := json.Unmarshal(q.args, &a); err != nil {
		return err
	}
	return q.office.crew.answered(q.ctx, q.from, a.At, a.Answer)
}

func limits(q asked) error {
	var a limiting
	if err := json.Unmarshal(q.args, &a); err != nil {
		return err
	}
	return q.office.crew.limits(q.ctx, a.At, a.Names)
}
