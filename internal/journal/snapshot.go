package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
)

// A snapshot is a header, records and a trailer:
//
//	magic 8 | id 16 | index 8 | crc 4
//	length 4 | crc 4 | record          as often as there are records
//	0xffffffff | count 8 | crc 4       and nothing behind it
//
// The checksum is one chain through the file, so that no record can be missing, twice or
// in another place.
const (
	snapMagic   = "vgsnap1\n"
	snapHeader  = 8 + 16 + 8 + 4
	snapTrailer = 4 + 8 + 4
	snapEnd     = 0xffffffff
	snapBuffer  = 256 << 10
)

// snapFile is a snapshot's file, named snap-INDEX.
type snapFile struct {
	path  string
	index uint64
}

func snapName(index uint64) string { return fmt.Sprintf("snap-%016x", index) }

// listSnapshots gives the snapshots in order.
func listSnapshots(dir string) ([]snapFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var snaps []snapFile
	for _, e := range entries {
		s := snapFile{path: filepath.Join(dir, e.Name())}
		if n, err := fmt.Sscanf(e.Name(), "snap-%016x", &s.index); err == nil && n == 1 && snapName(s.index) == e.Name() {
			snaps = append(snaps, s)
		}
	}
	slices.SortFunc(snaps, func(a, b snapFile) int { return bytes.Compare([]byte(a.path), []byte(b.path)) })
	return snaps, nil
}

// snapWriter writes a snapshot's content.
type snapWriter struct {
	w     *bufio.Writer
	crc   uint32
	count uint64
}

func newSnapWriter(w io.Writer, id journalID, index uint64) (*snapWriter, error) {
	s := &snapWriter{w: bufio.NewWriterSize(w, snapBuffer)}
	b := append(make([]byte, 0, snapHeader), snapMagic...)
	b = append(b, id[:]...)
	b = binary.LittleEndian.AppendUint64(b, index)
	return s, s.put(b, nil)
}

// put writes before, then the checksum that covers it and record, then the record.
func (s *snapWriter) put(before, record []byte) error {
	s.crc = crc32.Update(s.crc, castagnoli, before)
	s.crc = crc32.Update(s.crc, castagnoli, record)
	var sum [4]byte
	binary.LittleEndian.PutUint32(sum[:], s.crc)
	for _, b := range [][]byte{before, sum[:], record} {
		if _, err := s.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapWriter) record(r []byte) error {
	if len(r) > MaxRecord {
		return &TooLargeError{Size: len(r), Max: MaxRecord}
	}
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(r)))
	s.count++
	return s.put(n[:], r)
}

func (s *snapWriter) end() error {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, snapTrailer), snapEnd)
	b = binary.LittleEndian.AppendUint64(b, s.count)
	if err := s.put(b, nil); err != nil {
		return err
	}
	return s.w.Flush()
}

// snapReader reads a snapshot and refuses whatever is not as it was written.
type snapReader struct {
	path   string
	r      *bufio.Reader
	size   int64
	offset int64 // of what is being read
	next   int64
	crc    uint32
	count  uint64
	buf    []byte
	ended  bool
}

func newSnapReader(path string, r io.Reader, size int64) *snapReader {
	return &snapReader{path: path, r: bufio.NewReaderSize(r, snapBuffer), size: size}
}

func (s *snapReader) damage(reason string) error {
	return &CorruptError{File: s.path, Offset: s.offset, Reason: reason}
}

// read fills b; the end of the file inside of it is damage.
func (s *snapReader) read(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.next += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.damage("it ends too early")
	}
	return err
}

// sum reads the checksum behind before, and then the record that it covers too.
func (s *snapReader) sum(before, record []byte) error {
	var sum [4]byte
	if err := s.read(sum[:]); err != nil {
		return err
	}
	if err := s.read(record); err != nil {
		return err
	}
	s.crc = crc32.Update(s.crc, castagnoli, before)
	s.crc = crc32.Update(s.crc, castagnoli, record)
	if s.crc != binary.LittleEndian.Uint32(sum[:]) {
		return s.damage("the checksum is wrong")
	}
	return nil
}

func (s *snapReader) header() (id journalID, index uint64, err error) {
	var b [snapHeader - 4]byte
	if err := s.read(b[:]); err != nil {
		return id, 0, err
	}
	if string(b[:8]) != snapMagic {
		return id, 0, s.damage("this is not a snapshot that this program knows")
	}
	if err := s.sum(b[:], nil); err != nil {
		return id, 0, err
	}
	copy(id[:], b[8:])
	return id, binary.LittleEndian.Uint64(b[24:]), nil
}

// record gives the next record, valid until the next call, and io.EOF behind the trailer.
func (s *snapReader) record() ([]byte, error) {
	if s.ended {
		return nil, io.EOF
	}
	s.offset = s.next
	var head [4]byte
	if err := s.read(head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n == snapEnd {
		return nil, s.trailer(head[:])
	}
	if n > MaxRecord || n > s.size-s.next {
		return nil, s.damage(fmt.Sprintf("a record of %d bytes does not fit", n))
	}
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n, n+n/4)
	}
	b := s.buf[:n]
	if err := s.sum(head[:], b); err != nil {
		return nil, err
	}
	s.count++
	return b[:n:n], nil
}

