package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	logName     = "log"
	tmpSuffix   = ".tmp"
	logMetadata = "vagoth journal 1\n"
)

// segmentBytes is what a segment takes when it is made; another is made in advance.
//
// etcd has the size in a package variable, 64 MB, and nowhere else: opening a journal would
// take 128 MB at once. It is set while packages are initialised, when no goroutine can read
// it, and never again. It reaches every etcd log in the process; the program has no other,
// and an etcd server embedded in a test works with any size.
var segmentBytes = func() int64 { //nolint:gochecknoglobals // etcd gives no other way
	wal.SegmentSizeBytes = 4 << 20
	return wal.SegmentSizeBytes
}()

// segment is a file of the log, named SEQ-FIRST.wal.
type segment struct {
	path  string
	seq   uint64
	first uint64 // index of its first record
}

// listSegments gives the log's files in order.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var segs []segment
	for _, e := range entries {
		var s segment
		if n, err := fmt.Sscanf(e.Name(), "%016x-%016x.wal", &s.seq, &s.first); err != nil || n != 2 {
			continue
		}
		if fmt.Sprintf("%016x-%016x.wal", s.seq, s.first) != e.Name() {
			continue
		}
		s.path = filepath.Join(dir, e.Name())
		s.first = max(s.first, 1) // the very first is named 0
		segs = append(segs, s)
	}
	slices.SortFunc(segs, func(a, b segment) int { return bytes.Compare([]byte(a.path), []byte(b.path)) })
	return segs, nil
}

// position is how far reading has come.
type position struct {
	id     journalID
	known  bool   // id is known
	crc    uint32 // of the chain
	linked bool   // crc is known
	last   uint64 // index of the last record that was read
	base   uint64 // what that record vouches for
	offset int64  // behind it, in its file
	body   int64  // behind the header of that file
	headed bool   // that header was read
	size   int64  // of the file

	snapshot int64 // size of the snapshot that was read before
}

// readSegment reads records from one file, advancing p, until the file ends or cannot be
// read further, or take returns an error or false. What is wrong at p.offset is stop, nil
// at an end of file or a length of zero; err is that of take or of the system.
func readSegment(s segment, p *position, take func(envelope) (bool, error)) (stop, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p.offset, p.body, p.headed, p.size = 0, 0, false, fi.Size()
	d := wal.NewDecoder(fileutil.NewFileReader(f))
	for n := 0; ; n++ {
		var rec walpb.Record
		switch err := guard(func() error { return d.Decode(&rec) }); {
		case err == nil:
		case !errors.Is(err, io.EOF):
			var sys *os.PathError
			if errors.As(err, &sys) {
				return nil, err
			}
			return err, nil
		case n < 2:
			return errors.New("its header is missing"), nil
		default:
			return nil, nil
		}
		stop, more, err := p.record(s, n, &rec, d, take)
		if stop != nil || err != nil {
			return stop, err
		}
		p.offset, p.crc, p.linked = d.LastOffset(), d.LastCRC(), true
		if rec.GetType() != wal.EntryType {
			p.body = p.offset
		}
		if !more {
			return nil, nil
		}
	}
}

// record takes the n-th thing of a segment. etcd's checksum does not cover the type, so what
// may stand where is checked here.
func (p *position) record(s segment, n int, rec *walpb.Record, d wal.Decoder, take func(envelope) (bool, error)) (stop error, more bool, err error) {
	kind := rec.GetType()
	switch {
	case n == 0 && kind == wal.CrcType:
		if p.linked && rec.GetCrc() != p.crc {
			return errors.New("it does not continue the segment before it"), false, nil
		}
		d.UpdateCRC(rec.GetCrc())
		return nil, true, nil
	case n == 1 && kind == wal.MetadataType:
		return p.header(rec.Data), true, nil
	case n == 2 && kind == wal.SnapshotType && s.seq == 0:
		return nil, true, nil // written by etcd when the log is made
	case n < 2 || kind != wal.EntryType:
		return fmt.Errorf("something of type %d where none belongs", kind), false, nil
	}
	var entry raftpb.Entry
	if err := proto.Unmarshal(rec.Data, &entry); err != nil {
		return err, false, nil
	}
	e, size, err := decodeEnvelope(entry.GetData(), p.id)
	switch {
	case err != nil:
		return err, false, nil
	case size != len(entry.GetData()) || entry.GetIndex() != e.index:
		return errEnvelope, false, nil
	case e.index != p.last+1 || e.base < p.base:
		return fmt.Errorf("record %d follows record %d", e.index, p.last), false, nil
	}
	p.last, p.base = e.index, e.base
	more, err = take(e)
	return nil, more, err
}

func (p *position) header(b []byte) error {
	var id journalID
	if len(b) != len(logMetadata)+len(id) || string(b[:len(logMetadata)]) != logMetadata {
		return errors.New("its header is none of a journal that this program knows")
	}
	copy(id[:], b[len(logMetadata):])
	if p.known && id != p.id {
		return errors.New("it belongs to another journal")
	}
	p.id, p.known, p.headed = id, true, true
	return nil
}

// syncDir makes changes of names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cutFile ends a file at size, durably.
func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}
