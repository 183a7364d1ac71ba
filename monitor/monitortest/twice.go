package monitortest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func twiceAlarm(w *world) {
	w.hosts("h1", "h2", "h3")
	w.running("h1", "a")
	w.poll()
	w.put("h2", "a", virt.Running)
	rep := w.poll()
	w.alarm("a", "h1", "h2")
	if found(rep, monitor.FoundTwice, "a") == 0 {
		w.Error("the alarm is not in the report")
	}
	w.on("a", "h1")
	w.is("a", string(virt.Running))
	since, _ := virt.AlarmOf(w.node("a"))
	w.quiet("the alarm stands")
	if found(w.poll(), monitor.FoundTwice, "a") == 0 {
		w.Error("the alarm is no longer in the report")
	}
	time.Sleep(time.Minute)
	w.put("h3", "a", virt.Stopped)
	w.poll()
	w.alarm("a", "h1", "h2", "h3")
	if now, _ := virt.AlarmOf(w.node("a")); !now.Since.Equal(since.Since) {
		w.Error("the alarm began anew")
	}
	w.take("h2", "a")
	w.take("h3", "a")
	w.poll()
	w.alarm("a")
	w.quiet("the alarm is over")
	w.onlyAsked()
}

func twiceRemembered(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.poll()
	w.sim.Unreachable("h1")
	w.put("h2", "a", virt.Running)
	w.poll()
	w.alarm("a", "h1", "h2")
	w.on("a", "h1")
	w.is("a", string(virt.Unknown))
	// A VM without a host, on one that answers and on one that no longer does.
	w.vm("b", "")
	w.jobs.set("b", scheduler.Running) // not to be assigned yet
	w.put("h2", "b", virt.Running)
	w.poll()
	w.sim.Unreachable("h2")
	w.sim.Heal("h1")
	w.jobs.set("b", "")
	w.put("h1", "b", virt.Running)
	w.poll()
	w.alarm("b", "h1", "h2")
	w.on("b", "")
	// A poll of one host alone remembers the others, too.
	w.sim.Heal("h2")
	w.take("h2", "b")
	w.poll("h2")
	w.alarm("b")
}

func twiceRestart(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.put("h2", "a", virt.Running)
	w.poll()
	w.alarm("a", "h1", "h2")
	w.restart()
	w.sim.Unreachable("h2")
	for range 3 {
		w.poll()
	}
	w.alarm("a", "h1", "h2")
	w.poll("h1")
	w.alarm("a", "h1", "h2")
	w.sim.Heal("h2")
	w.take("h2", "a")
	w.poll()
	w.alarm("a")
}

func twiceMigrating(w *world) {
	w.hosts("h1", "h2", "h3")
	w.running("h1", "a")
	w.poll()
	w.meta("a", map[string]any{virt.MetaMigrate: "h2"})
	w.put("h2", "a", virt.Paused)
	w.poll()
	w.alarm("a")
	w.put("h3", "a", virt.Running)
	w.poll()
	w.alarm("a", "h1", "h3")
	w.take("h3", "a")
	w.poll()
	w.alarm("a")
	// A migrate that failed half way.
	w.meta("a", nil, virt.MetaMigrate)
	w.poll()
	w.alarm("a", "h1", "h2")
}

func twiceMoved(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.poll()
	// The last listing of h1 has it still, and there will be none for a while.
	w.take("h1", "a")
	w.sim.Unreachable("h1")
	w.modify("a", func(d *registry.Draft) { d.Parent = "h2" }, registry.MovingFrom("h1"))
	w.put("h2", "a", virt.Running)
	w.poll()
	w.poll()
	w.alarm("a")
	w.is("a", string(virt.Running))
}

