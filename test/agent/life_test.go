package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// Every action of a VM, from new to delete.
func TestLife(t *testing.T) {
	for _, kind := range []string{"sync", "broker"} {
		t.Run(kind, func(t *testing.T) { life(t, kind) })
	}
}

func life(t *testing.T, kind string) {
	w := newWorld(t, kind)
	w.add(w.newNode("h1"))
	vm := w.vm("web1", virt.Disk{Size: 8})

	w.must("define", w.done(vm.Define(w.ctx)))
	w.state(vm, virt.Stopped)
	w.must("provision", w.done(vm.Provision(w.ctx)))
	w.must("start", w.done(vm.Start(w.ctx)))
	w.must("start again", w.done(vm.Start(w.ctx)))
	w.state(vm, virt.Running)
	w.must("suspend", w.done(vm.Suspend(w.ctx)))
	w.state(vm, virt.Paused)
	w.must("resume", w.done(vm.Resume(w.ctx)))
	w.state(vm, virt.Running)
	w.must("reboot", w.done(vm.Reboot(w.ctx)))
	w.must("poll", w.done(vm.Poll(w.ctx)))
	if s := w.node("web1").State(); s != string(virt.Running) {
		t.Errorf("polled, it is %s, want it running", s)
	}
	for what, err := range map[string]error{"undefine": w.done(vm.Undefine(w.ctx)), "deprovision": w.done(vm.Deprovision(w.ctx))} {
		if !errors.Is(err, virt.ErrBusy) {
			t.Errorf("%s of a VM that runs: %v, want ErrBusy", what, err)
		}
	}
	w.must("shutdown", w.done(vm.Shutdown(w.ctx)))
	if !testbed.Eventually(t, patience, func() bool {
		info, err := vm.Info(w.ctx)
		return err == nil && info.State == virt.Stopped
	}) {
		t.Fatal("it never shut down")
	}
	w.must("start", w.done(vm.Start(w.ctx)))
	w.must("stop", w.done(vm.Stop(w.ctx, 20*time.Second))) // it is asked first
	w.state(vm, virt.Stopped)

	n := w.node("web1")
	g, err := virt.GuestOf(n)
	w.must("read the guest", err)
	volume := g.Definition.Disks[0].Volume
	w.must("write", w.sims.WriteDisk("h1", volume, "precious"))
	w.must("undefine", w.done(vm.Undefine(w.ctx)))
	if n := w.node("web1"); n.Parent() != "" || virt.DisksOn(n) != "h1" {
		t.Fatalf("after undefine its parent is %q and its disks are on %q", n.Parent(), virt.DisksOn(n))
	}
	if l, err := w.sims.Status(w.ctx, virt.Host{ID: "h1"}); err != nil || len(l.Guests) != 0 {
		t.Errorf("after undefine the host has %+v (%v)", l.Guests, err)
	}
	if text, ok, err := w.sims.Disk("h1", volume); err != nil || !ok || text != "precious" {
		t.Fatalf("after undefine the disk holds %q (there: %v, %v)", text, ok, err)
	}
	w.must("deprovision", w.done(vm.Deprovision(w.ctx)))
	if _, ok, err := w.sims.Disk("h1", volume); ok || err != nil {
		t.Errorf("after deprovision the disk is there (%v)", err)
	}
	w.must("start anew", w.done(vm.Start(w.ctx)))
	w.must("stop", w.done(vm.Stop(w.ctx, 0)))
	w.must("deprovision", w.done(vm.Deprovision(w.ctx)))
	w.must("delete", w.Provisioner.Deprovision(w.ctx, "web1"))
	if _, err := registry.Get(w.ctx, w.Registry, "web1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the node is still there: %v", err)
	}

	// Whoever did it, and why, is known down to the host.
	var seen []string
	for _, c := range w.sims.Calls() {
		if c.Op == "status" || c.Op == "info" || c.Op == "capacity" {
			continue
		}
		seen = append(seen, c.Op)
		if c.Trail.Source != "tester" || c.Trail.Reason != "end to end" || c.Trail.Transaction == "" || c.Trail.Job == "" || c.Trail.Token.IsZero() {
			t.Errorf("the host was asked to %s with the trail %+v", c.Op, c.Trail)
		}
	}
	for _, op := range []string{"define", "undefine", "provision", "deprovision", "start", "stop", "shutdown", "reboot", "suspend", "resume"} {
		if !slices.Contains(seen, op) {
			t.Errorf("the host was never asked to %s: %v", op, seen)
		}
	}
	if twice := w.sims.RanTwice(); len(twice) > 0 {
		t.Error(twice)
	}
}

