package index

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
)

// DB is the registry.
type DB struct {
	store   string // names it, in cursors
	now     func() time.Time
	wrote   func(time.Duration)
	slog    *slog.Logger
	log     Log
	tables  *gomemdb.MemDB
	history history

	state  atomic.Pointer[state]
	ground atomic.Pointer[ground] // replaced by whoever holds syncing

	turn      chan struct{} // held while a function runs over the stack
	gathering *batch        // guarded by turn
	rev       uint64        // the last revision given out; guarded by turn
	usual     int           // commits in the last batch; guarded by turn
	undo      []undone      // empty, for the next transaction; guarded by turn
	scratch   []byte        // likewise
	words     *words        // guarded by turn

	syncing chan struct{} // held while a batch is synced and published
	closing chan struct{} // closed by Close
	once    sync.Once
	closed  error

	folds sync.WaitGroup // see begin

	stats struct{ batches, commits atomic.Uint64 }
}

var (
	_ registry.Registry = (*DB)(nil)
	_ registry.Breaker  = (*DB)(nil)
)

// Log is where a store's commits are kept.
type Log interface {
	// Append returns when all records are on disk, in this order, with the place
	// of the last.
	Append(records [][]byte) (index uint64, err error)
	// Published is told of each state that has been published.
	Published(s Snapshot)
	// Close is told the last state.
	Close(s Snapshot) error
}

// noLog is that of a store that only lives in memory.
type noLog struct{}

func (noLog) Append([][]byte) (uint64, error) { return 0, nil }
func (noLog) Published(Snapshot)              {}
func (noLog) Close(Snapshot) error            { return nil }

// What a store remembers of its changes unless it is told otherwise.
const (
	DefaultHistory      = 1 << 16
	DefaultHistoryBytes = 64 << 20
)

// Broken implements registry.Breaker, as far as the log does. A store in memory alone
// never breaks.
func (db *DB) Broken(ctx context.Context) error {
	if log, ok := db.log.(registry.Breaker); ok {
		return log.Broken(ctx)
	}
	<-ctx.Done()
	return nil
}

// newDB makes an empty store.
func newDB(deps registry.Deps) (*DB, error) {
	tables, err := newTables()
	if err != nil {
		return nil, err
	}
	db := &DB{
		now: deps.Now, wrote: deps.Wrote, slog: deps.Log, tables: tables, log: noLog{},
		words: newWords(), turn: make(chan struct{}, 1), syncing: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	db.history.maxCount, db.history.maxBytes = DefaultHistory, DefaultHistoryBytes
	return db, nil
}

// publish makes what is in the tables the first state.
func (db *DB) publish(find finder, rev, index uint64) {
	s := newState(db.tables, find, rev, index)
	db.rev = rev
	db.state.Store(s)
	db.ground.Store(&ground{base: s})
}

// newStore names a new store.
func newStore() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Open makes the store of what a log holds. open gives the log, once it has told
// the loader all that it has; where that is nothing, it holds the loader's Header
// afterwards. No history means the usual one.
func Open(deps registry.Deps, history int, historyBytes int64, open func(*Loader) (Log, error)) (*DB, error) {
	db, err := newDB(deps)
	if err != nil {
		return nil, err
	}
	if history > 0 {
		db.history.maxCount = history
	}
	if historyBytes > 0 {
		db.history.maxBytes = int(historyBytes)
	}
	load := newLoader(db)
	if db.log, err = open(load); err != nil {
		return nil, err
	}
	load.end()
	return db, nil
}

// Memory opens an empty store that lives in memory only.
func Memory(deps registry.Deps) (*DB, error) {
	db, err := newDB(deps.WithDefaults())
	if err != nil {
		return nil, err
	}
	db.store = newStore()
	db.publish(newFinder(), 0, 0)
	return db, nil
}

// View implements registry.Registry. As one process owns the store, every View
// is linearizable.
func (db *DB) View(ctx context.Context, _ ...registry.ReadOption) (registry.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-db.closing:
		return nil, registry.ErrClosed
	default:
		return &reader{ctx: ctx, s: db.state.Load(), db: db}, nil
	}
}

// Close implements registry.Registry. Updates whose function has run are still
// committed.
func (db *DB) Close() error {
	db.once.Do(func() {
		close(db.closing)
		db.turn <- struct{}{} // after this nobody runs a function
		<-db.turn
		db.syncing <- struct{}{}
		db.flush()
		db.folds.Wait()
		db.closed = db.log.Close(Snapshot{db.state.Load(), db.store})
	})
	return db.closed
}

// Stats is what the store has done since it was opened.
type Stats struct {
	Nodes    int    // there now
	Revision uint64 // of the last commit
	Commits  uint64 // Updates that wrote
	Syncs    uint64 // batches that they were written in
}

// Stats returns the figures so far.
func (db *DB) Stats() Stats {
	s := db.state.Load()
	return Stats{
		Nodes: s.nodes, Revision: s.rev,
		Commits: db.stats.commits.Load(), Syncs: db.stats.batches.Load(),
	}
}