func twiceLate(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.poll()
	// Seen on its way, it has been there and is back before h2 is asked again.
	w.meta("a", map[string]any{virt.MetaMigrate: "h2"})
	w.put("h2", "a", virt.Running)
	w.poll()
	w.meta("a", nil, virt.MetaMigrate)
	w.take("h2", "a")
	w.poll("h1")
	w.alarm("a")
	w.sim.Unreachable("h2")
	w.poll()
	w.alarm("a")
	w.sim.Heal("h2")
	w.poll()
	w.alarm("a")
	// Whoever was there before it was given a host is told from whoever came since.
	w.vm("b", "")
	w.jobs.set("b", scheduler.Running) // not to be assigned
	w.put("h2", "b", virt.Running)
	w.poll()
	w.modify("b", func(d *registry.Draft) { d.Parent = "h1" })
	w.put("h1", "b", virt.Running)
	w.poll("h1")
	w.alarm("b")
	w.poll()
	w.alarm("b", "h1", "h2")
	w.vm("c", "")
	w.jobs.set("c", scheduler.Running)
	w.put("h2", "c", virt.Running)
	w.poll()
	w.modify("c", func(d *registry.Draft) { d.Parent = "h1" })
	w.put("h1", "c", virt.Running)
	w.sim.Unreachable("h2")
	w.poll()
	w.alarm("c", "h1", "h2")
}

func assignOne(w *world) {
	w.hosts("h1", "h2")
	w.vm("a", "")
	w.vm("b", "")
	w.put("h2", "a", virt.Paused)
	w.poll()
	w.on("a", "h2")
	w.is("a", string(virt.Paused))
	w.on("b", "")
	w.is("b", string(virt.New))
	if e := w.evidence("a"); e.Host != "h2" {
		w.Errorf("the evidence is %+v", e)
	}
	w.quiet("it has its host")
	w.vm("c", "")
	w.put("h1", "c", virt.Running)
	w.finds(w.poll(), 1, monitor.FoundAssigned, "c")
	w.onlyAsked()
}

func assignNotTwo(w *world) {
	w.hosts("h1", "h2")
	w.vm("a", "")
	w.put("h1", "a", virt.Running)
	w.put("h2", "a", virt.Stopped)
	w.poll()
	w.on("a", "")
	w.alarm("a", "h1", "h2")
	w.take("h2", "a")
	w.poll()
	w.alarm("a")
	w.on("a", "h1")
}

func assignJob(w *world) {
	w.hosts("h1")
	w.vm("a", "")
	w.put("h1", "a", virt.Running)
	w.jobs.set("a", scheduler.Running)
	w.poll()
	w.on("a", "")
	w.jobs.set("a", "")
	w.poll()
	w.on("a", "h1")
}

func assignNotAll(w *world) {
	w.hosts("h1", "h2")
	w.vm("a", "")
	w.put("h1", "a", virt.Running)
	w.poll("h1")
	w.on("a", "") // h2 may have it too
	w.sim.Partial("h2", 0)
	w.poll()
	w.on("a", "")
	w.sim.Heal("h2")
	w.poll()
	w.on("a", "h1")
}

func unknownStranger(w *world) {
	w.hosts("h1", "h2")
	w.put("h1", "theirs", virt.Running)
	w.must(w.sim.AddStranger("h1", virt.Seen{UUID: "not-a-uuid", Name: "\x1b[2J\u202eodd\n", State: virt.Running}))
	rep := w.poll()
	names := w.strangers("h1")
	if len(names) != 2 || !slices.Contains(names, "theirs") {
		w.Fatalf("the strangers are %q", names)
	}
	for _, n := range names {
		if strings.ContainsAny(n, "\x1b\n\u202e") {
			w.Errorf("the stranger's name %q is not printable", n)
		}
	}
	w.finds(rep, 2, monitor.FoundStranger, "")
	nodes, err := registry.Collect(w.Context(), w.reg, registry.Query{Type: virt.TypeVM})
	w.must(err)
	if len(nodes) != 0 {
		w.Errorf("%d nodes were made of strangers", len(nodes))
	}
	w.quiet("the strangers are the same")
	w.take("h1", "theirs")
	w.must(w.sim.Remove("h1", "not-a-uuid"))
	w.poll()
	if names := w.strangers("h1"); len(names) != 0 {
		w.Errorf("strangers that left are still listed: %q", names)
	}
	for i := range 300 {
		w.must(w.sim.AddStranger("h2", virt.Seen{UUID: fmt.Sprint(i), Name: strings.Repeat("y", 10_000) + fmt.Sprint(i), State: virt.Running}))
	}
	rep = w.poll()
	if n := len(w.strangers("h2")); n == 0 || n > 100 {
		w.Errorf("%d strangers are listed, want at most 100", n)
	}
	if n := len(w.of(rep, "h2").Findings); n > 200 {
		w.Errorf("%d findings about 300 strangers", n)
	}
	if n := w.node("h2").Metadata().Len(); n > 64<<10 {
		w.Errorf("300 strangers make %d bytes of metadata", n)
	}
}

