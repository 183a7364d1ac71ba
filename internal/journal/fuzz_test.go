package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func snapBytes(t testing.TB, id journalID, index uint64, records [][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := newSnapWriter(&buf, id, index)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// FuzzSnapshot reads anything as a snapshot: it is damaged, or it is byte for byte what
// would be written for the records that were read.
func FuzzSnapshot(f *testing.F) {
	id := journalID{1, 2, 3}
	f.Add([]byte{})
	f.Add(snapBytes(f, id, 0, nil))
	f.Add(snapBytes(f, id, 7, [][]byte{{}, []byte("a record"), make([]byte, 300)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSnapReader("file", bytes.NewReader(b), int64(len(b)))
		id, index, err := s.header()
		var records [][]byte
		for err == nil {
			var r []byte
			if r, err = s.record(); err == nil {
				records = append(records, bytes.Clone(r))
			}
		}
		var corrupt *CorruptError
		switch {
		case errors.Is(err, io.EOF):
			if !bytes.Equal(snapBytes(t, id, index, records), b) {
				t.Error("what was read is not what would be written")
			}
		case !errors.As(err, &corrupt):
			t.Errorf("got %v", err)
		case corrupt.Offset < 0 || corrupt.Offset > int64(len(b)):
			t.Errorf("damage at %d of %d bytes", corrupt.Offset, len(b))
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	id := journalID{4}
	f.Add([]byte(envelopeMagic))
	f.Add(envelope{index: 3, base: 2, record: []byte("x")}.append(nil, id))
	f.Add(append([]byte("junk"), envelope{index: 9, base: 5}.append(nil, id)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, n, err := decodeEnvelope(b, id); err == nil && !bytes.Equal(e.append(nil, id), b[:n]) {
			t.Error("what was read is not what would be written")
		}
		vouched(b, id)
		if m, ok := decodeMark(b); ok && !bytes.Equal(m.encode(), b[:markLen]) {
			t.Error("the mark that was read is not what would be written")
		}
	})
}

// FuzzSegment reads anything as a segment: what comes out of it was written.
func FuzzSegment(f *testing.F) {
	dir := memoryDir(f)
	j, err := Open(f.Context(), Options{Dir: dir}, &memory{})
	if err != nil {
		f.Fatal(err)
	}
	id := j.id
	want := [][]byte{record(1, 30), record(2, 3), record(3, 100)}
	for _, r := range want {
		if _, err := j.Append(f.Context(), r); err != nil {
			f.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		f.Fatal(err)
	}
	b := trimZeros(files(f, dir)[filepath.Join(logName, "0000000000000000-0000000000000000.wal")])
	f.Add(b)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(b[:len(b)/2])
	path := filepath.Join(memoryDir(f), "segment")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := &position{id: id, known: true}
		var got [][]byte
		_, err := readSegment(segment{path: path, first: 1}, p, func(e envelope) (bool, error) {
			got = append(got, bytes.Clone(e.record))
			return true, nil
		})
		if err != nil || p.offset > int64(len(b)) || len(got) > len(want) {
			t.Fatalf("%d records, offset %d of %d, %v", len(got), p.offset, len(b), err)
		}
		wantRecords(t, got, want[:len(got)])
	})
}
