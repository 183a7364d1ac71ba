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

// TestRemote runs what the broker promises to workers through this server and
// this client.
func TestRemote(t *testing.T) {
	open := func(_ context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
		cfg := broker.Config{
			Parallel: s.Parallel, Lease: s.Lease, HistoryAge: s.HistoryAge, HistoryCount: s.HistoryCount, PackageExpiry: s.PackageExpiry, ParkFor: s.ParkFor,
			MaxQueued: s.MaxQueued, MaxLost: s.MaxLost, HostSlots: s.HostSlots, Queues: map[string]broker.QueueConfig{}, Limits: map[string]broker.LimitConfig{},
		}
		for name, q := range s.Queues {
			cfg.Queues[name] = broker.QueueConfig{Remote: q.Remote, Paused: q.Paused, Reason: q.Reason, Rate: broker.Rate(q.Rate), Lease: q.Lease}
		}
		for name, l := range s.Limits {
			cfg.Limits[name] = broker.LimitConfig{Slots: l.Slots, Rate: broker.Rate(l.Rate)}
		}
		return broker.Memory(cfg, deps), nil
	}
	schedulertest.Remote(t, open, func(_ *testing.T, s scheduler.Scheduler) schedulertest.Endpoint {
		return schedulertest.Endpoint{
			Handler: Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, Options{Version: "test", MaxWaiting: 1000, MaxRequests: 1000}),
			Client:  func(over http.RoundTripper) scheduler.Broker { return NewClient("http://daemon", over) },
		}
	})
}
