package monitortest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func stateWritten(w *world) {
	w.hosts("h1", "h2")
	for i, s := range []virt.State{virt.Running, virt.Paused, virt.Stopped, virt.Crashed} {
		id := name("vm", i)
		w.vm(id, "h1")
		w.put("h1", id, s)
	}
	w.put("h1", "odd", "exploding")
	w.vm("odd", "h1")
	time.Sleep(time.Hour)
	rep, err := w.mon.Poll(trail.With(w.Context(), trail.New("somebody", "to see")))
	w.must(err)
	for i, s := range []virt.State{virt.Running, virt.Paused, virt.Stopped, virt.Crashed} {
		w.is(name("vm", i), string(s))
		w.finds(rep, 1, monitor.FoundState, name("vm", i))
		if e := w.evidence(name("vm", i)); !e.At.Equal(time.Now()) || e.Host != "h1" {
			w.Errorf("the evidence is %+v", e)
		}
	}
	w.is("odd", string(virt.Unknown))
	w.is("h1", string(virt.Up))
	w.is("h2", string(virt.Up))
	if e := w.evidence("h2"); !e.At.Equal(time.Now()) {
		w.Errorf("the evidence of h2 is %+v", e)
	}
	if by := w.node("vm000").Changed(); by.Source != "somebody" || by.Reason != "to see" || by.Transaction == "" {
		w.Errorf("the change's trail is %+v", by)
	}
	w.must(w.sim.Crash("h1", uuid("vm000")))
	w.poll()
	w.is("vm000", string(virt.Crashed))
	if by := w.node("vm000").Changed(); by.Source == "" || by.Transaction == "" {
		w.Errorf("the trail of a poll that nobody asked for is %+v", by)
	}
}

func nothingNew(w *world) {
	w.hosts("h1", "h2", "h3")
	w.running("h1", "a", "b")
	w.running("h2", "c")
	w.put("h2", "stranger", virt.Running)
	w.sim.Unreachable("h3")
	w.vm("d", "h3")
	w.vm("twice", "h1")
	w.put("h1", "twice", virt.Running)
	w.put("h2", "twice", virt.Running)
	w.vm("gone", "h2")
	for range 5 {
		w.poll()
	}
	for range 10 {
		time.Sleep(10 * time.Second)
		w.quiet("nothing happened")
	}
}

func evidenceEvery(w *world) {
	w.hosts("h1")
	w.running("h1", "a")
	w.poll()
	began := time.Now()
	for time.Since(began) < w.opts.EvidenceEvery-time.Minute {
		time.Sleep(time.Minute)
		w.quiet("the evidence is fresh")
	}
	time.Sleep(time.Minute)
	rep := w.poll()
	for _, id := range []string{"h1", "a"} {
		if e := w.evidence(id); !e.At.Equal(time.Now()) {
			w.Errorf("after %v the evidence of %s is of %v ago", w.opts.EvidenceEvery, id, time.Since(e.At))
		}
		w.finds(rep, 0, monitor.FoundState, id)
	}
}

func capacitySeen(w *world) {
	w.hosts("h1")
	seen := func() (c virt.Capacity) {
		var m struct {
			C virt.Capacity `json:"capacity_seen"`
		}
		w.must(w.node("h1").Metadata().Decode(&m))
		return m.C
	}
	for _, c := range []virt.Capacity{{CPU: 4, Memory: 1024, Disk: 10}, {CPU: 8, Memory: 1024, Disk: 10}} {
		w.must(w.sim.SetCapacity("h1", c))
		w.poll()
		if seen() != c {
			w.Errorf("capacity_seen is %+v, want %+v", seen(), c)
		}
		w.quiet("the capacity is as it was")
	}
	// A host that does not say keeps what it said.
	w.must(w.sim.SetCapacity("h1", virt.Capacity{CPU: 8}))
	w.quiet("the host says nothing new of its capacity")
}

func reports(w *world) {
	w.hosts("h3", "h1", "h2")
	w.running("h2", "a")
	w.sim.Partial("h3", 0)
	w.sim.Unreachable("h1")
	rep := w.poll()
	var ids []string
	for _, h := range rep.Hosts {
		ids = append(ids, h.Host)
	}
	if !slices.Equal(ids, []string{"h1", "h2", "h3"}) {
		w.Fatalf("the report has the hosts %v", ids)
	}
	if h := rep.Hosts[0]; h.State != virt.Unreachable || h.Error == "" || h.Name != "h1" {
		w.Errorf("h1: %+v", h)
	}
	if h := rep.Hosts[1]; h.State != virt.Up || !h.Complete || h.Guests != 1 || h.Error != "" {
		w.Errorf("h2: %+v", h)
	}
	if h := rep.Hosts[2]; h.State != virt.Up || h.Complete {
		w.Errorf("h3: %+v", h)
	}
	if rep.Written != 4 {
		w.Errorf("%d nodes written, want 4", rep.Written)
	}
	w.finds(rep, 1, monitor.FoundState, "a")
	if rep = w.poll("h2"); len(rep.Hosts) != 1 || rep.Hosts[0].Host != "h2" {
		w.Errorf("a poll of h2 reports %+v", rep.Hosts)
	}
	w.finds(rep, 0, monitor.FoundState, "a")
}

