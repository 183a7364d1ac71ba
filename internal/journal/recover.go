package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ctxEvery is how many records are handled between two looks at the context.
const ctxEvery = 256

// recover reads the journal, gives it to load, and makes it ready for appending.
func (j *Journal) recover(ctx context.Context, load Loader) error {
	if err := j.sweep(); err != nil {
		return err
	}
	snaps, err := listSnapshots(j.dir)
	if err != nil {
		return err
	}
	segs, err := listSegments(filepath.Join(j.dir, logName))
	if err != nil {
		return err
	}
	j.mark, err = openMark(j.dir)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case err != nil && !missing:
		return err
	case missing && len(segs) == 0 && len(snaps) == 0:
		return j.create()
	case len(segs) == 0:
		return &CorruptError{File: filepath.Join(j.dir, logName), Reason: "the log is missing"}
	}

	p := &position{}
	if j.mark != nil {
		p.id, p.known = j.mark.id, true
	}
	if len(snaps) > 0 {
		newest := snaps[len(snaps)-1]
		if err := restore(ctx, newest, p, load); err != nil {
			return err
		}
		j.stats.SnapshotIndex = newest.index
	}
	tail, stop, err := j.replay(ctx, segs, p, load)
	if err != nil {
		return err
	}
	if err := j.judgeEnd(tail, p, stop); err != nil {
		return err
	}
	j.id, j.stats.LastIndex, j.stats.SnapshotBytes = p.id, p.last, p.snapshot
	if err := j.resume(tail); err != nil {
		return err
	}
	j.releaseOld()
	return nil
}

// makeDir makes the journal's directory, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// create makes a new journal. The mark comes last: with it the journal exists.
func (j *Journal) create() (err error) {
	_, _ = rand.Read(j.id[:]) // never fails
	if err := createLog(j.dir, j.id); err != nil {
		return err
	}
	if j.mark, err = createMark(j.dir, j.id, 0); err != nil {
		return err
	}
	j.w, err = openLog(j.dir, 0)
	return err
}

// sweep removes what a crash left half done. Segments that etcd makes in advance must go:
// it would write a shorter header over a longer one.
func (j *Journal) sweep() error {
	for _, dir := range []string{j.dir, filepath.Join(j.dir, logName)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), tmpSuffix) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// replay reads all segments that are needed after the snapshot. It returns the last, and
// why it cannot be read further, if it was not simply at its end.
func (j *Journal) replay(ctx context.Context, segs []segment, p *position, load Loader) (tail segment, stop, err error) {
	snap := j.stats.SnapshotIndex
	from := len(segs) - 1
	for from > 0 && segs[from].first > snap+1 {
		from--
	}
	if segs[from].first > snap+1 {
		return tail, nil, &CorruptError{File: segs[from].path, Reason: fmt.Sprintf("it begins with record %d, those from %d on are missing", segs[from].first, snap+1)}
	}
	segs = segs[from:]
	p.last = segs[0].first - 1
	for i, s := range segs {
		if i > 0 && (s.seq != segs[i-1].seq+1 || s.first != p.last+1) {
			return tail, nil, &CorruptError{File: s.path, Reason: fmt.Sprintf("it begins with record %d, but the segment before it ends with %d", s.first, p.last)}
		}
		stop, err = readSegment(s, p, func(e envelope) (bool, error) {
			if e.index%ctxEvery == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			if e.index <= snap {
				return true, nil
			}
			j.stats.BytesSinceSnapshot += int64(len(e.record) + envelopeSize)
			return true, load.Replay(e.index, e.record)
		})
		if err != nil {
			return tail, nil, err
		}
		if i == len(segs)-1 {
			break // how this one may end is for judgeEnd
		}
		if stop == nil && p.offset != p.size {
			stop = errors.New("a length of zero")
		}
		if stop != nil {
			return tail, nil, &CorruptError{File: s.path, Offset: p.offset, Reason: stop.Error()}
		}
	}
	return segs[len(segs)-1], stop, nil
}

