package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// TestAwaitMany: jobs that are stuck keep nobody from seeing the others end, and
// each end is told once.
func TestAwaitMany(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, client, _ := bench(t, f)
	var jobs []*awaited
	for i := range 300 {
		jobs = append(jobs, f.add(fmt.Sprintf("j%d", i), scheduler.Waiting))
	}
	const stuck = 2 * waiters
	others := 0
	f.asked = func(f *fakeDaemon, id string) {
		var n int
		_, _ = fmt.Sscanf(id, "j%d", &n)
		if n >= stuck || others >= len(jobs)-stuck {
			f.set(id, func(st *scheduler.Status) { st.State = scheduler.Succeeded })
		}
	}
	told := map[string]int{}
	err := a.await(t.Context(), client, a.progress(len(jobs)), jobs, func(j *awaited) {
		f.mu.Lock()
		defer f.mu.Unlock()
		told[j.name]++
		others++
	})
	if err != nil || len(told) != len(jobs) {
		t.Fatalf("%d of %d ends were told: %v", len(told), len(jobs), err)
	}
	for name, n := range told {
		if n != 1 {
			t.Errorf("the end of %s was told %d times", name, n)
		}
	}
}

// TestAwaitSettles: a parked job and one that is not known any more hold nobody
// up, and are failures.
func TestAwaitSettles(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, client, _ := bench(t, f)
	parked, gone, failed, fine := f.add("p", scheduler.Parked), &awaited{name: "g", st: scheduler.Status{Job: scheduler.Job{ID: "g"}}}, f.add("f", scheduler.Running), f.add("s", scheduler.Running)
	f.asked = func(f *fakeDaemon, id string) {
		switch id {
		case "f":
			f.set(id, func(st *scheduler.Status) {
				st.State, st.Error, st.Code = scheduler.Failed, "no such guest", "not_found"
			})
		case "s":
			f.set(id, func(st *scheduler.Status) { st.State = scheduler.Succeeded })
		}
	}
	jobs := []*awaited{parked, gone, failed, fine}
	if err := a.await(t.Context(), client, a.progress(4), jobs, func(*awaited) {}); err != nil {
		t.Fatal(err)
	}
	if err := parked.failure(); err == nil || !strings.Contains(err.Error(), "vagoth jobs retry, skip or done p") {
		t.Errorf("the parked job: %v", err)
	}
	if err := gone.failure(); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("the job that is gone: %v", err)
	}
	if err := failed.failure(); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the failed job: %v", err)
	}
	if err := fine.failure(); err != nil {
		t.Errorf("the job that succeeded: %v", err)
	}
}

// TestAwaitBehindParked: what waits for a parked job, itself or through others,
// holds nobody up either, in whatever order it is asked about.
func TestAwaitBehindParked(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, client, _ := bench(t, f)
	jobs := []*awaited{f.add("z", scheduler.Waiting), f.add("y", scheduler.Waiting), f.add("x", scheduler.Running)}
	for i, on := range []string{"y", "x"} {
		id := jobs[i].name
		f.set(id, func(st *scheduler.Status) { st.After = []scheduler.Dependency{{ID: on}} })
	}
	f.asked = func(f *fakeDaemon, id string) {
		f.set("x", func(st *scheduler.Status) { st.State = scheduler.Parked })
	}
	if err := a.await(t.Context(), client, a.progress(3), jobs, func(*awaited) {}); err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs[:2] {
		if err := j.failure(); err == nil || !strings.Contains(err.Error(), "waits for job x, which is parked") {
			t.Errorf("%s: %v", j.name, err)
		}
	}
}

// TestAwaitThroughSilence: a daemon that is started again is asked again; one
// that does not come back is given up, and the job may go on.
func TestAwaitThroughSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		a, client, _ := bench(t, f)
		j := f.add("j", scheduler.Running)
		f.locked(func() { f.down = true })
		time.AfterFunc(5*time.Second, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.down = false
			f.set("j", func(st *scheduler.Status) { st.State = scheduler.Succeeded })
		})
		if err := a.await(t.Context(), client, a.progress(1), []*awaited{j}, func(*awaited) {}); err != nil || j.failure() != nil {
			t.Errorf("after the daemon came back: %v, %v", err, j.failure())
		}
		var lost *awaited
		f.locked(func() { lost, f.down = f.add("lost", scheduler.Running), true })
		if err := a.await(t.Context(), client, a.progress(1), []*awaited{lost}, func(*awaited) {}); err != nil || lost.failure() == nil || !strings.Contains(lost.failure().Error(), "which may go on") {
			t.Errorf("after it did not: %v, %v", err, lost.failure())
		}
	})
}

