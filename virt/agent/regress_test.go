package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/virt/mistify"
)

// What is tested here went wrong, live, in the agent that this one follows.

// A failing async action costs one job, and the next one runs.
func TestFailingAction(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	h.sub.onGuest(func(_ context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		switch r.Action {
		case "start":
			return nil, errNo
		case "restart":
			return nil, fmt.Errorf("%w", mistify.KindBusy.Err())
		case "reboot":
			return &mistify.GuestResponse{}, nil
		case "poweroff":
			r.Guest.ID = ct1
		case "suspend":
			r.Guest.Type = mistify.TypeContainer
		case "shutdown":
			panic("of the sub-agent")
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	})
	for _, c := range []struct {
		action, message string
		kind            mistify.ErrorKind
	}{
		{"start", "no, not this", ""}, {"restart", "running", mistify.KindBusy}, {"reboot", "without a guest", ""}, {"poweroff", ct1, ""}, {"shutdown", "Test.Shutdown", ""},
	} {
		j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/"+c.action, "").job())
		if j.Status != mistify.JobError || !strings.Contains(j.Message, c.message) || j.Kind != c.kind {
			t.Errorf("%s: %+v", c.action, j)
		}
	}
	// A VM stays one, whatever a sub-agent answers, and whatever was done before.
	for _, action := range []string{"suspend", "suspend"} {
		if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/"+action, "").job()); j.Status != mistify.JobComplete || j.Action != action {
			t.Errorf("%+v", j)
		}
	}
	h.want(404, "GET", "/guests/"+ct1, "")
}

// A VM's action never becomes a container's after one.
func TestNeverAContainers(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	h.ended(h.want(202, "POST", "/guests", `{"id":"`+ct1+`","type":"container"}`).job())
	for range 3 {
		for id, action := range map[string]string{vm1: "restart", ct1: "containerRestart"} {
			if j := h.ended(h.want(202, "POST", "/guests/"+id+"/restart", "").job()); j.Action != action || j.Status != mistify.JobComplete {
				t.Errorf("%s: %+v", id, j)
			}
		}
	}
	for _, c := range h.sub.seen() {
		if strings.Contains(c, "Container") != strings.Contains(c, ct1) {
			t.Errorf("called %s", c)
		}
	}
}

// Creating a snapshot answers with its job, and a guest's jobs are its own.
func TestSnapshotsJob(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	h.create(ct1)
	a := h.want(202, "POST", "/guests/"+vm1+"/snapshots", `{"dest":"one"}`)
	var j mistify.Job
	if err := json.Unmarshal([]byte(a.body), &j); err != nil || j.ID != a.job() || j.Action != "createSnapshot" || j.GuestID != vm1 {
		t.Errorf("%s %v", a.body, err)
	}
	h.ended(j.ID)
	var jobs []mistify.Job
	if err := json.Unmarshal([]byte(h.want(200, "GET", "/guests/"+vm1+"/jobs", "").body), &jobs); err != nil || len(jobs) != 2 {
		t.Fatalf("%+v %v", jobs, err)
	}
	for _, j := range jobs {
		if j.GuestID != vm1 {
			t.Errorf("among the jobs of %s is one of %s", vm1, j.GuestID)
		}
	}
}

// Jobs, queued and done, are there after a restart, and so is all else.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	block := make(chan struct{})
	h := newHost(t, hostOptions{data: data})
	h.create(vm1)
	h.want(200, "PATCH", "/metadata", `{"rack":"7"}`)
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/start", "", "Vagoth-Token", "3.1", "Vagoth-Reason", "a%20test").job())
	h.sub.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	})
	running := h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job()
	queued := h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()
	h.until("it runs", func() bool { return strings.Contains(strings.Join(h.sub.seen(), " "), "Reboot") })
	time.AfterFunc(20*time.Millisecond, func() { close(block) }) // it comes to its end while the agent stops
	h.stop()

	h = newHost(t, hostOptions{data: data, idle: true})
	if g := h.want(200, "GET", "/guests/"+vm1, ""); !strings.Contains(g.body, `"memory":512`) {
		t.Errorf("guest: %s", g.body)
	}
	if m := h.want(200, "GET", "/metadata", ""); m.body != `{"rack":"7"}`+"\n" {
		t.Errorf("metadata: %s", m.body)
	}
	var jobs []mistify.Job
	if err := json.Unmarshal([]byte(h.want(200, "GET", "/jobs", "").body), &jobs); err != nil || len(jobs) != 4 {
		t.Fatalf("jobs: %+v %v", jobs, err)
	}
	if jobs[0].ID != queued || jobs[0].Status != mistify.JobQueued || jobs[1].ID != running || jobs[1].Status != mistify.JobComplete || jobs[2].Trail.Reason != "a test" {
		t.Errorf("jobs: %+v", jobs)
	}
	h.want(412, "POST", "/guests/"+vm1+"/start", "", "Vagoth-Token", "3.0")
	h.stop()

	h = newHost(t, hostOptions{data: data})
	if j := h.ended(queued); j.Status != mistify.JobComplete || j.Attempt != 1 {
		t.Errorf("%+v", j)
	}
}