func unreachableUnknown(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a", "b")
	w.running("h2", "c")
	w.poll()
	time.Sleep(5 * time.Minute)
	w.quiet("before the trouble")
	last := time.Now()
	time.Sleep(time.Minute)
	w.sim.Unreachable("h1")
	rep := w.poll()
	w.is("h1", string(virt.Unreachable))
	w.is("a", string(virt.Unknown))
	w.is("b", string(virt.Unknown))
	w.is("h2", string(virt.Up))
	w.is("c", string(virt.Running))
	for _, id := range []string{"a", "b", "h1"} {
		if e := w.evidence(id); !e.At.Equal(last) || e.Reason == "" {
			w.Errorf("the evidence of %s is of %v ago (%q), want a minute", id, time.Since(e.At), e.Reason)
		}
		w.finds(rep, 1, monitor.FoundState, id)
	}
}

func unreachableNothingElse(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.vm("never-seen", "h1")
	w.poll()
	w.sim.Unreachable("h1")
	w.poll()
	for range 100 {
		time.Sleep(time.Hour)
		w.poll()
	}
	w.on("a", "h1")
	w.on("never-seen", "h1")
	w.is("a", string(virt.Unknown))
	w.is("never-seen", string(virt.Unknown))
	w.quiet("the host is still unreachable")
	w.onlyAsked()
}

func unreachableBack(w *world) {
	w.hosts("h1")
	w.running("h1", "a", "b")
	w.poll()
	w.sim.Unreachable("h1")
	w.poll()
	w.take("h1", "b")
	w.sim.Heal("h1")
	time.Sleep(time.Minute)
	rep := w.poll()
	w.is("h1", string(virt.Up))
	w.is("a", string(virt.Running))
	w.is("b", string(virt.Unknown)) // one listing without it is not enough
	w.finds(rep, 1, monitor.FoundState, "h1")
	if e := w.evidence("a"); !e.At.Equal(time.Now()) || e.Reason != "" {
		w.Errorf("the evidence is %+v", e)
	}
}

func unreachableAtLeast(w *world) {
	w.hosts("h1")
	w.running("h1", "a")
	w.poll()
	written := time.Now()
	time.Sleep(5 * time.Minute)
	w.quiet("in between")
	w.restart()
	w.sim.Unreachable("h1")
	w.poll()
	w.is("a", string(virt.Unknown))
	if e := w.evidence("a"); !e.At.Equal(written) {
		w.Errorf("another process has evidence of %v, want the last written, of %v", e.At, written)
	}
}

func unreachableReason(w *world) {
	w.hosts("h1")
	w.running("h1", "a")
	w.poll()
	w.sim.Fail("h1", errors.New("\x1b[2Jevil\n\u202e"+strings.Repeat("x", 1<<20)))
	rep := w.poll()
	for _, text := range []string{w.of(rep, "h1").Error, w.evidence("a").Reason, w.evidence("h1").Reason} {
		if len(text) == 0 || len(text) > 1000 || strings.ContainsAny(text, "\x1b\n\u202e") || !strings.Contains(text, "evil") {
			w.Errorf("the reason is %.100q of %d bytes", text, len(text))
		}
	}
}

// confirmDown is what an operator does.
func (w *world) confirmDown(host string, vms ...string) {
	w.Helper()
	w.modify(host, func(d *registry.Draft) { d.State = string(virt.Down) })
	for _, id := range vms {
		w.modify(id, func(d *registry.Draft) { d.Parent, d.State = "", string(virt.New) }, registry.MovingFrom(host))
	}
}

func downStays(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.running("h2", "b")
	w.put("h1", "b", virt.Running)
	w.poll()
	w.sim.Unreachable("h1")
	w.poll()
	w.alarm("b", "h1", "h2")
	w.confirmDown("h1", "a")
	w.poll()
	w.alarm("b") // h1 runs nothing, a person says
	w.quiet("the host is confirmed to be down")
	w.is("h1", string(virt.Down))
	w.is("a", string(virt.New))
	// It may be started elsewhere, and what was remembered of h1 is no alarm.
	w.modify("a", func(d *registry.Draft) { d.Parent = "h2" })
	w.put("h2", "a", virt.Running)
	w.poll()
	w.poll()
	w.is("a", string(virt.Running))
	w.alarm("a")
}

func downAnswers(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a", "b")
	w.poll()
	w.sim.Unreachable("h1")
	w.poll()
	w.confirmDown("h1", "a", "b")
	w.poll()
	w.modify("a", func(d *registry.Draft) { d.Parent = "h2" })
	w.put("h2", "a", virt.Running)
	w.poll()
	w.sim.Heal("h1")
	rep := w.poll()
	w.is("h1", string(virt.Up))
	w.finds(rep, 1, monitor.FoundState, "h1")
	// It still runs both: one that was started elsewhere meanwhile, one that was not.
	w.alarm("a", "h1", "h2")
	w.on("a", "h2")
	w.on("b", "h1")
	w.onlyAsked()
}

func hostsRefused(w *world) {
	w.hosts("h1")
	w.vm("a", "")
	for _, id := range []string{"nobody", "a"} {
		if _, err := w.mon.Poll(w.Context(), id); err == nil || !strings.Contains(err.Error(), id) {
			w.Errorf("a poll of %s: error %v, want one that names it", id, err)
		}
	}
	_, err := registry.Create(w.Context(), w.reg, registry.Draft{
		ID: "h2", Name: "h2", Type: virt.TypeHypervisor, Definition: w.doc(virt.HostDefinition{Driver: "nothing"}),
	})
	w.must(err)
	_, err = registry.Create(w.Context(), w.reg, registry.Draft{ID: "h3", Name: "h3", Type: virt.TypeHypervisor})
	w.must(err)
	rep := w.poll()
	w.is("h1", string(virt.Up))
	w.is("h2", string(virt.Unreachable))
	w.is("h3", string(virt.Unreachable))
	if e := w.of(rep, "h2").Error; !strings.Contains(e, "nothing") {
		w.Errorf("a host without a driver: %q", e)
	}
}
