package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestLifeOfAVM(t *testing.T) {
	ctx := trail.With(t.Context(), trail.Trail{Transaction: "t1", Source: "ann", Reason: "a try"})
	w := newWorld(t, "h1", "h2")
	w.vm("web1", small)
	vm, err := virt.VM(ctx, w, "web1")
	if err != nil {
		t.Fatal(err)
	}
	check := func(step string, st scheduler.Status, err error, want virt.State) {
		t.Helper()
		if err != nil || st.State != scheduler.Succeeded {
			t.Fatalf("%s: %v, %+v", step, err, st)
		}
		if got, err := vm.State(ctx); err != nil || got != want {
			t.Fatalf("%s: its state is %s (%v), want %s", step, got, err, want)
		}
		w.checkPlace("web1")
	}
	st, err := vm.With(virt.Options{Reason: "the first start"}).Start(ctx)
	check("start", st, err, virt.Running)
	if got := w.node("web1").Changed(); got.Transaction != "t1" || got.Reason != "the first start" || got.Job != st.ID {
		t.Errorf("the trail of its last change is %+v", got)
	}
	hv, err := vm.Parent(ctx)
	if err != nil || hv == nil {
		t.Fatal(hv, err)
	}
	home := hv.ID()
	if list, err := hv.Children(ctx); err != nil || len(list) != 1 || list[0].ID() != "web1" {
		t.Errorf("the children of its host: %v %v", list, err)
	}
	if info, err := vm.Info(ctx); err != nil || info.State != virt.Running {
		t.Errorf("info %+v %v", info, err)
	}
	if d, err := vm.Decision(ctx); err != nil || d.Host != home || len(d.Hosts()) != 2 {
		t.Errorf("the decision that was kept: %+v, %v", d, err)
	}
	st, err = vm.Start(ctx)
	check("start again", st, err, virt.Running)
	st, err = vm.Suspend(ctx)
	check("suspend", st, err, virt.Paused)
	if _, err := vm.Start(ctx); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("starting what is suspended: %v", err)
	}
	st, err = vm.Resume(ctx)
	check("resume", st, err, virt.Running)
	st, err = vm.Reboot(ctx)
	check("reboot", st, err, virt.Running)
	for name, fn := range map[string]func(context.Context) (scheduler.Status, error){"undefine": vm.Undefine, "deprovision": vm.Deprovision} {
		var je *scheduler.JobError
		if _, err := fn(ctx); !errors.Is(err, virt.ErrBusy) || !errors.As(err, &je) {
			t.Errorf("%s while it runs: %v", name, err)
		}
	}
	for _, call := range w.driver.calls {
		if strings.HasPrefix(call, "undefine") || strings.HasPrefix(call, "deprovision") {
			t.Errorf("the driver was asked to %s while it runs", call)
		}
	}
	st, err = vm.Shutdown(ctx)
	check("shutdown", st, err, virt.Stopped)
	st, err = vm.Stop(ctx, 0)
	check("stop what is off", st, err, virt.Stopped)
	st, err = vm.Undefine(ctx)
	check("undefine", st, err, virt.New)
	if virt.DisksOn(w.node("web1")) != home {
		t.Error("nobody knows where its disks are")
	}
	other := map[string]string{"h1": "h2", "h2": "h1"}[home]
	if _, err := vm.With(virt.Options{Host: other}).Define(ctx); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("defining it away from its disks: %v", err)
	}
	st, err = vm.Define(ctx)
	check("define", st, err, virt.Stopped)
	if w.node("web1").Parent() != home {
		t.Error("it is not where its disks are")
	}
	st, err = vm.Migrate(ctx, other)
	check("migrate", st, err, virt.Stopped)
	if n := w.node("web1"); n.Parent() != other || virt.DisksOn(n) != other {
		t.Errorf("it has not moved with its disks: %s", w.snapshot("web1"))
	}
	st, err = vm.Poll(ctx)
	check("poll", st, err, virt.Stopped)
	st, err = vm.Deprovision(ctx)
	check("deprovision", st, err, virt.New)
	if virt.VMClass().Busy(w.node("web1")) != nil {
		t.Error("it cannot be deleted")
	}
}

