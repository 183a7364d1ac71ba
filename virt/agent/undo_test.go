package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// hall is a sub-agent whose stages make things, each for a job, and whose undo
// removes those of the job.
type hall struct {
	mu     sync.Mutex
	things map[string]string // GUEST THING: for which job
	calls  []string
	before func(method string) error
	after  func(method string)
}

func newHall() *hall { return &hall{things: map[string]string{}} }

func (h *hall) server() *mistify.Server {
	s := mistify.NewServer(mistify.ServerOptions{})
	on := func(name string, do func(r *mistify.GuestRequest) error) {
		mistify.Register(s, "Hall."+name, func(_ context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
			h.mu.Lock()
			h.calls = append(h.calls, name)
			before, after := h.before, h.after
			h.mu.Unlock()
			if before != nil {
				if err := before(name); err != nil {
					return nil, err
				}
			}
			h.mu.Lock()
			err := do(r)
			h.mu.Unlock()
			if after != nil {
				after(name)
			}
			if err != nil {
				return nil, err
			}
			return &mistify.GuestResponse{Guest: r.Guest}, nil
		})
	}
	for _, thing := range []string{"Disks", "Domain"} {
		on(thing, func(r *mistify.GuestRequest) error {
			if r.Job == "" {
				return errors.New("there is no job")
			}
			if key := r.Guest.ID + " " + thing; h.things[key] == "" {
				h.things[key] = r.Job
			}
			return nil
		})
		on("No"+thing, func(r *mistify.GuestRequest) error {
			if key := r.Guest.ID + " " + thing; h.things[key] == r.Job {
				delete(h.things, key)
			}
			return nil
		})
		on("Delete"+thing, func(r *mistify.GuestRequest) error {
			delete(h.things, r.Guest.ID+" "+thing)
			return nil
		})
	}
	for _, name := range []string{"Verify", "Start"} {
		on(name, func(r *mistify.GuestRequest) error {
			if r.Job != "" {
				return errors.New("a stage without an undo is given a job")
			}
			return nil
		})
	}
	return s
}

func (h *hall) left() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.things))
}

func (h *hall) called() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *hall) on(before func(method string) error, after func(method string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after, h.calls = before, after, nil
}

func undoConfig(port int) Config {
	cfg := Defaults()
	cfg.MaxRetryWait, cfg.UndoTries, cfg.StopGrace = time.Millisecond, 3, 2*time.Second
	cfg.Services = map[string]ServiceConfig{"hall": {Port: port, MaxPending: 8}}
	make := []Stage{
		{Service: "hall", Method: "Hall.Verify", Idempotent: true}, {Service: "hall", Method: "Hall.Disks", Undo: "Hall.NoDisks", Idempotent: true},
		{Service: "hall", Method: "Hall.Domain", Undo: "Hall.NoDomain"}, {Service: "hall", Method: "Hall.Start"},
	}
	cfg.Actions = map[string]ActionConfig{
		"create": {Stages: make}, "define": {Stages: make[:3]}, "provision": {Stages: make[1:3]}, "start": {Stages: make[3:]},
		"delete": {Stages: []Stage{{Service: "hall", Method: "Hall.DeleteDomain", Idempotent: true}, {Service: "hall", Method: "Hall.DeleteDisks", Idempotent: true}}},
	}
	return cfg
}

func newUndoHost(t *testing.T) (*hall, *host) {
	l := newHall()
	cfg := undoConfig(0)
	cfg.Services = map[string]ServiceConfig{"hall": {}}
	return l, newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"hall": l.server()}})
}

const anyGuest = `{"id":"` + vm1 + `","type":"vm","memory":64,"cpu":1}`

