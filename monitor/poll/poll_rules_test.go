package poll

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

func openPoll(t testing.TB, c virt.Cluster, change func(*Config)) *Monitor {
	t.Helper()
	cfg := Defaults()
	if change != nil {
		change(&cfg)
	}
	m, err := Open(t.Context(), cfg, monitor.Deps{Cluster: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestConfig(t *testing.T) {
	for _, good := range []string{"@every 10s", "@every 1m30s", "@hourly", "*/5 * * * *", "0 3 * * 1-5", "TZ=UTC 0 3 * * *"} {
		cfg := Defaults()
		cfg.Every = good
		if err := cfg.Validate(); err != nil {
			t.Errorf("every = %s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "10s", "@every", "@every 10", "@every 10ms", "@every -1s", "@every 0s", "@often", "* * * *", "* * * * * *", "61 * * * *", "TZ=", "TZ=x"} {
		cfg := Defaults()
		cfg.Every = bad
		var key *component.KeyError
		if err := cfg.Validate(); !errors.As(err, &key) || key.Key != "every" {
			t.Errorf("every = %q: got error %v, want one about the key", bad, err)
		}
	}
	cfg := Defaults()
	cfg.Tenant = "../x"
	if _, err := Open(t.Context(), cfg, monitor.Deps{}); err == nil {
		t.Error("a tenant that is no name is accepted")
	}
	opener, problems := Kind().Decode(component.Source{File: "vagoth.ini", Own: []component.Section{{Name: "monitor", Entries: []component.Entry{
		{Key: "every", Value: "@every 1m", Line: 2}, {Key: "create_missing", Value: "yes", Line: 3}, {Key: "timeout", Value: "3s", Line: 4},
	}}}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m, err := opener(t.Context(), monitor.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg := m.(*Monitor).cfg; !cfg.CreateMissing || cfg.Timeout != 3*time.Second || cfg.Workers != 64 {
		t.Errorf("the config is %+v", cfg)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestLimitsOfAnUpdate: a host may have more VMs, and larger ones, than one
// Update takes.
func TestLimitsOfAnUpdate(t *testing.T) {
	c := newCluster(t, 2, 49)
	for h := range 2 {
		for v := range 8 {
			_, err := registry.UpdateMetadata(t.Context(), c.reg, fmt.Sprintf("vm%04d-%02d", h, v), map[string]any{"notes": strings.Repeat("x", 250<<10)})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// All of the second host's VMs stand on the first, too many for one Update.
	for v := range 49 {
		id := fmt.Sprintf("vm%04d-%02d", 1, v)
		if _, err := registry.SetParent(t.Context(), c.reg, id, "host0001", "host0000"); err != nil {
			t.Fatal(err)
		}
	}
	m := openPoll(t, c, nil)
	c.sim.Unreachable("host0000")
	rep, err := m.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := registry.Collect(t.Context(), c.reg, registry.Query{Type: virt.TypeVM, State: string(virt.Unknown)})
	if err != nil || len(unknown) != 98 {
		t.Errorf("%d VMs are unknown (%v), want 98; the report says %d were written", len(unknown), err, rep.Written)
	}
}

// TestOneNodeThatIsFull: what cannot be written of one VM is written of the
// others.
func TestOneNodeThatIsFull(t *testing.T) {
	c := newCluster(t, 1, 70) // more than one Update takes
	_, err := registry.UpdateMetadata(t.Context(), c.reg, "vm0000-07", map[string]any{"notes": strings.Repeat("x", registry.MaxDocument-20)})
	if err != nil {
		t.Fatal(err)
	}
	m := openPoll(t, c, nil)
	rep, err := m.Poll(t.Context())
	if !errors.Is(err, registry.ErrTooLarge) || !strings.Contains(err.Error(), "vm0000-07") || rep.Written != 70 {
		t.Errorf("%d nodes written, %v: want 70 and an error that names the other", rep.Written, err)
	}
}

// TestManyStrangers: what a host says does not fill the memory.
func TestManyStrangers(t *testing.T) {
	c := newCluster(t, 1, 1)
	for i := range 3 * maxUnknown {
		err := c.sim.AddStranger("host0000", virt.Seen{UUID: fmt.Sprintf("%s%05d", strings.Repeat("é", 100*(i%2)), i), Name: strings.Repeat("n", 5000)})
		if err != nil {
			t.Fatal(err)
		}
	}
	m := openPoll(t, c, nil)
	rep, err := m.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mem := m.memoryOf("host0000")
	if len(mem.foreign) != maxUnknown {
		t.Errorf("%d unknown VMs are kept, want %d", len(mem.foreign), maxUnknown)
	}
	for u, s := range mem.foreign {
		if len(u) > maxUUID || len(s.seen.Name) > 4*maxText {
			t.Fatalf("%d bytes of a UUID and %d of a name are kept", len(u), len(s.seen.Name))
		}
	}
	if n := len(rep.Hosts[0].Findings); n > maxStrangers+4 {
		t.Errorf("%d findings", n)
	}
	revision := c.db.Stats().Revision
	if _, err := m.Poll(t.Context()); err != nil || c.db.Stats().Revision != revision {
		t.Errorf("the same strangers are written again (%v)", err)
	}
}

func TestCloseNamesTheCallsThatAreOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, 1)
		m := openPoll(t, c, nil)
		c.sim.HangDeaf("host0001")
		if _, err := m.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := m.Close()
		if err == nil || !strings.Contains(err.Error(), "host0001") || strings.Contains(err.Error(), "host0000") {
			t.Errorf("Close: %v, want an error that names host0001 alone", err)
		}
		if took := time.Since(began); took > closeWait+time.Second {
			t.Errorf("Close took %v", took)
		}
		c.sim.Unhang("host0001")
		if err := m.Close(); err != nil {
			t.Errorf("Close when all calls are back: %v", err)
		}
	})
}

// flaky is a registry whose Update fails as long as it is told to.
type flaky struct {
	registry.Registry
	fail atomic.Bool
}

var errFull = errors.New("disk full")

func (f *flaky) Update(ctx context.Context, fn func(registry.Tx) error) error {
	if f.fail.Load() {
		return errFull
	}
	return f.Registry.Update(ctx, fn)
}

func TestRegistryThatCannotBeWritten(t *testing.T) {
	c := newCluster(t, 2, 2)
	f := &flaky{Registry: c.reg}
	c.reg = f
	m := openPoll(t, c, nil)
	f.fail.Store(true)
	rep, err := m.Poll(t.Context())
	if !errors.Is(err, errFull) || len(rep.Hosts) != 2 || !strings.Contains(rep.Hosts[0].Error, "disk full") || rep.Written != 0 {
		t.Errorf("a poll with a full disk: %+v, %v", rep, err)
	}
	f.fail.Store(false)
	if rep, err = m.Poll(t.Context()); err != nil || rep.Written != 6 {
		t.Errorf("a poll after it: %d nodes written, %v", rep.Written, err)
	}
}

func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		m := openPoll(t, c, func(cfg *Config) { cfg.Jitter = 5 * time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(10*time.Minute + 6*time.Second)
		late := map[time.Duration]bool{}
		began := c.sim.Calls()[0].At.Truncate(10 * time.Second)
		for _, call := range c.sim.Calls() {
			off := call.At.Sub(began) % (10 * time.Second)
			if off > 5*time.Second {
				t.Errorf("a poll began %v late", off)
			}
			late[off] = true
		}
		if n := c.sim.CallCount(); n < 58 || n > 63 || len(late) < 20 {
			t.Errorf("%d polls at %d different times in 10 minutes", n, len(late))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestDriverEndsItsGoroutine: not even runtime.Goexit takes a host away from the
// monitor.
func TestDriverEndsItsGoroutine(t *testing.T) {
	c := newCluster(t, 1, 1)
	m := openPoll(t, c, nil)
	c.sim.Intercept("host0000", func(context.Context, sim.Call) error { runtime.Goexit(); return nil })
	rep, err := m.Poll(t.Context())
	if err != nil || rep.Hosts[0].State != virt.Unreachable {
		t.Errorf("%+v, %v", rep, err)
	}
	c.sim.Heal("host0000")
	if rep, err = m.Poll(t.Context()); err != nil || rep.Hosts[0].State != virt.Up {
		t.Errorf("%+v, %v", rep, err)
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"@every 10s", "*/5 * * * *", "TZ=", "CRON_TZ=Europe/Berlin 0 3 * * *", "@every 9999999h", "1-0/0 * * * *"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := schedule(spec)
		if (s == nil) == (err == nil) {
			t.Fatalf("schedule %q: %v, %v", spec, s, err)
		}
	})
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "web1", "a\nb", "\x1b[2J", "\u202e", "\xff\xfe", strings.Repeat("é", 500)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := plain(s)
		if !utf8.ValidString(p) || len(p) > maxText+4 {
			t.Fatalf("plain(%q) is %q", s, p)
		}
		for _, r := range p {
			if !unicode.IsPrint(r) {
				t.Fatalf("plain(%q) holds %U", s, r)
			}
		}
	})
}
