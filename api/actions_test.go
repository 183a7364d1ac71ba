package api

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

func TestVersion(t *testing.T) {
	c := newCluster(t, opts{})
	v, err := c.Version(c.ctx)
	if err != nil || v.Version != "test" || v.Uses["registry"] != "memory" || v.Uses["drivers.lab"] != "sim" {
		t.Errorf("%+v, %v", v, err)
	}
}

// A job for a VM on a host takes the host's limit from the start; one that only
// looks takes none, and one for a VM on no host has none to take.
func TestHostLimit(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.host("h1")
	c.vm("web1")
	for _, step := range []struct {
		req  JobRequest
		want string
	}{
		{JobRequest{Action: virt.ActionStart, Params: doc(t, `{"host":"h1"}`)}, ""},
		{JobRequest{Action: "fail", Params: doc(t, `{"how":"busy"}`)}, ""},
		{JobRequest{Action: virt.ActionStart, KeepQueued: true, Params: doc(t, `{"host":"h1"}`)}, "host:h1"},
	} {
		c.fake().limits = nil
		st := must[scheduler.Status](t)(c.Do(c.ctx, "web1", step.req))
		if got := strings.Join(c.fake().limits, " "); got != step.want || st.KeepQueued != step.req.KeepQueued {
			t.Errorf("%s: limits %q, want %q: %+v", step.req.Action, got, step.want, st)
		}
		if step.req.Action == virt.ActionStart {
			it := must[Item](t)(c.Node(c.ctx, "web1"))
			if it.Node.Parent() != "h1" {
				t.Fatalf("it is on %q", it.Node.Parent())
			}
		}
	}
}

