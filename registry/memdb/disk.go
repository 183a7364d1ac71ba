package memdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/index"
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

// Append implements index.Log.
func (d *disk) Append(records [][]byte) (uint64, error) {
	place, err := d.j.AppendBatch(context.Background(), records)
	switch {
	case err == nil:
		return place, nil
	case errors.Is(err, journal.ErrFailed) && !d.failed:
		d.failed, d.why = true, err
		close(d.broken)
		return 0, fmt.Errorf("%w: %w: restart when the cause is gone", registry.ErrUnknownOutcome, err)
	default:
		return 0, fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
}

// Broken is that of registry.Breaker: a journal whose sync failed takes nothing more,
// as what is on disk is not known.
func (d *disk) Broken(ctx context.Context) error {
	select {
	case <-d.broken:
		return fmt.Errorf("it takes nothing any more, until it is opened again: %w", d.why)
	case <-ctx.Done():
		return nil
	}
}

// Published implements index.Log: when the journal has grown long, a snapshot of s is
// written beside the ongoing work.
func (d *disk) Published(s index.Snapshot) {
	if !d.j.NeedsSnapshot() || !d.writing.CompareAndSwap(false, true) {
		return
	}
	d.background.Go(func() {
		defer d.writing.Store(false)
		if err := d.snapshot(d.ctx, s); err != nil && d.ctx.Err() == nil {
			d.slog.Warn("registry: cannot write a snapshot, the journal goes on growing", "err", err)
		}
	})
}

func (d *disk) snapshot(ctx context.Context, s index.Snapshot) error {
	return d.j.WriteSnapshot(ctx, s.Index(), s.Records())
}

// closeEvery is how many bytes of journal make Close write a snapshot, so that
// the next start need not replay them.
const closeEvery = 1 << 20

// Close implements index.Log.
func (d *disk) Close(s index.Snapshot) error {
	d.stop()
	d.background.Wait()
	if j := d.j.Stats(); !d.failed && j.BytesSinceSnapshot >= max(closeEvery, j.SnapshotBytes/4) {
		if err := d.snapshot(context.Background(), s); err != nil {
			// Nothing is lost: the journal holds it all.
			d.slog.Warn("registry: cannot write a snapshot while closing", "err", err)
		}
	}
	return d.j.Close()
}
