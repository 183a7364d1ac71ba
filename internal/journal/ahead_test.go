package journal

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The log is over zeros a while before it is written, in every segment, and what is in
// it is the same.
func TestLogIsFilledAhead(t *testing.T) {
	dir := t.TempDir()
	probe, err := os.Create(dir + "/probe")
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	if err := unix.Fallocate(int(probe.Fd()), 0, 0, 1<<20); err != nil {
		t.Skipf("the file system reserves no space: %v", err)
	}
	if at, err := probe.Seek(0, unix.SEEK_HOLE); err != nil || at != 0 {
		t.Skipf("the file system does not tell reserved space from written space: %d, %v", at, err)
	}

	j, err := Open(t.Context(), Options{Dir: dir + "/j"}, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	segments, filled := map[string]bool{}, map[string]bool{}
	for len(segments) < 3 {
		r := bytes.Repeat([]byte{byte(len(want)) | 1}, 20_000)
		if _, err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
		segs, err := listSegments(dir + "/j/" + logName)
		if err != nil {
			t.Fatal(err)
		}
		tail := segs[len(segs)-1].path
		segments[tail] = true
		b, err := os.ReadFile(tail)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(tail)
		if err != nil {
			t.Fatal(err)
		}
		hole, err := f.Seek(0, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if used := int64(len(trimZeros(b))); hole > used+aheadStep/4 && used < int64(len(b))/2 {
			filled[tail] = true
		}
		if hole > int64(len(b)) || int64(len(b)) < segmentBytes {
			t.Fatalf("segment %s has %d bytes, the first hole is at %d", tail, len(b), hole)
		}
	}
	delete(segments, j.ahead.path)
	for s := range segments {
		if !filled[s] {
			t.Errorf("the segment %s was not filled ahead", s)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	if j, err = Open(t.Context(), Options{Dir: dir + "/j"}, m); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if len(m.records) != len(want) {
		t.Fatalf("%d records, appended were %d", len(m.records), len(want))
	}
	for i := range want {
		if !bytes.Equal(m.records[i], want[i]) {
			t.Fatalf("record %d is another one", i+1)
		}
	}
}
