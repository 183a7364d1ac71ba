package broker

import (
	"cmp"
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/scratch"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

func TestMain(m *testing.M) {
	schedulertest.Main(func() int {
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			println(err.Error())
			return 1
		}
		return code
	}, opener)
}

// opener opens a broker that writes snapshots often.
func opener(ctx context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
	if deps.Still {
		return OpenStill(ctx, configOf(s), deps)
	}
	return open(ctx, configOf(s), deps, 16<<10, cmp.Or(s.Boot, scratch.Boot()))
}

func configOf(s schedulertest.Settings) Config {
	cfg := Config{
		Lease: s.Lease, ParkFor: s.ParkFor, PackageExpiry: s.PackageExpiry, HistoryAge: s.HistoryAge, HistoryCount: s.HistoryCount,
		MaxQueued: s.MaxQueued, MaxLost: s.MaxLost, HostSlots: s.HostSlots, Parallel: s.Parallel,
		Queues: map[string]QueueConfig{}, Limits: map[string]LimitConfig{},
	}
	for name, q := range s.Queues {
		cfg.Queues[name] = QueueConfig{Remote: q.Remote, Paused: q.Paused, Reason: q.Reason, Rate: Rate(q.Rate), Lease: q.Lease}
	}
	for name, l := range s.Limits {
		cfg.Limits[name] = LimitConfig{Slots: l.Slots, Rate: Rate(l.Rate)}
	}
	return cfg
}

func TestCore(t *testing.T) {
	t.Parallel()
	schedulertest.Core(t, func(t *testing.T, deps scheduler.Deps) scheduler.Scheduler {
		b, err := Open(t.Context(), Defaults(), deps)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// TestLeased does without a disk, which TestDurable adds.
func TestLeased(t *testing.T) {
	t.Parallel()
	schedulertest.Leased(t, func(_ context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
		return Memory(configOf(s), deps), nil
	})
}

func TestDurable(t *testing.T) {
	t.Parallel()
	schedulertest.Durable(t, opener)
}

func TestMoved(t *testing.T) {
	t.Parallel()
	schedulertest.Moved(t, opener)
}

// What somebody has open is not opened for a copy, and the other way round; what is
// open for a copy does nothing else.
func TestStillAlone(t *testing.T) {
	t.Parallel()
	deps := scheduler.Deps{Data: t.TempDir()}
	b, err := Open(t.Context(), Defaults(), deps)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := OpenStill(t.Context(), Defaults(), deps); err == nil {
		t.Error("a store that is in use was opened for a copy", s.Close())
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStill(t.Context(), Defaults(), deps)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Open(t.Context(), Defaults(), deps); err == nil {
		t.Error("a store that is being copied was opened", b.Close())
	}
	if _, err := s.Submit(t.Context(), scheduler.Package{}); !errors.Is(err, scheduler.ErrUnsupported) {
		t.Errorf("it takes jobs: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