// TestRefusalGivesThePlaceBack: a driver that says never is another thing than
// one that says nothing.
func TestRefusalGivesThePlaceBack(t *testing.T) {
	for _, c := range []struct {
		err  error
		kept bool
	}{{virt.ErrUnsupported, false}, {virt.ErrInvalid, false}, {virt.ErrConflict, false}, {virt.ErrUnreachable, true}, {errors.New("odd"), true}} {
		w := newWorld(t, "h1")
		w.vm("web1", small)
		w.driver.hook = func(_ context.Context, op, _ string) error {
			if op == "define" {
				return c.err
			}
			return nil
		}
		_, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "web1"})
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), "h1") {
			t.Errorf("%v: %v", c.err, err)
		}
		if got := w.node("web1").Parent() != ""; got != c.kept {
			t.Errorf("%v: its place is kept: %t, want %t (%v)", c.err, got, c.kept, err)
		}
		if c.kept != strings.Contains(err.Error(), "is kept") {
			t.Errorf("%v: it does not say what became of the place: %v", c.err, err)
		}
	}
	// One that was seen there before is never unassigned.
	w := newWorld(t, "h1")
	w.vm("web1", small)
	w.must(virt.ActionDefine, virt.Params{VM: "web1"})
	w.driver.hook = func(_ context.Context, op, _ string) error {
		if op == "define" {
			return virt.ErrUnsupported
		}
		return nil
	}
	delete(w.driver.hosts, "h1")
	if _, err := w.run(t.Context(), virt.ActionDefine, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrUnsupported) || w.node("web1").Parent() != "h1" {
		t.Errorf("%v; %s", err, w.snapshot("web1"))
	}
}

func TestHostsThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "h1")
		w.vm("web1", small)
		w.must(virt.ActionStart, virt.Params{VM: "web1"})
		time.Sleep(3 * time.Minute)
		w.driver.hook = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }
		begin := time.Now()
		_, err := w.run(t.Context(), virt.ActionStop, virt.Params{VM: "web1"})
		if !errors.Is(err, virt.ErrUnreachable) || time.Since(begin) != 3*time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		for _, want := range []string{"web1", "h1", "6m", "vagoth poll h1", "confirm-down"} {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		w.set("h1", func(d *registry.Draft) { d.State = string(virt.Unreachable) })
		begin = time.Now()
		if _, err := w.run(t.Context(), virt.ActionStop, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrUnreachable) || time.Since(begin) != 5*time.Second {
			t.Errorf("a host that did not answer last time, after %s: %v", time.Since(begin), err)
		}
		if _, err := w.run(t.Context(), virt.ActionPoll, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrUnreachable) {
			t.Error(err)
		}
		n := w.node("web1")
		if e, ok := virt.EvidenceOf(n); n.State() != string(virt.Unknown) || n.Parent() != "h1" || !ok || e.Reason == "" || time.Since(e.At) < 4*time.Minute {
			t.Errorf("after a poll without an answer: %s, %+v", w.snapshot("web1"), e)
		}
		w.set("h1", func(d *registry.Draft) { d.State = string(virt.Down) })
		begin = time.Now()
		if _, err := w.run(t.Context(), virt.ActionStop, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrUnreachable) || time.Since(begin) != 0 {
			t.Errorf("a host that is down, after %s: %v", time.Since(begin), err)
		}
		w.driver.hook = nil
		w.set("h1", func(d *registry.Draft) { d.State = string(virt.Unreachable) })
		if res := w.must(virt.ActionStop, virt.Params{VM: "web1"}); res.State != virt.Stopped {
			t.Errorf("a host that answers again: %+v", res)
		}
	})
}