// The store is where dbpath says, and a file there is refused.
func TestStorePath(t *testing.T) {
	dir := t.TempDir()
	cfg, _, err := ReadMistify(strings.NewReader(`{"dbpath":"` + dir + `/here"}`))
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, hostOptions{cfg: &cfg})
	h.want(200, "PATCH", "/metadata", `{"a":"b"}`)
	h.stop()
	h = newHost(t, hostOptions{cfg: &cfg})
	if m := h.want(200, "GET", "/metadata", ""); m.body != `{"a":"b"}`+"\n" {
		t.Errorf("%s", m.body)
	}
	cfg.Store = "regress_test.go"
	if _, err := Open(t.Context(), cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("%v", err)
	}
}

// 64 clients at once do everything.
func TestManyClients(t *testing.T) {
	cfg := testConfig()
	cfg.MaxInfo = 3
	h := newHost(t, hostOptions{cfg: &cfg})
	var work sync.WaitGroup
	var jobs atomic.Int64
	for n := range 64 {
		work.Go(func() {
			own, shared := uuidOf(1000+n), uuidOf(n%4)
			h.do("POST", "/guests", `{"id":"`+shared+`","type":"vm"}`)
			if a := h.do("POST", "/guests", `{"id":"`+own+`"}`); a.status != 202 {
				t.Errorf("%d %s", a.status, a.body)
			}
			for i, r := range []string{
				"POST /guests/" + shared + "/start", "GET /guests", "PATCH /guests/" + shared + "/metadata", "GET /guests/" + shared + "/metadata", "GET /jobs", "GET /guests/" + shared + "/metrics/cpu",
				"POST /guests/" + shared + "/snapshots", "GET /guests/" + shared + "/jobs", "PATCH /metadata", "GET /v1/status", "GET /images", "GET /guests/" + shared + "/snapshots/a/download", "DELETE /guests/" + own,
			} {
				method, path, _ := strings.Cut(r, " ")
				body := ""
				if method == "PATCH" {
					body = fmt.Sprintf(`{"k%d":"%d"}`, n, i)
				}
				a := h.do(method, path, body)
				if a.status >= 300 && a.status != 429 {
					t.Errorf("%s: %d %s", r, a.status, a.body)
				}
				if a.job() != "" {
					jobs.Add(1)
					if n%4 == 0 {
						h.ended(a.job())
					}
				}
			}
		})
	}
	work.Wait()
	h.until("all jobs have ended", func() bool { _, n := h.agent.store.lengths(""); return n == 0 })
	var meta map[string]string
	if err := json.Unmarshal([]byte(h.want(200, "GET", "/guests/"+uuidOf(0)+"/metadata", "").body), &meta); err != nil || len(meta) != 16 {
		t.Errorf("of 16 changes of the metadata %d are there (%v): one overwrote another", len(meta), err)
	}
	if n := h.agent.store.count(); n != 4 {
		t.Errorf("%d guests are left", n)
	}
	if jobs.Load() == 0 {
		t.Error("no jobs")
	}
}

type panics struct{ on bool }

func (p *panics) Authenticate(*http.Request) (auth.Identity, error) {
	if p.on {
		panic("in a handler")
	}
	return auth.Identity{Name: "x", Role: auth.Admin}, nil
}

// A panic costs one request.
func TestPanic(t *testing.T) {
	p := &panics{on: true}
	h := newHost(t, hostOptions{deps: Deps{Auth: p}})
	a := h.want(500, "GET", "/guests", "")
	if strings.Contains(a.body, "in a handler") || strings.Contains(a.body, "goroutine") {
		t.Errorf("it tells too much: %s", a.body)
	}
	p.on = false
	h.want(200, "GET", "/guests", "")
	if !strings.Contains(h.log.String(), "in a handler") {
		t.Error("the log does not have it")
	}
}

