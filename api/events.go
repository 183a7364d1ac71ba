package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// The bounds of a stream of events.
const (
	heartbeatEvery = 15 * time.Second
	writeWithin    = 30 * time.Second      // how long one write may take before the client is cut off
	eventBuffer    = 256                   // events that wait for a client
	firstLook      = 50 * time.Millisecond // how long a store may take to say that a cursor is too old
)

func eventParameters() []string {
	return []string{"cursor", "nodes", "jobs", "type", "queue", "action", "package", "job"}
}

// eventFilter reads the parameters of a stream, and what of it there is.
func (s *server) eventFilter(c *gin.Context) (f EventFilter, err error) {
	for name, on := range map[string]*bool{"nodes": &f.Nodes, "jobs": &f.Jobs} {
		if *on, err = onOff(c, name); err != nil {
			return f, err
		}
	}
	for name, word := range map[string]*string{"type": &f.Type, "queue": &f.Queue, "action": &f.Action, "package": &f.Package, "job": &f.Job} {
		text, given := c.GetQuery(name)
		bad := registry.CheckKey(text)
		if given && bad != nil {
			return f, &registry.InvalidError{Field: name, Reason: bad.Error()}
		}
		*word = text
	}
	watches := false
	if _, watches = s.m.Scheduler.(scheduler.Watcher); !watches && f.Jobs {
		return f, s.unsupported("events")
	}
	_, nodesGiven := c.GetQuery("nodes")
	_, jobsGiven := c.GetQuery("jobs")
	if !f.Nodes && !f.Jobs {
		f.Nodes, f.Jobs = !nodesGiven, !jobsGiven && watches
	}
	if !f.Nodes && !f.Jobs {
		return f, &registry.InvalidError{Field: "query", Reason: "it asks for neither nodes nor jobs"}
	}
	return f, nil
}

// shows reports whether a change is one that the stream was asked for.
func (f EventFilter) shows(e Event) bool {
	switch {
	case e.Node != nil:
		return f.Type == "" || e.Node.Node.Type() == f.Type
	case e.Job != nil:
		jobs := scheduler.Filter{Queue: f.Queue, Action: f.Action, Package: f.Package}
		return jobs.Matches(*e.Job) && (f.Job == "" || e.Job.ID == f.Job)
	}
	return false
}

// change is one that a store has told, with the place behind it.
type change struct {
	event Event
	move  func(*place)
	err   error
}

// nodeChanges are those of the registry.
func (s *server) nodeChanges(ctx context.Context, from registry.Cursor) iter.Seq[change] {
	return func(yield func(change) bool) {
		for ch, err := range s.m.Registry.Watch(ctx, registry.Query{}, from) {
			if err != nil {
				yield(change{err: err})
				return
			}
			e := Event{Type: EventNode, Node: &NodeEvent{Kind: ch.Kind, Node: virt.Shown(ch.Node()), Revision: ch.Revision}}
			if !yield(change{event: e, move: func(p *place) { p.Nodes = ch.Cursor }}) {
				return
			}
		}
		yield(change{err: registry.ErrClosed})
	}
}

// jobChanges are those of the scheduler.
func (s *server) jobChanges(ctx context.Context, w scheduler.Watcher, from string) iter.Seq[change] {
	return func(yield func(change) bool) {
		for ev, err := range w.Watch(ctx, from, scheduler.Filter{}) {
			if err != nil {
				yield(change{err: err})
				return
			}
			st := coded(ev.Job)
			if !yield(change{event: Event{Type: EventJob, Job: &st}, move: func(p *place) { p.Jobs = ev.Cursor }}) {
				return
			}
		}
		yield(change{err: scheduler.ErrClosed})
	}
}

