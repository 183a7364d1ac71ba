package api

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// A connection on which nothing happens is kept alive, and the cursor of a
// client to whom nothing matters that happens is kept young.
func TestEventsHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, opts{full: true})
		body, err := c.open(c.ctx, "GET", "/v1/events?nodes=1&type=vm", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		lines := bufio.NewScanner(body)
		began := time.Now()
		for lines.Scan() && lines.Text() != ": it lives" {
		}
		if took := time.Since(began); took != heartbeatEvery {
			t.Errorf("the first sign of life came after %s, want %s", took, heartbeatEvery)
		}
		c.create("r1", "rack", `{}`)
		e, err := readEvent(lines)
		if err != nil || e.Type != EventPlace || e.Cursor == "" || time.Since(began) != 2*heartbeatEvery {
			t.Errorf("after %s: %+v, %v", time.Since(began), e, err)
		}
		// Behind it there is nothing to catch up with.
		again, err := c.open(c.ctx, "GET", "/v1/events?nodes=1&cursor="+e.Cursor, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		lines = bufio.NewScanner(again)
		if e, err := readEvent(lines); err != nil || e.Type != EventBegin {
			t.Errorf("%+v, %v", e, err)
		}
		c.create("r2", "rack", `{}`)
		if e, err := readEvent(lines); err != nil || e.Node == nil || e.Node.Node.ID() != "r2" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// A client that does not read at all is cut off.
func TestEventsHangingClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, opts{full: true})
		s := c.behind(Options{})
		body, err := c.open(c.ctx, "GET", "/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		lines := bufio.NewScanner(body)
		if e, err := readEvent(lines); err != nil || e.Type != EventBegin {
			t.Fatalf("%+v, %v", e, err)
		}
		c.fake().tell(scheduler.Status{Job: scheduler.Job{ID: "j1"}})
		synctest.Wait()
		if len(s.gates.waiting) != 1 {
			t.Fatalf("%d streams", len(s.gates.waiting))
		}
		time.Sleep(writeWithin)
		synctest.Wait()
		if len(s.gates.waiting) != 0 {
			t.Error("it is still served")
		}
		if _, err := readEvent(lines); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

// The event that says that changes were lost has no cursor: to resume there
// would lose them silently.
func TestEventsGoneHasNoCursor(t *testing.T) {
	c := newCluster(t, opts{full: true})
	body, err := c.open(c.ctx, "GET", "/v1/events?jobs=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	f := c.fake()
	f.mu.Lock()
	f.lost = 1 // more than there is
	close(f.news)
	f.news = make(chan struct{})
	f.mu.Unlock()
	var event []string
	for lines := bufio.NewScanner(body); lines.Scan(); {
		if event = append(event, lines.Text()); lines.Text() == "" && event[0] != "event: gone" {
			event = nil // that was another
		}
	}
	if len(event) != 3 || !strings.Contains(event[1], `"code":"compacted"`) {
		t.Errorf("the stream ended with %q", event)
	}
}

// A server that shuts down ends its streams.
func TestEventsDraining(t *testing.T) {
	c := newCluster(t, opts{full: true})
	drain := make(chan struct{})
	c.behind(Options{Draining: drain})
	l := listen(t, c.ctx, c.Client, "", EventFilter{})
	l.event()
	close(drain)
	if _, err, ok := l.next(); !ok || err == nil {
		t.Errorf("%v, %v", err, ok)
	}
}