func TestJobs(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	c.vm("web1")
	must[*registry.Node](t)(c.Patch(c.ctx, "h1", Patch{Name: registry.Is("first")}))
	st, err := c.Do(c.ctx, "web1", JobRequest{Action: virt.ActionStart, Params: doc(t, `{"host":"first"}`)})
	if err != nil || JobError(st) != nil {
		t.Fatal(err, JobError(st))
	}
	if st.Queue != "web1" || st.Params.String() != `{"host":"h1","vm":"web1"}` || st.Trail.Source != "tester" {
		t.Errorf("the job is %+v", st.Job)
	}
	if it := must[Item](t)(c.Node(c.ctx, "web1")); it.Node.Parent() != "h1" || it.ParentName != "first" {
		t.Errorf("the node is on %s (%s)", it.Node.Parent(), it.ParentName)
	}
	if part, err := c.JobLines(c.ctx, st.ID, 0, 0); err != nil || len(part.Lines) != 1 || part.Next != 1 || part.State != scheduler.Succeeded {
		t.Errorf("the lines %+v, %v", part, err)
	}
	if part, err := c.JobLines(c.ctx, st.ID, 0, time.Second); !errors.Is(err, scheduler.ErrUnsupported) {
		t.Errorf("where nobody is woken: %+v, %v", part, err)
	}
	if lines, err := c.JobLog(c.ctx, st.ID); err != nil || len(lines) != 1 || lines[0].Text != "placing on h1" {
		t.Errorf("%v, %v", lines, err)
	}
	for how, want := range map[string]error{"no_host": allocator.ErrNoHost, "busy": virt.ErrBusy} {
		st := must[scheduler.Status](t)(c.Do(c.ctx, "web1", JobRequest{Action: "fail", Params: doc(t, `{"how":"`+how+`"}`)}))
		if err := JobError(st); !errors.Is(err, want) || !strings.Contains(err.Error(), "as planned") {
			t.Errorf("%s: %v", how, err)
		}
	}
	for _, job := range []JobRequest{{Action: "fail"}, {Action: "panic"}} {
		st := must[scheduler.Status](t)(c.Do(c.ctx, "web1", job))
		if err := JobError(st); err == nil || CodeOf(err).Name != Internal {
			t.Errorf("%s: %v", job.Action, err)
		}
		if got, err := c.Job(c.ctx, st.ID); err != nil || got.Code != Internal {
			t.Errorf("%s: %+v, %v", job.Action, got, err)
		}
	}
	for name, job := range map[string]struct {
		ref string
		JobRequest
	}{
		"unknown action": {"web1", JobRequest{Action: "vm_strt"}},
		"other type":     {"h1", JobRequest{Action: virt.ActionStart}},
		"other vm":       {"web1", JobRequest{Action: virt.ActionStart, Params: doc(t, `{"vm":"web2"}`)}},
		"bad parameter":  {"web1", JobRequest{Action: virt.ActionStart, Params: doc(t, `{"hst":"h1"}`)}},
		"bad time":       {"web1", JobRequest{Action: virt.ActionStart, Timeout: -1}},
	} {
		if st, err := c.Do(c.ctx, job.ref, job.JobRequest); CodeOf(err).Name != "invalid" {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	if _, err := c.Do(c.ctx, "web1", JobRequest{Action: virt.ActionStart, Params: doc(t, `{"host":"nobody"}`)}); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
	list := must[[]scheduler.Status](t)(c.Jobs(c.ctx, scheduler.Filter{States: []scheduler.State{scheduler.Failed, scheduler.Cancelled}}))
	if len(list) != 4 || len(must[[]scheduler.Status](t)(c.Jobs(c.ctx, scheduler.Filter{Queue: "web1", Limit: 2}))) != 2 {
		t.Errorf("%d jobs are listed", len(list))
	}
	if _, err := c.Jobs(c.ctx, scheduler.Filter{States: []scheduler.State{"faild"}}); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
	for _, id := range []string{"x", "../x", strings.Repeat("x", 10_000)} {
		if _, err := c.Job(c.ctx, id); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("%.10s: %v", id, err)
		}
	}
}

func TestPackages(t *testing.T) {
	c := newCluster(t, opts{})
	zero := 0
	p := scheduler.Package{Jobs: []scheduler.Job{
		{Queue: "a", Action: "fail"}, {Queue: "b", Action: "fail", After: []scheduler.Dependency{{Index: &zero}}},
	}}
	list := must[[]scheduler.Status](t)(c.Submit(c.ctx, p))
	if len(list) != 2 || list[0].State != scheduler.Failed || list[1].Cause != list[0].ID {
		t.Errorf("%+v", list)
	}
	p.Jobs[0].Trail = trail.New("somebody else", "")
	if _, err := c.Submit(c.ctx, p); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a trail in the body: %v", err)
	}
}