func TestGrace(t *testing.T) {
	for _, c := range []struct {
		takes time.Duration // for the guest to shut down
		stops int
	}{{3 * time.Second, 0}, {time.Hour, 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "h1")
			w.vm("web1", small)
			w.must(virt.ActionStart, virt.Params{VM: "web1"})
			begin := time.Now()
			u := virt.NodeUUID(w.node("web1"))
			asked := false
			w.driver.hook = func(_ context.Context, op, host string) error {
				w.driver.mu.Lock()
				defer w.driver.mu.Unlock()
				switch {
				case op == "shutdown":
					asked = true
					return errAsked
				case op == "info" && asked && time.Since(begin) >= c.takes:
					w.driver.hosts[host][u].state = virt.Stopped
				}
				return nil
			}
			w.parts.Drivers["fake"] = asking{mover{w.driver}}
			res := w.must(virt.ActionStop, virt.Params{VM: "web1", Grace: "30s"})
			want := min(c.takes, 30*time.Second)
			if res.State != virt.Stopped || time.Since(begin) != want {
				t.Errorf("a guest that takes %s: %+v after %s", c.takes, res, time.Since(begin))
			}
			stops := 0
			for _, call := range w.driver.calls {
				if call == "stop h1" {
					stops++
				}
			}
			if stops != c.stops {
				t.Errorf("a guest that takes %s was turned off %d times", c.takes, stops)
			}
		})
	}
}

// asking is a driver whose guests take their time to shut down.
type asking struct{ mover }

var errAsked = errors.New("asked")

func (a asking) Power(ctx context.Context, h virt.Host, g virt.Guest, op virt.PowerOp) error {
	if err := a.mover.Power(ctx, h, g, op); !errors.Is(err, errAsked) {
		return err
	}
	return nil
}

// TestAMovingVMIsCountedTwice: while it moves, nobody else gets its place on
// either host.
func TestAMovingVMIsCountedTwice(t *testing.T) {
	w := newWorld(t)
	for _, h := range []string{"h1", "h2"} {
		w.host(h, `{"driver":"fake","cpu":8,"memory":300,"disk":1000}`)
	}
	w.vm("web1", small)
	w.vm("web2", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	tried := false
	w.driver.hook = func(ctx context.Context, op, _ string) error {
		if op == "migrate" {
			tried = true
			if res, err := w.run(ctx, virt.ActionDefine, virt.Params{VM: "web2"}); !errors.Is(err, allocator.ErrNoHost) {
				t.Errorf("web2 was placed: %+v %v", res, err)
			}
			if virt.MovesTo(w.node("web1")) != "h2" || virt.VMClass().Busy(w.node("web1")) == nil {
				t.Error("it does not say that it moves")
			}
		}
		return nil
	}
	w.must(virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"})
	if !tried {
		t.Fatal("the driver was not asked to migrate")
	}
	if res := w.must(virt.ActionDefine, virt.Params{VM: "web2"}); res.Host != "h1" {
		t.Errorf("web2 is on %s", res.Host)
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h1"}); !errors.Is(err, allocator.ErrNoHost) {
		t.Errorf("moving to a full host: %v", err)
	}
	if got := w.snapshot("web1"); got != "running parent=h2 disks_on=h2 moving=; on h2 running, disks h2" {
		t.Error(got)
	}
}

func TestMigrationIsRefused(t *testing.T) {
	w := newWorld(t, "h1", "h2")
	w.host("p1", `{"driver":"plain","cpu":8,"memory":4096,"disk":1000}`)
	w.host("p2", `{"driver":"plain","cpu":8,"memory":4096,"disk":1000}`)
	w.vm("web1", small)
	w.vm("thin", `{"cpu":1,"memory":1}`)
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrConflict) {
		t.Error("one that is on no host:", err)
	}
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "p1"})
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "p2"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Error("by a driver that cannot:", err)
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h1"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Error("to a host of another driver:", err)
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "p2", Cold: true}); !errors.Is(err, virt.ErrBusy) {
		t.Error("cold, while it runs:", err)
	}
	w.must(virt.ActionDefine, virt.Params{VM: "thin", Host: "p1"})
	if res := w.must(virt.ActionMigrate, virt.Params{VM: "thin", To: "p2"}); res.Host != "p2" {
		t.Errorf("a definition alone: %+v", res)
	}
	w.checkPlace("thin")
	w.driver.hook = func(_ context.Context, op, _ string) error {
		if op == "migrate" {
			return errors.New("no route")
		}
		return nil
	}
	w.vm("web2", small)
	w.must(virt.ActionStart, virt.Params{VM: "web2", Host: "h1"})
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web2"}); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Error(err)
	}
	if got := w.snapshot("web2"); got != "running parent=h1 disks_on=h1 moving=; on h1 running, disks h1" {
		t.Errorf("after a migration that failed: %s", got)
	}
}