// hostile are services that answer badly.
func hostile(t *testing.T, stop chan struct{}) map[string]http.Handler {
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) })
	}
	return map[string]http.Handler{
		"hangs": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}),
		"one byte at a time": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				case <-stop:
					return
				}
			}
		}),
		"garbage":     text("\x00\xff<html>"),
		"null":        text("null"),
		"no result":   text(`{"result":null,"error":null,"id":1}`),
		"wrong types": text(`{"result":{"guest":7},"error":null,"id":1}`),
		"a list":      text(`[1,2,3]`),
		"deep":        text(strings.Repeat(`{"result":`, 100_000)),
		"odd error":   text(`{"result":null,"error":{"a":[1]},"id":1}`),
		"no id":       text(`{"result":{"guest":{}}}`),
		"bad guest":   text(`{"result":{"guest":{"id":"` + vm1 + `","type":"vm","metadata":{"\u0000":"x"}}}}`),
		"closes":      http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"500":         http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31mboom", 500) }),
		"redirect":    http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect),
		"huge": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			b := make([]byte, 1<<20)
			for range 20 {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}),
		"breaks off": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"result"`))
		}),
		"many headers": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("a", 100))
			}
			w.WriteHeader(200)
		}),
	}
}

// Whatever a service does, it fails in its deadline and holds up no other guest.
func TestHostileService(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	all := hostile(t, stop)
	cfg := testConfig()
	subs := map[string]http.Handler{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().(*net.TCPAddr).Port
	l.Close()
	names := map[string]string{} // of the case, by action
	actions := []string{"start", "shutdown", "reboot", "restart", "poweroff", "suspend", "resume", "define", "undefine", "deprovision", "provision", "run", "containerStart", "containerShutdown", "containerReboot", "containerRestart", "containerPoweroff", "containerSuspend"}
	i := 0
	for name, handler := range all {
		service := fmt.Sprintf("bad%d", i)
		cfg.Services[service] = ServiceConfig{MaxPending: 1, Timeout: 300 * time.Millisecond}
		subs[service] = handler
		cfg.Actions[actions[i]] = ActionConfig{Stages: []Stage{{Service: service, Method: "Bad.Do"}}}
		names[actions[i]] = name
		i++
	}
	cfg.Services["dead"] = ServiceConfig{Port: dead}
	cfg.Actions[actions[i]] = ActionConfig{Stages: []Stage{{Service: "dead", Method: "Bad.Do"}}}
	names[actions[i]] = "dead port"
	h := newHost(t, hostOptions{cfg: &cfg, subs: subs})
	h.create(vm1)
	begin := time.Now()
	for action, name := range names {
		t.Run(name, func(t *testing.T) {
			p := h.agent.actions[action]
			at := p.stages[0]
			g := benchGuest(1)
			g.ID = vm1
			if err := at.service.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			asked := time.Now()
			out, err := h.agent.callStage(t.Context(), p, at, &state{Job: mistify.Job{ID: "x", GuestID: vm1}, Guest: g})
			if err == nil {
				t.Errorf("it was taken for an answer: %+v", out.guest)
			} else if strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("its error goes raw into logs: %q", err)
			}
			if took := time.Since(asked); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := len(at.service.places); n != 0 {
				t.Errorf("%d places are still taken", n)
			}
		})
	}
	// All of them at once, as jobs of one guest each, and a guest that uses another service.
	for action := range names {
		if strings.HasPrefix(action, "container") || action == "run" || action == "undefine" {
			continue
		}
		h.want(202, "POST", "/guests/"+vm1+"/"+action, "")
	}
	h.create(uuidOf(5))
	h.until("all have failed", func() bool { n, _ := h.agent.store.lengths(vm1); return n == 0 })
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("all together took %v", took)
	}
	for _, j := range h.agent.store.latest(vm1, 100) {
		if j.Action != "create" && j.Status != mistify.JobError {
			t.Errorf("%+v", j)
		}
	}
	h.create(uuidOf(6))
}

// What is patched while a job that brings a guest waits or runs is kept: the
// guest becomes what the job was given, with the patch.
func TestPatchDuringProvision(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	in, out := make(chan string, 8), make(chan struct{})
	h.sub.onGuest(func(_ context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		in <- method
		<-out
		r.Guest.Metadata["stage"] = "was here"
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	})
	body := `{"type":"vm","memory":1024,"metadata":{"given":"1","b":"2"}}`
	first := h.want(202, "POST", "/guests/"+vm1+"/provision", body).job()
	<-in
	second := h.want(202, "POST", "/guests/"+vm1+"/provision", body).job() // waits behind
	h.want(200, "PATCH", "/guests/"+vm1+"/metadata", `{"patched":"yes","b":null}`)
	for _, id := range []string{first, second} {
		out <- struct{}{}
		if j := h.ended(id); j.Status != mistify.JobComplete {
			t.Fatalf("%+v", j)
		}
		if got := h.want(200, "GET", "/guests/"+vm1+"/metadata", "").body; got != `{"given":"1","patched":"yes","stage":"was here"}`+"\n" {
			t.Errorf("%s", got)
		}
	}
}

// An action by GET has a trail as one by POST has: in its request, its job, and
// their lines in the log.
func TestGetActionTrail(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	id := h.want(202, "GET", "/guests/"+vm1+"/reboot", "").job()
	if j := h.ended(id); j.Trail.Transaction == "" || j.Trail.Source != "agent" {
		t.Errorf("%+v", j.Trail)
	}
	transaction := h.ended(id).Trail.Transaction
	h.stop() // all is written
	lines := 0
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, transaction) && (strings.Contains(line, "method=GET") || strings.Contains(line, "a job is complete")) {
			lines++
		}
	}
	if lines != 2 {
		t.Errorf("%d lines of the log have the transaction %s:\n%s", lines, transaction, h.log)
	}
}
