package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
