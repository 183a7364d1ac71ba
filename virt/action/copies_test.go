package action

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// copier is a fake that is a DiskMover too. A copy is two steps, and a part of one is
// there between them.
type copier struct{ liveMover }

func (f copier) CopyDisks(ctx context.Context, from, to virt.Host, g virt.Guest, progress func(int64)) error {
	if err := f.TidyDisks(ctx, from, to, g); err != nil {
		return err
	}
	err := f.do(ctx, "copy", to, func() error {
		if !f.disks[from.ID][g.UUID] {
			return virt.ErrNotFound
		}
		f.parts[to.ID+" "+g.UUID] = true
		return nil
	})
	if err != nil {
		return err
	}
	progress(1 << 20)
	return f.do(ctx, "copied", to, func() error {
		delete(f.parts, to.ID+" "+g.UUID)
		f.disks[to.ID][g.UUID] = true
		for _, d := range g.Definition.Disks {
			f.volumes[to.ID+" "+d.Volume] = g.UUID
		}
		return nil
	})
}

func (f copier) TidyDisks(ctx context.Context, home, left virt.Host, g virt.Guest) error {
	return f.do(ctx, "tidy", left, func() error {
		if home.ID == left.ID && f.disks[left.ID][g.UUID] {
			return errors.New("those are the disks that it has")
		}
		if x := f.hosts[left.ID][g.UUID]; x != nil && x.state != virt.Stopped {
			return virt.ErrBusy
		}
		delete(f.parts, left.ID+" "+g.UUID)
		delete(f.disks[left.ID], g.UUID)
		for _, d := range g.Definition.Disks {
			delete(f.volumes, left.ID+" "+d.Volume)
		}
		return nil
	})
}

// silent makes a host answer nothing from the first of these operations on.
func (w *world) silent(host string, from ...string) {
	begun := false
	w.driver.mu.Lock()
	defer w.driver.mu.Unlock()
	w.driver.hook = func(_ context.Context, op, h string) error {
		if begun = begun || h == host && slices.Contains(from, op); begun && h == host {
			return virt.ErrUnreachable
		}
		return nil
	}
}

func (w *world) heal() {
	w.driver.mu.Lock()
	defer w.driver.mu.Unlock()
	w.driver.hook = nil
}

// cutCopy leaves a part of a VM's disks on a host, which answers again.
func (w *world) cutCopy(id, host string) {
	w.t.Helper()
	w.silent(host, "copied")
	if _, err := w.run(context.Background(), virt.ActionMigrate, virt.Params{VM: id, To: host}); err == nil {
		w.t.Error("a copy that was cut succeeds")
	}
	w.heal()
	// The state that a killed manager leaves is settled, and nothing more.
	if _, err := w.run(context.Background(), virt.ActionPoll, virt.Params{VM: id}); err != nil {
		w.t.Errorf("poll: %v", err)
	}
	if n := w.node(id); virt.LeftOn(n) != host || virt.MovesTo(n) != "" || n.Parent() == host {
		w.t.Errorf("cut, it is %s", w.snapshot(id))
	}
}

// lose is what an operator does who has made sure that a host is dead, disks and all.
func (w *world) lose(host string) {
	w.t.Helper()
	w.silent(host, "info", "status", "settle", "tidy", "undefine", "deprovision")
	w.driver.mu.Lock()
	w.driver.hosts[host], w.driver.disks[host] = map[string]*fakeGuest{}, map[string]bool{}
	w.driver.mu.Unlock()
	if _, err := virt.ConfirmDown(context.Background(), w, host, "it burnt", virt.ConfirmOptions{AbandonDisks: true}); err != nil {
		w.t.Fatal(err)
	}
}

// What runs is not copied; what its host has is as it was.
func TestMigrateCopies(t *testing.T) {
	w := newWorld(t)
	for _, h := range []string{"h1", "h2"} {
		w.host(h, `{"driver":"copier","cpu":8,"memory":4096,"disk":1000,"peer":"qemu+tls://x/system"}`)
	}
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"}); !errors.Is(err, virt.ErrBusy) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("what runs: %v", err)
	}
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	before := w.snapshot("web1")
	w.driver.hook = func(_ context.Context, op, _ string) error {
		if op == "copied" {
			return virt.ErrUnsupported
		}
		return nil
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("a copy that is refused: %v", err)
	}
	w.heal()
	if after := w.snapshot("web1"); after != before {
		t.Errorf("refused, it is\n%s, before it was\n%s", after, before)
	}
}

