package schedulertest

import (
	"context"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Opener opens a scheduler with these settings in deps.Data, and makes its
// store there if there is none. It starts nothing: the suite calls Run, where
// there is one. A scheduler that keeps nothing on disk may do without Data in
// all suites but Durable. It should write snapshots often, and not wait for a
// lock.
type Opener func(ctx context.Context, s Settings, deps scheduler.Deps) (scheduler.Scheduler, error)

// with gives the suite's jobs a scheduler with settings.
func (o Opener) with(s Settings) Open {
	return func(t *testing.T, deps scheduler.Deps) scheduler.Scheduler {
		t.Helper()
		sch, err := o(t.Context(), s, deps)
		if err != nil {
			t.Fatal(err)
		}
		return sch
	}
}

// Settings are what a suite wants to be configured. What is zero is left to the
// scheduler.
type Settings struct {
	Lease         time.Duration // of workers outside, where neither they nor the queue say more
	ParkFor       time.Duration
	PackageExpiry time.Duration
	HistoryAge    time.Duration
	HistoryCount  int
	MaxQueued     int
	MaxLost       int // a job whose attempts were lost so often fails, or is parked
	HostSlots     int // of every limit host:ID that has no settings of its own
	Parallel      int // jobs that the scheduler's own workers do at once
	Queues        map[string]QueueSettings
	Limits        map[string]LimitSettings

	// Boot names the boot of the machine, where a scheduler asks for that: another name
	// is one that went down and came back meanwhile.
	Boot string
}

// QueueSettings are those of a queue, or of all whose names begin with what
// stands before a final *.
type QueueSettings struct {
	Remote bool // left to workers outside
	Paused bool
	Reason string
	Rate   scheduler.Rate
	Lease  time.Duration
}

// LimitSettings are those of a limit, by name or pattern as those of queues.
type LimitSettings struct {
	Slots int
	Rate  scheduler.Rate
}

// Settings of the suites. Queues whose names begin with r- are left to workers
// outside.
const (
	lease     = 30 * time.Second
	parkFor   = 7 * 24 * time.Hour
	expiry    = 24 * time.Hour
	maxLost   = 3
	hostSlots = 2
	maxQueued = 2_000
)

func standard() Settings {
	return Settings{
		Lease: lease, ParkFor: parkFor, PackageExpiry: expiry, MaxLost: maxLost, HostSlots: hostSlots, MaxQueued: maxQueued, Parallel: 64,
		HistoryAge: 30 * 24 * time.Hour, HistoryCount: 100_000,
		Queues: map[string]QueueSettings{
			"r-*":      {Remote: true},
			"r-rated":  {Remote: true, Rate: scheduler.Rate{Count: 2, Per: time.Second}},
			"r-shut":   {Remote: true, Paused: true, Reason: "until it is repaired"},
			"r-long-*": {Remote: true, Lease: time.Hour},
		},
		Limits: map[string]LimitSettings{
			"one": {Slots: 1}, "two": {Slots: 2}, "slow": {Rate: scheduler.Rate{Count: 1, Per: time.Second}},
		},
	}
}
