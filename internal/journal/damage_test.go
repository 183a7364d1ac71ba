package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
)

// files reads a directory.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir+"/")] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// put makes a directory of files.
func put(t testing.TB, dir string, all map[string][]byte) {
	t.Helper()
	for name, b := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// samples are journals to damage, with what is in them.
func samples(t testing.TB) map[string]sample {
	t.Helper()
	out := map[string]sample{}
	for _, name := range []string{"closed", "killed", "no snapshot", "empty"} {
		dir := memoryDir(t)
		j, _ := mustOpen(t, dir)
		var want [][]byte
		add := func(n, size int) {
			for range n {
				want = append(want, record(len(want), size))
				if _, err := j.Append(t.Context(), want[len(want)-1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if name != "empty" {
			add(30, 200)
			if name != "no snapshot" {
				if err := j.WriteSnapshot(t.Context(), 25, all(want[:25])); err != nil {
					t.Fatal(err)
				}
			}
			add(1, 5<<20) // ends the segment
			add(20, 700)
			want = append(want, record(51, 300), record(52, 2000), record(53, 10))
			if _, err := j.AppendBatch(t.Context(), want[51:]); err != nil {
				t.Fatal(err)
			}
		}
		if name != "killed" {
			mustClose(t, j)
		}
		out[name] = sample{files: files(t, dir), want: want}
	}
	return out
}

type sample struct {
	files map[string][]byte
	want  [][]byte
}

// used is how much of a file is not preallocated space.
func used(b []byte) int { return max(len(trimZeros(b)), 1) }

// damage makes a damaged copy of files, and says what it did. Log segments and the parts of files that
// are in use are hit more often than their share of bytes.
func damage(r *rand.Rand, names []string, all map[string][]byte) (name string, b []byte, what string) {
	name = names[r.IntN(len(names))]
	b = bytes.Clone(all[name])
	if len(b) == 0 {
		return name, []byte{byte(r.Uint32())}, "one byte in an empty file"
	}
	at := r.IntN(len(b))
	if r.IntN(8) > 0 {
		at = r.IntN(used(b))
		if r.IntN(2) == 0 && at > 6000 {
			at = used(b) - 1 - r.IntN(6000)
		}
	}
	if r.IntN(4) == 0 {
		return name, b[:at], "cut"
	}
	b[at] ^= 1 << r.IntN(8)
	return name, b, "bit"
}

func TestDamage(t *testing.T) {
	all := samples(t)
	r := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 4))
	refused, harmless := 0, 0
	for round := range testlong.Count(t, 500) {
		kind := []string{"closed", "killed", "no snapshot", "empty"}[min(round%5, 3)]
		s := all[kind]
		var names []string
		for n := range s.files {
			names = append(names, n)
		}
		slices.Sort(names)
		name, b, what := damage(r, names, s.files)
		dir := memoryDir(t)
		broken := map[string][]byte{}
		for n, c := range s.files {
			broken[n] = c
		}
		broken[name] = b
		put(t, dir, broken)

		m := &memory{}
		j, err := Open(t.Context(), Options{Dir: dir}, m)
		var corrupt *CorruptError
		switch {
		case err == nil:
			harmless++
			wantRecords(t, m.records, s.want)
			if _, err := j.Append(t.Context(), []byte("more")); err != nil {
				t.Fatalf("round %d, %s, %s of %s: append: %v", round, kind, what, name, err)
			}
			mustClose(t, j)
			m := &memory{}
			if j, err = Open(t.Context(), Options{Dir: dir}, m); err != nil {
				t.Fatalf("round %d, %s, %s of %s: opened once, then: %v", round, kind, what, name, err)
			}
			mustClose(t, j)
			if len(m.records) != len(s.want)+1 {
				t.Fatalf("round %d, %s, %s of %s: %d records, then", round, kind, what, name, len(m.records))
			}
		case errors.As(err, &corrupt):
			refused++
			if corrupt.File == "" || corrupt.Reason == "" {
				t.Errorf("the error says too little: %v", err)
			}
			for n, b := range files(t, dir) {
				if n != lockName && !strings.HasSuffix(n, tmpSuffix) && !bytes.Equal(b, broken[n]) {
					t.Fatalf("round %d: opening a damaged journal changed %s", round, n)
				}
			}
		default:
			t.Fatalf("round %d, %s, %s of %s: %v", round, kind, what, name, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d harmless", refused, harmless)
}

// TestEveryBitOfTheEnd flips each bit of the last batch, where damage looks most like a
// write that was under way.
func TestEveryBitOfTheEnd(t *testing.T) {
	src := memoryDir(t)
	j, _ := mustOpen(t, src)
	want := [][]byte{record(1, 20), record(2, 20), record(3, 5), record(4, 5)}
	for _, b := range [][][]byte{want[:1], want[1:2], want[2:]} {
		if _, err := j.AppendBatch(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, j)
	sane := files(t, src)
	var name string
	for n := range sane {
		if strings.HasSuffix(n, ".wal") {
			name = n
		}
	}
	dir := memoryDir(t)
	put(t, dir, sane)
	path := filepath.Join(dir, name)
	end := used(sane[name])
	step := 8 / testlong.Count(t, 8) // one bit of each byte, or all
	n := 0
	for bit := 0; bit < end*8; bit += max(step, 1) {
		at, mask := bit/8, byte(1)<<((bit+at7(bit/8))%8)
		b := bytes.Clone(sane[name][:end])
		b[at] ^= mask
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &memory{}
		j, err := Open(t.Context(), Options{Dir: dir}, m)
		var corrupt *CorruptError
		switch {
		case err == nil:
			wantRecords(t, m.records, want)
			mustClose(t, j)
		case !errors.As(err, &corrupt):
			t.Fatalf("bit %d: %v", bit, err)
		default:
			n++
		}
	}
	t.Logf("%d of %d bytes, %d flips refused", end, len(sane[name]), n)
}

// at7 moves the bit that is flipped from byte to byte.
func at7(i int) int { return i * 3 % 8 }

// TestStaleMark is what a power loss leaves: the mark is behind. Only the last batch may
// then pass for a torn write.
func TestStaleMark(t *testing.T) {
	src := memoryDir(t)
	j, _ := mustOpen(t, src)
	stale := files(t, src)[markName]
	var want [][]byte
	for i := range 6 {
		batch := [][]byte{record(2*i, 100), record(2*i+1, 900)}
		want = append(want, batch...)
		if _, err := j.AppendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, j)
	sane := files(t, src)
	sane[markName] = stale
	var name string
	for n := range sane {
		if strings.HasSuffix(n, ".wal") {
			name = n
		}
	}
	t.Run("whole", func(t *testing.T) {
		dir := memoryDir(t)
		put(t, dir, sane)
		_, m := mustOpen(t, dir)
		wantRecords(t, m.records, want)
	})
	for i, r := range want {
		at := bytes.Index(sane[name], r)
		if at < 0 {
			t.Fatal("a record is not in the file as it is")
		}
		// A torn write leaves zeros where it did not come.
		for what, hurt := range map[string]func(b []byte){
			"flip":   func(b []byte) { b[at] ^= 4 },
			"length": func(b []byte) { clear(b[at-envelopeSize-16 : at]) },
			"torn":   func(b []byte) { clear(b[at : at+len(r)]) },
		} {
			b := bytes.Clone(sane[name])
			hurt(b)
			dir := memoryDir(t)
			put(t, dir, sane)
			put(t, dir, map[string][]byte{name: b})
			m := &memory{}
			j, err := Open(t.Context(), Options{Dir: dir}, m)
			var corrupt *CorruptError
			last := i >= len(want)-2
			switch {
			case !last && !errors.As(err, &corrupt):
				t.Errorf("%s in record %d of %d gives %v, %d records", what, i+1, len(want), err, len(m.records))
			case last && err != nil:
				t.Errorf("%s in the last batch gives %v", what, err)
			case last:
				if len(m.records) < len(want)-3 {
					t.Errorf("%s in record %d leaves %d records", what, i+1, len(m.records))
				}
				wantRecords(t, m.records, want[:len(m.records)])
			}
			if err == nil {
				next := record(99, 50)
				if _, err := j.Append(t.Context(), next); err != nil {
					t.Error(err)
				}
				mustClose(t, j)
				_, again := mustOpen(t, dir)
				wantRecords(t, again.records, append(m.records, next))
			}
		}
	}
}

// TestPlaceOfDamage looks for the file and offset in the error, also where etcd's log would
// take a length of zero for the end.
func TestPlaceOfDamage(t *testing.T) {
	s := samples(t)["no snapshot"]
	const name = "log/0000000000000000-0000000000000000.wal"
	whole := memoryDir(t)
	put(t, whole, s.files)
	p := &position{}
	_, err := readSegment(segment{path: filepath.Join(whole, name), first: 1}, p, func(e envelope) (bool, error) {
		return e.index < 9, nil
	})
	if err == nil && p.last != 9 {
		err = fmt.Errorf("read up to record %d", p.last)
	}
	if err != nil {
		t.Fatal(err)
	}
	at := int(p.offset) // of record 10
	for what, hurt := range map[string]func(b []byte){
		"length of zero": func(b []byte) { clear(b[at : at+8]) },
		"zeros":          func(b []byte) { clear(b[at : at+250]) },
		"bit":            func(b []byte) { b[at+60] ^= 1 },
	} {
		b := bytes.Clone(s.files[name])
		hurt(b)
		dir := memoryDir(t)
		put(t, dir, s.files)
		put(t, dir, map[string][]byte{name: b})
		j, err := Open(t.Context(), Options{Dir: dir}, &memory{})
		if j != nil {
			mustClose(t, j)
		}
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != filepath.Join(dir, name) || corrupt.Offset != int64(at) {
			t.Errorf("%s at byte %d: %v", what, at, err)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	s := samples(t)["killed"]
	for name := range s.files {
		dir := memoryDir(t)
		put(t, dir, s.files)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		m := &memory{}
		j, err := Open(t.Context(), Options{Dir: dir}, m)
		var corrupt *CorruptError
		switch harmless := name == lockName || name == markName || strings.HasSuffix(name, tmpSuffix); {
		case err == nil:
			wantRecords(t, m.records, s.want)
			mustClose(t, j)
		case harmless || !errors.As(err, &corrupt):
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestFilesOfAnotherJournal(t *testing.T) {
	s := samples(t)
	a, b := s["closed"], s["killed"]
	for name := range a.files {
		if _, both := b.files[name]; !both || name == lockName {
			continue
		}
		dir := memoryDir(t)
		put(t, dir, a.files)
		put(t, dir, map[string][]byte{name: b.files[name]})
		var corrupt *CorruptError
		if j, err := Open(t.Context(), Options{Dir: dir}, &memory{}); !errors.As(err, &corrupt) {
			t.Errorf("with another journal's %s: %v", name, err)
			if j != nil {
				mustClose(t, j)
			}
		}
	}
}

// TestForgedRecord puts what looks like a record of a journal into a record: it must not
// pass as one that vouches for others.
func TestForgedRecord(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	forged := envelope{index: 1000, base: 999, record: []byte("x")}.append(nil, journalID{})
	if _, err := j.Append(t.Context(), []byte("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	all := files(t, dir)
	for name, b := range all {
		if at := bytes.Index(b, forged); at > 0 {
			b[at-1] ^= 1 // its length in the envelope
			put(t, dir, map[string][]byte{name: b})
		}
	}
	if err := os.Remove(filepath.Join(dir, markName)); err != nil {
		t.Fatal(err)
	}
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, [][]byte{[]byte("first")})
}

// TestSnapshotFileRefused has snapshots that no flipped bit makes.
func TestSnapshotFileRefused(t *testing.T) {
	s := samples(t)["closed"]
	name := snapName(25)
	var id journalID
	copy(id[:], s.files[name][8:])
	counted := func(n uint64) []byte {
		var buf bytes.Buffer
		w, err := newSnapWriter(&buf, id, 25)
		for _, r := range s.want[:25] {
			err = errors.Join(err, w.record(r))
		}
		w.count = n
		if err = errors.Join(err, w.end()); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for what, c := range map[string]struct {
		b    []byte
		sane bool
	}{
		"as it was":             {counted(25), true},
		"too many counted":      {counted(26), false},
		"too few counted":       {counted(24), false},
		"a byte behind its end": {append(counted(25), 0), false},
		"twice":                 {append(counted(25), counted(25)...), false},
		"of another record":     {snapBytes(t, id, 24, s.want[:24]), false},
		"of another journal":    {snapBytes(t, journalID{1}, 25, s.want[:25]), false},
		"a record that is huge": {binary.LittleEndian.AppendUint32(counted(25)[:snapHeader:snapHeader], snapEnd-1), false},
		"empty":                 {nil, false},
	} {
		dir := memoryDir(t)
		put(t, dir, s.files)
		put(t, dir, map[string][]byte{name: c.b})
		m := &memory{}
		j, err := Open(t.Context(), Options{Dir: dir}, m)
		if j != nil {
			mustClose(t, j)
		}
		var corrupt *CorruptError
		switch {
		case c.sane && err != nil, !c.sane && !errors.As(err, &corrupt):
			t.Errorf("%s: %v", what, err)
		case c.sane:
			wantRecords(t, m.records, s.want)
		case corrupt.File != filepath.Join(dir, name):
			t.Errorf("%s: the damage is said to be in %s", what, corrupt.File)
		}
	}
}
