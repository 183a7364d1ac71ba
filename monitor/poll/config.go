package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
)

// Config is the section [monitor] with use = poll.
type Config struct {
	Every         string        `ini:"every" help:"when to poll: a cron expression of five fields, or such as @every 10s or @hourly"`
	Jitter        time.Duration `ini:"jitter" help:"each scheduled poll begins up to this much later, at random"`
	Workers       int           `ini:"workers" help:"how many hosts are asked side by side" min:"1" max:"10000"`
	Timeout       time.Duration `ini:"timeout" help:"how long a host has to answer" min:"1ms"`
	MissingAfter  int           `ini:"missing_after" help:"a VM is missing after so many complete listings without it" min:"1"`
	EvidenceEvery time.Duration `ini:"evidence_every" help:"how often the time of the last sight is written although nothing changed" min:"1s"`
	CreateMissing bool          `ini:"create_missing" help:"make a node for each unknown VM that is found, instead of listing it as a stranger"`
	Tenant        string        `ini:"tenant" help:"the tenant of nodes made by create_missing"`
}

// Defaults are good for thousands of hosts.
func Defaults() Config {
	return Config{Every: "@every 10s", Workers: 64, Timeout: 10 * time.Second, MissingAfter: 3, EvidenceEvery: 10 * time.Minute}
}

// Validate checks what the tags cannot say.
func (c Config) Validate() error {
	var errs []error
	if _, err := schedule(c.Every); err != nil {
		errs = append(errs, &component.KeyError{Key: "every", Reason: err.Error(), Suggestion: `use such as "@every 10s" or "*/5 * * * *"`})
	}
	if c.Tenant != "" {
		if err := registry.CheckName(c.Tenant); err != nil {
			errs = append(errs, &component.KeyError{Key: "tenant", Reason: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// schedule reads a cron expression. The parser panics on some malformed ones.
func schedule(spec string) (s cron.Schedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%.64q is not a schedule", spec)
		}
	}()
	if rest, ok := strings.CutPrefix(spec, "@every "); ok {
		if d, err := time.ParseDuration(rest); err == nil && d < time.Second {
			return nil, fmt.Errorf("%.64q is more often than once a second", spec)
		}
	}
	if s, err = cron.ParseStandard(spec); err != nil {
		return nil, fmt.Errorf("%.64q is not a schedule: %w", spec, err)
	}
	return s, nil
}

// Kind is the monitor's entry in a menu.
func Kind() component.Kind[monitor.Deps, monitor.Monitor] {
	return component.Define("asks every host on a schedule and writes what it saw", Defaults(),
		func(ctx context.Context, cfg Config, deps monitor.Deps) (monitor.Monitor, error) {
			return Open(ctx, cfg, deps)
		})
}

// Open makes a monitor. It starts nothing.
func Open(_ context.Context, cfg Config, deps monitor.Deps) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	when, err := schedule(cfg.Every)
	if err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	closing, stop := context.WithCancel(context.Background())
	return &Monitor{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, when: when,
		slots: make(chan struct{}, cfg.Workers), closing: closing, stop: stop,
		out: map[string]int{}, hosts: map[string]*memory{},
	}, nil
}
