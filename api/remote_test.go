package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

// named lets in by name, as a worker; whoever has none is of this machine.
type named struct{}

func (named) Authenticate(r *http.Request) (Identity, error) {
	if name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return Identity{Name: name, Role: auth.Worker}, nil
	}
	return Identity{Role: auth.Admin}, nil
}

// What is promised to workers holds through the handler and the client too.
func TestRemote(t *testing.T) {
	open := func(ctx context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
		cfg := broker.Config{
			Lease: s.Lease, ParkFor: s.ParkFor, PackageExpiry: s.PackageExpiry, HistoryAge: s.HistoryAge, HistoryCount: s.HistoryCount,
			MaxQueued: s.MaxQueued, MaxLost: s.MaxLost, HostSlots: s.HostSlots, Parallel: s.Parallel,
			Queues: map[string]broker.QueueConfig{}, Limits: map[string]broker.LimitConfig{},
		}
		for name, q := range s.Queues {
			cfg.Queues[name] = broker.QueueConfig{Remote: q.Remote, Paused: q.Paused, Reason: q.Reason, Rate: broker.Rate(q.Rate), Lease: q.Lease}
		}
		for name, l := range s.Limits {
			cfg.Limits[name] = broker.LimitConfig{Slots: l.Slots, Rate: broker.Rate(l.Rate)}
		}
		return broker.Open(ctx, cfg, deps)
	}
	schedulertest.Remote(t, open, func(_ *testing.T, s scheduler.Scheduler) schedulertest.Endpoint {
		return schedulertest.Endpoint{
			Handler: Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, Options{Auth: named{}}),
			Client:  func(transport http.RoundTripper) scheduler.Broker { return NewClient("http://vagoth", transport) },
		}
	})
}

// Whoever follows a log is answered when there is a line, and at the job's end.
func TestJobLines(t *testing.T) {
	b := broker.Memory(broker.Config{Queues: map[string]broker.QueueConfig{"r": {Remote: true}}}, scheduler.Deps{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	server := httptest.NewServer(Handler(&manager.Manager{Scheduler: b, Settings: &manager.Settings{}}, Options{}))
	defer server.Close()
	c, ctx := NewClient(server.URL, nil), t.Context()
	if _, err := c.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: "a", Queue: "r", Action: "x"}}}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Next(ctx, scheduler.Want{})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	for _, step := range []struct {
		after int
		do    func() error
		want  string
	}{
		{0, func() error { return c.AddLog(ctx, list[0].Hold, "one") }, "[one] 1 running"},
		{1, func() error { _, errs := c.Complete(ctx, scheduler.Completion{Hold: list[0].Hold}); return errs[0] }, "[] 1 succeeded"},
		{0, func() error { return nil }, "[one] 1 succeeded"},
	} {
		told := make(chan string, 1)
		go func() {
			part, err := c.JobLines(ctx, "a", step.after, MaxWait)
			texts := []string{}
			for _, l := range part.Lines {
				texts = append(texts, l.Text)
			}
			if told <- fmt.Sprintf("%v %d %s", texts, part.Next, part.State); err != nil {
				t.Error(err)
			}
		}()
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != step.want {
			t.Errorf("after line %d: %s, want %s", step.after, got, step.want)
		}
	}
	if part, err := c.JobLines(ctx, "a", -1, 0); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("after line -1: %+v, %v", part, err)
	}
	if part, err := c.JobLines(ctx, "a", 1, 0); err != nil || len(part.Lines) != 0 || part.Next != 1 {
		t.Errorf("without a wait: %+v, %v", part, err)
	}
}