// TestGivenUp: what is left by a command that is interrupted stays with a
// daemon, and is cancelled without one.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	for _, daemon := range []bool{true, false} {
		f := newFake()
		a, client, errs := bench(t, f)
		a.through = daemon
		jobs := []*awaited{f.add("a", scheduler.Running), f.add("b", scheduler.Waiting), f.add("c", scheduler.Succeeded)}
		ctx, cancel := context.WithCancel(t.Context())
		var once sync.Once
		f.asked = func(*fakeDaemon, string) { once.Do(cancel) }
		err := a.await(ctx, client, a.progress(3), jobs, func(*awaited) {})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("await: %v", err)
		}
		f.locked(func() { f.asked = nil }) // the request that was given up may still be under way
		err = a.given(ctx, client, jobs)
		if api.CodeOf(err).Exit != api.ExitFailed || !errors.Is(err, context.Canceled) {
			t.Errorf("daemon %t: %v", daemon, err)
		}
		said := errs.String()
		switch {
		case daemon && (len(f.cancelled) != 0 || !strings.Contains(said, "2 jobs stay queued") || !strings.Contains(said, "vagoth jobs")):
			t.Errorf("with a daemon %v were cancelled; it said %q", f.cancelled, said)
		case !daemon && (len(f.cancelled) != 2 || f.reasons[0] != "interrupted" || !strings.Contains(said, "2 jobs are cancelled")):
			t.Errorf("without a daemon %v were cancelled for %v; it said %q", f.cancelled, f.reasons, said)
		}
		if !daemon && (jobs[0].st.State != scheduler.Cancelled || jobs[0].failure() == nil) {
			t.Errorf("what is cancelled is not known to be: %+v", jobs[0].st.State)
		}
	}
}

// TestNoWaitNeedsDaemon: jobs are not left to nobody.
func TestNoWaitNeedsDaemon(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		w      waiting
		daemon bool
		want   string
	}{
		{waiting{}, false, ""},
		{waiting{not: true}, true, ""},
		{waiting{not: true}, false, "start vagoth serve"},
		{waiting{not: true, yes: true}, true, "not both"},
	} {
		c.w.app = &app{through: c.daemon}
		err := c.w.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestProgress: on a terminal a line says how far the jobs are; elsewhere there
// is one only for what takes long. What an action says cannot steer a terminal.
func TestProgress(t *testing.T) {
	t.Parallel()
	began := time.Now()
	now := began
	run := func(terminal bool) string {
		f := newFake()
		a, _, errs := bench(t, f)
		a.env.Terminal, a.env.Now = terminal, func() time.Time { return now }
		now = began
		p := a.progress(2)
		j := f.add("web1", scheduler.Running)
		j.st.Percent, j.st.Progress = 40, "copying \x1b[31mdisk\x1b]0;x\a\r\nnow"
		p.tell(j, began)
		now = began.Add(10 * time.Second)
		p.tell(j, began)
		j.st = scheduler.Status{Job: j.st.Job, State: scheduler.Waiting, Waiting: "waiting for host:h1"}
		p.tell(j, began)
		now = began.Add(20 * time.Second)
		p.tell(j, began)
		p.tell(j, began)
		p.forget(j)
		p.step(true)
		p.end()
		return errs.String()
	}
	plain := run(false)
	if plain != "web1: 40% copying [31mdisk]0;x now\nweb1: waiting for host:h1\nthis command runs only what it has queued itself: if it waits for what others did, start vagoth serve\n" {
		t.Errorf("without a terminal: %q", plain)
	}
	drawn := run(true)
	for _, part := range []string{"0 of 2, 0 failed; web1: 40% copying [31mdisk]0;x now", "web1: waiting for host:h1", "\r\x1b[K"} {
		if !strings.Contains(drawn, part) {
			t.Errorf("on a terminal: %q lacks %q", drawn, part)
		}
	}
	if strings.ContainsAny(drawn, "\n\a") || !strings.HasSuffix(drawn, "\r\x1b[K") {
		t.Errorf("on a terminal: %q", drawn)
	}
}

// TestWorst: one failure outweighs conflicts and what is not found.
func TestWorst(t *testing.T) {
	t.Parallel()
	missing, conflict, failed := registry.ErrNotFound, registry.ErrConflict, errors.New("broken")
	typed := usagef("typed wrongly")
	for _, c := range []struct {
		errs []error
		want error
	}{
		{nil, nil},
		{[]error{nil, nil}, nil},
		{[]error{nil, missing}, missing},
		{[]error{missing, conflict}, conflict},
		{[]error{conflict, missing}, conflict},
		{[]error{conflict, failed, missing}, failed},
		{[]error{conflict, typed}, typed},
		{[]error{typed, failed}, failed},
	} {
		if got := worst(c.errs); got != c.want { //nolint:errorlint // the very one
			t.Errorf("worst(%v) = %v", c.errs, got)
		}
	}
}
