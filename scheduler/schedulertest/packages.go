package schedulertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

func packages() []hand {
	return []hand{
		{"package/steps", packageSteps},
		{"package/refused", packageRefused},
		{"package/twice", packageTwice},
		{"package/expires", packageExpires},
		{"package/cancel", packageCancel},
		{"package/whole", packageWhole},
	}
}

func index(i int) *int { return &i }

func packageSteps(h *hands) {
	h.submit(job("old", "r-old", "far"))
	at := time.Now()
	st, err := h.builder.NewPackage(as("ann", "because"), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far")}})
	if err != nil || st.ID != "p" || st.State != scheduler.Building || !slices.Equal(st.Jobs, []string{"a"}) || !st.CreatedAt.Equal(at) || !st.ExpiresAt.Equal(at.Add(expiry)) || st.Trail.Source != "ann" {
		h.t.Fatalf("a new package: %+v, %v", st, err)
	}
	b := job("", "r-b", "far")
	b.After = []scheduler.Dependency{{Index: index(0)}, {ID: "old"}}
	got, err := h.builder.AddJobs(as("ann", "because"), "p", b, after(job("c", "r-c", "far"), "a"))
	if err != nil || len(got) != 2 || got[0] == "" || got[1] != "c" {
		h.t.Fatalf("added are %v, %v", got, err)
	}
	bid := got[0]
	h.finish(h.get("old"), "")
	h.none("the package is not enqueued")
	if list, err := h.builder.Enqueue(ctx(), "p"); err != nil || len(list) != 3 || list[0].ID != "a" || list[1].ID != bid || list[2].ID != "c" || list[1].Trail.Source != "ann" || list[0].Package != "p" {
		h.t.Fatalf("enqueued: %+v, %v", list, err)
	}
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.State != scheduler.Queued || len(st.Jobs) != 3 || st.Counts[scheduler.Waiting] != 3 || !st.ExpiresAt.IsZero() {
		h.t.Errorf("when it is enqueued: %+v, %v", st, err)
	}
	h.finish(h.get("a"), "")
	for _, l := range h.take(scheduler.Want{Max: 10}) {
		h.finish(l, "")
	}
	h.pass(time.Second)
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.State != scheduler.Ended || st.Counts[scheduler.Succeeded] != 3 || !st.EndedAt.Equal(at) {
		h.t.Errorf("when all have ended: %+v, %v", st, err)
	}
}

func packageRefused(h *hands) {
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	h.submit(job("known", "q", "ok"))
	bad := after(job("x", "r-x", "far"), "nobody")
	for what, j := range map[string]scheduler.Job{
		"unknown action":             job("x", "q", "nobody-knows-it"),
		"unknown dependency":         bad,
		"missing parameter":          job("x", "q", "types"),
		"unknown limit":              limited(job("x", "q", "ok"), "tow"),
		"an ID of the same package":  job("a", "q", "ok"),
		"an ID of a job that exists": job("known", "q", "ok"),
	} {
		if _, err := h.builder.AddJobs(ctx(), "p", job("good", "q", "ok"), j); !errors.Is(err, scheduler.ErrInvalid) && !errors.Is(err, scheduler.ErrConflict) {
			h.t.Errorf("%s: %v", what, err)
		}
	}
	if st, err := h.builder.Package(ctx(), "p"); err != nil || !slices.Equal(st.Jobs, []string{"a"}) {
		h.t.Errorf("what was refused is in the package: %+v, %v", st, err)
	}
	_, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p"})
	h.wantErr("an ID that is taken", err, scheduler.ErrConflict)
	_, err = h.builder.AddJobs(ctx(), "nobody", job("y", "q", "ok"))
	h.wantErr("adding to none", err, scheduler.ErrNotFound)
	_, err = h.builder.Enqueue(ctx(), "nobody")
	h.wantErr("enqueueing none", err, scheduler.ErrNotFound)
	_, err = h.builder.Package(ctx(), "nobody")
	h.wantErr("asking for none", err, scheduler.ErrNotFound)
	_, err = h.builder.CancelPackage(ctx(), "nobody")
	h.wantErr("cancelling none", err, scheduler.ErrNotFound)
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "empty"}); err != nil {
		h.t.Fatal(err)
	}
	_, err = h.builder.Enqueue(ctx(), "empty")
	h.wantErr("enqueueing an empty one", err, scheduler.ErrInvalid)
	// An ID that somebody else took meanwhile, or that the package has reserved.
	if _, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("a", "q", "gate")}}); err == nil {
		_, err = h.builder.Enqueue(ctx(), "p")
		h.wantErr("enqueueing a job whose ID was taken", err, scheduler.ErrConflict)
	} else {
		h.wantErr("an ID that a package reserves", err, scheduler.ErrConflict)
	}
}

