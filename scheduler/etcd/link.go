package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// link is the way to the manager that leads.
type link struct {
	s         *Scheduler
	to        member
	transport *http.Transport
	ended     context.Context
	end       context.CancelFunc
}

// errDial marks a request that did not get to anybody.
var errDial = errors.New("cannot reach the manager that leads")

// keptConns is how many connections are kept for the next calls: each one more costs
// its beginning of TLS, which is more than a call.
const keptConns = 1024

func newLink(s *Scheduler, to member) *link {
	l := &link{s: s, to: to}
	l.ended, l.end = context.WithCancel(context.Background())
	l.transport = &http.Transport{
		MaxIdleConnsPerHost: keptConns, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := s.net.dial(ctx, to)
			if err != nil {
				return nil, fmt.Errorf("%w at %s: %w", errDial, to.Address, err)
			}
			return c, nil
		},
	}
	return l
}

// close ends what is asked: another leads.
func (l *link) close() {
	l.end()
	l.transport.CloseIdleConnections()
}

// stream asks, and gives each value to take.
func (l *link) stream(ctx context.Context, name string, args any, take func(json.RawMessage) error) error {
	q := request{Trail: trail.From(ctx)}
	q.Caller, _ = ctx.Value(callerKey{}).(ref)
	var err error
	if q.Args, err = json.Marshal(args); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	bound, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ended, cancel)()
	if ctx.Value(inner{}) == nil {
		defer context.AfterFunc(l.s.closing, cancel)()
	}
	r, err := http.NewRequestWithContext(bound, http.MethodPost, "http://leader/"+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if v := l.s.current().session; v != nil {
		r.Header.Set(nameHeader, v.name)
	}
	resp, err := l.transport.RoundTrip(r)
	if err != nil {
		if errors.Is(err, errDial) {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		return l.broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	for in := json.NewDecoder(resp.Body); ; {
		var i item
		if err := in.Decode(&i); err != nil {
			return l.broken(ctx, err)
		}
		switch {
		case i.End && i.Err != nil:
			return i.Err
		case i.End:
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			return nil
		}
		if err := take(i.Value); err != nil {
			return err
		}
	}
}

// broken is what is known of a call whose answer did not come.
func (l *link) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", errMaybe, err)
}

// one asks for one value.
func one[R any](ctx context.Context, l *link, name string, args any) (R, error) {
	var r R
	err := l.stream(ctx, name, args, func(b json.RawMessage) error { return json.Unmarshal(b, &r) })
	return r, err
}

// none asks for no value.
func none(ctx context.Context, l *link, name string, args any) error {
	return l.stream(ctx, name, args, func(json.RawMessage) error { return nil })
}

var errEnough = errors.New("enough")

// all asks for a value after the other.
func all[R any](ctx context.Context, l *link, name string, args any) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		err := l.stream(ctx, name, args, func(b json.RawMessage) error {
			var r R
			if err := json.Unmarshal(b, &r); err != nil {
				return err
			}
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			var r R
			yield(r, err)
		}
	}
}

// The contracts, each method over its call.

func (l *link) Submit(ctx context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	return one[[]scheduler.Status](ctx, l, "submit", p)
}

func (l *link) Status(ctx context.Context, id string) (scheduler.Status, error) {
	return one[scheduler.Status](ctx, l, "status", named{Name: id})
}

func (l *link) List(ctx context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return all[scheduler.Status](ctx, l, "list", f)
}

func (l *link) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	st, err := one[scheduler.Status](ctx, l, "wait", named{Name: id})
	if ctx.Err() != nil && err != nil && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("job %s has not ended yet: %w", id, err)
	}
	return st, err
}

func (l *link) Log(ctx context.Context, id string) ([]scheduler.Line, error) {
	return one[[]scheduler.Line](ctx, l, "log", named{Name: id})
}

func (l *link) LogAfter(ctx context.Context, id string, after int) (scheduler.LogPart, error) {
	p, err := one[scheduler.LogPart](ctx, l, "log-after", lines{id, after})
	if ctx.Err() != nil && err != nil { // that is no error, and the lines are asked for once more
		return one[scheduler.LogPart](context.WithoutCancel(ctx), l, "log-now", lines{id, after})
	}
	return p, err
}

func (l *link) Cancel(ctx context.Context, id, reason string) error {
	return none(ctx, l, "cancel", named{id, reason})
}

func (l *link) Retry(ctx context.Context, id string, o scheduler.RetryOptions) ([]scheduler.Status, error) {
	return one[[]scheduler.Status](ctx, l, "retry", retrying{id, o})
}

func (l *link) Skip(ctx context.Context, id string) (scheduler.Status, error) {
	return one[scheduler.Status](ctx, l, "skip", named{Name: id})
}

