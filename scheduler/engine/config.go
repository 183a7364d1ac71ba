package engine

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Config is the section [scheduler] of the ini file, with the sections
// [queue.NAME] and [limit.NAME].
type Config struct {
	Parallel      int           `ini:"parallel" help:"jobs that this process runs side by side" min:"1" max:"10000"`
	Lease         time.Duration `ini:"lease" help:"how long a worker outside may be silent" min:"1s" max:"24h"`
	HistoryAge    time.Duration `ini:"history_age" help:"how long jobs that have ended are kept" min:"1m" max:"3650d"`
	HistoryCount  int           `ini:"history_count" help:"how many jobs that have ended are kept at most" min:"1" max:"100000000"`
	PackageExpiry time.Duration `ini:"package_expiry" help:"how long a package may be built before it is discarded" min:"1s" max:"365d"`
	ParkFor       time.Duration `ini:"park_for" help:"how long a parked job waits for an operator before it fails" min:"1s" max:"3650d"`
	MaxQueued     int           `ini:"max_queued" help:"jobs taken that have not ended; more are refused, but for urgent ones" min:"1" max:"100000000"`
	MaxLost       int           `ini:"max_lost" help:"attempts without an answer after which a job fails, or is parked" min:"1" max:"1000"`
	HostSlots     int           `ini:"host_slots" help:"slots of each limit host:ID that has no section of its own" min:"1" max:"100000"`
	SpinListen    string        `ini:"spin_listen" help:"loopback address that serves the six verbs of spin-broker; empty is off" example:"127.0.0.1:8081"`
	SpinLease     time.Duration `ini:"spin_lease" help:"how long an agent of spin-broker has for a command" min:"1s" max:"24h"`

	Queues map[string]QueueConfig `sections:"queue" names:"key" help:"a queue, or with a * at the end all that begin so; the longest match counts"`
	Limits map[string]LimitConfig `sections:"limit" names:"key" help:"a limit that jobs take a slot of; names as those of queues"`
}

// QueueConfig is a section [queue.NAME].
type QueueConfig struct {
	Remote bool          `ini:"remote" help:"left to workers outside"`
	Paused bool          `ini:"paused" help:"hands out nothing until an operator opens it"`
	Reason string        `ini:"reason" help:"why it is paused, for people"`
	Rate   Rate          `ini:"rate" help:"hand-outs in a time, such as 10/s, 5/m or 100/h"`
	Lease  time.Duration `ini:"lease" help:"how long a worker outside may be silent; 0 is that of [scheduler]" max:"24h"`
}

// LimitConfig is a section [limit.NAME].
type LimitConfig struct {
	Slots int  `ini:"slots" help:"jobs that hold it at once; 0 is no bound" min:"0" max:"1000000"`
	Rate  Rate `ini:"rate" help:"jobs that take it in a time, such as 10/s, 5/m or 100/h"`
}

// Rate is a scheduler.Rate as people write it.
type Rate scheduler.Rate

// String is such as 10/s.
func (r Rate) String() string { return scheduler.Rate(r).String() }

// MarshalText writes 10/s.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes 10/s, 5/m, 100/h; nothing is no rate.
func (r *Rate) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	if text == "" {
		*r = Rate{}
		return nil
	}
	count, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	per, ok := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[strings.TrimSpace(unit)]
	if err != nil || !ok || n < 1 || n > 1_000_000 {
		return fmt.Errorf("%.32q is no rate: write 10/s, 5/m or 100/h, from 1 to 1000000", text)
	}
	*r = Rate{Count: n, Per: per}
	return nil
}

// Defaults is the Config that an empty section gives.
func Defaults() Config {
	return Config{
		Parallel: 64, Lease: 30 * time.Second, HistoryAge: 30 * 24 * time.Hour, HistoryCount: 100_000, PackageExpiry: 24 * time.Hour,
		ParkFor: 7 * 24 * time.Hour, MaxQueued: 1_000_000, MaxLost: 20, HostSlots: 8, SpinLease: time.Hour,
	}
}

// Validate refuses what no single key shows.
func (c Config) Validate() error {
	var errs []error
	if c.SpinListen != "" {
		host, _, err := net.SplitHostPort(c.SpinListen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			errs = append(errs, &component.KeyError{Key: "spin_listen", Reason: fmt.Sprintf("%.64q is no address of the loopback: write 127.0.0.1:8081", c.SpinListen)})
		}
	}
	for name, q := range c.Queues {
		if q.Lease != 0 && q.Lease < scheduler.MinLease {
			errs = append(errs, fmt.Errorf("[queue.%s] lease is %s: use %s to %s, or 0", name, q.Lease, scheduler.MinLease, scheduler.MaxLease))
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills what a Config made by hand leaves out.
func (c Config) withDefaults() Config {
	d := Defaults()
	pick := func(v *int, or int) {
		if *v <= 0 {
			*v = or
		}
	}
	span := func(v *time.Duration, or time.Duration) {
		if *v <= 0 {
			*v = or
		}
	}
	pick(&c.Parallel, d.Parallel)
	pick(&c.HistoryCount, d.HistoryCount)
	pick(&c.MaxQueued, d.MaxQueued)
	pick(&c.MaxLost, d.MaxLost)
	pick(&c.HostSlots, d.HostSlots)
	span(&c.Lease, d.Lease)
	span(&c.HistoryAge, d.HistoryAge)
	span(&c.PackageExpiry, d.PackageExpiry)
	span(&c.ParkFor, d.ParkFor)
	span(&c.SpinLease, d.SpinLease)
	return c
}

// match finds the section for a name: its own, or the longest pattern that it
// begins with.
func match[C any](sections map[string]C, name string) (C, bool) {
	if c, ok := sections[name]; ok {
		return c, true
	}
	if len(sections) > len(name) {
		for n := len(name); n >= 0; n-- {
			if c, ok := sections[name[:n]+"*"]; ok {
				return c, true
			}
		}
		var none C
		return none, false
	}
	var best C
	longest := -1
	for pattern, c := range sections {
		n := len(pattern) - 1
		if n > longest && pattern[n] == '*' && strings.HasPrefix(name, pattern[:n]) {
			best, longest = c, n
		}
	}
	return best, longest >= 0
}

// settings are a Config whose sections by name can be replaced at any time.
type settings struct {
	Config
	named atomic.Pointer[named]
}

// named are the sections [queue.NAME] and [limit.NAME], which do not change.
type named struct {
	queues map[string]QueueConfig
	limits map[string]LimitConfig
}

func (c *settings) set(cfg Config) {
	c.Config = cfg
	c.named.Store(&named{queues: cfg.Queues, limits: cfg.Limits})
}

func (c *settings) queue(name string) QueueConfig {
	q, _ := match(c.named.Load().queues, name)
	if q.Lease <= 0 {
		q.Lease = c.Lease
	}
	return q
}

// limit is the configuration of a limit; one that is neither configured nor
// that of a host is none.
func (c *settings) limit(name string) (LimitConfig, bool) {
	l, ok := match(c.named.Load().limits, name)
	if !ok && strings.HasPrefix(name, scheduler.HostLimit("")) {
		return LimitConfig{Slots: c.HostSlots}, true
	}
	return l, ok
}

// checkName refuses what cannot be the name of a queue.
func checkName(what, name string) error {
	if err := registry.CheckKey(name); err != nil {
		return fmt.Errorf("%w: the %s: %w", scheduler.ErrInvalid, what, err)
	}
	return nil
}
