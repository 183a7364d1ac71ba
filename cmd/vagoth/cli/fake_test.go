package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// fakeDaemon answers as far as the tests ask, of jobs that end when they say so.
type fakeDaemon struct {
	mu        sync.Mutex
	jobs      map[string]scheduler.Status
	packages  []scheduler.Package
	cancelled []string
	reasons   []string
	refused   map[string]bool // queues whose jobs are refused
	full      int             // submissions that are told that too much is queued
	noQueues  bool
	down      bool

	// asked is called with the lock held whenever somebody waits for the job; it
	// may change it.
	asked func(f *fakeDaemon, id string)
}

func newFake() *fakeDaemon {
	return &fakeDaemon{jobs: map[string]scheduler.Status{}, refused: map[string]bool{}}
}

func (f *fakeDaemon) locked(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fakeDaemon) set(id string, change func(*scheduler.Status)) {
	st := f.jobs[id]
	change(&st)
	f.jobs[id] = st
}

func (f *fakeDaemon) add(id string, state scheduler.State) *awaited {
	st := scheduler.Status{Job: scheduler.Job{ID: id, Queue: id, Action: "act"}, State: state}
	f.jobs[id] = st
	return &awaited{name: id, st: st}
}

func (f *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	words := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	fail := func(status int, code, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(api.Problem{Message: text, Code: code})
	}
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch {
	case f.down:
		fail(http.StatusServiceUnavailable, "not_ready", "it begins")
	case words[0] == "version":
		answer(api.Version{Version: version()})
	case words[0] == "stats" && f.noQueues:
		fail(http.StatusNotImplemented, "unsupported", "no queues")
	case words[0] == "stats":
		answer(scheduler.Stats{})
	case words[0] == "nodes" && len(words) == 2:
		answer(map[string]any{"node": json.RawMessage(`{"id":"` + words[1] + `","name":"` + words[1] + `","type":"vm","parent":"h1"}`), "parent_name": "host-1"})
	case words[0] == "jobs" && r.Method == "POST" && len(words) == 1:
		f.submit(r, answer, fail)
	case words[0] == "jobs" && len(words) == 2:
		if f.asked != nil {
			f.asked(f, words[1])
		}
		st, ok := f.jobs[words[1]]
		if !ok {
			fail(http.StatusNotFound, "not_found", "no job "+words[1])
			return
		}
		answer(st)
	case words[0] == "jobs" && len(words) == 3 && words[2] == "cancel":
		f.cancelled, f.reasons = append(f.cancelled, words[1]), append(f.reasons, r.Header.Get(api.HeaderReason))
		f.set(words[1], func(st *scheduler.Status) { st.State, st.Error = scheduler.Cancelled, "given up" })
		answer(f.jobs[words[1]])
	default:
		fail(http.StatusNotFound, "no_endpoint", "nothing at "+r.URL.Path)
	}
}

func (f *fakeDaemon) submit(r *http.Request, answer func(any), fail func(int, string, string)) {
	var p scheduler.Package
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		fail(http.StatusBadRequest, "invalid", err.Error())
		return
	}
	if f.full > 0 {
		f.full--
		fail(http.StatusTooManyRequests, "too_many", "too many jobs are queued")
		return
	}
	for _, j := range p.Jobs {
		if f.refused[j.Queue] {
			fail(http.StatusConflict, "conflict", "the queue "+j.Queue+" is draining")
			return
		}
	}
	f.packages = append(f.packages, p)
	list := []scheduler.Status{}
	for _, j := range p.Jobs {
		j.ID = fmt.Sprintf("job-%d", len(f.jobs))
		st := scheduler.Status{Job: j, State: scheduler.Waiting}
		f.jobs[j.ID] = st
		list = append(list, st)
	}
	answer(list)
}

// bench is an app over the fake.
func bench(t *testing.T, f *fakeDaemon) (a *app, client *api.Client, errs *bytes.Buffer) {
	t.Helper()
	inside := api.InProcess(f)
	t.Cleanup(func() {
		if err := inside.Close(); err != nil {
			t.Error(err)
		}
	})
	errs = new(bytes.Buffer)
	return &app{output: "table", env: Env{Out: errs, Err: &locked{w: errs}, Now: time.Now}}, api.NewClient("http://vagoth", inside), errs
}

// locked lets several write.
type locked struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func vmItems(t *testing.T, n int) (items []api.Item) {
	t.Helper()
	for i := range n {
		var node registry.Node
		if err := json.Unmarshal(fmt.Appendf(nil, `{"id":"vm%d","name":"vm%d","type":"vm","parent":"h1"}`, i, i), &node); err != nil {
			t.Fatal(err)
		}
		items = append(items, api.Item{Node: &node})
	}
	return items
}