// An agent that is stopped between two actions remembers its guests and the
// tokens that it has seen.
func TestRestart(t *testing.T) {
	w := newWorld(t, "broker")
	h1 := w.newNode("h1")
	w.add(h1)
	vm := w.vm("web1", virt.Disk{Size: 8})
	w.must("start", w.done(vm.Start(w.ctx)))
	h1.stop()
	if r := w.poll("h1"); r.Hosts[0].State != virt.Unreachable {
		t.Errorf("a host without its agent is %s", r.Hosts[0].State)
	}
	if n := w.node("web1"); n.State() != string(virt.Unknown) || n.Parent() != "h1" {
		t.Errorf("its VM is %s on %q, want it unknown where it was", n.State(), n.Parent())
	}
	h1.start()
	w.poll("h1")
	if n := w.node("web1"); n.State() != string(virt.Running) {
		t.Errorf("the agent is back and its VM is %s", n.State())
	}
	w.must("stop", w.done(vm.Stop(w.ctx, 0)))
	w.state(vm, virt.Stopped)

	// One that is started again while a job runs goes on with it, and whoever
	// waits for the job waits on.
	begun, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(begun) })
	w.sims.Intercept("h1", func(ctx context.Context, c sim.Call) error {
		if c.Op != "start" {
			return nil
		}
		once()
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	job, err := vm.Start(w.ctx)
	w.must("start", err)
	<-begun
	if !testbed.Eventually(t, patience, func() bool { return h1.waiting.Load() > 0 }) {
		t.Fatal("nobody waits for the job")
	}
	h1.stop()
	close(release)
	h1.start()
	ended, err := virt.Wait(w.ctx, w.Manager, job)
	if err != nil || ended.Attempt != 1 {
		t.Errorf("the start over which the agent was started again took %d attempts (%v)", ended.Attempt, err)
	}
	w.state(vm, virt.Running)
}

func TestHosts(t *testing.T) {
	w := newWorld(t, "sync")
	h1 := w.newNode("h1")
	w.add(h1)
	vm := w.vm("web1", virt.Disk{Size: 8})
	w.must("start", w.done(vm.Start(w.ctx)))

	stray := virt.Seen{UUID: "0f8fad5b-d9cb-469f-a165-70867728950e", Name: "stray", State: virt.Running, CPU: 1, Memory: 64}
	w.must("add a stranger", w.sims.AddStranger("h1", stray))
	r := w.poll("h1").Hosts[0]
	if !r.Complete || r.Guests != 2 || len(r.Findings) == 0 || r.Findings[0].Kind == "" {
		t.Errorf("with a stranger the poll found %+v", r)
	}

	// What cannot be seen is not missing, however often it is not seen.
	w.sims.Partial("h1", 0)
	for range 5 {
		w.poll("h1")
	}
	w.sims.Heal("h1")
	w.sims.Unreachable("h1")
	for range 5 {
		w.poll("h1")
	}
	if n := w.node("web1"); n.Parent() != "h1" || n.State() == string(virt.Missing) {
		t.Errorf("after listings that proved nothing it is %s on %q", n.State(), n.Parent())
	}
	// Its agent answers: nobody can declare the host dead.
	hv, err := virt.HypervisorOf(w.ctx, w.Manager, "h1")
	w.must("find h1", err)
	if _, err := hv.ConfirmDown(w.ctx, "it looks dead", false); !errors.Is(err, virt.ErrAnswers) {
		t.Errorf("confirm-down of a host whose agent answers: %v, want ErrAnswers", err)
	}
	w.sims.Heal("h1")
	w.poll("h1")
	w.must("stop", w.done(vm.Stop(w.ctx, 0)))
	h1.stop()
	if _, err := hv.ConfirmDown(w.ctx, "it burnt", true); err != nil {
		t.Errorf("confirm-down of a host that is dead: %v", err)
	}
	if n := w.node("web1"); n.Parent() != "" {
		t.Errorf("its VM is still on %q", n.Parent())
	}
}

// Hosts lose requests and answers behind their agents. With retries every VM gets
// where it should, and none ever runs on two hosts.
func TestFailures(t *testing.T) {
	cfg := sim.Defaults()
	cfg.Failures, cfg.Seed, cfg.Latency = 0.15, uint64(testlong.Seed(t)), time.Millisecond
	w := newWorldOf(t, "broker", cfg)
	for _, name := range []string{"h1", "h2"} {
		n := w.newNode(name)
		w.create(n.name, virt.TypeHypervisor, virt.HostDefinition{Driver: "agents", Address: n.address, CPU: 32, Memory: 64 << 10})
		if !testbed.Eventually(t, patience, func() bool { return w.poll(name).Hosts[0].State == virt.Up }) {
			t.Fatalf("%s never came up", name)
		}
	}
	again := virt.Options{Retry: scheduler.Retry{Attempts: 100, Backoff: scheduler.Span(time.Millisecond), Max: scheduler.Span(20 * time.Millisecond)}}
	var all sync.WaitGroup
	for i := range 8 {
		vm := w.vm(fmt.Sprintf("web%d", i), virt.Disk{Size: 8}).With(again)
		all.Go(func() {
			err := w.done(vm.Start(w.ctx))
			if err == nil {
				err = w.done(vm.Stop(w.ctx, 0))
			}
			if err == nil {
				err = w.done(vm.Start(w.ctx))
			}
			if err != nil {
				t.Errorf("start, stop and start of %s: %v", vm.ID(), err)
			}
		})
	}
	all.Wait()
	running := 0
	for _, c := range []string{"h1", "h2"} {
		for {
			l, err := w.sims.Status(w.ctx, virt.Host{ID: c})
			if err != nil {
				continue // this is lost now and then, too
			}
			for _, g := range l.Guests {
				if g.State == virt.Running {
					running++
				}
			}
			break
		}
	}
	if twice := w.sims.RanTwice(); running != 8 || len(twice) > 0 {
		t.Errorf("%d of 8 VMs run; twice: %v", running, twice)
	}
}

// A VM that is off is defined elsewhere, and moves with its disks; one with disks that
// runs stays.
func TestMove(t *testing.T) {
	w := newWorld(t, "sync")
	w.add(w.newNode("h1"))
	plain, disks := w.vm("plain"), w.vm("disks", virt.Disk{Size: 8})
	w.must("define", w.done(plain.Define(w.ctx)))
	w.must("start", w.done(disks.Start(w.ctx)))
	w.add(w.newNode("h2"))
	w.must("migrate", w.done(plain.Migrate(w.ctx, "h2")))
	if n := w.node("plain"); n.Parent() != "h2" {
		t.Errorf("it is on %q, want h2", n.Parent())
	}
	w.state(plain, virt.Stopped)
	if err := w.done(disks.Migrate(w.ctx, "h2")); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("migrate of what runs, with disks: %v, want ErrBusy", err)
	}
	if n := w.node("disks"); n.Parent() != "h1" {
		t.Errorf("what was not moved is on %q", n.Parent())
	}
	w.must("stop", w.done(disks.Stop(w.ctx, 0)))
	w.must("migrate disks", w.done(disks.Migrate(w.ctx, "h2")))
	if n := w.node("disks"); n.Parent() != "h2" || virt.DisksOn(n) != "h2" || virt.LeftOn(n) != "" {
		t.Errorf("moved, it is on %q, its disks on %q, and left on %q", n.Parent(), virt.DisksOn(n), virt.LeftOn(n))
	}
	w.state(disks, virt.Stopped)
}
