package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/vagoth/vagoth/internal/lockfile"
)

// Options say where the journal is and how it behaves. Only Dir is needed.
type Options struct {
	// Dir is the journal's directory, made with mode 0700 if it is not there.
	Dir string

	// Log gets a line when a torn end was cut off, space ran out, or a file could not be
	// removed. Nil drops them.
	Log *slog.Logger

	// LockWait is how long Open waits for another process that has the journal open
	// before it gives *lockfile.HeldError.
	LockWait time.Duration

	// SnapshotEvery is how many bytes of log since the last snapshot make NeedsSnapshot
	// true, as long as snapshots are not large; 64 MiB if it is 0. See NeedsSnapshot.
	SnapshotEvery int64

	// MaxRecord is the largest record taken; the constant MaxRecord, also the highest
	// that can be set, if it is 0.
	MaxRecord int
}

// Loader takes what a journal holds while it is opened. Slices given to it are valid only
// during the call or the step of the sequence. An error ends Open, which returns it.
type Loader interface {
	// Restore takes the records of the snapshot, the state after the record with this
	// index. It is called at most once, first. The sequence may end with an error, a
	// *CorruptError if the snapshot is damaged, which Restore returns: what it has taken
	// until then is not to be used.
	Restore(index uint64, records iter.Seq2[[]byte, error]) error

	// Replay takes one record of the log. Indexes go up by one, from the snapshot's
	// or from 1.
	Replay(index uint64, record []byte) error
}

// Stats is what a journal has done since it was opened, and what is in it.
type Stats struct {
	Records uint64 // appended and acknowledged
	Syncs   uint64 // of the log, one for each batch
	Bytes   uint64 // of those records

	LastIndex          uint64 // of the last acknowledged record
	SnapshotIndex      uint64 // of the newest snapshot, 0 without one
	SnapshotBytes      int64  // its file's size
	BytesSinceSnapshot int64  // of log; what was appended while the snapshot was written is not counted
}

// Journal is an open journal. Its methods may be called from any goroutine.
type Journal struct {
	dir       string
	log       *slog.Logger
	every     int64
	maxRecord int
	id        journalID
	lock      *lockfile.Lock
	group     *Group[*appendCall]

	snapshotting chan struct{} // held while a snapshot is written

	turn   chan struct{} // held while what follows is read or changed
	w      *wal.WAL      // nil after the journal failed or was closed
	mark   *mark
	ahead  ahead
	buf    []byte // of the last batch
	stats  Stats
	closed bool
	failed error
}

const (
	groupMax = 1024
	lockName = "lock"

	keptBuffer = 1 << 20

	defaultSnapshotEvery = 64 << 20

	snapshotShare = 2         // the log may be this part of the last snapshot
	mostLog       = 512 << 20 // unless that is more than this
)

// Open opens the journal at o.Dir, which it makes if there is none, checks all of it and
// gives load what it holds. A damaged journal gives *CorruptError and is left as it is.
func Open(ctx context.Context, o Options, load Loader) (*Journal, error) {
	j, err := open(ctx, o, load)
	if err != nil {
		return nil, fmt.Errorf("cannot open journal %s: %w", o.Dir, err)
	}
	return j, nil
}

func open(ctx context.Context, o Options, load Loader) (_ *Journal, err error) {
	j := &Journal{
		dir: o.Dir, log: o.Log, every: o.SnapshotEvery, maxRecord: o.MaxRecord,
		snapshotting: make(chan struct{}, 1), turn: make(chan struct{}, 1),
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.every == 0 {
		j.every = defaultSnapshotEvery
	}
	if j.maxRecord == 0 {
		j.maxRecord = MaxRecord
	}
	if j.dir == "" || j.every < 0 || j.maxRecord < 0 || j.maxRecord > MaxRecord {
		return nil, fmt.Errorf("the options are wrong: Dir %q, SnapshotEvery %d, MaxRecord %d (at most %d)", j.dir, j.every, j.maxRecord, MaxRecord)
	}
	if err := makeDir(j.dir); err != nil {
		return nil, err
	}
	j.lock, err = lockfile.Acquire(ctx, filepath.Join(j.dir, lockName), o.LockWait)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.release())
		}
	}()
	if err := j.recover(ctx, load); err != nil {
		return nil, err
	}
	j.group = NewGroup(groupMax, j.appendGroup)
	return j, nil
}

// release gives back what was opened.
func (j *Journal) release() error {
	var err error
	if j.w != nil {
		err = closeLog(j.w)
		j.w = nil
	}
	if j.mark != nil {
		err = errors.Join(err, j.mark.close())
		j.mark = nil
	}
	return errors.Join(err, j.lock.Release())
}

type appendCall struct {
	records [][]byte
	last    uint64
}

// Append appends records one after the other and returns the index of the last, once all
// are on disk. Calls that come together share one sync. If ctx ends before the records were
// taken, nothing is written; later it has no influence.
func (j *Journal) Append(ctx context.Context, records ...[]byte) (last uint64, err error) {
	if err := j.check(records); err != nil {
		return 0, err
	}
	c := &appendCall{records: records}
	if err := j.group.Do(ctx, c); err != nil {
		return 0, err
	}
	return c.last, nil
}