func (l *link) Done(ctx context.Context, id string, result registry.Document) (scheduler.Status, error) {
	return one[scheduler.Status](ctx, l, "done", done{id, result})
}

func (l *link) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (scheduler.QueueStatus, error) {
	return one[scheduler.QueueStatus](ctx, l, "set-queue", mode{name, m})
}

func (l *link) Queue(ctx context.Context, name string) (scheduler.QueueStatus, error) {
	return one[scheduler.QueueStatus](ctx, l, "queue", named{Name: name})
}

func (l *link) Queues(ctx context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return all[scheduler.QueueStatus](ctx, l, "queues", struct{}{})
}

func (l *link) Limits(ctx context.Context) ([]scheduler.LimitStatus, error) {
	return one[[]scheduler.LimitStatus](ctx, l, "limits", struct{}{})
}

func (l *link) Stats(ctx context.Context) (scheduler.Stats, error) {
	return one[scheduler.Stats](ctx, l, "stats", struct{}{})
}

func (l *link) NewPackage(ctx context.Context, p scheduler.Package) (scheduler.PackageStatus, error) {
	return one[scheduler.PackageStatus](ctx, l, "new-package", p)
}

func (l *link) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	return one[[]string](ctx, l, "add-jobs", adding{id, jobs})
}

func (l *link) Enqueue(ctx context.Context, id string) ([]scheduler.Status, error) {
	return one[[]scheduler.Status](ctx, l, "enqueue", named{Name: id})
}

func (l *link) Package(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return one[scheduler.PackageStatus](ctx, l, "package", named{Name: id})
}

func (l *link) Packages(ctx context.Context) iter.Seq2[scheduler.PackageStatus, error] {
	return all[scheduler.PackageStatus](ctx, l, "packages", struct{}{})
}

func (l *link) CancelPackage(ctx context.Context, id string) (scheduler.PackageStatus, error) {
	return one[scheduler.PackageStatus](ctx, l, "cancel-package", named{Name: id})
}

func (l *link) Cursor(ctx context.Context) (string, error) {
	return one[string](ctx, l, "cursor", struct{}{})
}

func (l *link) Watch(ctx context.Context, cursor string, f scheduler.Filter) iter.Seq2[scheduler.Event, error] {
	return all[scheduler.Event](ctx, l, "watch", watching{cursor, f})
}

func (l *link) Next(ctx context.Context, w scheduler.Want) ([]scheduler.Lease, error) {
	list, err := one[[]scheduler.Lease](ctx, l, "next", want{w, w.Identity})
	for i := range list {
		list[i].Identity = w.Identity
	}
	return list, err
}

func (l *link) Heartbeat(ctx context.Context, b scheduler.Beat) (scheduler.Beaten, error) {
	return one[scheduler.Beaten](ctx, l, "heartbeat", beat{b, b.Identity})
}

func (l *link) AddLog(ctx context.Context, h scheduler.Hold, text ...string) error {
	return none(ctx, l, "add-log", held{Hold: h, Identity: h.Identity, Lines: text})
}

func (l *link) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	a := completing{List: list}
	for _, c := range list {
		a.Identities = append(a.Identities, c.Identity)
	}
	r, err := one[completed](ctx, l, "complete", a)
	errs := make([]error, len(list))
	for i := range errs {
		switch {
		case err != nil:
			errs[i] = err
		case i < len(r.Errs) && r.Errs[i] != nil:
			errs[i] = r.Errs[i]
		}
	}
	return append(r.States, make([]scheduler.Status, len(list))...)[:len(list)], errs
}

func (l *link) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	return none(ctx, l, "hand-back", held{Hold: h, Identity: h.Identity, Reason: reason})
}

// What managers say to each other about functions.

func (l *link) join(ctx context.Context, _ string, submitted bool, has []ref, do func(order) error) error {
	return l.stream(inside(ctx), "join", joining{submitted, has}, func(b json.RawMessage) error {
		var o order
		if err := json.Unmarshal(b, &o); err != nil {
			return err
		}
		return do(o)
	})
}

func (l *link) left(ctx context.Context, _ string) error {
	return none(inside(ctx), l, "left", struct{}{})
}

func (l *link) bye(ctx context.Context, _ string) error {
	return none(inside(ctx), l, "bye", struct{}{})
}

func (l *link) tell(ctx context.Context, at ref, list []told) error {
	return none(inside(ctx), l, "tell", telling{at, list})
}

func (l *link) answer(ctx context.Context, _ string, at ref, a *answer) error {
	return none(inside(ctx), l, "answer", answering{at, a})
}

func (l *link) limits(ctx context.Context, at ref, names []string) error {
	return none(inside(ctx), l, "take-limits", limiting{at, names})
}

// inside lets what this package does itself go on while it is being closed.
func inside(ctx context.Context) context.Context { return context.WithValue(ctx, inner{}, true) }