// judgeEnd decides whether what follows the last readable record is a torn write, which it
// cuts off, or damage.
func (j *Journal) judgeEnd(tail segment, p *position, stop error) error {
	damage := func(reason string, args ...any) error {
		reason = fmt.Sprintf(reason, args...)
		if stop != nil {
			reason += ": " + stop.Error()
		}
		return &CorruptError{File: tail.path, Offset: p.offset, Reason: reason}
	}
	if !p.headed {
		return damage("its header cannot be read") // a segment gets its name after its header was synced
	}
	if j.mark != nil && p.last < j.mark.index {
		return damage("records %d to %d had been synced and cannot be read (to give them up, remove the file %s)",
			p.last+1, j.mark.index, markName)
	}
	if p.last < j.stats.SnapshotIndex {
		return damage("it ends with record %d, but there is a snapshot of record %d", p.last, j.stats.SnapshotIndex)
	}
	f, err := os.Open(tail.path)
	if err != nil {
		return err
	}
	defer f.Close()
	rest := make([]byte, p.size-p.offset)
	if _, err := f.ReadAt(rest, p.offset); err != nil {
		return err
	}
	if base := vouched(rest, p.id); base > p.last {
		return damage("records %d to %d had been synced and cannot be read", p.last+1, base)
	}
	if used := len(trimZeros(rest)); used > 0 {
		j.log.Warn("journal: cut off a write that was under way when the program or the power ended",
			"file", tail.path, "offset", p.offset, "bytes", used)
		return cutFile(tail.path, p.offset)
	}
	return nil
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// resume opens the log for appending after the last record. Records that were read but
// perhaps never synced are synced, before anybody builds on them.
func (j *Journal) resume(tail segment) (err error) {
	if j.mark == nil {
		j.log.Warn("journal: the mark is missing, the log is taken as it stands", "dir", j.dir, "records", j.stats.LastIndex)
		if err := syncFile(tail.path); err != nil {
			return err
		}
		if j.mark, err = createMark(j.dir, j.id, j.stats.LastIndex); err != nil {
			return err
		}
	}
	if j.mark.index < j.stats.LastIndex {
		if err := syncFile(tail.path); err != nil {
			return err
		}
		if err := j.mark.set(j.stats.LastIndex); err != nil {
			return err
		}
	}
	j.w, err = openLog(j.dir, j.stats.LastIndex)
	return err
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// rewind cuts the log back to the last acknowledged record after a write that failed for
// lack of space. If that fails too, the journal has failed.
func (j *Journal) rewind(cause error) error {
	err := closeLog(j.w)
	j.w = nil
	if err == nil {
		err = j.cutBack()
	}
	if err == nil && j.mark.index != j.stats.LastIndex {
		err = j.mark.set(j.stats.LastIndex)
	}
	if err == nil {
		j.w, err = openLog(j.dir, j.stats.LastIndex)
	}
	if err != nil {
		return j.fail(fmt.Errorf("cannot cut the log back to record %d: %w, after: %w", j.stats.LastIndex, err, cause))
	}
	return nil
}

// cutBack removes everything after the last acknowledged record from the log.
func (j *Journal) cutBack() error {
	dir := filepath.Join(j.dir, logName)
	if err := j.sweep(); err != nil {
		return err
	}
	segs, err := listSegments(dir)
	if err != nil {
		return err
	}
	last := j.stats.LastIndex
	for n := len(segs); n > 1 && segs[n-1].first > last+1; n-- {
		if err := os.Remove(segs[n-1].path); err != nil {
			return err
		}
		segs = segs[:n-1]
	}
	if len(segs) == 0 {
		return &CorruptError{File: dir, Reason: "the log is missing"}
	}
	tail := segs[len(segs)-1]
	p := &position{id: j.id, known: true, last: tail.first - 1}
	stop, err := readSegment(tail, p, func(e envelope) (bool, error) { return e.index < last, nil })
	end := p.offset
	switch {
	case err != nil:
		return err
	case tail.first == last+1 && p.body > 0:
		end = p.body // none of its records was acknowledged
	case p.last != last:
		return &CorruptError{File: tail.path, Offset: p.offset, Reason: fmt.Sprintf("record %d cannot be read again: %v", last, stop)}
	}
	return errors.Join(cutFile(tail.path, end), syncDir(dir))
}
