package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// listener reads a stream of events in the background.
type listener struct {
	t    *testing.T
	next func() (Event, error, bool)
	stop func()
}

func listen(t *testing.T, ctx context.Context, c *Client, cursor string, f EventFilter) *listener {
	t.Helper()
	next, stop := iter.Pull2(c.Events(ctx, cursor, f))
	t.Cleanup(stop)
	return &listener{t, next, stop}
}

func (l *listener) event() Event {
	l.t.Helper()
	e, err, ok := l.next()
	if err != nil || !ok {
		l.t.Fatalf("instead of an event: %v, %v", err, ok)
	}
	return e
}

// until returns the next event of the type.
func (l *listener) until(typ string) Event {
	l.t.Helper()
	for {
		if e := l.event(); e.Type == typ {
			return e
		}
	}
}

func (c *cluster) tell(n int) {
	c.fake().tell(scheduler.Status{Job: scheduler.Job{ID: fmt.Sprintf("j%d", n), Queue: "q" + fmt.Sprint(n%2), Action: "fail"}, Package: "p1", State: scheduler.Running})
}

// Every change of nodes and jobs arrives once, also across connections that
// end, and nothing that happened in between is lost.
func TestEventsResume(t *testing.T) {
	c := newCluster(t, opts{full: true})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	over := map[string]*Client{"in process": c.Client, "over a socket": NewClient(srv.URL, srv.Client().Transport)}
	for name, client := range over {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
			defer cancel()
			l := listen(t, ctx, client, "", EventFilter{})
			begin := l.event()
			if begin.Type != EventBegin || begin.Cursor == "" || !begin.Begun.Nodes || !begin.Begun.Jobs {
				t.Fatalf("%+v", begin)
			}
			l.stop() // before anything has happened: both places are known all the same
			const n = 40
			prefix := strings.ReplaceAll(name, " ", "-")
			for i := range n {
				c.create(fmt.Sprintf("%s-%d", prefix, i), "rack", `{}`)
				c.tell(i)
			}
			cursor, nodes, jobs := begin.Cursor, 0, 0
			for nodes < n || jobs < n {
				l := listen(t, ctx, client, cursor, EventFilter{})
				for range 7 {
					if nodes == n && jobs == n {
						break
					}
					switch e := l.event(); e.Type {
					case EventBegin:
						if e.Cursor != cursor {
							t.Fatalf("resumed at %s, and it began at %s", cursor, e.Cursor)
						}
					case EventNode:
						if want := fmt.Sprintf("%s-%d", prefix, nodes); e.Node.Node.ID() != want || e.Node.Kind != registry.Created {
							t.Fatalf("node %s, want %s", e.Node.Node.ID(), want)
						}
						nodes++
						cursor = e.Cursor
					case EventJob:
						if want := fmt.Sprintf("j%d", jobs); e.Job.ID != want {
							t.Fatalf("job %s, want %s", e.Job.ID, want)
						}
						jobs++
						cursor = e.Cursor
					}
				}
				l.stop()
			}
		})
	}
}

// A stream shows what was asked for, and its cursor moves with all the rest.
func TestEventsFilter(t *testing.T) {
	c := newCluster(t, opts{full: true})
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	for name, q := range map[string]struct {
		f    EventFilter
		want string
	}{
		"nodes":   {EventFilter{Nodes: true}, "n1 v1 n2"},
		"jobs":    {EventFilter{Jobs: true}, "j1 j2"},
		"type":    {EventFilter{Type: "vm", Nodes: true}, "v1"},
		"queue":   {EventFilter{Queue: "q0", Jobs: true}, "j2"},
		"action":  {EventFilter{Jobs: true, Action: "none"}, ""},
		"package": {EventFilter{Jobs: true, Package: "p1"}, "j1 j2"},
		"job":     {EventFilter{Jobs: true, Job: "j1"}, "j1"},
	} {
		l := listen(t, ctx, c.Client, "", q.f)
		begin := l.event()
		c.create(name+"n1", "rack", `{}`)
		c.create(name+"v1", "vm", `{"cpu":1,"memory":64}`)
		c.create(name+"n2", "rack", `{}`)
		c.tell(1)
		c.tell(2)
		last := scheduler.Status{Job: scheduler.Job{ID: "last", Queue: q.f.Queue, Action: q.f.Action}, Package: q.f.Package}
		if q.f.Job != "" {
			last.ID = q.f.Job
		}
		last.Progress = "last"
		c.fake().tell(last)
		end := provisioner.Spec{ID: name + "last", Type: "rack"}
		if q.f.Type != "" {
			end.Type, end.Definition = "vm", doc(t, `{"cpu":1,"memory":64}`)
		}
		must[Created](t)(c.Create(c.ctx, CreateRequest{Spec: end}))
		got := []string{}
		for {
			e := l.event()
			id := ""
			if e.Node != nil {
				id = strings.TrimPrefix(e.Node.Node.ID(), name)
			} else if id = e.Job.ID; e.Job.Progress == "last" {
				break
			}
			if id == "last" {
				break
			}
			got = append(got, id)
		}
		if strings.Join(got, " ") != q.want || begin.Begun.Nodes != q.f.Nodes || begin.Begun.Jobs != q.f.Jobs {
			t.Errorf("%s: %v, want %s (%+v)", name, got, q.want, begin.Begun)
		}
		l.stop()
	}
	for _, bad := range []string{"?cursor=x", "?cursor=", "?cursor=e1.e30", "?nodes=0&jobs=0", "?nodes=perhaps", "?queue=a%20b", "?tpye=vm", "?cursor=" + strings.Repeat("x", 10_000)} {
		if resp, p := c.request("GET", "/v1/events"+bad, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40s: %d %s", bad, resp.StatusCode, p.Message)
		}
	}
	for _, one := range []string{"?nodes=0", "?jobs=1", "?nodes=1&jobs=1"} {
		if resp, p := c.request("HEAD", "/v1/events"+one, ""); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != eventStream {
			t.Errorf("%s: %d %s", one, resp.StatusCode, p.Message)
		}
	}
}

