package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestPathOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	again := func() *Driver { return open(t, func(c *Config) { c.Path = component.Path(dir) }) }
	d, g := again(), vm("web")
	up(t, d, h1, g)
	if err := d.WriteDisk("h1", "web-disk-0", "data"); err != nil {
		t.Fatal(err)
	}
	before, err := d.Status(t.Context(), h1)
	if err != nil {
		t.Fatal(err)
	}
	d = again()
	after, err := d.Status(t.Context(), h1)
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the next process sees %+v (%v), want %+v", after, err, before)
	}
	if text, ok, err := d.Disk("h1", "web-disk-0"); text != "data" || !ok || err != nil {
		t.Errorf("the next process reads %q (%v, %v) from the disk", text, ok, err)
	}
	// Where the guest runs is remembered too.
	other := g
	if err := errors.Join(d.Provision(t.Context(), h2, other), d.Define(t.Context(), h2, other), d.Power(t.Context(), h2, other, virt.PowerStart)); err != nil {
		t.Fatal(err)
	}
	if len(d.RanTwice()) != 1 {
		t.Errorf("a guest that ran on two hosts is not noticed: %v", d.RanTwice())
	}
}

func TestLookingWritesNothing(t *testing.T) {
	dir := t.TempDir()
	d := open(t, func(c *Config) { c.Path = component.Path(dir) })
	g := vm("web")
	up(t, d, h1, g)
	name := filepath.Join(dir, "h1.json")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	_, err1 := d.Status(t.Context(), h1)
	_, err2 := d.Info(t.Context(), h1, g)
	err3 := d.Define(t.Context(), h1, g)
	err4 := d.Power(t.Context(), h1, g, virt.PowerStart)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("calls that changed nothing wrote the host's file (%v)", err)
	}
}

