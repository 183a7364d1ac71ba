package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// A guest whose domain cannot be made leaves no disk in the store: neither its own
// nor that for cloud-init. One that was there before loses nothing.
func TestDisksOfAGuestThatFails(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		testlong.Missing(t, "qemu-img is not installed: apt-get install qemu-utils")
	}
	folder := t.TempDir()
	disks, err := dir.Open(t.Context(), dir.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disks.Close() }()
	storage, domains := mistify.NewServer(mistify.ServerOptions{}), mistify.NewServer(mistify.ServerOptions{})
	disks.Register(storage)
	var full atomic.Bool
	full.Store(true)
	domain := func(_ context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if full.Load() {
			return nil, errors.New("the host has no memory left")
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	}
	mistify.Register(domains, "Domains.Create", domain)

	cfg := agent.Defaults()
	cfg.Services = map[string]agent.ServiceConfig{"dir": {}, "domains": {}}
	first := agent.Stage{Service: "dir", Method: store.Service + ".CreateGuestDisks", Idempotent: true, Undo: store.Service + ".UndoGuestDisks"}
	cfg.Actions = map[string]agent.ActionConfig{
		"create":    {Stages: []agent.Stage{first, {Service: "domains", Method: "Domains.Create"}}},
		"provision": {Stages: []agent.Stage{first, {Service: "domains", Method: "Domains.Create"}}},
	}
	a, err := agent.Open(t.Context(), cfg, agent.Deps{Data: t.TempDir(), Local: map[string]http.Handler{"dir": storage, "domains": domains}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := goRun(ctx, a)
	defer func() {
		stop()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Error(err)
		}
	}()
	server := httptest.NewServer(a.Handler())
	defer server.Close()
	client, err := mistify.NewClient(server.URL, mistify.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	guest := mistify.Guest{ID: id, Memory: 64, CPU: 1, Disks: []mistify.Disk{{Size: 1}, {Size: 1}}, CloudInit: virt.CloudInit{UserData: "#cloud-config\n"}}
	left := func() []string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(folder, "guests", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	create := func() mistify.Job {
		t.Helper()
		_, job, err := client.CreateGuest(t.Context(), guest)
		if err != nil {
			t.Fatal(err)
		}
		j, err := client.WaitJob(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	for range 2 { // it can be tried again
		j := create()
		if j.Status != mistify.JobError || !strings.Contains(j.Message, "no memory left") || !strings.Contains(j.Message, "was removed") {
			t.Errorf("%+v", j)
		}
		if files := left(); len(files) > 0 {
			t.Errorf("left: %q", files)
		}
		if _, err := os.Stat(filepath.Join(folder, "guests", id)); err == nil {
			t.Error("its folder is left")
		}
	}
	full.Store(false)
	if j := create(); j.Status != mistify.JobComplete || len(left()) != 4 { // with made.json
		t.Errorf("%+v, there is %q", j, left())
	}
	full.Store(true)
	g, err := client.Guest(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if g.CloudInit.UserData != "" || g.CloudInit.Disk == "" {
		t.Errorf("the agent shows %+v", g.CloudInit)
	}
	job, err := client.ProvisionGuest(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if j, err := client.WaitJob(t.Context(), job); err != nil || j.Status != mistify.JobError || len(left()) != 4 {
		t.Errorf("%+v %v, there is %q", j, err, left())
	}
}

func goRun(ctx context.Context, a *agent.Agent) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return ended
}