func unknownAdopted(w *world) {
	w.hosts("h1", "h2")
	w.vm("taken", "h1")
	w.put("h1", "taken", virt.Running)
	const (
		plain = "11111111-1111-4111-8111-111111111111"
		clash = "22222222-2222-4222-8222-222222222222"
		evil  = "33333333-3333-4333-8333-333333333333"
		twice = "44444444-4444-4444-8444-444444444444"
	)
	w.must(w.sim.AddStranger("h1", virt.Seen{UUID: plain, Name: "legacy", State: virt.Running, CPU: 2, Memory: 512}))
	w.must(w.sim.AddStranger("h1", virt.Seen{UUID: clash, Name: "taken", State: virt.Stopped, CPU: 1, Memory: 64}))
	w.must(w.sim.AddStranger("h2", virt.Seen{UUID: evil, Name: "../x\n", State: virt.Running}))
	w.must(w.sim.AddStranger("h2", virt.Seen{UUID: "no-uuid", Name: "nameless", State: virt.Running}))
	for _, h := range []string{"h1", "h2"} {
		w.must(w.sim.AddStranger(h, virt.Seen{UUID: twice, Name: "double", State: virt.Running}))
	}
	rep := w.poll()
	n := w.node(plain)
	if n.Name() != "legacy" || n.Type() != virt.TypeVM || n.Parent() != "h1" || n.State() != string(virt.Running) || n.Tenant() != "found" {
		w.Errorf("the adopted node is %+v", n.Draft())
	}
	g, err := virt.GuestOf(n)
	w.must(err)
	if g.UUID != plain || g.Definition.CPU != 2 || g.Definition.Memory != 512 {
		w.Errorf("the adopted guest is %+v", g)
	}
	if e := w.evidence(plain); e.Host != "h1" {
		w.Errorf("the evidence is %+v", e)
	}
	w.finds(rep, 1, monitor.FoundAdopted, plain)
	for id, host := range map[string]string{clash: "h1", evil: "h2"} {
		if n := w.node(id); n.Name() != id || n.Parent() != host {
			w.Errorf("the node of a VM without a name that can be used is %+v", n.Draft())
		}
		if _, err := virt.GuestOf(w.node(id)); err != nil {
			w.Errorf("the adopted definition is not valid: %v", err)
		}
	}
	if _, err := registry.Get(w.Context(), w.reg, twice); err == nil {
		w.Error("an unknown VM on two hosts was adopted")
	}
	if s := w.strangers("h2"); !slices.Equal(s, []string{"double", "nameless"}) {
		w.Errorf("the strangers of h2 are %q", s)
	}
	w.quiet("all are known")
	w.is(plain, string(virt.Running))
	w.is("taken", string(virt.Running))
	// What is deleted here and still there is adopted again, not before nobody works on it.
	const late = "55555555-5555-4555-8555-555555555555"
	w.jobs.set(late, scheduler.Waiting)
	w.must(w.sim.AddStranger("h1", virt.Seen{UUID: late, Name: "late", State: virt.Running}))
	w.poll()
	if _, err := registry.Get(w.Context(), w.reg, late); err == nil {
		w.Error("a VM with a job in flight was adopted")
	}
	w.jobs.set(late, "")
	w.poll()
	w.on(late, "h1")
}