func packageTwice(h *hands) {
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far"), job("", "r-b", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	first, err := h.builder.Enqueue(ctx(), "p")
	if err != nil {
		h.t.Fatal(err)
	}
	for range 3 {
		again, err := h.builder.Enqueue(ctx(), "p")
		if err != nil || len(again) != 2 || again[0].ID != first[0].ID || again[1].ID != first[1].ID {
			h.t.Fatalf("enqueued again: %+v, %v", again, err)
		}
	}
	_, err = h.builder.AddJobs(ctx(), "p", job("late", "r-l", "far"))
	h.wantErr("adding to one that is enqueued", err, scheduler.ErrConflict)
	list := h.take(scheduler.Want{Max: 10})
	if len(list) != 2 {
		h.t.Fatalf("handed out are %v", leased(list))
	}
	for _, l := range list {
		h.finish(l, "")
	}
	if again, err := h.builder.Enqueue(ctx(), "p"); err != nil || again[0].State != scheduler.Succeeded {
		h.t.Fatalf("enqueued again at the end: %+v, %v", again, err)
	}
	h.none("all has been done")
}

func packageExpires(h *hands) {
	for _, id := range []string{"p", "q"} {
		if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: id, Jobs: []scheduler.Job{job("a"+id, "r-a", "far")}}); err != nil {
			h.t.Fatal(err)
		}
	}
	h.pass(expiry - time.Minute)
	if _, err := h.builder.Enqueue(ctx(), "q"); err != nil {
		h.t.Fatal(err)
	}
	h.pass(2 * time.Minute)
	_, err := h.builder.Enqueue(ctx(), "p")
	h.wantErr("enqueueing one that has expired", err, scheduler.ErrNotFound)
	_, err = h.builder.Package(ctx(), "p")
	h.wantErr("one that has expired", err, scheduler.ErrNotFound)
	h.submit(job("ap", "r-b", "far")) // its IDs are free
	h.want("aq=waiting", "ap=waiting")
}