func (s *snapReader) trailer(head []byte) error {
	b := append(make([]byte, 0, 12), head...)
	b = append(b, make([]byte, 8)...)
	if err := s.read(b[4:]); err != nil {
		return err
	}
	if err := s.sum(b, nil); err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint64(b[4:]); n != s.count {
		return s.damage(fmt.Sprintf("it holds %d records instead of %d", s.count, n))
	}
	s.offset = s.next
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return s.damage("there is something behind its end")
	}
	s.ended = true
	return io.EOF
}

// restore gives a snapshot to load, all of it checked.
func restore(ctx context.Context, file snapFile, p *position, load Loader) error {
	f, err := os.Open(file.path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	s := newSnapReader(file.path, f, fi.Size())
	id, index, err := s.header()
	switch {
	case err != nil:
		return err
	case index != file.index:
		return s.damage(fmt.Sprintf("it is named after record %d, but holds the state after %d", file.index, index))
	case p.known && id != p.id:
		return s.damage("it belongs to another journal")
	}
	p.id, p.known, p.snapshot = id, true, fi.Size()

	var failed error
	err = load.Restore(index, func(yield func([]byte, error) bool) {
		for n := 0; ; n++ {
			var b []byte
			if n%ctxEvery == 0 {
				failed = ctx.Err()
			}
			if failed == nil {
				b, failed = s.record()
			}
			if errors.Is(failed, io.EOF) {
				failed = nil
				return
			}
			if !yield(b, failed) || failed != nil {
				return
			}
		}
	})
	// A loader that forgets the error, or stops early, does not make a snapshot whole.
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return err
	}
	for !s.ended {
		if _, err := s.record(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// WriteSnapshot writes records as the state after the record with this index, which has been
// acknowledged, and then releases the log before it and older snapshots. Appends
// go on meanwhile; a second snapshot waits. Records are used only during their step of the
// sequence. An error of the sequence, a crash or a full disk leaves the snapshot before.
func (j *Journal) WriteSnapshot(ctx context.Context, index uint64, records iter.Seq2[[]byte, error]) error {
	if err := j.writeSnapshot(ctx, index, records); err != nil {
		return fmt.Errorf("cannot write a snapshot of journal %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) writeSnapshot(ctx context.Context, index uint64, records iter.Seq2[[]byte, error]) error {
	select {
	case j.snapshotting <- struct{}{}:
		defer func() { <-j.snapshotting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := j.begin(ctx); err != nil {
		return err
	}
	stats := j.stats
	j.end()
	if index > stats.LastIndex || index < stats.SnapshotIndex {
		return fmt.Errorf("the state after record %d cannot be kept: the last record is %d, the last snapshot is of %d", index, stats.LastIndex, stats.SnapshotIndex)
	}

	path := filepath.Join(j.dir, snapName(index))
	size, err := writeSnapFile(ctx, path+tmpSuffix, j.id, index, records)
	if err != nil {
		_ = os.Remove(path + tmpSuffix) // else the next Open does
		return err
	}
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	if err := syncDir(j.dir); err != nil {
		return err
	}

	if err := j.begin(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer j.end()
	j.stats.SnapshotIndex, j.stats.SnapshotBytes = index, size
	j.stats.BytesSinceSnapshot -= stats.BytesSinceSnapshot
	if err := j.mark.sync(); err != nil {
		return j.fail(err)
	}
	if err := guard(func() error { return j.w.ReleaseLockTo(index + 1) }); err != nil {
		return err
	}
	j.releaseOld()
	return nil
}

func writeSnapFile(ctx context.Context, path string, id journalID, index uint64, records iter.Seq2[[]byte, error]) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := newSnapWriter(f, id, index)
	if err != nil {
		return 0, err
	}
	for r, err := range records {
		if err != nil {
			return 0, err
		}
		if s.count%ctxEvery == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err := s.record(r); err != nil {
			return 0, err
		}
	}
	if err := s.end(); err != nil {
		return 0, err
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return 0, err
	}
	return size, f.Sync()
}

// releaseOld removes what the newest snapshot makes superfluous. What cannot be removed is
// in nobody's way and is tried again next time.
func (j *Journal) releaseOld() {
	remove := func(path string) {
		if err := os.Remove(path); err != nil {
			j.log.Warn("journal: cannot remove an old file", "file", path, "err", err)
		}
	}
	snaps, err := listSnapshots(j.dir)
	if err != nil {
		j.log.Warn("journal: cannot look for old files", "dir", j.dir, "err", err)
	}
	for _, s := range snaps {
		if s.index < j.stats.SnapshotIndex {
			remove(s.path)
		}
	}
	segs, err := listSegments(filepath.Join(j.dir, logName))
	if err != nil {
		j.log.Warn("journal: cannot look for old files", "dir", j.dir, "err", err)
	}
	for i := 0; i+1 < len(segs) && segs[i+1].first <= j.stats.SnapshotIndex; i++ {
		remove(segs[i].path)
	}
}
