package daemon

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// A disk that fails for good ends the daemon, with a status and words that say so;
// what was acknowledged is there when it has another disk.
func TestFailedDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	disk := powercut.New(t, 64)
	dir := t.TempDir()
	p := placeAt(t, dir, filepath.Join(disk.Dir(), "data"), "[actions]\nfar = remote\n")
	d := p.start(ctx)
	submit := func(ids ...string) error {
		var jobs []scheduler.Job
		for _, id := range ids {
			jobs = append(jobs, scheduler.Job{ID: id, Queue: "q-" + id, Action: "far"})
		}
		_, err := p.client.Submit(ctx, scheduler.Package{Jobs: jobs})
		return err
	}
	if err := submit("a", "b"); err != nil {
		t.Fatal(err)
	}
	leases, err := p.client.Next(ctx, scheduler.Want{Queues: []string{"q-a"}})
	if err != nil || len(leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, errs := p.client.Complete(ctx, scheduler.Completion{Hold: leases[0].Hold}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	disk.Cut()
	if err := submit("lost"); err == nil {
		t.Error("a job was taken that cannot be on disk")
	}
	_, err = d.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if log, err := os.ReadFile(d.log); err != nil || !strings.Contains(string(log), "takes nothing any more") || strings.Contains(string(log), "panic") {
		t.Errorf("it says %s, %v", log, err)
	}
	disk.Remount()
	p.start(ctx)
	for id, want := range map[string]scheduler.State{"a": scheduler.Succeeded, "b": scheduler.Waiting} {
		if st, err := p.client.Job(ctx, id); err != nil || st.State != want {
			t.Errorf("job %s is %q, %v; want %s", id, st.State, err, want)
		}
	}
}

// So does one that fails under the registry while no job is queued.
func TestFailedDiskOfTheRegistry(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	disk := powercut.New(t, 64)
	p := placeAt(t, t.TempDir(), filepath.Join(disk.Dir(), "data"), "")
	d := p.start(ctx)
	add := func(id string) error {
		_, err := p.client.Create(ctx, api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: virt.TypeVM, Definition: registry.TrustedDocument(`{"cpu":1,"memory":64}`)}})
		return err
	}
	if err := add("kept"); err != nil {
		t.Fatal(err)
	}
	disk.Cut()
	if err := add("lost"); err == nil {
		t.Error("a node was taken that cannot be on disk")
	}
	_, err := d.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if log, err := os.ReadFile(d.log); err != nil || !strings.Contains(string(log), "the registry ended: it takes nothing any more") || strings.Contains(string(log), "panic") {
		t.Errorf("it says %s, %v", log, err)
	}
	disk.Remount()
	p.start(ctx)
	if _, err := p.client.Node(ctx, "kept"); err != nil {
		t.Error(err)
	}
	if _, err := p.client.Node(ctx, "lost"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("what was refused: %v", err)
	}
}
