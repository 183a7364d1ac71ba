package memdb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/registry"
)

// disk is the log of a store that lives in a directory.
type disk struct {
	j    *journal.Journal
	slog *slog.Logger

	failed     bool          // the journal takes nothing any more; used by whoever syncs
	broken     chan struct{} // closed when failed is set
	why        error         // it was; set before broken is closed
	background sync.WaitGroup
	writing    atomic.Bool // a snapshot is being written
	stop       context.CancelFunc
	ctx        context.Context //nolint:containedctx // ends with Close, for the snapshot in the background
}

// append implements log.
func (d *disk) append(records [][]byte) (uint64, error) {
	index, err := d.j.AppendBatch(context.Background(), records)
	switch {
	case err == nil:
		return index, nil
	case errors.Is(err, journal.ErrFailed) && !d.failed:
		d.failed, d.why = true, err
		close(d.broken)
		return 0, fmt.Errorf("%w: %w: restart when the cause is gone", registry.ErrUnknownOutcome, err)
	default:
		return 0, fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
}

// Broken implements registry.Breaker: a journal whose sync failed takes nothing more,
// as what is on disk is not known. A store in memory alone never breaks.
func (db *DB) Broken(ctx context.Context) error {
	var broken chan struct{}
	d, ok := db.log.(*disk)
	if ok {
		broken = d.broken
	}
	select {
	case <-broken:
		return fmt.Errorf("it takes nothing any more, until it is opened again: %w", d.why)
	case <-ctx.Done():
		return nil
	}
}

// published implements log: when the journal has grown long, a snapshot of s is
// written beside the ongoing work.
func (d *disk) published(s *state, store string) {
	if !d.j.NeedsSnapshot() || !d.writing.CompareAndSwap(false, true) {
		return
	}
	d.background.Go(func() {
		defer d.writing.Store(false)
		if err := d.snapshot(d.ctx, s, store); err != nil && d.ctx.Err() == nil {
			d.slog.Warn("registry: cannot write a snapshot, the journal goes on growing", "err", err)
		}
	})
}

func (d *disk) snapshot(ctx context.Context, s *state, store string) error {
	return d.j.WriteSnapshot(ctx, s.index, s.snapshot(store))
}

// closeEvery is how many bytes of journal make Close write a snapshot, so that
// the next start need not replay them.
const closeEvery = 1 << 20

// close implements log.
func (d *disk) close(s *state, store string) error {
	d.stop()
	d.background.Wait()
	if j := d.j.Stats(); !d.failed && j.BytesSinceSnapshot >= max(closeEvery, j.SnapshotBytes/4) {
		if err := d.snapshot(context.Background(), s, store); err != nil {
			// Nothing is lost: the journal holds it all.
			d.slog.Warn("registry: cannot write a snapshot while closing", "err", err)
		}
	}
	return d.j.Close()
}

// Restore implements journal.Loader.
func (l *loader) Restore(index uint64, records iter.Seq2[[]byte, error]) error {
	l.index = index
	defer l.fill.settle() // after an error a chunk can be under way
	for rec, err := range records {
		if err != nil {
			return err
		}
		if err := l.snapshot(rec); err != nil {
			return fmt.Errorf("snapshot %d: %w", index, err)
		}
	}
	if l.txn != nil || l.base == nil {
		return fmt.Errorf("snapshot %d has no end: %w", index, registry.ErrCorrupt)
	}
	return nil
}

// Replay implements journal.Loader.
func (l *loader) Replay(index uint64, rec []byte) error {
	l.index = index
	if err := l.entry(rec); err != nil {
		return fmt.Errorf("record %d: %w", index, err)
	}
	return nil
}
