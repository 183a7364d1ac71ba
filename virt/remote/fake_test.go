package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a small agent over a simulated host: enough of one to see what the
// driver asks for, and to answer what no good agent would.
type fake struct {
	*httptest.Server
	t    testing.TB
	ctx  context.Context
	sub  *sim.Agent
	over func(w http.ResponseWriter, r *http.Request) bool // answers instead, if it wants to

	mu       sync.Mutex
	guests   map[string]*mistify.Guest
	jobs     map[string]*mistify.Job
	ended    map[string]chan struct{}
	requests []string
	headers  []http.Header
	running  sync.WaitGroup
	without  map[string]bool // actions that it has not
}

func newFake(t testing.TB, d *host.Driver, name string) *fake {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fake{
		t: t, ctx: ctx, sub: sim.New(d, virt.Host{ID: name}, sim.Options{}),
		guests: map[string]*mistify.Guest{}, jobs: map[string]*mistify.Job{}, ended: map[string]chan struct{}{}, without: map[string]bool{},
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		cancel()
		f.CloseClientConnections()
		f.Close()
		f.running.Wait()
	})
	return f
}

func (f *fake) host(id string) virt.Host { return virt.Host{ID: id, Address: f.URL} }

// asked returns the requests so far, as METHOD PATH with ID for the guest's id.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests, f.headers = nil, nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, err error) {
	kind := mistify.KindOf(err)
	answer(w, kind.Status(), mistify.ErrorBody{Message: err.Error(), Code: kind.Status(), Kind: kind})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	f.headers = append(f.headers, r.Header.Clone())
	over := f.over
	f.mu.Unlock()
	if over != nil && over(w, r) {
		return
	}
	words := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/v1/status":
		s, err := f.sub.Status(r.Context(), &mistify.StatusRequest{ID: r.URL.Query().Get("id")})
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, 200, mistify.Status{Complete: s.Complete, Guests: s.Guests, Capacity: s.Capacity, Version: "fake"})
	case words[0] == "jobs" && len(words) == 2:
		f.job(w, r, words[1])
	case words[0] == "guests" && len(words) == 2 && r.Method == "GET":
		f.mu.Lock()
		g := f.guests[words[1]].Clone()
		f.mu.Unlock()
		if g == nil {
			refuse(w, virt.ErrNotFound)
			return
		}
		answer(w, 200, g)
	case words[0] == "guests" && len(words) == 3 && words[2] == "metadata" && r.Method == "PATCH":
		var p mistify.MetadataPatch
		_ = json.NewDecoder(r.Body).Decode(&p)
		f.mu.Lock()
		defer f.mu.Unlock()
		g := f.guests[words[1]]
		if g == nil {
			refuse(w, virt.ErrNotFound)
			return
		}
		g.Metadata, _ = p.Apply(g.Metadata)
		answer(w, 200, g.Metadata)
	case words[0] == "guests" && len(words) == 3 && r.Method == "POST":
		f.act(w, r, words[1], words[2])
	default:
		http.NotFound(w, r)
	}
}

func (f *fake) act(w http.ResponseWriter, r *http.Request, id, action string) {
	do, ok := map[string]func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error){
		"define": f.sub.Define, "undefine": f.sub.Undefine, "provision": f.sub.Provision, "deprovision": f.sub.Deprovision, "start": f.sub.Start,
		"poweroff": f.sub.Poweroff, "shutdown": f.sub.Shutdown, "reboot": f.sub.Reboot, "suspend": f.sub.Suspend, "resume": f.sub.Resume,
		"delete": f.sub.Delete,
	}[action]
	if !ok || f.without[action] {
		refuse(w, virt.ErrUnsupported)
		return
	}
	t, err := mistify.TrailOf(r.Header)
	if err != nil {
		refuse(w, err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.guests[id].Clone()
	var given mistify.Guest
	if json.NewDecoder(r.Body).Decode(&given) == nil && given.ID != "" {
		g = &given
	}
	if g == nil {
		refuse(w, virt.ErrNotFound)
		return
	}
	j := &mistify.Job{ID: uuid.NewString(), GuestID: id, Action: action, Status: mistify.JobRunning, Trail: t}
	f.jobs[j.ID], f.ended[j.ID] = j, make(chan struct{})
	f.running.Go(func() {
		out, err := do(trail.With(f.ctx, t), &mistify.GuestRequest{Guest: g, Action: action})
		f.mu.Lock()
		defer f.mu.Unlock()
		defer close(f.ended[j.ID])
		if err != nil {
			j.Status, j.Message, j.Kind = mistify.JobError, err.Error(), mistify.KindOf(err)
			return
		}
		j.Status = mistify.JobComplete
		switch {
		case action == "undefine" || action == "delete":
			delete(f.guests, id)
		case action == "define" || f.guests[id] != nil:
			f.guests[id] = out.Guest
		}
	})
	w.Header().Set(mistify.HeaderJob, j.ID)
	answer(w, 202, g)
}

func (f *fake) job(w http.ResponseWriter, r *http.Request, id string) {
	f.mu.Lock()
	ended := f.ended[id]
	f.mu.Unlock()
	if ended == nil {
		refuse(w, virt.ErrNotFound)
		return
	}
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	answer(w, 200, f.jobs[id])
}

// simulated opens simulated hosts.
func simulated(t testing.TB) *host.Driver {
	t.Helper()
	cfg := host.Defaults()
	cfg.Shutdown = 20 * time.Millisecond
	d, err := host.Open(t.Context(), cfg, virt.DriverDeps{Name: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// open opens the driver under test.
func open(t testing.TB, change func(*Config)) *Driver {
	t.Helper()
	cfg := Defaults()
	if change != nil {
		change(&cfg)
	}
	d, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "remote"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// vm makes a guest with a disk and a NIC.
func ct(name string) virt.Guest {
	d := virt.Filled(name, virt.Definition{Type: "container", CPU: 1, Memory: 64})
	return virt.Guest{ID: name, UUID: d.UUID, Name: name, Definition: d}
}

func vm(name string) virt.Guest {
	d := virt.Filled(name, virt.Definition{CPU: 2, Memory: 512, Disks: []virt.Disk{{Size: 1024}}, NICs: []virt.NIC{{}}})
	return virt.Guest{ID: name, UUID: d.UUID, Name: name, Definition: d}
}