// A scheduler that tells nothing leaves the nodes, unless jobs are asked for.
func TestEventsOfSync(t *testing.T) {
	c := newCluster(t, opts{})
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	l := listen(t, ctx, c.Client, "", EventFilter{})
	if e := l.event(); !e.Begun.Nodes || e.Begun.Jobs {
		t.Errorf("%+v", e.Begun)
	}
	c.create("r1", "rack", `{}`)
	if e := l.event(); e.Node == nil || e.Node.Node.ID() != "r1" {
		t.Errorf("%+v", e)
	}
	for _, err := range c.Events(ctx, "", EventFilter{Jobs: true}) {
		if !errors.Is(err, scheduler.ErrUnsupported) {
			t.Error(err)
		}
	}
}

// A cursor that is too old is refused with 410, and a stream that loses changes
// ends with the event that says so, without a cursor to resume from.
func TestEventsGone(t *testing.T) {
	c := newCluster(t, opts{full: true})
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	l := listen(t, ctx, c.Client, "", EventFilter{})
	begin := l.event()
	c.tell(1)
	l.until(EventJob)
	c.fake().forget()
	c.tell(2)
	c.fake().forget() // the stream stands between
	_, err, _ := l.next()
	for err == nil { // it may have been read before it was forgotten
		c.tell(3)
		c.fake().forget()
		_, err, _ = l.next()
	}
	if !errors.Is(err, scheduler.ErrCompacted) || !errors.Is(err, registry.ErrCompacted) {
		t.Error(err)
	}
	resp, p := c.request("GET", "/v1/events?cursor="+begin.Cursor, "")
	if resp.StatusCode != http.StatusGone || p.Code != "compacted" {
		t.Errorf("%d %+v", resp.StatusCode, p)
	}
	for _, err := range c.Events(ctx, begin.Cursor, EventFilter{}) {
		if !errors.Is(err, scheduler.ErrCompacted) {
			t.Error(err)
		}
	}
	// What was lost of jobs does not matter to who looks at nodes.
	if e := listen(t, ctx, c.Client, begin.Cursor, EventFilter{Nodes: true}).event(); e.Type != EventBegin {
		t.Errorf("%+v", e)
	}
	// A cursor of less than is asked for would lose the rest silently.
	nodes := listen(t, ctx, c.Client, "", EventFilter{Nodes: true}).event().Cursor
	for _, err := range c.Events(ctx, nodes, EventFilter{}) {
		if !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("a cursor without jobs: %v", err)
		}
	}
}

// What is written is what a browser reads: Last-Event-ID counts before the
// cursor of the address.
func TestEventsOnTheWire(t *testing.T) {
	c := newCluster(t, opts{full: true})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	read := func(query, last string, lines int) []string {
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/events"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" || resp.StatusCode != 200 {
			t.Fatalf("%s %s", resp.Status, ct)
		}
		var got []string
		for s := bufio.NewScanner(resp.Body); len(got) < lines && s.Scan(); {
			got = append(got, s.Text())
		}
		return got
	}
	first := read("", "", 4)
	id, ok := strings.CutPrefix(first[0], "id: ")
	if !ok || first[1] != "event: begin" || first[2] != `data: {"nodes":true,"jobs":true}` || first[3] != "" {
		t.Fatalf("%q", first)
	}
	c.tell(1)
	later := read("?cursor="+id, "", 7)
	if later[0] != first[0] || later[5] != "event: job" || !strings.Contains(later[6], `"id":"j1"`) {
		t.Fatalf("%q", later)
	}
	c.tell(2)
	if again := read("?cursor="+id, strings.TrimPrefix(later[4], "id: "), 7); !strings.Contains(again[6], `"id":"j2"`) {
		t.Errorf("%q", again)
	}
}

// A client that does not read costs a bounded buffer, and holds up neither the
// stores nor other clients.
func TestEventsSlowClient(t *testing.T) {
	c := newCluster(t, opts{full: true})
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	slow, quick := listen(t, ctx, c.Client, "", EventFilter{Jobs: true}), listen(t, ctx, c.Client, "", EventFilter{Jobs: true})
	slow.event()
	quick.event()
	const n = 4 * eventBuffer
	for i := range n {
		c.tell(i)
	}
	for i := range n {
		if e := quick.event(); e.Job.ID != fmt.Sprintf("j%d", i) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	for i := range n { // it stood still, and the store still knew
		if e := slow.event(); e.Job.ID != fmt.Sprintf("j%d", i) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
}

func FuzzCursor(f *testing.F) {
	for _, p := range []place{{}, {Nodes: "a", Jobs: "b"}, {Jobs: "\x00\""}} {
		f.Add(p.String())
	}
	f.Add("e1.eyJuIjoibm93In0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err != nil {
			return
		}
		if p.String() != text || p.Nodes == registry.Now || strings.ContainsAny(text, "\r\n\x00") {
			t.Errorf("%q became %+v, which is %q", text, p, p.String())
		}
	})
}
