package memdb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/index"
)

// Config is the section [registry] of the ini file.
type Config struct {
	Path         component.Path `ini:"path" help:"directory of the store; empty is registry in the data directory"`
	Snapshot     component.Size `ini:"snapshot" help:"journal that is written before a snapshot takes its place; with a large store it is half of the last snapshot, up to 512 MiB" min:"1MiB" max:"1GiB"`
	History      int            `ini:"history" help:"latest changes kept in memory for watchers" min:"100" max:"10000000"`
	HistoryBytes component.Size `ini:"history_bytes" help:"memory that they may take" min:"1MiB"`
}

// Defaults is the config of an empty section.
func Defaults() Config {
	return Config{Snapshot: 64 << 20, History: index.DefaultHistory, HistoryBytes: index.DefaultHistoryBytes}
}

// Kind is the registry for the ini file.
func Kind() component.Kind[registry.Deps, registry.Registry] {
	return component.Define("in memory, with every change in a synced journal", Defaults(),
		func(ctx context.Context, c Config, deps registry.Deps) (registry.Registry, error) {
			return Open(ctx, c, deps)
		})
}

// Open opens the store, and makes it if there is none. Another process that has
// it open is waited for as long as deps.LockWait and then named.
func Open(ctx context.Context, c Config, deps registry.Deps) (*DB, error) {
	dir := string(c.Path)
	if dir == "" {
		if deps.Data == "" {
			return nil, errors.New("cannot open the registry: neither its path nor a data directory is given")
		}
		dir = filepath.Join(deps.Data, "registry")
	}
	db, err := open(ctx, dir, c, deps.WithDefaults(), func(*disk) {})
	if err != nil {
		var damaged *journal.CorruptError
		if errors.As(err, &damaged) {
			err = fmt.Errorf("%w: %w", registry.ErrCorrupt, err)
		}
		return nil, fmt.Errorf("cannot open the registry %s: %w", dir, err)
	}
	return db, nil
}

// open opens the store in dir, and tells made of what keeps its commits.
func open(ctx context.Context, dir string, c Config, deps registry.Deps, made func(*disk)) (*DB, error) {
	return index.Open(deps, c.History, int64(c.HistoryBytes), func(load *index.Loader) (index.Log, error) {
		j, err := journal.Open(ctx, journal.Options{
			Dir: dir, Log: deps.Log, LockWait: deps.LockWait, SnapshotEvery: int64(c.Snapshot), MaxRecord: maxRecord,
		}, load)
		if err != nil {
			return nil, err
		}
		if h := load.Header(); h != nil { // a new store, or one whose maker did not get this far
			place, err := j.AppendBatch(ctx, [][]byte{h})
			if err == nil {
				err = load.Replay(place, h)
			}
			if err != nil {
				return nil, errors.Join(err, j.Close())
			}
		}
		d := &disk{j: j, slog: deps.Log, broken: make(chan struct{})}
		d.ctx, d.stop = context.WithCancel(context.Background())
		made(d)
		return d, nil
	})
}

// DB is the registry.
type DB = index.DB

// Memory opens an empty store that lives in memory only.
func Memory(deps registry.Deps) (*DB, error) { return index.Memory(deps) }

// maxRecord is more than the greatest Update makes.
const maxRecord = 4 * registry.MaxUpdate