func TestKilledWhileSaving(t *testing.T) {
	dir := t.TempDir()
	again := func() *Driver { return open(t, func(c *Config) { c.Path = component.Path(dir) }) }
	up(t, again(), h1, vm("web"))
	// What a process leaves that is killed before the rename.
	if err := os.WriteFile(filepath.Join(dir, ".h1.part"), []byte(`{"format":1,"ho`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := again().Status(t.Context(), h1)
	if err != nil || len(l.Guests) != 1 || l.Guests[0].State != virt.Running {
		t.Errorf("after a kill: %+v, %v", l, err)
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	again := func() *Driver { return open(t, func(c *Config) { c.Path = component.Path(dir) }) }
	up(t, again(), h1, vm("web"))
	name := filepath.Join(dir, "h1.json")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"cut off": whole[:len(whole)/2], "empty": {}, "another host's": []byte(strings.Replace(string(whole), `"host":"h1"`, `"host":"h2"`, 1)),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := again().Status(t.Context(), h1); err == nil || !strings.Contains(err.Error(), "h1.json") {
			t.Errorf("a file that is %s: got error %v, want one that names it", what, err)
		}
	}
}

func TestCannotSave(t *testing.T) {
	dir := t.TempDir()
	d := open(t, func(c *Config) { c.Path = component.Path(dir) })
	up(t, d, h1, vm("web"))
	// A directory in the way of the temporary file: it cannot be written.
	part := filepath.Join(dir, ".h1.part")
	if err := os.MkdirAll(filepath.Join(part, "x"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := d.Power(t.Context(), h1, vm("web"), virt.PowerStop); err == nil {
		t.Fatal("a stop that could not be saved succeeded")
	}
	if info, err := d.Info(t.Context(), h1, vm("web")); err != nil || info.State != virt.Running {
		t.Errorf("after a stop that failed the guest is %s (%v), want running", info.State, err)
	}
	if err := os.RemoveAll(part); err != nil {
		t.Fatal(err)
	}
	if err := d.Power(t.Context(), h1, vm("web"), virt.PowerStop); err != nil {
		t.Error(err)
	}
}

func TestShutdownTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, g := open(t, func(c *Config) { c.Shutdown = time.Minute }), vm("web")
		up(t, d, h1, g)
		state := func() virt.State {
			info, err := d.Info(t.Context(), h1, g)
			if err != nil {
				t.Fatal(err)
			}
			return info.State
		}
		if err := d.Power(t.Context(), h1, g, virt.PowerShutdown); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		// Asking again does not begin anew.
		if err := d.Power(t.Context(), h1, g, virt.PowerShutdown); err != nil {
			t.Fatal(err)
		}
		if s := state(); s != virt.Running {
			t.Errorf("after 40s of a minute's shutdown it is %s", s)
		}
		time.Sleep(20 * time.Second)
		if s := state(); s != virt.Stopped {
			t.Errorf("after a minute's shutdown it is %s", s)
		}
		if err := errors.Join(d.Power(t.Context(), h1, g, virt.PowerStart), d.IgnoreShutdown("h1", g.UUID, true),
			d.Power(t.Context(), h1, g, virt.PowerShutdown)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s := state(); s != virt.Running {
			t.Errorf("a guest that ignores shutdowns is %s", s)
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		up(t, d, h1, vm("web"))
		up(t, d, h1, vm("db"))
		status := func() (virt.Listing, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return d.Status(ctx, h1)
		}
		d.Hang("h1")
		if _, err := status(); !errors.Is(err, virt.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hung: %v", err)
		}
		d.HangDeaf("h1")
		done := make(chan error)
		go func() { _, err := status(); done <- err }()
		time.Sleep(time.Hour)
		select {
		case err := <-done:
			t.Errorf("deaf: the call ended with its context: %v", err)
		default:
		}
		d.Unhang("h1")
		if err := <-done; err == nil {
			t.Error("deaf: a call whose context has ended succeeded")
		}
		d.Unreachable("h1")
		if _, err := status(); !errors.Is(err, virt.ErrUnreachable) {
			t.Errorf("unreachable: %v", err)
		}
		odd := errors.New("odd")
		d.Fail("h1", odd)
		if _, err := status(); !errors.Is(err, odd) {
			t.Errorf("failing: %v", err)
		}
		d.Heal("h1")
		d.Partial("h1", 1)
		if l, err := status(); err != nil || l.Complete || len(l.Guests) != 1 {
			t.Errorf("partial: %+v, %v", l, err)
		}
		d.Heal("h1")
		d.Intercept("h1", func(_ context.Context, c Call) error { return fmt.Errorf("no %s", c.Op) })
		if _, err := status(); err == nil || err.Error() != "no status" {
			t.Errorf("intercepted: %v", err)
		}
		d.Heal("h1")
		if l, err := status(); err != nil || !l.Complete || len(l.Guests) != 2 {
			t.Errorf("healed: %+v, %v", l, err)
		}
		if err := errors.Join(d.Crash("h1", vm("web").UUID), d.Remove("h1", vm("db").UUID)); err != nil {
			t.Fatal(err)
		}
		if l, err := status(); err != nil || len(l.Guests) != 1 || l.Guests[0].State != virt.Crashed {
			t.Errorf("after a crash and a removal: %+v, %v", l, err)
		}
		if err := d.Restart("h1"); err != nil {
			t.Fatal(err)
		}
		if l, err := status(); err != nil || l.Guests[0].State != virt.Stopped {
			t.Errorf("after a power cut: %+v, %v", l, err)
		}
		if err := d.AddStranger("h1", virt.Seen{UUID: "x", Name: "<&>", State: virt.Running}); err != nil {
			t.Fatal(err)
		}
		if l, err := status(); err != nil || len(l.Guests) != 2 {
			t.Errorf("with a stranger: %+v, %v", l, err)
		}
	})
}

// TestChanceRepeats: the same seed gives each host the same fate, whatever the
// order of the calls to different hosts.
func TestChanceRepeats(t *testing.T) {
	fate := func(seed uint64, together bool) map[string]string {
		d := open(t, func(c *Config) { c.Failures, c.Seed = 0.3, seed })
		fates := map[string]string{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 4 {
			name := fmt.Sprintf("host%d", i)
			run := func() {
				var b strings.Builder
				for range 50 {
					if _, err := d.Status(t.Context(), virt.Host{ID: name}); err != nil {
						b.WriteString("x")
					} else {
						b.WriteString(".")
					}
				}
				mu.Lock()
				defer mu.Unlock()
				fates[name] = b.String()
			}
			if together {
				wg.Go(run)
			} else {
				run()
			}
		}
		wg.Wait()
		return fates
	}
	one := fate(1, false)
	if two := fate(1, true); !reflect.DeepEqual(one, two) {
		t.Errorf("one seed, two fates:\n%v\n%v", one, two)
	}
	if reflect.DeepEqual(one, fate(2, false)) {
		t.Error("two seeds, one fate")
	}
	for h, f := range one {
		if n := strings.Count(f, "x"); n < 5 || n > 30 {
			t.Errorf("%s failed %d of 50 calls, want about 15", h, n)
		}
	}
}

// TestLostAnswers: some failures come after the deed.
func TestLostAnswers(t *testing.T) {
	d := open(t, func(c *Config) { c.Failures = 0.5 })
	deeds, none := 0, 0
	for i := range 100 {
		g := vm(fmt.Sprintf("g%d", i))
		if err := d.Define(t.Context(), h1, g); err == nil {
			continue
		}
		err := d.alterGuest("h1", g.UUID, func(*state, *guest) error { return nil })
		switch {
		case err == nil:
			deeds++
		case errors.Is(err, virt.ErrNotFound):
			none++
		}
	}
	if deeds == 0 || none == 0 {
		t.Errorf("%d failed after the deed and %d before, want some of both", deeds, none)
	}
}

func TestLedger(t *testing.T) {
	d := open(t, func(c *Config) { c.Ledger = 3 })
	ctx := trail.With(t.Context(), trail.New("somebody", "a test"))
	g := vm("web")
	up(t, d, h1, g)
	for range 2 {
		if err := d.Power(ctx, h1, g, virt.PowerStop); err != nil {
			t.Fatal(err)
		}
	}
	calls := d.Calls()
	var ops []string
	for _, c := range calls {
		ops = append(ops, c.Op)
	}
	if want := []string{"start", "stop", "stop"}; !reflect.DeepEqual(ops, want) {
		t.Fatalf("the last calls are %v, want %v", ops, want)
	}
	if c := calls[2]; c.Trail != trail.From(ctx) || c.Host != "h1" || c.UUID != g.UUID || c.Err != nil {
		t.Errorf("the last call is %+v", c)
	}
	if n := d.CallCount(); n != 5 {
		t.Errorf("%d calls, want 5", n)
	}
}

func TestRanTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, g := open(t, func(c *Config) { c.Shutdown = time.Minute }), vm("web")
		up(t, d, h1, g)
		must := func(errs ...error) {
			t.Helper()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		// Moved, and stopped in time: once.
		must(d.Migrate(t.Context(), h1, h2, g, true), d.Power(t.Context(), h2, g, virt.PowerStop))
		up(t, d, h1, g)
		must(d.Power(t.Context(), h1, g, virt.PowerShutdown))
		time.Sleep(time.Minute)
		up(t, d, h2, g)
		if twice := d.RanTwice(); len(twice) != 0 {
			t.Errorf("it never ran twice: %v", twice)
		}
		// Still shutting down: twice.
		must(d.Power(t.Context(), h2, g, virt.PowerShutdown))
		time.Sleep(30 * time.Second)
		up(t, d, h1, g)
		if twice := d.RanTwice(); len(twice) != 1 || !strings.Contains(twice[0], g.UUID) {
			t.Errorf("it ran twice once: %v", twice)
		}
	})
}

func TestStartNeedsItsDisks(t *testing.T) {
	d, g := open(t, nil), vm("web")
	if err := d.Define(t.Context(), h1, g); err != nil {
		t.Fatal(err)
	}
	if err := d.Power(t.Context(), h1, g, virt.PowerStart); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("start without disks: %v", err)
	}
}

func TestHostileHosts(t *testing.T) {
	dir := t.TempDir()
	d := open(t, func(c *Config) { c.Path = component.Path(filepath.Join(dir, "sim")) })
	for _, name := range []string{"", "../x", ".hidden", "a/b", "-o", "a\x00", strings.Repeat("a", 10_000)} {
		if err := d.Define(t.Context(), virt.Host{ID: "h1", Address: name}, vm("web")); name != "" && !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("host %.20q: %v, want it invalid", name, err)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(found) != 1 {
		t.Errorf("files beside the directory: %v, %v", found, err)
	}
}

func TestKind(t *testing.T) {
	opener, problems := Kind().Decode(component.Source{File: "vagoth.ini", Dir: t.TempDir(), Own: []component.Section{{Name: "drivers.sim", Entries: []component.Entry{
		{Key: "path", Value: "sim", Line: 2}, {Key: "memory", Value: "64GiB", Line: 3}, {Key: "cpu", Value: "8", Line: 4},
	}}}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d, err := opener(t.Context(), virt.DriverDeps{Name: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Status(t.Context(), h1)
	if want := (virt.Capacity{CPU: 8, Memory: 64 << 10, Disk: 4 << 20}); err != nil || l.Capacity != want {
		t.Errorf("capacity is %+v (%v), want %+v", l.Capacity, err, want)
	}
}

// TestThousandsOfHosts: hosts are cheap.
func TestThousandsOfHosts(t *testing.T) {
	d := open(t, nil)
	for i := range 2000 {
		h := virt.Host{ID: fmt.Sprintf("host%d", i)}
		for j := range 5 {
			up(t, d, h, vm(fmt.Sprintf("g%d-%d", i, j)))
		}
	}
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			if l, err := d.Status(t.Context(), virt.Host{ID: fmt.Sprintf("host%d", i)}); err != nil || len(l.Guests) != 5 {
				t.Errorf("host%d: %d guests, %v", i, len(l.Guests), err)
			}
		})
	}
	wg.Wait()
}

// FuzzHostFile: no file of a host, whatever is in it, panics or is taken for
// another host's.
func FuzzHostFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"host":"h1","guests":[{"uuid":"x","name":"a","state":"running"}],"disks":{"v":{"owner":"x"}}}`))
	f.Add([]byte(`{"format":1,"host":"h1","guests":[{"uuid":"b"},{"uuid":"a"}]}`))
	f.Add([]byte(`{"format":1,"host":"h1","guests":[{"uuid":"a"},{"uuid":"a"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "h1.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, func(c *Config) { c.Path = component.Path(dir) })
		l, err := d.Status(t.Context(), h1)
		if err != nil {
			return
		}
		for i := 1; i < len(l.Guests); i++ {
			if l.Guests[i-1].UUID >= l.Guests[i].UUID {
				t.Fatalf("the listing is not in order: %v", l.Guests)
			}
		}
	})
}
