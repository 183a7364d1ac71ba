package action

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// lender notes which limits the attempt holds.
type lender struct {
	mu    sync.Mutex
	held  []string
	taken [][]string
	wait  func(ctx context.Context, names []string) error // while the attempt waits for them
}

func (l *lender) holds(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.held, scheduler.HostLimit(host))
}

type limitedTask struct {
	*fakeTask
	l *lender
}

// TakeLimits implements scheduler.Limiter.
func (t *limitedTask) TakeLimits(ctx context.Context, names ...string) error {
	t.l.mu.Lock()
	have := !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(t.l.held, n) })
	if !have {
		t.l.held = nil
		t.l.taken = append(t.l.taken, names)
	}
	wait := t.l.wait
	t.l.mu.Unlock()
	if have {
		return nil
	}
	if wait != nil {
		if err := wait(ctx, names); err != nil {
			return err
		}
	}
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.l.held = names
	return nil
}

// lend makes the world's scheduler one that shares limits out, and refuses each
// call of a driver whose host's limit is not held.
func (w *world) lend() *lender {
	w.limits = &lender{}
	w.driver.hook = func(_ context.Context, op, host string) error {
		if !w.limits.holds(host) {
			w.t.Errorf("%s on %s without its limit", op, host)
		}
		return nil
	}
	return w.limits
}

// Every action takes the limits of the hosts that it is about before a driver
// hears of it, and a migration takes both at once.
func TestHostLimitsAreTaken(t *testing.T) {
	for _, c := range ways() {
		t.Run(c.name, func(t *testing.T) {
			w := c.begin(t)
			l := w.lend()
			if _, err := w.run(t.Context(), c.action, c.params); err != nil {
				t.Fatal(err)
			}
			c.finished(w, "with limits")
			if len(l.taken) == 0 {
				t.Error("it took no limit")
			}
			if c.action == virt.ActionMigrate && !slices.Equal(l.taken[len(l.taken)-1], []string{"host:h1", "host:h2"}) {
				t.Errorf("the migration took %v", l.taken)
			}
		})
	}
	t.Run("settling a migration", func(t *testing.T) {
		c := way{name: "migrate", action: virt.ActionMigrate, params: virt.Params{To: "h2"}, want: "running parent=h2 disks_on=h2 moving=; on h2 running, disks h2",
			before: func(w *world) { w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"}) }}
		w := c.begin(t)
		w.crash.set(3, false) // before the driver's Migrate
		if _, err := w.run(t.Context(), c.action, c.params); err == nil || virt.MovesTo(w.node("web1")) != "h2" {
			t.Fatalf("no migration is to be settled: %v", err)
		}
		w.crash.set(0, false)
		w.lend()
		w.attempt = 2
		if _, err := w.run(t.Context(), c.action, c.params); err != nil {
			t.Fatal(err)
		}
		c.finished(w, "with limits")
	})
}

// Reading a state waits for nobody.
func TestPollTakesNoLimit(t *testing.T) {
	w := newWorld(t, "h1")
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	w.limits = &lender{}
	w.must(virt.ActionPoll, virt.Params{VM: "web1"})
	if len(w.limits.taken) > 0 {
		t.Errorf("polling took %v", w.limits.taken)
	}
}

// While an attempt waits for a host, people go on: what they did holds.
func TestAfterTheWaitItLooksAgain(t *testing.T) {
	t.Run("freed", func(t *testing.T) {
		w := newWorld(t, "h1", "h2")
		w.vm("web1", small)
		l := w.lend()
		l.wait = func(context.Context, []string) error {
			w.set("web1", func(d *registry.Draft) { d.State = "" })
			_, err := registry.SetParent(context.Background(), w.reg, "web1", "h1", "")
			return err
		}
		_, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
		if !errors.Is(err, registry.ErrConflict) || len(w.driver.calls) > 0 {
			t.Errorf("freed while it waited: %v, and the driver heard %v", err, w.driver.calls)
		}
	})
	t.Run("moved", func(t *testing.T) {
		w := newWorld(t, "h1", "h2")
		w.vm("web1", `{"cpu":1,"memory":256}`)
		w.must(virt.ActionDefine, virt.Params{VM: "web1", Host: "h1"})
		l := w.lend()
		moved := false
		l.wait = func(context.Context, []string) error {
			if moved {
				return nil
			}
			moved = true
			u := virt.NodeUUID(w.node("web1"))
			w.driver.hosts["h2"] = map[string]*fakeGuest{u: w.driver.hosts["h1"][u]}
			w.driver.disks["h2"] = map[string]bool{}
			delete(w.driver.hosts["h1"], u)
			_, err := registry.SetParent(context.Background(), w.reg, "web1", "h1", "h2")
			return err
		}
		if _, err := w.run(t.Context(), virt.ActionStart, virt.Params{VM: "web1"}); err != nil {
			t.Error(err)
		}
		if want := [][]string{{"host:h1"}, {"host:h2"}}; !slices.EqualFunc(l.taken, want, slices.Equal) {
			t.Errorf("it took %v", l.taken)
		}
	})
}

// An attempt that is told to hand its job back while it waits does so.
func TestHandedBackWhileItWaits(t *testing.T) {
	for _, action := range []string{virt.ActionStart, virt.ActionDefine, virt.ActionProvision} {
		w := newWorld(t, "h1")
		w.vm("web1", small)
		l := w.lend()
		ctx, cancel := context.WithCancelCause(t.Context())
		l.wait = func(ctx context.Context, _ []string) error {
			cancel(scheduler.ErrHandedBack)
			return ctx.Err()
		}
		_, err := w.run(ctx, action, virt.Params{VM: "web1"})
		if !errors.Is(err, scheduler.ErrHandedBack) || !strings.Contains(err.Error(), "host:h1") {
			t.Errorf("%s: %v", action, err)
		}
		cancel(nil)
	}
}