// A copy that stands still ends; one that goes on may take longer than that.
func TestMigrateStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, h := range []string{"h1", "h2"} {
			w.host(h, `{"driver":"slow","cpu":8,"memory":4096,"disk":1000}`)
		}
		pieces := 100
		w.parts.Drivers["slow"] = slowCopier{copier{liveMover{w.driver}}, &pieces}
		w.vm("web1", small)
		w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
		w.must(virt.ActionStop, virt.Params{VM: "web1"})
		w.must(virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"})
		pieces = -1
		if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h1"}); !errors.Is(err, virt.ErrUnreachable) || !strings.Contains(err.Error(), "nothing was copied for 30m") {
			t.Errorf("%v", err)
		}
		if got, want := w.snapshot("web1"), "stopped parent=h2 disks_on=h2 moving=; on h2 stopped, disks h2"; got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	})
}

// slowCopier copies a piece in 20 minutes, so many of them; with less than none it
// stands still.
type slowCopier struct {
	copier
	pieces *int
}

func (f slowCopier) CopyDisks(ctx context.Context, from, to virt.Host, g virt.Guest, progress func(int64)) error {
	for i := range max(0, *f.pieces) {
		time.Sleep(20 * time.Minute)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		progress(int64(i))
	}
	if *f.pieces < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.copier.CopyDisks(ctx, from, to, g, progress)
}

// A manager dies amid a copy, and then the host with the disks is lost: what was copied
// is not known to be whole, and nothing of it is a disk of the VM.
func TestLostAmidCopy(t *testing.T) {
	w := newWorld(t)
	for _, h := range []string{"h1", "h2"} {
		w.host(h, `{"driver":"copier","cpu":8,"memory":4096,"disk":1000}`)
	}
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	w.driver.hook = func(_ context.Context, op, _ string) error {
		if op == "copied" {
			w.crash.mu.Lock()
			w.crash.at, w.crash.after = w.crash.steps+1, false
			w.crash.mu.Unlock()
		}
		return nil
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"}); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	w.crash.set(0, false)
	if n := w.node("web1"); virt.MovesTo(n) != "h2" || virt.LeftOn(n) != "h2" {
		t.Fatalf("it is %s", w.snapshot("web1"))
	}
	w.lose("h1")
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h2"})
	if got, want := w.snapshot("web1"), "running parent=h2 disks_on=h2 moving=; on h2 running, disks h2"; got != want || w.driver.mixed {
		t.Errorf("it is %s (a part is a disk: %v), want %s", got, w.driver.mixed, want)
	}
}

// A VM does not wait for the host that it has left; what is left there is known, keeps
// the VM from being forgotten, and is wiped before it can pass for its disks.
func TestMigrateLeavesACopy(t *testing.T) {
	w := newWorld(t)
	for _, h := range []string{"h1", "h2", "h3"} {
		w.host(h, `{"driver":"copier","cpu":8,"memory":4096,"disk":1000}`)
	}
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	w.silent("h1", "tidy")
	res := w.must(virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"})
	const left = "stopped parent=h2 disks_on=h2 moving=; disks h1, on h2 stopped, disks h2, left h1"
	if got := w.snapshot("web1"); got != left || !strings.Contains(res.Text, "still to be wiped") {
		t.Errorf("got %s (%s)\nwant %s", got, res.Text, left)
	}
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	for _, to := range []string{"h1", "h3"} {
		if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: to}); !errors.Is(err, virt.ErrUnreachable) || !strings.Contains(err.Error(), "must go first") {
			t.Errorf("on to %s: %v", to, err)
		}
	}
	if got := w.snapshot("web1"); got != left {
		t.Errorf("got %s\nwant %s", got, left)
	}
	if _, err := w.run(t.Context(), virt.ActionDeprovision, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrUnreachable) {
		t.Errorf("deprovision: %v", err)
	}
	w.heal()
	w.must(virt.ActionMigrate, virt.Params{VM: "web1", To: "h1"})
	if got, want := w.snapshot("web1"), "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1"; got != want {
		t.Errorf("moved back it is %s, want %s", got, want)
	}
}