// What the stages made is removed when one of them fails, the last first, and the
// guest can be created again.
func TestUndo(t *testing.T) {
	l, h := newUndoHost(t)
	for _, c := range []struct {
		fails string
		calls string
	}{
		{"Verify", "Verify"},
		{"Disks", "Verify Disks NoDisks"},
		{"Domain", "Verify Disks Domain NoDomain NoDisks"},
		{"Start", "Verify Disks Domain Start NoDomain NoDisks"},
	} {
		for _, late := range []bool{false, true} { // it did its work before it failed
			fail := func(method string) error {
				if method == c.fails {
					return fmt.Errorf("%w: the moon is full", virt.ErrBusy)
				}
				return nil
			}
			l.on(fail, nil)
			if late {
				l.on(nil, func(method string) {
					if method == c.fails {
						panic("and then it fell over")
					}
				})
			}
			a := h.want(202, "POST", "/guests", anyGuest)
			j := h.ended(a.job())
			if j.Status != mistify.JobError || !strings.Contains(j.Stage, "Hall."+c.fails+" of hall") || strings.Contains(j.Stage, undoWord) {
				t.Errorf("%s: %+v", c.fails, j)
			}
			if !late && (!strings.Contains(j.Message, "the moon is full") || j.Kind != mistify.KindOf(virt.ErrBusy)) {
				t.Errorf("%s: %+v", c.fails, j)
			}
			if c.fails != "Verify" && !strings.Contains(j.Message, "what had been made was removed") {
				t.Errorf("%s: it says %q", c.fails, j.Message)
			}
			if got := strings.Join(l.called(), " "); got != c.calls {
				t.Errorf("%s: called %s, want %s", c.fails, got, c.calls)
			}
			if left := l.left(); len(left) > 0 {
				t.Errorf("%s: left is %q", c.fails, left)
			}
			if c.fails == "Verify" { // nothing can have been made, and it is as it was without an undo
				h.want(200, "GET", "/guests/"+vm1, "")
				l.on(nil, nil)
				h.ended(h.want(202, "POST", "/guests/"+vm1+"/delete", "").job())
			}
			h.want(404, "GET", "/guests/"+vm1, "")
		}
	}
	l.on(nil, nil)
	h.create(vm1)
	if len(l.left()) != 2 {
		t.Errorf("there is %q", l.left())
	}
	// Of a guest that is there nothing goes away that this job has not made.
	l.on(func(method string) error {
		if method == "Domain" {
			return errors.New("the moon is full")
		}
		return nil
	}, nil)
	j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/provision", "").job())
	if j.Status != mistify.JobError || len(l.left()) != 2 {
		t.Errorf("%+v, there is %q", j, l.left())
	}
	h.want(200, "GET", "/guests/"+vm1, "")
	for range 2 { // half a deletion is done again
		l.on(func(method string) error {
			if method == "DeleteDisks" {
				return errors.New("the moon is full")
			}
			return nil
		}, nil)
		h.ended(h.want(202, "POST", "/guests/"+vm1+"/delete", "").job())
	}
	l.on(nil, nil)
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/delete", "").job())
	h.want(404, "GET", "/guests/"+vm1, "")
	if left := l.left(); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// An undo that fails is tried again, and after undo_tries the job says what failed
// and what is left. What stands below is left too.
func TestUndoThatFails(t *testing.T) {
	l, h := newUndoHost(t)
	tries := 0
	bad := func(most int) func(method string) error {
		tries = 0
		return func(method string) error {
			switch method {
			case "Start":
				return fmt.Errorf("%w: no memory", virt.ErrConflict)
			case "NoDomain":
				if tries++; tries <= most {
					return errors.New("the door is locked")
				}
			}
			return nil
		}
	}
	l.on(bad(2), nil)
	j := h.ended(h.want(202, "POST", "/guests", anyGuest).job())
	if j.Status != mistify.JobError || tries != 3 || len(l.left()) > 0 || !strings.Contains(j.Message, "what had been made was removed") {
		t.Errorf("%+v after %d tries, left is %q", j, tries, l.left())
	}
	l.on(bad(1000), nil)
	a := h.want(202, "POST", "/guests", anyGuest)
	behind := h.want(202, "POST", "/guests/"+vm1+"/start", "").job()
	j = h.ended(a.job())
	for _, want := range []string{"no memory", "3/4 Hall.NoDomain of hall failed 3 times", "the door is locked", "delete the guest"} {
		if !strings.Contains(j.Message, want) {
			t.Errorf("it says %q, and not %q", j.Message, want)
		}
	}
	if j.Status != mistify.JobError || j.Kind != mistify.KindOf(virt.ErrConflict) || !strings.Contains(j.Stage, "4/4 Hall.Start") || tries != 3 {
		t.Errorf("%+v after %d tries", j, tries)
	}
	if want := []string{vm1 + " Disks", vm1 + " Domain"}; !slices.Equal(l.left(), want) {
		t.Errorf("left is %q", l.left())
	}
	h.want(200, "GET", "/guests/"+vm1, "") // so that it can be deleted
	h.ended(behind)
	l.on(nil, nil)
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/delete", "").job())
	if len(l.left()) > 0 {
		t.Errorf("left is %q", l.left())
	}
}

// A job shows that it takes back, and a job behind one that made a guest and took
// it back ends with it.
func TestUndoIsShown(t *testing.T) {
	l, h := newUndoHost(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	l.on(func(method string) error {
		switch method {
		case "Start":
			return errors.New("no memory")
		case "NoDomain":
			close(begun)
			<-goOn
		}
		return nil
	}, nil)
	id := h.want(202, "POST", "/guests", anyGuest).job()
	<-begun
	behind := h.want(202, "POST", "/guests/"+vm1+"/start", "").job()
	j := h.agent.store.job(id)
	if j.Status != mistify.JobRunning || j.Stage != "undo of 3/4 Hall.NoDomain of hall" || !strings.Contains(j.Message, "4/4 Hall.Start of hall failed: Hall.Start of the sub-agent hall: no memory; what was made is being removed") {
		t.Errorf("%+v", j.Job)
	}
	close(goOn)
	h.ended(id)
	if j := h.ended(behind); j.Status != mistify.JobError || !strings.Contains(j.Message, "could not be made") {
		t.Errorf("%+v", j)
	}
}

// While the sub-agent is down nothing is forgotten, and an agent that is stopped
// goes on when it is started again.
func TestUndoWithoutSubAgent(t *testing.T) {
	l := newHall()
	s := httptest.NewServer(l.server())
	port := portOf(t, s.URL)
	cfg := undoConfig(port)
	cfg.UndoTries, cfg.MaxRetryWait = 1000, time.Hour
	data := t.TempDir()
	down := make(chan struct{})
	l.on(nil, func(method string) {
		if method == "Domain" {
			close(down)
		}
	})
	h := newHost(t, hostOptions{cfg: &cfg, data: data})
	id := h.want(202, "POST", "/guests", anyGuest).job()
	<-down
	s.CloseClientConnections()
	s.Close()
	h.until("its undo waits", func() bool { j := h.agent.store.job(id); return j.Undo != nil && j.Undo.Tries > 0 })
	h.stop()
	if len(l.left()) != 2 {
		t.Fatalf("there is %q", l.left())
	}
	l.on(nil, nil)
	again := httptest.NewServer(l.server())
	defer again.Close()
	cfg = undoConfig(portOf(t, again.URL))
	h = newHost(t, hostOptions{cfg: &cfg, data: data})
	if j := h.ended(id); j.Status != mistify.JobError || !strings.Contains(j.Message, "what had been made was removed") || len(l.left()) > 0 {
		t.Errorf("%+v, left is %q", j, l.left())
	}
	h.want(404, "GET", "/guests/"+vm1, "")
}

// A config that does not know the undo any more names what may be left.
func TestUndoThatIsGone(t *testing.T) {
	l := newHall()
	s := httptest.NewServer(l.server())
	defer s.Close()
	cfg := undoConfig(portOf(t, s.URL))
	cfg.MaxRetryWait = time.Hour
	data := t.TempDir()
	l.on(func(method string) error {
		if method == "Domain" || method == "NoDomain" {
			return errors.New("the moon is full")
		}
		return nil
	}, nil)
	h := newHost(t, hostOptions{cfg: &cfg, data: data})
	id := h.want(202, "POST", "/guests", anyGuest).job()
	h.until("its undo waits", func() bool { j := h.agent.store.job(id); return j.Undo != nil && j.Undo.Tries > 0 })
	h.stop()
	cfg.Actions["create"].Stages[2].Undo = ""
	h = newHost(t, hostOptions{cfg: &cfg, data: data})
	if j := h.ended(id); j.Status != mistify.JobError || !strings.Contains(j.Message, "changed in the config") || !strings.Contains(j.Message, "3/4 Hall.Domain of hall had made, which failed (Hall.Domain of the sub-agent hall: the moon is full)") {
		t.Errorf("%+v", j)
	}
	h.want(200, "GET", "/guests/"+vm1, "")
}