func packageCancel(h *hands) {
	h.submit(job("before", "r-a", "far"))
	if _, err := h.s.Submit(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{
		job("a", "r-a", "far"), job("b", "r-b", "far"), job("g", "q", "gate"), job("done", "q2", "ok"), after(job("d1", "r-x", "far"), "a"), after(job("d2", "r-y", "far"), "d1", "b"),
	}}); err != nil {
		h.t.Fatal(err)
	}
	h.pass(0)
	l := h.takeFrom("r-b")
	if st, err := h.builder.CancelPackage(as("ann", "not needed"), "p"); err != nil || st.ID != "p" {
		h.t.Fatalf("%+v, %v", st, err)
	}
	h.pass(0)
	h.want("before=waiting", "a=cancelled", "b=running", "g=cancelled", "done=succeeded", "d1=cancelled", "d2=cancelled")
	if b := h.beat(l); b.Cancel == "" {
		h.t.Error("the worker is not told")
	}
	h.finish(l, "stopped")
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.State != scheduler.Ended || st.Counts[scheduler.Cancelled] != 5 {
		h.t.Errorf("%+v, %v", st, err)
	}
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "b1", Jobs: []scheduler.Job{job("x", "r-x", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.builder.CancelPackage(ctx(), "b1"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.builder.Enqueue(ctx(), "b1"); err == nil {
		h.t.Error("one that was discarded can be enqueued")
	}
}

// packageWhole looks at packages that were submitted whole, the newest first.
func packageWhole(h *hands) {
	for i := range 3 {
		if _, err := h.s.Submit(ctx(), scheduler.Package{ID: fmt.Sprint("p", i), Jobs: []scheduler.Job{job("", "r-q", "far"), job("", "r-q", "far")}}); err != nil {
			h.t.Fatal(err)
		}
		h.pass(time.Second)
	}
	var found []string
	for st, err := range h.builder.Packages(ctx()) {
		if err != nil {
			h.t.Fatal(err)
		}
		found = append(found, st.ID)
		if st.State != scheduler.Queued || len(st.Jobs) != 2 {
			h.t.Errorf("%+v", st)
		}
	}
	if !slices.Equal(found, []string{"p2", "p1", "p0"}) {
		h.t.Errorf("the packages are listed as %v", found)
	}
	_, err := h.s.Submit(ctx(), scheduler.Package{ID: "p1", Jobs: []scheduler.Job{job("", "r-q", "far")}})
	h.wantErr("a package whose ID is taken", err, scheduler.ErrConflict)
}

func tooMany(h *hands) {
	h.submit(job("q0", "r-q", "far"), job("q1", "r-q", "far"))
	var list []scheduler.Job
	for range 9 {
		list = append(list, job("", "r-q", "far"))
	}
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: list})
	var too *scheduler.TooManyError
	if !errors.Is(err, scheduler.ErrTooMany) || !errors.As(err, &too) || too.Max != 10 || too.After <= 0 || !strings.Contains(err.Error(), "10") {
		h.t.Fatalf("11 jobs where 10 may be: %v", err)
	}
	if st, err := h.queues.Stats(ctx()); err != nil || st.Waiting != 2 {
		h.t.Errorf("half of them are there: %+v, %v", st, err)
	}
	h.submit(list[:8]...)
	_, err = h.s.Submit(ctx(), scheduler.Package{Jobs: list[:1]})
	h.wantErr("one more", err, scheduler.ErrTooMany)
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: list[:1]}); err == nil {
		_, err = h.builder.Enqueue(ctx(), "p")
		h.wantErr("one more by a package", err, scheduler.ErrTooMany)
	}
	h.finish(h.get("q0"), "")
	h.submit(list[0])
}

// history is pruned by count and by age; only what has ended is.
func history(h *hands) {
	h.submit(job("waits", "r-w", "far"), parks(job("p", "r-p", "far")))
	for _, l := range h.take(scheduler.Want{Queues: []string{"r-p"}}) {
		h.finish(l, "it broke")
	}
	keyed := job("", "q", "ok")
	keyed.Key = "k"
	again := func() string {
		list, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{keyed}})
		if err != nil || len(list) != 1 {
			h.t.Fatal(list, err)
		}
		synctest.Wait()
		return list[0].ID
	}
	first := again()
	for i := range 100 {
		h.submit(job(fmt.Sprint("j", i), "q", "ok"))
	}
	h.pass(10 * time.Minute)
	if n := h.count(scheduler.Succeeded); n < 20 || n > 40 {
		h.t.Errorf("%d ended jobs are kept, want about 20", n)
	}
	if _, err := h.s.Status(ctx(), "j0"); !errors.Is(err, scheduler.ErrNotFound) {
		h.t.Errorf("the oldest is still known: %v", err)
	}
	h.want("waits=waiting", "p=parked", "j99=succeeded")
	if id := again(); id != first {
		h.t.Errorf("its key gives job %s and no longer %s", id, first)
	}
	h.pass(2 * time.Hour)
	h.submit(job("last", "q", "ok"))
	h.pass(10 * time.Minute)
	if n := h.count(scheduler.Succeeded); n > 2 {
		h.t.Errorf("%d ended jobs are kept after two hours, want the last and the one with a key", n)
	}
	h.pass(20 * time.Hour)
	if id := again(); id != first {
		h.t.Errorf("within a day its key gives job %s and no longer %s", id, first)
	}
	h.pass(4 * time.Hour)
	h.submit(job("after", "q", "ok"))
	h.pass(10 * time.Minute)
	if id := again(); id == first {
		h.t.Error("a key is kept for ever")
	}
	h.want("waits=waiting", "p=parked")
}

func (h *hands) count(state ...scheduler.State) (n int) {
	h.t.Helper()
	for _, err := range h.s.List(ctx(), scheduler.Filter{States: state}) {
		if err != nil {
			h.t.Fatal(err)
		}
		n++
	}
	return n
}