// A job that runs is seen, waited for and cancelled by others.
func TestWaitAndCancel(t *testing.T) {
	c := newCluster(t, opts{})
	submitted := make(chan scheduler.Status, 1)
	go func() {
		list, err := c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: "j1", Queue: "q", Action: "hang"}}})
		if err != nil || len(list) != 1 {
			t.Error(list, err)
			list = make([]scheduler.Status, 1)
		}
		submitted <- list[0]
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		st, err := c.Job(c.ctx, "j1")
		if err == nil && st.State == scheduler.Running {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the job does not run:", st.State, err)
		}
	}
	if st, err := c.WaitJob(c.ctx, "j1", time.Millisecond); err != nil || st.State != scheduler.Running {
		t.Errorf("waited in vain: %s, %v", st.State, err)
	}
	if _, err := c.CancelJob(trail.With(c.ctx, trail.New("me", "enough")), "j1"); err != nil {
		t.Error(err)
	}
	if st, err := c.WaitJob(c.ctx, "j1", time.Minute); err != nil || st.State != scheduler.Cancelled {
		t.Errorf("waited: %s, %v", st.State, err)
	}
	if st := <-submitted; st.State != scheduler.Cancelled || JobError(st) == nil {
		t.Errorf("submitted: %+v", st)
	}
	for _, d := range []time.Duration{0, -1, MaxWait + 1} {
		if _, err := c.WaitJob(c.ctx, "j1", d); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

func TestDecisions(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	c.vm("web1")
	if a, err := c.Decide(c.ctx, "web1", DecisionRequest{Host: "h1"}); err != nil || !strings.Contains(a.Error, "no host fits") || len(a.Decision.Hosts()) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	must[*registry.Node](t)(registry.SetState(c.ctx, c.m.Registry, "h1", string(virt.Up)))
	must[*registry.Node](t)(c.Patch(c.ctx, "h1", Patch{Definition: map[string]any{"cpu": 4, "memory": 4096, "disk": 4096}}))
	a, err := c.Decide(c.ctx, "web1", DecisionRequest{Host: "h1"})
	if err != nil || a.Error != "" || a.Decision.Host != "h1" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := c.LastDecision(c.ctx, "web1"); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "placement decision") {
		t.Error(err)
	}
	must[*registry.Node](t)(c.PutBlob(c.ctx, "web1", virt.BlobDecision, must[[]byte](t)(a.Decision.MarshalJSON())))
	if d, err := c.LastDecision(c.ctx, "web1"); err != nil || d.Host != "h1" || len(d.Hosts()) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	must[*registry.Node](t)(c.PutBlob(c.ctx, "web1", virt.BlobDecision, []byte("{")))
	if _, err := c.LastDecision(c.ctx, "web1"); CodeOf(err).Name != Internal || !strings.Contains(err.Error(), "web1") {
		t.Error(err)
	}
	if _, err := c.Decide(c.ctx, "h1", DecisionRequest{}); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
	if _, err := c.Decide(c.ctx, "web1", DecisionRequest{Host: "web1"}); !errors.Is(err, virt.ErrInvalid) {
		t.Error(err)
	}
}

