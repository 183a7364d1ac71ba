package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// What an operator asks for arrives, with who and why, and so does the answer.
func TestOperate(t *testing.T) {
	c := newCluster(t, opts{full: true})
	f := c.fake()
	job := must[[]scheduler.Status](t)(c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "fail"}}}))[0].ID
	for want, call := range map[string]func() error{
		"retry " + job + " true": func() error {
			list, err := c.RetryJob(c.ctx, job, scheduler.RetryOptions{WithDependents: true})
			if err == nil && (len(list) != 1 || list[0].ID != job) {
				t.Errorf("retry answered %+v", list)
			}
			return err
		},
		"skip " + job:                  func() error { _, err := c.SkipJob(c.ctx, job); return err },
		"done " + job + ` {"by":"me"}`: func() error { _, err := c.DoneJob(c.ctx, job, doc(t, `{"by":"me"}`)); return err },
		"paused vm/1:a+b":              func() error { _, err := c.SetQueue(c.ctx, "vm/1:a+b", scheduler.Paused); return err },
		"open q":                       func() error { _, err := c.SetQueue(c.ctx, "q", scheduler.Open); return err },
		"draining q":                   func() error { _, err := c.SetQueue(c.ctx, "q", scheduler.Draining); return err },
		"cancel package p1": func() error {
			if _, err := c.NewPackage(c.ctx, scheduler.Package{ID: "p1"}); err != nil {
				return err
			}
			_, err := c.CancelPackage(c.ctx, "p1")
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := f.last(); got.what != want || got.trail.Source != "tester" || got.trail.Reason != "to test it: ✓ 100%" {
			t.Errorf("the scheduler was asked %q by %q because %q, want %q", got.what, got.trail.Source, got.trail.Reason, want)
		}
	}
	if st := must[scheduler.QueueStatus](t)(c.Queue(c.ctx, "vm/1:a+b")); st.Mode != scheduler.Paused {
		t.Errorf("%+v", st)
	}
	names := []string{}
	for st, err := range c.Queues(c.ctx) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, st.Name)
	}
	if !slices.Equal(names, []string{"q", "vm/1:a+b"}) {
		t.Errorf("the queues are %v", names)
	}
	if l := must[[]scheduler.LimitStatus](t)(c.Limits(c.ctx)); len(l) != 1 || l[0].Slots != 8 {
		t.Errorf("%+v", l)
	}
	if st := must[scheduler.Stats](t)(c.Stats(c.ctx)); st.Waiting != 3 || st.Ended[scheduler.Succeeded] != 4 {
		t.Errorf("%+v", st)
	}
	if _, err := c.SetQueue(c.ctx, "q", "closed"); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
	for _, bad := range []string{"../x", "a b", "-x", "a//b"} {
		if _, err := c.SetQueue(c.ctx, bad, scheduler.Paused); CodeOf(err).Status != http.StatusBadRequest {
			t.Errorf("queue %q: %v", bad, err)
		}
		if _, err := c.RetryJob(c.ctx, bad, scheduler.RetryOptions{}); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("job %q: %v", bad, err)
		}
		if _, err := c.Package(c.ctx, bad); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("package %q: %v", bad, err)
		}
	}
}

// A package is built step by step, and its listing comes in pages.
func TestBuildPackages(t *testing.T) {
	c := newCluster(t, opts{full: true})
	st := must[scheduler.PackageStatus](t)(c.NewPackage(c.ctx, scheduler.Package{}))
	ids := must[[]string](t)(c.AddJobs(c.ctx, st.ID, scheduler.Job{Queue: "a", Action: "fail"}, scheduler.Job{Queue: "b", Action: "fail"}))
	first := must[[]scheduler.Status](t)(c.Enqueue(c.ctx, st.ID, time.Second))
	again := must[[]scheduler.Status](t)(c.Enqueue(c.ctx, st.ID, 0))
	if len(ids) != 2 || len(first) != 2 || first[1].ID != ids[1] || len(again) != 2 || again[0].ID != ids[0] {
		t.Errorf("added %v, enqueued %+v and %+v", ids, first, again)
	}
	if st = must[scheduler.PackageStatus](t)(c.Package(c.ctx, st.ID)); st.State != scheduler.Ended || !slices.Equal(st.Jobs, ids) {
		t.Errorf("%+v", st)
	}
	if _, err := c.AddJobs(c.ctx, "none", scheduler.Job{Queue: "a", Action: "fail"}); !errors.Is(err, scheduler.ErrNotFound) {
		t.Error(err)
	}
	if _, err := c.AddJobs(c.ctx, st.ID, scheduler.Job{Queue: "a", Action: "fail", Trail: trail.Trail{Source: "root"}}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a job that names its own trail: %v", err)
	}
	const n = 2*PageSize + 7
	for range n - 1 {
		must[scheduler.PackageStatus](t)(c.fake().NewPackage(c.ctx, scheduler.Package{}))
	}
	seen := 0
	for p, err := range c.Packages(c.ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("p%04d", n-1-seen); p.ID != want {
			t.Fatalf("package %d is %s, want %s", seen, p.ID, want)
		}
		seen++
	}
	if seen != n {
		t.Errorf("%d packages are listed, want %d", seen, n)
	}
	for limit, states := range map[int][]scheduler.PackageState{3: nil, 1: {scheduler.Ended}} {
		got := 0
		for _, err := range c.Packages(c.ctx, limit, states...) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != limit {
			t.Errorf("%d packages of %v are listed, want %d", got, states, limit)
		}
	}
	if resp, p := c.request("GET", "/v1/packages?after=nobody", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a page after nothing: %d %s", resp.StatusCode, p.Message)
	}
}