// TestFreedWhileMoving: the source dies, an operator frees its VMs, and one of
// them has arrived elsewhere already.
func TestFreedWhileMoving(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		w := newWorld(t, "h1", "h2", "h3")
		w.vm("web1", `{"cpu":1,"memory":256}`)
		w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
		steps := 0
		w.driver.hook = func(_ context.Context, op, _ string) error {
			if op == "migrate" {
				w.crash.mu.Lock()
				steps = w.crash.steps + 1
				w.crash.at, w.crash.after = steps, arrived
				w.crash.mu.Unlock()
			}
			return nil
		}
		if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h2"}); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		w.crash.set(0, false)
		w.driver.hook = func(_ context.Context, _, host string) error {
			if host == "h1" {
				return virt.ErrUnreachable
			}
			return nil
		}
		freed, err := virt.ConfirmDown(t.Context(), w, "h1", "it burns", virt.ConfirmOptions{AbandonDisks: true})
		if err != nil || !slices.Equal(freed, []string{"web1"}) {
			t.Fatal(freed, err)
		}
		w.set("h2", func(d *registry.Draft) { // so that it is not found there by chance
			if d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaMaintenance: virt.Maintenance{Reason: "test"}}); err != nil {
				t.Fatal(err)
			}
		})
		w.attempt = 2
		res := w.must(virt.ActionStart, virt.Params{VM: "web1"})
		if !arrived && res.Host != "h3" {
			t.Errorf("it did not arrive, and was started on %s", res.Host)
		}
		if arrived && (res.Host != "h2" || res.State != virt.Running) {
			t.Errorf("it runs on h2 and was started again: %+v", res)
		}
		delete(w.driver.hosts, "h1") // it burnt
		delete(w.driver.disks, "h1")
		w.checkPlace("web1")
		w.checkCapacity()
	}
}

func TestPollFindsNothing(t *testing.T) {
	w := newWorld(t, "h1")
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	rev := w.node("web1").Revision()
	w.must(virt.ActionPoll, virt.Params{VM: "web1"})
	if w.node("web1").Revision() != rev {
		t.Error("a poll that changes nothing has written")
	}
	delete(w.driver.hosts, "h1")
	if res := w.must(virt.ActionPoll, virt.Params{VM: "web1"}); res.State != virt.Missing || w.node("web1").Parent() != "h1" {
		t.Errorf("%+v, %s", res, w.snapshot("web1"))
	}
}

func TestStartIsRefused(t *testing.T) {
	w := newWorld(t, "h1", "h2")
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	if _, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "web1", Host: "h2"}); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "vagoth migrate web1") {
		t.Errorf("starting it on another host: %v", err)
	}
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	w.set("web1", func(d *registry.Draft) {
		var err error
		if d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaAlarm: virt.Alarm{Kind: alarmTwice, Text: "it is on h1 and h2"}}); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "web1"}); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "h1 and h2") {
		t.Errorf("starting what is on two hosts: %v", err)
	}
	if got := w.snapshot("web1"); !strings.HasPrefix(got, "stopped") {
		t.Error(got)
	}
}