// events streams what changes. The stores are watched unfiltered, so that the
// cursor of a client to whom little matters does not grow old.
func (s *server) events(c *gin.Context) {
	f, err := s.eventFilter(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	cursor, given := c.GetQuery("cursor")
	if last := c.GetHeader("Last-Event-ID"); last != "" { // a browser that comes again sends it beside the address it began with
		cursor, given = last, true
	}
	if given && cursor == "" {
		s.fail(c, &registry.InvalidError{Field: "cursor", Reason: errCursor.Error()})
		return
	}
	ctx, cancel := context.WithCancel(c.Request.Context())
	at, err := s.begin(ctx, f, cursor)
	if err != nil {
		cancel()
		s.fail(c, err)
		return
	}
	changes := make(chan change, eventBuffer)
	var sources errgroup.Group
	defer func() { cancel(); _ = sources.Wait() }() // their errors are in changes
	pour := func(seq iter.Seq[change]) {
		sources.Go(func() error {
			for ch := range seq {
				select {
				case changes <- ch:
				case <-ctx.Done():
					return nil
				}
			}
			return nil
		})
	}
	if c.Request.Method == http.MethodHead {
		c.Header("Content-Type", eventStream)
		return
	}
	if f.Nodes {
		pour(s.nodeChanges(ctx, at.Nodes))
	}
	if w, ok := s.m.Scheduler.(scheduler.Watcher); ok && f.Jobs {
		pour(s.jobChanges(ctx, w, at.Jobs))
	}
	out := stream{s: s, c: c, f: f, at: at, changes: changes, rc: http.NewResponseController(c.Writer)}
	if early, err := out.first(ctx, cursor != ""); err != nil {
		s.fail(c, err)
	} else {
		out.run(ctx, early)
	}
}

const eventStream = "text/event-stream"

// stream is the connection of one client.
type stream struct {
	s       *server
	c       *gin.Context
	f       EventFilter
	at      place
	sent    place // the last that the client was told
	changes chan change
	rc      *http.ResponseController
}

// first looks whether a store refuses the cursor at once, while that can still
// be said with a status.
func (o *stream) first(ctx context.Context, resumed bool) (early []change, err error) {
	if !resumed {
		return nil, nil
	}
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	for {
		select {
		case ch := <-o.changes:
			if ch.err != nil {
				return nil, ch.err
			}
			if early = append(early, ch); len(early) == eventBuffer {
				return early, nil
			}
		case <-timer.C:
			return early, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run writes until the client goes, or cannot follow.
func (o *stream) run(ctx context.Context, early []change) {
	h := o.c.Writer.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no")      // a proxy is not to hold events back
	_ = o.rc.SetReadDeadline(time.Time{}) // it lasts as long as its client; each write has a deadline
	o.c.Status(http.StatusOK)
	ok := o.write(EventBegin, Begun{Nodes: o.f.Nodes, Jobs: o.f.Jobs})
	for _, ch := range early {
		ok = ok && o.take(ch)
	}
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for ok = ok && o.flush(); ok; ok = ok && o.flush() {
		select {
		case ch := <-o.changes:
			ok = o.take(ch)
			for range len(o.changes) { // as many as there are go out in one piece
				if ok {
					ok = o.take(<-o.changes)
				}
			}
		case <-ticker.C:
			if o.at != o.sent {
				ok = o.write(EventPlace, Empty{})
			} else {
				ok = o.raw(": it lives\n\n")
			}
		case <-o.s.o.Draining:
			o.goodbye()
			return
		case <-ctx.Done():
			return
		}
	}
}

// take sends one change, if the client wants it.
func (o *stream) take(ch change) bool {
	if ch.err != nil {
		o.end(ch.err)
		return false
	}
	ch.move(&o.at)
	switch {
	case !o.f.shows(ch.event):
		return true
	case ch.event.Node != nil:
		return o.write(EventNode, ch.event.Node)
	default:
		return o.write(EventJob, ch.event.Job)
	}
}

// goodbye tells that the server ends, and where to resume.
func (o *stream) goodbye() {
	_, p := problemOf(fmt.Errorf("%w: vagoth is being shut down: ask again, with this cursor", scheduler.ErrClosed))
	if o.write(EventEnd, p) {
		o.flush()
	}
}

// end tells why the stream ends.
func (o *stream) end(err error) {
	if o.c.Request.Context().Err() != nil {
		return
	}
	_, p := problemOf(err)
	typ := EventGone
	if !errors.Is(err, registry.ErrCompacted) && !errors.Is(err, scheduler.ErrCompacted) {
		typ = EventEnd // nothing is lost: the cursor still holds
		o.s.o.Log.Warn("a stream of events ends", "error", err)
	}
	if o.write(typ, p) {
		o.flush()
	}
}

// write sends one event with the place behind it.
func (o *stream) write(typ string, v any) bool {
	data, err := json.Marshal(v)
	if err != nil {
		o.s.o.Log.Error("cannot encode an event", "event", typ, "error", err)
		return false
	}
	id := ""
	if typ != EventGone { // which is behind what was lost: to resume there would lose it silently
		id, o.sent = "id: "+o.at.String()+"\n", o.at
	}
	return o.raw(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, typ, data))
}

func (o *stream) raw(text string) bool {
	_ = o.rc.SetWriteDeadline(time.Now().Add(writeWithin)) // what has no deadlines has no hanging peer either
	_, err := o.c.Writer.WriteString(text)
	return err == nil
}

func (o *stream) flush() bool {
	_ = o.rc.SetWriteDeadline(time.Now().Add(writeWithin))
	return o.rc.Flush() == nil
}
