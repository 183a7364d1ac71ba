package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
)

// made makes a guest that is off.
func made(t testing.TB, d *Driver, h virt.Host, g virt.Guest) {
	t.Helper()
	if err := errors.Join(d.Provision(t.Context(), h, g), d.Define(t.Context(), h, g)); err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

// An answer that is an error is the error that it says, and never silence where
// a host could be taken for dead by it.
func TestErrorsOfAnAgent(t *testing.T) {
	all := []error{virt.ErrNotFound, virt.ErrUnreachable, virt.ErrUnsupported, virt.ErrBusy, virt.ErrConflict, virt.ErrInvalid}
	for _, c := range []struct {
		status int
		kind   mistify.ErrorKind
		want   error // of a call
		listed error // of a listing
	}{
		{400, "", virt.ErrInvalid, virt.ErrInvalid},
		{401, "", nil, nil},
		{403, mistify.KindDenied, nil, nil},
		{409, "", virt.ErrConflict, virt.ErrConflict},
		{409, mistify.KindBusy, virt.ErrBusy, virt.ErrBusy},
		{412, "", virt.ErrConflict, virt.ErrConflict},
		{412, mistify.KindFenced, virt.ErrConflict, virt.ErrConflict},
		{429, mistify.KindTooMany, virt.ErrUnreachable, nil},
		{500, "", nil, nil},
		{501, "", virt.ErrUnsupported, virt.ErrUnsupported},
		{501, mistify.KindUnsupported, virt.ErrUnsupported, virt.ErrUnsupported},
		{502, "", virt.ErrUnreachable, nil},
		{503, "", virt.ErrUnreachable, nil},
		{504, mistify.KindTimeout, virt.ErrUnreachable, nil},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.kind), func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				answer(w, c.status, mistify.ErrorBody{Message: "no\x1b[31m\nno" + strings.Repeat("x", 100<<10), Code: c.status, Kind: c.kind})
			}))
			defer srv.Close()
			d, h := open(t, nil), virt.Host{ID: "h1", Address: srv.URL}
			for what, call := range every(d) {
				err := call(t.Context(), h, vm("web"))
				want := c.want
				if what == "status" {
					want = c.listed
				}
				if err == nil {
					t.Errorf("%s: an error was taken for success", what)
					continue
				}
				for _, kind := range all {
					if errors.Is(err, kind) != (kind == want) { //nolint:errorlint // which of them it is
						t.Errorf("%s: %.300v: that it is %q is %v, want it to be %v alone", what, err, kind, errors.Is(err, kind), want)
					}
				}
				if len(err.Error()) > 5000 || strings.ContainsAny(err.Error(), "\x1b\n") {
					t.Errorf("%s: the error has %d bytes, or control characters: %.200q", what, len(err.Error()), err)
				}
			}
		})
	}
}

// What the agent does not know is not there only if the host has it not.
func TestWhatTheAgentDoesNotKnow(t *testing.T) {
	sims := simulated(t)
	f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
	h := f.host("h1")
	calls := every(d)
	for _, what := range []string{"info", "provision", "deprovision", "define", "status"} {
		delete(calls, what)
	}
	for what, call := range calls {
		is(t, what+" of a guest that is nowhere", call(t.Context(), h, g), virt.ErrNotFound)
	}
	if err := sims.AddStranger("h1", virt.Seen{UUID: g.UUID, Name: "web", State: virt.Stopped, CPU: 1, Memory: 64}); err != nil {
		t.Fatal(err)
	}
	for what, call := range calls {
		err := call(t.Context(), h, g)
		if what == "stop" || what == "shutdown" { // it is off, as is wanted
			if err != nil {
				t.Errorf("%s of a stranger that is off: %v", what, err)
			}
			continue
		}
		is(t, what+" of a guest that the host has and the agent did not make", err, virt.ErrConflict)
	}
	if l, err := d.Status(t.Context(), h); err != nil || !l.Complete || len(l.Guests) != 1 || l.Guests[0].UUID != g.UUID {
		t.Errorf("the stranger is not listed: %+v (%v)", l, err)
	}
	if err := sims.Remove("h1", g.UUID); err != nil {
		t.Fatal(err)
	}
	sims.Partial("h1", 0)
	f.over = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == mistify.PathStatus {
			answer(w, 200, mistify.Status{Problems: []string{"libvirt hangs\x00"}})
			return true
		}
		return false
	}
	calls["info"] = every(d)["info"]
	for what, call := range calls {
		is(t, what+" of a guest that half a listing does not have", call(t.Context(), h, g), virt.ErrUnreachable)
	}
	if l, err := d.Status(t.Context(), h); err != nil || l.Complete {
		t.Errorf("half a listing is %+v (%v)", l, err)
	}
}

