package action

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// TestCrashPoints ends each action before and after each of its steps, runs it
// again, and wants what it gives when nothing goes wrong.
func TestCrashPoints(t *testing.T) {
	start := func(w *world) { w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"}) }
	off := func(w *world) {
		start(w)
		w.must(virt.ActionStop, virt.Params{VM: "web1"})
	}
	undefined := func(w *world) {
		off(w)
		w.must(virt.ActionUndefine, virt.Params{VM: "web1"})
	}
	for _, c := range []struct {
		name, action string
		params       virt.Params
		before       func(*world)
		want         string
	}{
		{name: "define", action: virt.ActionDefine, params: virt.Params{Host: "h1"}, want: "stopped parent=h1 disks_on= moving=; on h1 stopped"},
		{name: "provision", action: virt.ActionProvision, params: virt.Params{Host: "h1"}, want: "defined parent=h1 disks_on=h1 moving=; disks h1"},
		{name: "start", action: virt.ActionStart, params: virt.Params{Host: "h1"}, want: "running parent=h1 disks_on=h1 moving=; on h1 running, disks h1"},
		{name: "start again where its disks are", action: virt.ActionStart, before: undefined, want: "running parent=h1 disks_on=h1 moving=; on h1 running, disks h1"},
		{name: "stop", action: virt.ActionStop, before: start, want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1"},
		{name: "suspend", action: virt.ActionSuspend, before: start, want: "paused parent=h1 disks_on=h1 moving=; on h1 paused, disks h1"},
		{name: "undefine", action: virt.ActionUndefine, before: off, want: "new parent= disks_on=h1 moving=; disks h1"},
		{name: "deprovision", action: virt.ActionDeprovision, before: off, want: "new parent= disks_on= moving=; "},
		{name: "deprovision without a host", action: virt.ActionDeprovision, before: undefined, want: "new parent= disks_on= moving=; "},
		{name: "migrate", action: virt.ActionMigrate, params: virt.Params{To: "h2"}, before: start, want: "running parent=h2 disks_on=h2 moving=; on h2 running, disks h2"},
		{name: "migrate what is off", action: virt.ActionMigrate, params: virt.Params{To: "h2"}, before: off, want: "stopped parent=h2 disks_on=h2 moving=; on h2 stopped, disks h2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.params.VM = "web1"
			for _, after := range []bool{false, true} {
				for at := 1; ; at++ {
					w := newWorld(t, "h1", "h2")
					w.vm("web1", small)
					if c.before != nil {
						c.before(w)
					}
					w.crash.set(at, after)
					_, err := w.run(t.Context(), c.action, c.params)
					crashed := w.crash.happened()
					if crashed && !after && err == nil {
						t.Errorf("crashed before step %d, and it succeeded", at)
					}
					w.crash.set(0, false)
					w.checkPlace("web1")
					w.attempt = 2
					if _, err := w.run(t.Context(), c.action, c.params); err != nil {
						t.Errorf("crashed at step %d (after it: %t), the second attempt fails: %v", at, after, err)
					}
					w.checkPlace("web1")
					w.checkCapacity()
					if got := w.snapshot("web1"); got != c.want {
						t.Errorf("crashed at step %d (after it: %t):\n got %s\nwant %s", at, after, got, c.want)
					}
					if _, err := registry.Get(t.Context(), w.reg, virt.ReservationID("web1")); !errors.Is(err, registry.ErrNotFound) {
						t.Errorf("crashed at step %d (after it: %t): a reservation is left: %v", at, after, err)
					}
					if t.Failed() {
						return
					}
					if !crashed {
						if at < 3 {
							t.Errorf("only %d steps were seen", at-1)
						}
						break
					}
				}
			}
		})
	}
}

// TestNoHostIsPromisedTooMuch races definitions for few hosts. Capacity and
// anti-affinity are checked after every commit.
func TestNoHostIsPromisedTooMuch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		hosts := rapid.IntRange(1, 4).Draw(rt, "hosts")
		for i := range hosts {
			w.host(fmt.Sprintf("h%d", i), fmt.Sprintf(`{"driver":"fake","cpu":%d,"memory":%d,"disk":1000,"cpu_overcommit":1}`,
				rapid.IntRange(1, 8).Draw(rt, "cpu"), rapid.IntRange(100, 1000).Draw(rt, "memory")))
		}
		n := rapid.IntRange(2, 14).Draw(rt, "vms")
		for i := range n {
			def := fmt.Sprintf(`{"cpu":%d,"memory":%d}`, rapid.IntRange(1, 3).Draw(rt, "need cpu"), rapid.IntRange(50, 400).Draw(rt, "need memory"))
			if rapid.IntRange(0, 3).Draw(rt, "apart") == 0 {
				def = strings.TrimSuffix(def, "}") + `,"placement":{"apart":["app=web"]}}`
				w.vm(fmt.Sprintf("vm%d", i), def, "app=web")
			} else {
				w.vm(fmt.Sprintf("vm%d", i), def)
			}
		}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, err := w.run(context.Background(), virt.ActionDefine, virt.Params{VM: fmt.Sprintf("vm%d", i)})
				if err != nil && !errors.Is(err, allocator.ErrNoHost) {
					t.Errorf("vm%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		for i := range n {
			w.checkPlace(fmt.Sprintf("vm%d", i))
		}
		w.checkCapacity()
		for h := range hosts {
			v, err := w.reg.View(context.Background())
			if err != nil {
				rt.Fatal(err)
			}
			children, err := v.Children(fmt.Sprintf("h%d", h))
			if err != nil {
				rt.Fatal(err)
			}
			web := 0
			for _, c := range children.Nodes {
				if _, ok := c.Tag("app"); ok {
					web++
				}
			}
			if web > 1 {
				t.Errorf("h%d has %d VMs that are to stand apart", h, web)
			}
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}
