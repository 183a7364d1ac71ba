package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// fill takes all places of a gate.
func fill(g gate) (empty func()) {
	for g.enter() {
	}
	return func() {
		for range cap(g) {
			g.leave()
		}
	}
}

// behind is a cluster's server, to look at its gates.
func (c *cluster) behind(o Options) *server {
	c.t.Helper()
	s, h := newServer(c.m, o)
	c.h = h
	tr := InProcess(h)
	c.t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			c.t.Error(err)
		}
	})
	c.Client = NewClient("http://vagoth", recorder{tr})
	return s
}

// With all places taken, ordinary requests are refused with the time after
// which to try again, and those that look or stop still pass.
func TestAdmission(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.host("h1")
	c.vm("web1")
	job := must[[]scheduler.Status](t)(c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "fail"}}}))[0].ID
	s := c.behind(Options{MaxRequests: 4, MaxWaiting: 2})
	empty := fill(s.gates.ordinary)
	for name, call := range map[string]func() error{
		"start":  func() error { _, err := c.Do(c.ctx, "web1", JobRequest{Action: virt.ActionStart}); return err },
		"submit": func() error { _, err := c.Submit(c.ctx, scheduler.Package{}); return err },
		"list":   func() error { _, err := c.Jobs(c.ctx, scheduler.Filter{}); return err },
		"create": func() error { _, err := c.Create(c.ctx, CreateRequest{}); return err },
	} {
		err := call()
		var e *Error
		if !errors.As(err, &e) || e.Code != overloaded || e.Status != http.StatusTooManyRequests || e.After.D() != time.Second {
			t.Errorf("%s: %v", name, err)
		}
	}
	if resp, _ := c.request("POST", "/v1/poll", ""); resp.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
	}
	for name, call := range map[string]func() error{
		"stop":     func() error { _, err := c.Do(c.ctx, "web1", JobRequest{Action: virt.ActionStop}); return err },
		"job":      func() error { _, err := c.Job(c.ctx, job); return err },
		"node":     func() error { _, err := c.Node(c.ctx, "web1"); return err },
		"pause":    func() error { _, err := c.SetQueue(c.ctx, "q", scheduler.Paused); return err },
		"stats":    func() error { _, err := c.Stats(c.ctx); return err },
		"ready":    func() error { _, err := c.Ready(c.ctx); return err },
		"complete": func() error { _, errs := c.Complete(c.ctx, scheduler.Completion{Hold: lease(1).Hold}); return errs[0] },
		"wait":     func() error { _, err := c.WaitJob(c.ctx, job, time.Second); return err },
		"next":     func() error { _, err := c.Next(c.ctx, scheduler.Want{}); return err },
	} {
		if err := call(); err != nil && !errors.Is(err, scheduler.ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.CancelJob(c.ctx, job); CodeOf(err).Name == overloaded {
		t.Error(err)
	}
	full := fill(s.gates.waiting)
	if _, err := c.WaitJob(c.ctx, job, time.Second); CodeOf(err).Name != overloaded {
		t.Errorf("one more that waits: %v", err)
	}
	if _, err := c.Next(c.ctx, scheduler.Want{}); CodeOf(err).Name != overloaded {
		t.Errorf("one more long poll: %v", err)
	}
	full()
	all := fill(s.gates.urgent)
	if _, err := c.Do(c.ctx, "web1", JobRequest{Action: virt.ActionStop}); CodeOf(err).Name != overloaded {
		t.Errorf("a stop although all is full: %v", err)
	}
	all()
	heavy := fill(s.gates.heavy)
	if err := c.Export(c.ctx, &strings.Builder{}); CodeOf(err).Name != overloaded {
		t.Errorf("one more export: %v", err)
	}
	heavy()
	empty()
	if _, err := c.Jobs(c.ctx, scheduler.Filter{}); err != nil {
		t.Error(err)
	}
	for name, g := range map[string]gate{"ordinary": s.gates.ordinary, "urgent": s.gates.urgent, "waiting": s.gates.waiting, "heavy": s.gates.heavy} {
		if len(g) != 0 {
			t.Errorf("%d places of the gate %s were not given back", len(g), name)
		}
	}
}

// A request that only waits holds no place that others need.
func TestWaitingHoldsNoPlace(t *testing.T) {
	c := newCluster(t, opts{full: true})
	s := c.behind(Options{MaxRequests: 1, MaxWaiting: 1})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	go func() {
		_, err := c.Next(ctx, scheduler.Want{Wait: scheduler.Span(time.Minute)})
		done <- err
	}()
	<-c.fake().entered
	if _, err := c.Jobs(c.ctx, scheduler.Filter{}); err != nil {
		t.Error(err)
	}
	if len(s.gates.ordinary)+len(s.gates.urgent) != 0 || len(s.gates.waiting) != 1 {
		t.Errorf("%d ordinary, %d urgent, %d waiting", len(s.gates.ordinary), len(s.gates.urgent), len(s.gates.waiting))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// slow is a scheduler whose jobs end when it is told.
type slow struct {
	*full
	end     chan struct{}
	waiting chan struct{}
}

func (s *slow) Submit(context.Context, scheduler.Package) ([]scheduler.Status, error) {
	return []scheduler.Status{{Job: scheduler.Job{ID: "j1"}, State: scheduler.Waiting}, {Job: scheduler.Job{ID: "j2"}, State: scheduler.Waiting}}, nil
}

func (s *slow) Status(_ context.Context, id string) (scheduler.Status, error) {
	return scheduler.Status{Job: scheduler.Job{ID: id}, State: scheduler.Running}, nil
}

func (s *slow) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	s.waiting <- struct{}{}
	select {
	case <-s.end:
		return scheduler.Status{Job: scheduler.Job{ID: id}, State: scheduler.Succeeded}, nil
	case <-ctx.Done():
		return scheduler.Status{}, ctx.Err()
	}
}

// A submission is answered when it is queued; with wait when all have ended, or
// as they are when the time is over or the server shuts down.
func TestSubmitWait(t *testing.T) {
	c := newCluster(t, opts{full: true})
	drain := make(chan struct{})
	sch := &slow{full: c.fake(), end: make(chan struct{}), waiting: make(chan struct{}, 10)}
	c.m.Scheduler = sch
	s := c.behind(Options{Draining: drain})
	p := scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "fail"}}}
	states := func(list []scheduler.Status, err error) string {
		if err != nil {
			return err.Error()
		}
		got := []string{}
		for _, st := range list {
			got = append(got, st.ID+" "+string(st.State))
		}
		return strings.Join(got, ", ")
	}
	if got := states(c.Submit(c.ctx, p)); got != "j1 waiting, j2 waiting" {
		t.Error(got)
	}
	if got := states(c.SubmitWait(c.ctx, p, time.Millisecond)); got != "j1 running, j2 running" {
		t.Error(got)
	}
	answer := make(chan string, 1)
	ask := func() { answer <- states(c.SubmitWait(c.ctx, p, time.Minute)) }
	for len(sch.waiting) > 0 {
		<-sch.waiting
	}
	go ask()
	<-sch.waiting
	if len(s.gates.ordinary) != 0 || len(s.gates.waiting) != 1 {
		t.Errorf("%d ordinary, %d waiting", len(s.gates.ordinary), len(s.gates.waiting))
	}
	sch.end <- struct{}{}
	sch.end <- struct{}{}
	if got := <-answer; got != "j1 succeeded, j2 succeeded" {
		t.Error(got)
	}
	<-sch.waiting
	go ask()
	<-sch.waiting
	close(drain)
	if got := <-answer; got != "j1 running, j2 running" {
		t.Error(got)
	}
	full := fill(s.gates.waiting)
	if got := states(c.SubmitWait(c.ctx, p, time.Minute)); got != "j1 waiting, j2 waiting" {
		t.Errorf("with no place to wait: %s", got)
	}
	full()
	c.vm("web1")
	if _, err := c.DoWait(c.ctx, "web1", JobRequest{Action: "hang"}, time.Millisecond); err == nil || !strings.Contains(err.Error(), "answered with 2") {
		t.Error(err)
	}
	if resp, _ := c.request("POST", "/v1/jobs?wait=1h", `{}`); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a wait of an hour: %s", resp.Status)
	}
	if len(s.gates.ordinary)+len(s.gates.waiting) != 0 {
		t.Error("places were not given back")
	}
}