// An agent that cannot undefine, ours without the action or Mistify's own, is not
// asked to delete instead.
func TestUndefineIsNeverADelete(t *testing.T) {
	for name, over := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"not configured": nil,
		"Mistify's own": func(w http.ResponseWriter, r *http.Request) bool {
			for _, add := range []string{"/undefine", "/define", "/provision", "/deprovision", "/resume", "/v1/status"} {
				if strings.HasSuffix(r.URL.Path, add) {
					http.NotFound(w, r)
					return true
				}
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			sims := simulated(t)
			f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
			h := f.host("h1")
			made(t, d, h, g)
			f.mu.Lock()
			f.over = over
			for _, action := range []string{"undefine", "define", "provision", "deprovision", "resume"} {
				f.without[action] = true
			}
			f.mu.Unlock()
			f.forget()
			changed := g
			changed.Definition.CPU++
			is(t, "undefine", d.Undefine(t.Context(), h, g), virt.ErrUnsupported)
			is(t, "define", d.Define(t.Context(), h, changed), virt.ErrUnsupported)
			is(t, "provision", d.Provision(t.Context(), h, g), virt.ErrUnsupported)
			is(t, "deprovision", d.Deprovision(t.Context(), h, g), virt.ErrUnsupported)
			is(t, "resume", d.Resume(t.Context(), h, g), virt.ErrUnsupported)
			if over != nil {
				_, err := d.Status(t.Context(), h)
				is(t, "status", err, virt.ErrUnsupported)
			}
			for _, asked := range f.asked() {
				if strings.Contains(asked, "delete") || strings.HasPrefix(asked, "DELETE") || asked == "POST /guests" {
					t.Errorf("the agent was asked to %s", asked)
				}
			}
			if _, ok, err := sims.Disk("h1", g.Definition.Disks[0].Volume); !ok || err != nil {
				t.Errorf("the disk is gone (%v)", err)
			}
			if l, err := sims.Status(t.Context(), virt.Host{ID: "h1"}); err != nil || len(l.Guests) != 1 {
				t.Errorf("the guest is gone: %+v (%v)", l, err)
			}
		})
	}
}

// A job is waited for by one request that the agent holds.
func TestWaitingIsNotBusy(t *testing.T) {
	sims := simulated(t)
	f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
	h := f.host("h1")
	made(t, d, h, g)
	f.forget()
	go_ := make(chan struct{})
	sims.Intercept("h1", func(ctx context.Context, c host.Call) error {
		if c.Op == "start" {
			select {
			case <-go_:
			case <-ctx.Done():
			}
		}
		return nil
	})
	waits := make(chan struct{}, 100)
	f.mu.Lock()
	f.over = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/jobs/") {
			waits <- struct{}{}
		}
		return false
	}
	f.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- d.Power(t.Context(), h, g, virt.PowerStart) }()
	<-waits
	select {
	case <-waits:
		t.Error("it asked again while the agent still held its request")
	case err := <-done:
		t.Errorf("it did not wait for the job: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(go_)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if asked := f.asked(); len(asked) != 2 {
		t.Errorf("a start is the requests %v, want one that starts and one that waits", asked)
	}
}

// What became of a job that the agent does not know any more, nobody knows.
func TestLostJobs(t *testing.T) {
	for name, over := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"forgotten": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/jobs/") {
				refuse(w, virt.ErrNotFound)
				return true
			}
			return false
		},
		"never ends": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/jobs/") {
				answer(w, 200, mistify.Job{ID: uuid.NewString(), Status: mistify.JobRunning})
				return true
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, d, g := newFake(t, simulated(t), "h1"), open(t, func(c *Config) { c.JobTimeout = time.Second }), vm("web")
			h := f.host("h1")
			made(t, d, h, g)
			f.mu.Lock()
			f.over = over
			f.mu.Unlock()
			for what, err := range map[string]error{"start": d.Power(t.Context(), h, g, virt.PowerStart), "undefine": d.Undefine(t.Context(), h, g)} {
				is(t, what, err, virt.ErrUnreachable)
				if errors.Is(err, virt.ErrNotFound) {
					t.Errorf("%s: a lost job was taken for a guest that is not there: %v", what, err)
				}
			}
		})
	}
}

// An agent that takes a request which waits, and never answers it, is given up
// long before the job's time is over.
func TestAgentThatHangsWhileAJobRuns(t *testing.T) {
	f, d, g := newFake(t, simulated(t), "h1"), open(t, func(c *Config) { c.JobTimeout = time.Hour }), vm("web")
	d.paths[waits].ResponseHeaderTimeout = 300 * time.Millisecond // it is half a minute, and more
	h := f.host("h1")
	made(t, d, h, g)
	asked := make(chan struct{}, 100)
	f.mu.Lock()
	f.over = func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/jobs/") {
			return false
		}
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-f.ctx.Done():
		}
		return true
	}
	f.mu.Unlock()
	is(t, "start by an agent that hangs", d.Power(t.Context(), h, g, virt.PowerStart), virt.ErrUnreachable)
	if n := len(asked); n != 1 {
		t.Errorf("it was asked for the job %d times, want once", n)
	}
}