func TestHosts(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	c.host("h2")
	c.vm("web1")
	must[*registry.Node](t)(registry.SetParent(c.ctx, c.m.Registry, "web1", "", "h1"))
	rep, err := c.Poll(c.ctx, "h1")
	if err != nil || len(rep.Hosts) != 1 || rep.Hosts[0].State != virt.Up {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep, err := c.Poll(c.ctx); err != nil || len(rep.Hosts) != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := c.Poll(c.ctx, "web1"); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
	if _, err := c.Poll(c.ctx, "nobody"); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
	n, err := c.SetMaintenance(c.ctx, "h1", true)
	if m, ok := virt.MaintenanceOf(n); err != nil || !ok || m.Source != "tester" || !strings.Contains(m.Reason, "test it") {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err = c.SetMaintenance(c.ctx, "h1", false); err != nil || strings.Contains(n.Metadata().String(), virt.MetaMaintenance) {
		t.Error(n, err)
	}
	if _, err := c.SetMaintenance(c.ctx, "web1", true); !errors.Is(err, virt.ErrInvalid) {
		t.Error(err)
	}
	if _, err := c.Info(c.ctx, "web1"); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("a guest that its host does not have: %v", err)
	}
	driver, ok := c.m.Drivers["lab"].(*sim.Driver)
	if !ok {
		t.Fatal("no simulated driver")
	}
	node := must[Item](t)(c.Node(c.ctx, "web1")).Node
	if err := driver.AddStranger("h1", virt.Seen{UUID: virt.NodeUUID(node), Name: "web1", State: virt.Running}); err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info(c.ctx, "web1"); err != nil || i.State != virt.Running {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.ConfirmDown(c.ctx, "h1", ConfirmRequest{}); !errors.Is(err, virt.ErrAnswers) || CodeOf(err).Exit != ExitConflict {
		t.Errorf("a host that answers: %v", err)
	}
	driver.Unreachable("h1")
	before := c.revision()
	if _, err := c.ConfirmDown(trail.With(c.ctx, trail.New("tester", "")), "h1", ConfirmRequest{}); !errors.Is(err, virt.ErrInvalid) || c.revision() != before {
		t.Errorf("without a reason: %v", err)
	}
	freed, err := c.ConfirmDown(c.ctx, "h1", ConfirmRequest{AbandonDisks: true})
	if err != nil || len(freed.Freed) != 1 || freed.Freed[0] != "web1" {
		t.Errorf("%+v, %v", freed, err)
	}
	it := must[Item](t)(c.Node(c.ctx, "web1"))
	if it.Node.Parent() != "" || it.Seen == nil || !strings.Contains(it.Seen.Reason, "confirmed down") {
		t.Errorf("the freed VM: %+v", it)
	}
}

// brokenRegistry breaks every list at its end: with an error, or a panic.
type brokenRegistry struct {
	registry.Registry
	panics bool
}

type brokenReader struct {
	registry.Reader
	panics bool
}

func (b brokenRegistry) View(ctx context.Context, o ...registry.ReadOption) (registry.Reader, error) {
	r, err := b.Registry.View(ctx, o...)
	return brokenReader{r, b.panics}, err
}

func (b brokenReader) List(q registry.Query) iter.Seq2[*registry.Node, error] {
	return func(yield func(*registry.Node, error) bool) {
		for n, err := range b.Reader.List(q) {
			if !yield(n, err) {
				return
			}
		}
		if b.panics {
			panic("a list")
		}
		yield(nil, registry.ErrCorrupt)
	}
}

func TestExportAndImport(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	c.vm("web1")
	must[*registry.Node](t)(registry.SetParent(c.ctx, c.m.Registry, "web1", "", "h1"))
	must[*registry.Node](t)(c.PutBlob(c.ctx, "web1", "notes", make([]byte, 100<<10)))
	var file bytes.Buffer
	if err := c.Export(c.ctx, &file); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Import(c.ctx, bytes.NewReader(file.Bytes()), false); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("an import of what is there: %v", err)
	}
	other := newCluster(t, opts{})
	before := other.revision()
	if rep, err := other.Import(c.ctx, bytes.NewReader(file.Bytes()), true); err != nil || rep.Nodes != 2 || !rep.DryRun || other.revision() != before {
		t.Errorf("a dry run: %+v, %v", rep, err)
	}
	for name, text := range map[string]string{"cut off": file.String()[:file.Len()-20], "no export": "hello", "nothing": ""} {
		if _, err := other.Import(c.ctx, strings.NewReader(text), false); !errors.Is(err, registry.ErrInvalid) || other.revision() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rep, err := other.Import(c.ctx, &file, false); err != nil || rep.Nodes != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	if it := must[Item](t)(other.Node(c.ctx, "web1")); it.Node.Parent() != "h1" || len(it.Node.Blobs()) != 1 {
		t.Errorf("the imported node: %+v", it.Node.Draft())
	}
	if a, err := other.Check(c.ctx); err != nil || a.Nodes != 2 || len(a.Problems) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// An export that cannot be read to its end is never taken for a whole one, here
// and over a socket.
func TestBrokenExport(t *testing.T) {
	for name, panics := range map[string]bool{"error": false, "panic": true} {
		t.Run(name, func(t *testing.T) { brokenExport(t, panics) })
	}
}

func brokenExport(t *testing.T, panics bool) {
	c := newCluster(t, opts{wrap: func(r registry.Registry) registry.Registry { return brokenRegistry{r, panics} }})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	for _, size := range []int{10, 200 << 10} { // below and above what is held back
		must[Created](t)(c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "r" + string(rune('a'+size%7)), Type: "rack", Definition: doc(t, `{"x":"`+strings.Repeat("x", size)+`"}`)}}))
		for name, client := range map[string]*Client{"in process": c.Client, "socket": NewClient(srv.URL, srv.Client().Transport)} {
			var out bytes.Buffer
			if err := client.Export(c.ctx, &out); err == nil {
				t.Errorf("%s, %d bytes: the export succeeded", name, size)
			}
		}
	}
}
