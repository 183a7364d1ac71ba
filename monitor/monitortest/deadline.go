package monitortest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// polling is a poll in the background.
type polling struct {
	done chan struct{}
	rep  monitor.Report
	err  error
}

func (w *world) start(ctx context.Context, hosts ...string) *polling {
	p := &polling{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.rep, p.err = w.mon.Poll(ctx, hosts...)
	}()
	return p
}

func (w *world) wait(p *polling) monitor.Report {
	w.Helper()
	<-p.done
	w.must(p.err)
	return p.rep
}

func raceOlder(w *world) {
	w.hosts("h1")
	w.running("h1", "a", "b")
	w.vm("c", "")
	w.put("h1", "c", virt.Running)
	w.poll()
	w.must(w.sim.Crash("h1", uuid("a")))
	w.must(w.sim.Crash("h1", uuid("b")))
	w.sim.Hang("h1")
	p := w.start(w.Context())
	synctest.Wait()
	// An action stops a while the host makes its listing.
	w.modify("a", func(d *registry.Draft) { d.State = string(virt.Stopped) })
	w.sim.Unhang("h1")
	w.wait(p)
	w.is("a", string(virt.Stopped))
	w.is("b", string(virt.Crashed))
	w.poll()
	w.is("a", string(virt.Crashed))
	// A VM that is taken from its host meanwhile is not given back to it.
	w.modify("b", func(d *registry.Draft) { d.Parent, d.State = "", string(virt.New) }, registry.MovingFrom("h1"))
	w.sim.Hang("h1")
	p = w.start(w.Context())
	synctest.Wait()
	w.meta("b", map[string]any{virt.MetaDisksOn: "h1"})
	w.sim.Unhang("h1")
	w.wait(p)
	w.on("b", "")
	w.is("b", string(virt.New))
	w.poll()
	w.on("b", "h1")
}

func raceUnreachable(w *world) {
	w.hosts("h1")
	w.running("h1", "a", "b")
	w.poll()
	w.sim.Hang("h1")
	p := w.start(w.Context())
	synctest.Wait()
	w.modify("a", func(d *registry.Draft) { d.State = string(virt.Stopped) })
	w.wait(p)
	w.is("h1", string(virt.Unreachable))
	w.is("a", string(virt.Stopped))
	w.is("b", string(virt.Unknown))
	w.poll()
	w.is("a", string(virt.Unknown))
}

func deadlineHung(w *world) {
	w.hosts("h1", "h2", "h3")
	w.running("h2", "a")
	w.sim.Hang("h1")
	began := time.Now()
	p := w.start(w.Context())
	synctest.Wait()
	w.is("a", string(virt.Running)) // written while h1 is waited for
	rep := w.wait(p)
	if took := time.Since(began); took > w.opts.Timeout+time.Second {
		w.Errorf("the poll took %v, want at most the deadline of %v", took, w.opts.Timeout)
	}
	w.is("h1", string(virt.Unreachable))
	w.is("h3", string(virt.Up))
	if took := w.of(rep, "h3").Took; took > time.Second {
		w.Errorf("h3 took %v beside a host that hangs", took)
	}
	// Hosts are asked side by side, as many as there are workers.
	for i := range 3 * w.opts.Workers {
		w.hosts(name("slow", i))
		w.sim.Hang(name("slow", i))
	}
	began = time.Now()
	w.poll()
	if took := time.Since(began); took > 5*(w.opts.Timeout+time.Second) {
		w.Errorf("%d hosts that hang took %v", 3*w.opts.Workers, took)
	}
}

func deadlineDeaf(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.poll()
	w.sim.HangDeaf("h1")
	began := time.Now()
	w.poll()
	if took := time.Since(began); took > w.opts.Timeout+time.Second {
		w.Errorf("a poll with a driver that ignores its context took %v", took)
	}
	w.is("h1", string(virt.Unreachable))
	w.is("a", string(virt.Unknown))
	calls := w.sim.CallCount()
	for range 5 {
		began = time.Now()
		rep := w.poll()
		if h := w.of(rep, "h1"); h.Skipped == "" {
			w.Errorf("the host was asked again while its call is out: %+v", h)
		}
		if took := time.Since(began); took > time.Second {
			w.Errorf("a skipped host took %v", took)
		}
	}
	if n := w.sim.CallCount() - calls; n != 5 {
		w.Errorf("5 polls made %d calls, want one each to h2", n)
	}
	w.sim.Unhang("h1")
	synctest.Wait()
	w.poll()
	w.is("h1", string(virt.Up))
	w.is("a", string(virt.Running))
}

