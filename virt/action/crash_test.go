package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// way is an action with what it leaves behind.
type way struct {
	name, action string
	params       virt.Params
	before       func(*world)
	want         string
	driver       string // of its hosts; fake if empty
}

func ways() []way {
	start := func(w *world) { w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"}) }
	off := func(w *world) {
		start(w)
		w.must(virt.ActionStop, virt.Params{VM: "web1"})
	}
	undefined := func(w *world) {
		off(w)
		w.must(virt.ActionUndefine, virt.Params{VM: "web1"})
	}
	snapped := func(w *world) {
		off(w)
		w.must(virt.ActionSnapshot, virt.Params{VM: "web1", Snapshot: "s1"})
		w.must(virt.ActionSnapshot, virt.Params{VM: "web1", Snapshot: "s2"})
	}
	attached := func(w *world) {
		off(w)
		w.must(virt.ActionAttachDisk, virt.Params{VM: "web1", Disk: &virt.Disk{Size: 50}})
	}
	// The copy ends in the middle, and the host that it went to is silent from then on.
	copiedInPart := func(w *world) {
		off(w)
		w.cutCopy("web1", "h2")
	}
	// The same, and the host with its disks is lost.
	lostInCopy := func(w *world) {
		copiedInPart(w)
		w.lose("h1")
	}
	return []way{
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
		{name: "migrate what is off, with a copy of its disks", action: virt.ActionMigrate, params: virt.Params{To: "h2"}, before: off, driver: "copier",
			want: "stopped parent=h2 disks_on=h2 moving=; on h2 stopped, disks h2"},
		{name: "deprovision what was copied in part", action: virt.ActionDeprovision, before: copiedInPart, driver: "copier", want: "new parent= disks_on= moving=; "},
		{name: "start what was copied in part", action: virt.ActionStart, params: virt.Params{Host: "h2"}, before: lostInCopy, driver: "copier",
			want: "running parent=h2 disks_on=h2 moving=; on h2 running, disks h2"},
		{name: "snapshot", action: virt.ActionSnapshot, params: virt.Params{Snapshot: "s1"}, before: start, driver: "keeper",
			want: "running parent=h1 disks_on=h1 moving=; on h1 running, disks h1, snapshots s1"},
		{name: "rollback", action: virt.ActionRollback, params: virt.Params{Snapshot: "s1", DestroyMoreRecent: true}, before: snapped, driver: "keeper",
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1, snapshots s1"},
		{name: "delete a snapshot", action: virt.ActionSnapshotDelete, params: virt.Params{Snapshot: "s1"}, before: snapped, driver: "keeper",
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1, snapshots s2"},
		{name: "attach a disk", action: virt.ActionAttachDisk, params: virt.Params{Disk: &virt.Disk{Size: 50}}, before: start, driver: "keeper",
			want: "running parent=h1 disks_on=h1 moving=; on h1 running, disks h1, attached vdb"},
		{name: "attach a disk by defining anew", action: virt.ActionAttachDisk, params: virt.Params{Disk: &virt.Disk{Size: 50}}, before: off,
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1"},
		{name: "detach a disk", action: virt.ActionDetachDisk, params: virt.Params{Device: "vdb"}, before: attached, driver: "keeper",
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1, detached vdb"},
		{name: "detach the first disk", action: virt.ActionDetachDisk, params: virt.Params{Device: "vda"}, before: attached, driver: "keeper",
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1, attached vdb, detached vda"},
		{name: "detach and wipe a disk", action: virt.ActionDetachDisk, params: virt.Params{Device: "vdb", Wipe: true}, before: attached, driver: "keeper",
			want: "stopped parent=h1 disks_on=h1 moving=; on h1 stopped, disks h1"},
	}
}

// begin makes the world in which the action begins.
func (c *way) begin(t *testing.T) *world {
	w := newWorld(t)
	for _, h := range []string{"h1", "h2"} {
		w.host(h, `{"driver":"`+cmp.Or(c.driver, "fake")+`","cpu":8,"memory":4096,"disk":100000}`)
	}
	w.vm("web1", small)
	if c.before != nil {
		c.before(w)
	}
	c.params.VM = "web1"
	return w
}

// finished wants what the action leaves when nothing goes wrong.
func (c *way) finished(w *world, at string) {
	w.t.Helper()
	w.checkPlace("web1")
	w.checkCapacity()
	if w.driver.mixed {
		w.t.Errorf("%s: a part of a disk passed for the disk", at)
	}
	if got := w.snapshot("web1"); got != c.want {
		w.t.Errorf("%s:\n got %s\nwant %s", at, got, c.want)
	}
	if _, err := registry.Get(context.Background(), w.reg, virt.ReservationID("web1")); !errors.Is(err, registry.ErrNotFound) {
		w.t.Errorf("%s: a reservation is left: %v", at, err)
	}
}

// TestCrashPoints ends each action before and after each of its steps, runs it
// again, and wants what it gives when nothing goes wrong.
func TestCrashPoints(t *testing.T) {
	for _, c := range ways() {
		t.Run(c.name, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for n := 1; ; n++ {
					at := fmt.Sprintf("crashed at step %d (after it: %t)", n, after)
					w := c.begin(t)
					w.crash.set(n, after)
					_, err := w.run(t.Context(), c.action, c.params)
					crashed := w.crash.happened()
					if crashed && !after && err == nil {
						t.Errorf("%s, and it succeeded", at)
					}
					w.crash.set(0, false)
					w.checkPlace("web1")
					w.attempt = 2
					if _, err := w.run(t.Context(), c.action, c.params); err != nil {
						t.Errorf("%s, the second attempt fails: %v", at, err)
					}
					c.finished(w, at)
					if t.Failed() {
						return
					}
					if !crashed {
						if n < 3 {
							t.Errorf("only %d steps were seen", n-1)
						}
						break
					}
				}
			}
		})
	}
}

// TestHandedBack tells each attempt before and after each of its steps that its
// job is to be handed back. It says so in its error and begins nothing more; the
// next attempt gives what one gives that was not disturbed.
func TestHandedBack(t *testing.T) {
	for _, c := range ways() {
		t.Run(c.name, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for n := 1; ; n++ {
					at := fmt.Sprintf("handed back at step %d (after it: %t)", n, after)
					w := c.begin(t)
					ctx, cancel := context.WithCancelCause(t.Context())
					w.crash.tell(n, after, cancel)
					_, err := w.run(ctx, c.action, c.params)
					told, late := w.crash.happened(), w.crash.late
					cancel(nil)
					switch {
					case !told && err != nil:
						t.Errorf("without being told it fails: %v", err)
					case told && err != nil && !errors.Is(err, scheduler.ErrHandedBack):
						t.Errorf("%s, it says only %v", at, err)
					case told && !after && err == nil:
						t.Errorf("%s, and it succeeded", at)
					case late > 0:
						t.Errorf("%s, it began %d more", at, late)
					}
					w.crash.set(0, false)
					w.checkPlace("web1")
					w.attempt = 2
					if _, err := w.run(t.Context(), c.action, c.params); err != nil {
						t.Errorf("%s, the second attempt fails: %v", at, err)
					}
					c.finished(w, at)
					if t.Failed() {
						return
					}
					if !told {
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
