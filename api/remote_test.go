package api

import (
	"context"
	"net/http"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

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
			Handler: Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, Options{}),
			Client:  func(transport http.RoundTripper) scheduler.Broker { return NewClient("http://vagoth", transport) },
		}
	})
}
