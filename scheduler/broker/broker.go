// Package broker is the scheduler that survives: the engine's queues, leases and
// packages over a journal in the data directory, which is on disk before anybody is
// told of them, worked on by functions of this process and by workers outside.
//
// # Why
//
// All that it does stands in package engine, which other logs can carry too; this
// package says where the log is: one file after the other, in one directory, of one
// process. A machine that runs a cluster needs no more, and no database beside it.
package broker

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/internal/scratch"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
)

// Broker is the scheduler.
type Broker = engine.Engine

// Config is the section [scheduler] of the ini file.
type Config = engine.Config

// QueueConfig is a section [queue.NAME].
type QueueConfig = engine.QueueConfig

// LimitConfig is a section [limit.NAME].
type LimitConfig = engine.LimitConfig

// Rate is a scheduler.Rate as people write it.
type Rate = engine.Rate

// Defaults is the Config that an empty section gives.
func Defaults() Config { return engine.Defaults() }

// Kind is this scheduler on a menu.
func Kind() component.Kind[scheduler.Deps, scheduler.Scheduler] {
	return component.Define("durable queues in the data directory, with workers in this process and outside", Defaults(),
		func(ctx context.Context, cfg Config, deps scheduler.Deps) (scheduler.Scheduler, error) {
			if deps.Still {
				return OpenStill(ctx, cfg, deps)
			}
			return Open(ctx, cfg, deps)
		})
}

// folder is the store's, below the data directory.
const folder = "broker"

// building is the file in it for packages that are being built.
const building = "building"

// Open opens the broker whose store is in deps.Data, and makes it if there is
// none. It hands out nothing to workers of this process before Run.
func Open(ctx context.Context, cfg Config, deps scheduler.Deps) (*Broker, error) {
	return open(ctx, cfg, deps, 0, scratch.Boot())
}

// open is Open with another distance of snapshots, in bytes of log, and in another boot
// of the machine.
func open(ctx context.Context, cfg Config, deps scheduler.Deps, every int64, boot string) (*Broker, error) {
	b, err := engine.Open(ctx, cfg, deps, ground(deps, every, boot))
	if err != nil {
		return nil, fmt.Errorf("cannot open the broker: %w", err)
	}
	return b, nil
}

// OpenStill opens what the broker has stored, for a copy.
func OpenStill(ctx context.Context, cfg Config, deps scheduler.Deps) (*engine.Still, error) {
	s, err := engine.OpenStill(ctx, cfg, ground(deps, 0, scratch.Boot()))
	if err != nil {
		return nil, fmt.Errorf("cannot open the broker's store: %w", err)
	}
	return s, nil
}

func ground(deps scheduler.Deps, every int64, boot string) engine.Ground {
	dir := filepath.Join(deps.Data, folder)
	return engine.Ground{
		SnapshotEvery: every, Drafts: filepath.Join(dir, building), Boot: boot,
		Open: func(ctx context.Context, load journal.Loader) (engine.Log, error) {
			return journal.Open(ctx, journal.Options{Dir: dir, Log: deps.Log, LockWait: deps.LockWait}, load)
		},
	}
}

// Memory returns a broker that keeps nothing on disk, for tests and experiments.
func Memory(cfg Config, deps scheduler.Deps) *Broker { return engine.Memory(cfg, deps) }
