package monitortest

import (
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func missingAfterSeveral(w *world) {
	w.hosts("h1")
	w.running("h1", "a", "b")
	w.poll()
	seen := time.Now()
	w.take("h1", "a")
	for i := range w.opts.MissingAfter {
		w.is("a", string(virt.Running))
		time.Sleep(10 * time.Second)
		rep := w.poll()
		want := 0
		if i == w.opts.MissingAfter-1 {
			want = 1
		}
		w.finds(rep, want, monitor.FoundMissing, "a")
	}
	w.is("a", string(virt.Missing))
	w.on("a", "h1")
	w.is("b", string(virt.Running))
	if e := w.evidence("a"); !e.At.Equal(seen) || e.Reason == "" {
		w.Errorf("the evidence is %+v, want it of %v", e, seen)
	}
	w.quiet("it is still missing")
	w.put("h1", "a", virt.Stopped)
	w.poll()
	w.is("a", string(virt.Stopped))
	// Listings without it that do not follow each other do not add up.
	for range 3 {
		w.take("h1", "a")
		for range w.opts.MissingAfter - 1 {
			w.poll()
		}
		w.is("a", string(virt.Stopped))
		w.put("h1", "a", virt.Stopped)
		w.poll()
	}
	w.onlyAsked()
}

func missingPartial(w *world) {
	w.hosts("h1")
	w.running("h1", "a", "b")
	w.poll()
	w.sim.Partial("h1", 0)
	for range 10 {
		w.quiet("a partial listing")
	}
	w.is("a", string(virt.Running))
	w.is("b", string(virt.Running))
	w.alarm("a")
}

func missingJob(w *world) {
	for _, state := range []scheduler.State{scheduler.Waiting, scheduler.Running} {
		w.hosts("h-" + string(state))
		id := "vm-" + string(state)
		w.vm(id, "h-"+string(state))
		w.jobs.set(id, state)
		for range 10 {
			w.poll()
		}
		w.is(id, string(virt.Defined))
		// Counting begins when the job has ended.
		w.jobs.set(id, scheduler.Succeeded)
		for range w.opts.MissingAfter - 1 {
			w.poll()
		}
		w.is(id, string(virt.Defined))
		w.poll()
		w.is(id, string(virt.Missing))
	}
	// A parked job does nothing until a person says so.
	w.hosts("h-parked")
	w.vm("parked", "h-parked")
	w.jobs.set("parked", scheduler.Parked)
	for range w.opts.MissingAfter {
		w.poll()
	}
	w.is("parked", string(virt.Missing))
}

func missingRevision(w *world) {
	w.hosts("h1")
	w.vm("a", "h1")
	for i := range 10 {
		w.meta("a", map[string]any{"touched": i})
		for range w.opts.MissingAfter - 1 {
			w.poll()
		}
	}
	w.is("a", string(virt.Defined))
	w.poll()
	w.is("a", string(virt.Missing))
}
