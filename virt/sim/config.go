package sim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

// Config is a [drivers.NAME] section with use = sim.
type Config struct {
	Path   component.Path `ini:"path" help:"directory of the hosts' state; without it the state ends with the process"`
	CPU    int64          `ini:"cpu" help:"hardware threads of each host" min:"1"`
	Memory component.Size `ini:"memory" help:"memory of each host" min:"1MiB"`
	Disk   component.Size `ini:"disk" help:"disk space of each host" min:"1MiB"`

	Latency  time.Duration `ini:"latency" help:"how long a call takes"`
	Jitter   time.Duration `ini:"jitter" help:"how much longer, at most, at random"`
	Failures float64       `ini:"failure_rate" help:"the share of calls that fail, before or after the deed" min:"0" max:"1"`
	Seed     uint64        `ini:"seed" help:"of what happens at random"`
	Shutdown time.Duration `ini:"shutdown_after" help:"how long a guest takes to shut down"`
	Fetch    time.Duration `ini:"fetch_takes" help:"how long it takes to fetch an image"`
	Ledger   int           `ini:"ledger" help:"how many calls are remembered for tests" min:"0"`
}

// Defaults is a host of a usual size that answers at once.
func Defaults() Config {
	return Config{CPU: 32, Memory: 128 << 30, Disk: 4 << 40, Shutdown: time.Second, Ledger: 1000}
}

// Kind is the driver's entry in a menu.
func Kind() component.Kind[virt.DriverDeps, virt.Driver] {
	return component.Define("simulated hypervisors in the process, for trying out and for tests", Defaults(),
		func(ctx context.Context, cfg Config, deps virt.DriverDeps) (virt.Driver, error) {
			return Open(ctx, cfg, deps)
		})
}

// Open opens the driver. There is nothing to close.
func Open(_ context.Context, cfg Config, deps virt.DriverDeps) (*Driver, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	d := &Driver{cfg: cfg, log: deps.Log, now: deps.Now, hosts: map[string]*host{}, ran: map[string]placed{}, ledger: ledger{limit: cfg.Ledger}}
	if cfg.Path != "" {
		if err := os.MkdirAll(string(cfg.Path), 0o750); err != nil {
			return nil, fmt.Errorf("cannot make the directory of the simulated hosts: %w", err)
		}
	}
	return d, nil
}