func deadlineNeverTwice(w *world) {
	var now, most atomic.Int64
	for i := range 4 {
		id := name("h", i)
		w.hosts(id)
		var here atomic.Int64
		w.sim.Intercept(id, func(ctx context.Context, _ sim.Call) error {
			most.Store(max(most.Load(), here.Add(1)))
			defer here.Add(-1)
			now.Add(1)
			defer now.Add(-1)
			time.Sleep(3 * time.Second)
			return nil
		})
	}
	ctx, cancel := context.WithCancel(w.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.mon.Run(ctx); err != nil {
			w.Error(err)
		}
	})
	skipped := 0
	for range 20 {
		time.Sleep(700 * time.Millisecond)
		wg.Go(func() { _, _ = w.mon.Poll(w.Context()) })
		synctest.Wait()
		if rep, err := w.mon.Poll(w.Context(), "h000"); err == nil && rep.Hosts[0].Skipped != "" {
			skipped++
		}
	}
	cancel()
	wg.Wait()
	if most.Load() != 1 {
		w.Errorf("a host was asked %d times at once", most.Load())
	}
	if skipped == 0 {
		w.Error("no poll said that another was under way")
	}
}

func deadlinePanic(w *world) {
	w.hosts("h1", "h2")
	w.running("h1", "a")
	w.running("h2", "b")
	w.poll()
	w.sim.Intercept("h1", func(context.Context, sim.Call) error { panic("driver bug") })
	w.must(w.sim.Crash("h2", uuid("b")))
	rep := w.poll()
	w.is("h1", string(virt.Unreachable))
	w.is("a", string(virt.Unknown))
	w.is("b", string(virt.Crashed))
	if w.of(rep, "h1").Error == "" {
		w.Error("the panic is not in the report")
	}
	w.sim.Heal("h1")
	w.poll()
	w.is("a", string(virt.Running))
}

func deadlineCancelled(w *world) {
	w.hosts("h1")
	w.running("h1", "a")
	w.poll()
	w.sim.Hang("h1")
	ctx, cancel := context.WithCancel(w.Context())
	p := w.start(ctx)
	synctest.Wait()
	cancel()
	<-p.done
	if p.err == nil {
		w.Error("a poll that was ended succeeded")
	}
	w.is("h1", string(virt.Up))
	w.is("a", string(virt.Running))
}

func runSchedule(w *world) {
	w.hosts("h1")
	w.running("h1", "a")
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- w.mon.Run(ctx) }()
	time.Sleep(time.Hour + time.Second)
	w.is("a", string(virt.Running))
	n := w.sim.CallCount()
	if n < 360 || n > 362 {
		w.Errorf("%d calls in an hour of %s", n, w.opts.Every)
	}
	w.must(w.sim.Crash("h1", uuid("a")))
	time.Sleep(11 * time.Second)
	w.is("a", string(virt.Crashed))
	cancel()
	w.must(<-done)
	n = w.sim.CallCount()
	time.Sleep(time.Hour)
	if w.sim.CallCount() != n {
		w.Error("hosts are asked after the end of Run")
	}
}

func runHungHost(w *world) {
	w.hosts("h1", "h2")
	w.running("h2", "a")
	w.sim.Hang("h1")
	calls := func() (n int) {
		for _, c := range w.sim.Calls() {
			if c.Host == "h2" {
				n++
			}
		}
		return n
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- w.mon.Run(ctx) }()
	time.Sleep(10*time.Minute + time.Second)
	if n := calls(); n < 58 {
		w.Errorf("h2 was asked %d times in 10 minutes of %s beside a host that hangs", n, w.opts.Every)
	}
	w.is("a", string(virt.Running))
	w.is("h1", string(virt.Unreachable))
	cancel()
	w.must(<-done)
}

func closed(w *world) {
	w.hosts("h1")
	done := make(chan error, 1)
	go func() { done <- w.mon.Run(w.Context()) }()
	w.sim.Hang("h1")
	p := w.start(w.Context())
	synctest.Wait()
	began := time.Now()
	w.must(w.mon.Close())
	if took := time.Since(began); took > time.Second {
		w.Errorf("Close took %v", took)
	}
	<-p.done
	if <-done == nil {
		w.Error("Run of a closed monitor ended without an error")
	}
	if _, err := w.mon.Poll(w.Context()); err == nil {
		w.Error("a closed monitor polls")
	}
	w.must(w.mon.Close())
}
