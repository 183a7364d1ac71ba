package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

// naive is what hosts ought to be: maps, and no care for speed.
type naive struct {
	guests map[[2]string]virt.State // by host and guest
	off    map[[2]string]time.Time
	disks  map[[2]string]bool
}

func (n naive) settle(now time.Time) {
	for k, at := range n.off {
		if !now.Before(at) {
			n.guests[k] = virt.Stopped
			delete(n.off, k)
		}
	}
}

// TestModel runs random calls, with restarts of the process between them, beside
// a naive model.
func TestModel(t *testing.T) {
	for range testlong.Count(t, 10) { // times the 100 runs of rapid
		rapid.Check(t, modelRun)
	}
}

func modelRun(t *rapid.T) {
	dir, err := os.MkdirTemp("", "sim")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	now := time.Unix(1_000_000_000, 0)
	reopen := func() *Driver {
		cfg := Defaults()
		cfg.Path = component.Path(dir)
		d, err := Open(context.Background(), cfg, virt.DriverDeps{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d, m := reopen(), naive{map[[2]string]virt.State{}, map[[2]string]time.Time{}, map[[2]string]bool{}}
	hosts, names := []string{"h1", "h2"}, []string{"a", "b", "c"}
	ctx := context.Background()
	for range rapid.IntRange(1, 40).Draw(t, "calls") {
		hn, gn := rapid.SampledFrom(hosts).Draw(t, "host"), rapid.SampledFrom(names).Draw(t, "guest")
		h, g, k := virt.Host{ID: hn}, vm(gn), [2]string{hn, gn}
		m.settle(now)
		state, there := m.guests[k]
		active := state == virt.Running || state == virt.Paused
		var got, want error
		op := rapid.SampledFrom([]string{"define", "define", "undefine", "provision", "provision", "deprovision", "start", "start", "stop", "shutdown", "suspend", "resume", "reboot", "migrate", "reopen", "time"}).Draw(t, "op")
		if !there && !slices.Contains([]string{"define", "provision", "deprovision", "reopen", "time"}, op) {
			want = virt.ErrNotFound
		}
		to := hosts[1-slices.Index(hosts, hn)]
		kt := [2]string{to, gn}
		switch op {
		case "reopen":
			d = reopen()
		case "time":
			now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "ms")) * time.Millisecond)
		case "define":
			got = d.Define(ctx, h, g)
			if !there {
				m.guests[k] = virt.Stopped
			}
		case "undefine":
			got = d.Undefine(ctx, h, g)
			if active {
				want = virt.ErrBusy
			} else {
				delete(m.guests, k)
			}
		case "provision":
			got = d.Provision(ctx, h, g)
			m.disks[k] = true
		case "deprovision":
			got = d.Deprovision(ctx, h, g)
			if active {
				want = virt.ErrBusy
			} else {
				delete(m.disks, k)
			}
		case "start":
			got = d.Power(ctx, h, g, virt.PowerStart)
			switch {
			case !there || state == virt.Running:
			case state == virt.Paused || !m.disks[k]:
				want = virt.ErrConflict
			default:
				m.guests[k] = virt.Running
			}
		case "stop":
			got = d.Power(ctx, h, g, virt.PowerStop)
			if there {
				m.guests[k] = virt.Stopped
				delete(m.off, k)
			}
		case "shutdown":
			got = d.Power(ctx, h, g, virt.PowerShutdown)
			if _, already := m.off[k]; state == virt.Running && !already {
				m.off[k] = now.Add(time.Second)
			}
		case "suspend", "resume":
			from, into, do := virt.Running, virt.Paused, d.Suspend
			if op == "resume" {
				from, into, do = virt.Paused, virt.Running, d.Resume
			}
			got = do(ctx, h, g)
			switch state {
			case from:
				m.guests[k] = into
				delete(m.off, k)
			case virt.Stopped:
				want = virt.ErrConflict
			}
		case "reboot":
			got = d.Power(ctx, h, g, virt.PowerReboot)
			if there && state != virt.Running {
				want = virt.ErrConflict
			}
		case "migrate":
			live := rapid.Bool().Draw(t, "live")
			got = d.Migrate(ctx, h, virt.Host{ID: to}, g, live)
			_, taken := m.guests[kt]
			switch {
			case !there:
			case active && !live:
				want = virt.ErrBusy
			case taken || m.disks[kt]:
				want = virt.ErrConflict
			default:
				m.guests[kt] = state
				delete(m.guests, k)
				if at, ok := m.off[k]; ok {
					m.off[kt] = at
					delete(m.off, k)
				}
				if m.disks[k] {
					m.disks[kt] = true
					delete(m.disks, k)
				}
			}
		}
		if !errors.Is(got, want) || want == nil && got != nil {
			t.Fatalf("%s of %s on %s (%s): got error %v, want %v", op, gn, hn, state, got, want)
		}
		m.settle(now)
		compare(t, d, m, hosts, names)
	}
}

func compare(t *rapid.T, d *Driver, m naive, hosts, names []string) {
	for _, h := range hosts {
		want := map[string]virt.State{}
		for _, n := range names {
			if s, ok := m.guests[[2]string{h, n}]; ok {
				want[n] = s
			}
			if _, ok, err := d.Disk(h, n+"-disk-0"); err != nil || ok != m.disks[[2]string{h, n}] {
				t.Fatalf("the disk of %s on %s is there: %v (%v)", n, h, ok, err)
			}
		}
		l, err := d.Status(context.Background(), virt.Host{ID: h})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]virt.State{}
		for _, s := range l.Guests {
			got[s.Name] = s.State
		}
		if !maps.Equal(got, want) || len(l.Guests) != len(got) {
			t.Fatalf("%s has %v, want %v", h, fmt.Sprint(l.Guests), want)
		}
	}
}