func TestDecisionThatIsKeptIsBounded(t *testing.T) {
	for _, c := range []struct{ hosts, fit, want int }{{3, 3, 3}, {64, 10, 64}, {500, 500, 64}, {500, 10, 64}, {500, 0, 64}, {500, 490, 64}} {
		d := &allocator.Decision{Policy: "spread", Hosts: func() (list []allocator.Verdict) {
			for i := range c.hosts {
				v := allocator.Verdict{Host: fmt.Sprintf("h%d", i), Chosen: i == 0 && c.fit > 0}
				if i >= c.fit {
					v.Ruled = []allocator.Ruled{{Filter: "memory", Required: "1", Observed: "0"}}
				}
				list = append(list, v)
			}
			return list
		}}
		data, err := kept(d)
		if err != nil {
			t.Fatal(err)
		}
		back := new(allocator.Decision)
		if err := json.Unmarshal(data, back); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		var more struct {
			Summary string
			Left    int `json:"left_out"`
		}
		if err := json.Unmarshal(data, &more); err != nil {
			t.Fatal(err)
		}
		if got := len(back.Hosts()); got != c.want || more.Left != c.hosts-c.want || (more.Left > 0) != (more.Summary != "") {
			t.Errorf("%+v: %d hosts are kept, %+v", c, got, more)
		}
		if c.fit > 0 && !back.Hosts()[0].Chosen {
			t.Errorf("%+v: the choice is not kept", c)
		}
	}
}

func TestNoHostKeepsItsDecision(t *testing.T) {
	w := newWorld(t, "h1")
	w.vm("big", `{"cpu":1,"memory":100000}`)
	_, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "big"})
	var none *allocator.NoHostError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "memory") || !strings.Contains(err.Error(), "vagoth why big") {
		t.Fatal(err)
	}
	vm, err := virt.VM(t.Context(), w, "big")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := vm.Decision(t.Context()); err != nil || d.Host != "" || len(d.Hosts()) != 1 {
		t.Error(d, err)
	}
}

func TestParamsAreChecked(t *testing.T) {
	w := newWorld(t, "h1")
	w.vm("web1", small)
	for name, a := range w.actions {
		if a.Name != name || a.Help == "" || a.Run == nil {
			t.Errorf("%s: %+v", name, a)
		}
		job := virt.Job(name, virt.Params{VM: "web1"})
		switch name {
		case virt.ActionSnapshot, virt.ActionRollback, virt.ActionSnapshotDelete:
			job = virt.Job(name, virt.Params{VM: "web1", Snapshot: "s1"})
		case virt.ActionAttachDisk:
			job = virt.Job(name, virt.Params{VM: "web1", Disk: &virt.Disk{Size: 1}})
		case virt.ActionDetachDisk:
			job = virt.Job(name, virt.Params{VM: "web1", Device: "vda"})
		case virt.ActionSaveImage:
			job = virt.Job(name, virt.Params{VM: "web1", Image: "team/web:1"})
		case virt.ActionFetchImage, virt.ActionDeleteImage:
			job = virt.HostJob(name, virt.HostParams{Hypervisor: "h1", ImageRequest: virt.ImageRequest{ID: "debian"}})
		}
		p := scheduler.Package{Jobs: []scheduler.Job{job}}
		if err := scheduler.Check(w.actions, p); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "h1"}); !errors.Is(err, virt.ErrInvalid) {
		t.Error("starting a hypervisor:", err)
	}
	if _, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "nobody"}); !errors.Is(err, registry.ErrNotFound) {
		t.Error("starting nobody:", err)
	}
	if _, err := w.run(t.Context(), virt.ActionDefine, virt.Params{VM: "web1", Host: "nobody"}); !errors.Is(err, registry.ErrNotFound) {
		t.Error("placing on nobody:", err)
	}
}

func BenchmarkDefineAndStart(b *testing.B) {
	w := newWorld(b)
	w.parts.Registry = w.reg // unwatched
	for i := range 200 {
		w.host(fmt.Sprintf("h%03d", i), `{"driver":"fake","cpu":100000,"memory":100000000,"disk":100000000}`)
	}
	n := 0
	for b.Loop() {
		id := fmt.Sprintf("vm%d", n)
		n++
		w.vm(id, small)
		if _, err := w.run(context.Background(), virt.ActionStart, virt.Params{VM: id}); err != nil {
			b.Fatal(err)
		}
	}
}