// appendGroup commits a group of calls.
func (j *Journal) appendGroup(batch []*appendCall, errs []error) {
	all := batch[0].records
	if len(batch) > 1 {
		all = nil
		for _, c := range batch {
			all = append(all, c.records...)
		}
	}
	last, err := j.AppendBatch(context.Background(), all)
	for i := len(batch) - 1; i >= 0; i-- {
		batch[i].last, errs[i] = last, err
		last -= uint64(len(batch[i].records))
	}
}

// AppendBatch is Append with a sync of its own, for an owner that gathers batches itself.
// Calls run one after the other. Without records it writes nothing and returns the last
// index.
func (j *Journal) AppendBatch(ctx context.Context, records [][]byte) (last uint64, err error) {
	if err := j.check(records); err != nil {
		return 0, err
	}
	if err := j.begin(ctx); err != nil {
		return 0, err
	}
	defer j.end()
	if len(records) == 0 {
		return j.stats.LastIndex, nil
	}
	if err := j.write(records); err != nil {
		return 0, fmt.Errorf("cannot append to journal %s: %w", j.dir, err)
	}
	return j.stats.LastIndex, nil
}

func (j *Journal) check(records [][]byte) error {
	for _, r := range records {
		if len(r) > j.maxRecord {
			return &TooLargeError{Size: len(r), Max: j.maxRecord}
		}
	}
	return nil
}

// begin takes the turn, if the journal is in order.
func (j *Journal) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case j.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case j.closed:
		j.end()
		return ErrClosed
	case j.failed != nil:
		defer j.end()
		return fmt.Errorf("%w: %w", ErrFailed, j.failed)
	}
	return nil
}

func (j *Journal) end() { <-j.turn }

// write writes, syncs and notes records. The caller has the turn.
func (j *Journal) write(records [][]byte) error {
	err := j.save(records)
	if isFull(err) {
		// The next segment is made in advance, so this may be news from long ago. The
		// second attempt tells how it is now.
		if err := j.rewind(err); err != nil {
			return err
		}
		if err = j.save(records); isFull(err) {
			if err := j.rewind(err); err != nil {
				return err
			}
			j.log.Warn("journal: no space, records are refused", "dir", j.dir, "err", err)
			return fmt.Errorf("no space left, nothing was written: free some and try again: %w", err)
		}
	}
	if err != nil {
		return j.fail(err)
	}
	j.stats.Syncs++
	j.stats.Records += uint64(len(records))
	j.stats.LastIndex += uint64(len(records))
	grown := 0
	for _, r := range records {
		j.stats.Bytes += uint64(len(r))
		grown += len(r) + envelopeSize
	}
	j.stats.BytesSinceSnapshot += int64(grown)
	j.ahead.appended(j.dir, int64(grown+frameBytes*len(records)))
	return nil
}

// save returns nil when the records are on disk and the mark says so.
func (j *Journal) save(records [][]byte) error {
	var err error
	if j.buf, err = save(j.w, j.id, j.stats.LastIndex, records, j.buf[:0]); err != nil {
		return err
	}
	if cap(j.buf) > keptBuffer {
		j.buf = nil
	}
	return j.mark.set(j.stats.LastIndex + uint64(len(records)))
}

// fail ends the use of the journal.
func (j *Journal) fail(err error) error {
	j.failed = err
	j.log.Error("journal: failed, it takes nothing until it is opened again", "dir", j.dir, "err", err)
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// NeedsSnapshot reports whether the log since the last snapshot has grown so much that it
// is time for the next: beyond Options.SnapshotEvery, and beyond half of the last snapshot.
// A snapshot holds all of the owner's state, so that of a large one several would be written
// for each change of a small part; so it is at most two bytes of snapshot for one of log. But
// 512 MiB of log are always enough, or SnapshotEvery if that is more: the log is what Open
// replays beside the snapshot, and so it stays a part of the time that Open takes.
func (j *Journal) NeedsSnapshot() bool {
	s := j.Stats()
	return s.BytesSinceSnapshot >= dueAfter(j.every, s.SnapshotBytes)
}

// dueAfter is how many bytes of log a snapshot of this size is good for.
func dueAfter(every, snapshot int64) int64 {
	return max(every, min(snapshot/snapshotShare, mostLog))
}

// Stats returns the figures so far. It waits for a sync that is running.
func (j *Journal) Stats() Stats {
	j.turn <- struct{}{}
	defer j.end()
	return j.stats
}

// Close waits for what is being written, seals the log and gives everything back. A second
// Close does nothing.
func (j *Journal) Close() error {
	_ = j.group.Close(context.Background()) // which does not end before its group
	j.snapshotting <- struct{}{}
	defer func() { <-j.snapshotting }()
	j.turn <- struct{}{}
	defer j.end()
	if j.closed {
		return nil
	}
	j.closed = true
	if err := j.release(); err != nil {
		return fmt.Errorf("cannot close journal %s: %w", j.dir, err)
	}
	return nil
}