// A list of jobs comes in pages, and loses none that changed in between.
func TestJobPages(t *testing.T) {
	c := newCluster(t, opts{full: true})
	var p scheduler.Package
	for i := range 30 {
		p.Jobs = append(p.Jobs, scheduler.Job{Queue: "q" + string(rune('a'+i%3)), Action: "fail"})
	}
	all := must[[]scheduler.Status](t)(c.Submit(c.ctx, p))
	var got []string
	after := ""
	for {
		page := must[[]scheduler.Status](t)(c.JobPage(c.ctx, scheduler.Filter{Queue: "qa", Limit: 3}, time.Time{}, after))
		if len(page) == 0 {
			break
		}
		for _, st := range page {
			got = append(got, st.ID)
		}
		after = got[len(got)-1]
	}
	want := []string{}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Queue == "qa" {
			want = append(want, all[i].ID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages hold %v, want %v", got, want)
	}
	// The place is found although that job does not match, as when it has changed.
	page := must[[]scheduler.Status](t)(c.JobPage(c.ctx, scheduler.Filter{Queue: "qa", Limit: 3}, time.Time{}, all[28].ID))
	if len(page) != 3 || page[0].ID != want[0] {
		t.Errorf("%+v", page)
	}
	if _, err := c.JobPage(c.ctx, scheduler.Filter{}, time.Time{}, "none"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a page after a job that is gone: %v", err)
	}
	if page := must[[]scheduler.Status](t)(c.JobPage(c.ctx, scheduler.Filter{}, time.Now().Add(time.Hour), "")); len(page) != 0 {
		t.Errorf("%d jobs were submitted in the future", len(page))
	}
	if page := must[[]scheduler.Status](t)(c.JobPage(c.ctx, scheduler.Filter{}, time.Now().Add(-time.Hour), "")); len(page) != 30 {
		t.Errorf("%d jobs were submitted in the last hour", len(page))
	}
	n := 0
	for _, err := range c.AllJobs(c.ctx, scheduler.Filter{Limit: 17}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 17 {
		t.Errorf("%d jobs, want 17", n)
	}
	for _, q := range []string{"since=yesterday", "after=a%20b", "limit=-1", "tenant=x"} {
		if resp, p := c.request("GET", "/v1/jobs?"+q, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", q, resp.StatusCode, p.Message)
		}
	}
}

// Too much work is refused with the time after which to try again.
func TestTooMany(t *testing.T) {
	c := newCluster(t, opts{full: true})
	body := `{"jobs":[{"queue":"q","action":"fail"}]}`
	c.fake().refuse = &scheduler.TooManyError{Queued: 5, Max: 5, After: 2500 * time.Millisecond}
	resp, p := c.request("POST", "/v1/jobs", body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "3" || p.Code != "too_many" {
		t.Errorf("%d, Retry-After %q, %+v", resp.StatusCode, resp.Header.Get("Retry-After"), p)
	}
	c.fake().refuse = &scheduler.TooManyError{Queued: 5, Max: 5, After: 2500 * time.Millisecond}
	_, err := c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "fail"}}})
	var many *scheduler.TooManyError
	if !errors.Is(err, scheduler.ErrTooMany) || !errors.As(err, &many) || many.After != 2500*time.Millisecond {
		t.Errorf("the client has %v (%+v)", err, many)
	}
	if errors.As(&Error{Problem: Problem{Code: "invalid"}}, &many) {
		t.Error("another error is a TooManyError")
	}
}

// What this scheduler cannot do is refused, naming one that can.
func TestUnsupported(t *testing.T) {
	c := newCluster(t, opts{})
	for name, call := range map[string]func() error{
		"queues":                               func() error { _, err := c.Queue(c.ctx, "q"); return err },
		"packages that are remembered":         func() error { _, err := c.Package(c.ctx, "p"); return err },
		"packages that are built step by step": func() error { _, err := c.NewPackage(c.ctx, scheduler.Package{}); return err },
		"operations on jobs and queues":        func() error { _, err := c.RetryJob(c.ctx, "x", scheduler.RetryOptions{}); return err },
		"workers outside":                      func() error { _, err := c.Next(c.ctx, scheduler.Want{}); return err },
	} {
		err := call()
		if want := "the scheduler sync has no " + name + ": write [scheduler] use = broker"; !errors.Is(err, scheduler.ErrUnsupported) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
