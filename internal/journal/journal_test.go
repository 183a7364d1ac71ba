package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/lockfile"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		appendUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// memory is the model: the records of a journal, in order, whatever came from a snapshot.
type memory struct {
	records  [][]byte
	snapshot uint64
}

func (m *memory) Restore(index uint64, records iter.Seq2[[]byte, error]) error {
	for r, err := range records {
		if err != nil {
			return err
		}
		m.records = append(m.records, bytes.Clone(r))
	}
	if uint64(len(m.records)) != index {
		return fmt.Errorf("snapshot of %d has %d records", index, len(m.records))
	}
	m.snapshot = index
	return nil
}

func (m *memory) Replay(index uint64, r []byte) error {
	if index != uint64(len(m.records))+1 {
		return fmt.Errorf("record %d after %d", index, len(m.records))
	}
	m.records = append(m.records, bytes.Clone(r))
	return nil
}

// all gives records as a snapshot's sequence.
func all(records [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func mustOpen(t testing.TB, dir string) (*Journal, *memory) {
	t.Helper()
	m := &memory{}
	j, err := Open(t.Context(), Options{Dir: dir}, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, m
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func record(i int, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 7))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return append([]byte(fmt.Sprintf("record %d ", i)), b...)
}

func wantRecords(t testing.TB, got, want [][]byte) {
	t.Helper()
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("found %d records, want %d, or their content differs", len(got), len(want))
	}
}

func TestAppendAndOpenAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "journal")
	var want [][]byte
	for round := range 4 {
		j, m := mustOpen(t, dir)
		wantRecords(t, m.records, want)
		if got := j.Stats().LastIndex; got != uint64(len(want)) {
			t.Fatalf("round %d: last index %d, want %d", round, got, len(want))
		}
		for i := range 20 {
			r := record(len(want), i*13)
			last, err := j.Append(t.Context(), r)
			if err != nil || last != uint64(len(want))+1 {
				t.Fatalf("append: %d, %v", last, err)
			}
			want = append(want, r)
		}
		batch := [][]byte{{}, record(len(want)+1, 3), record(len(want)+2, 5000)}
		last, err := j.AppendBatch(t.Context(), batch)
		if err != nil || last != uint64(len(want)+3) {
			t.Fatalf("batch: %d, %v", last, err)
		}
		want = append(want, batch...)
		mustClose(t, j)
	}
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, dir)
	if _, err := j.Append(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := j.WriteSnapshot(t.Context(), 1, all([][]byte{[]byte("x")})); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestManySegments(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	var want [][]byte
	for i := range 60 {
		r := record(i, 300_000)
		if _, err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	segs, err := listSegments(filepath.Join(dir, logName))
	if err != nil || len(segs) < 4 {
		t.Fatalf("%d segments, %v", len(segs), err)
	}
	mustClose(t, j)
	j, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)

	if err := j.WriteSnapshot(t.Context(), 50, all(want[:50])); err != nil {
		t.Fatal(err)
	}
	after, err := listSegments(filepath.Join(dir, logName))
	if err != nil || len(after) >= len(segs) {
		t.Fatalf("a snapshot left %d of %d segments, %v", len(after), len(segs), err)
	}
	r := record(60, 10)
	if _, err := j.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want = append(want, r)
	mustClose(t, j)
	j, m = mustOpen(t, dir)
	wantRecords(t, m.records, want)
	if m.snapshot != 50 {
		t.Errorf("snapshot %d, want 50", m.snapshot)
	}
	mustClose(t, j)

	if err := os.Remove(filepath.Join(dir, snapName(50))); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := Open(t.Context(), Options{Dir: dir}, &memory{}); !errors.As(err, &corrupt) {
		t.Errorf("without its snapshot: %v", err)
	}
}

func TestSnapshots(t *testing.T) {
	dir := memoryDir(t)
	var want [][]byte
	for round := range 5 {
		j, m := mustOpen(t, dir)
		wantRecords(t, m.records, want)
		if round > 0 && m.snapshot != uint64(round*10-3) {
			t.Errorf("round %d began with snapshot %d", round, m.snapshot)
		}
		for range 10 {
			want = append(want, record(len(want), 100))
			if _, err := j.Append(t.Context(), want[len(want)-1]); err != nil {
				t.Fatal(err)
			}
		}
		at := len(want) - 3
		if err := j.WriteSnapshot(t.Context(), uint64(at), all(want[:at])); err != nil {
			t.Fatal(err)
		}
		if s := j.Stats(); s.SnapshotIndex != uint64(at) {
			t.Errorf("stats %+v", s)
		}
		mustClose(t, j)
		if snaps, err := listSnapshots(dir); err != nil || len(snaps) != 1 {
			t.Errorf("%d snapshots, %v", len(snaps), err)
		}
	}
}

func TestSnapshotRefused(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	want := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	if _, err := j.AppendBatch(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := j.WriteSnapshot(t.Context(), 2, all(want[:2])); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		index   uint64
		records iter.Seq2[[]byte, error]
		want    error
	}{
		"not appended yet":      {t.Context(), 4, all(want), nil},
		"older than the last":   {t.Context(), 1, all(want[:1]), nil},
		"the sequence fails":    {t.Context(), 3, func(y func([]byte, error) bool) { _ = y([]byte("a"), nil) && y(nil, boom) }, boom},
		"the context has ended": {cancelled, 3, all(want), context.Canceled},
	} {
		err := j.WriteSnapshot(c.ctx, c.index, c.records)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustClose(t, j)
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
	if m.snapshot != 2 {
		t.Errorf("snapshot %d, want 2", m.snapshot)
	}
}

func TestLimits(t *testing.T) {
	dir := memoryDir(t)
	j, err := Open(t.Context(), Options{Dir: dir, MaxRecord: 100}, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var large *TooLargeError
	if _, err := j.Append(t.Context(), make([]byte, 10), make([]byte, 101)); !errors.As(err, &large) || large.Size != 101 {
		t.Errorf("got %v", err)
	}
	if _, err := j.AppendBatch(t.Context(), [][]byte{make([]byte, 101)}); !errors.As(err, &large) {
		t.Errorf("got %v", err)
	}
	if s := j.Stats(); s.Records != 0 || s.Syncs != 0 || s.LastIndex != 0 {
		t.Errorf("a refused record left %+v", s)
	}
	if last, err := j.AppendBatch(t.Context(), nil); err != nil || last != 0 || j.Stats().Syncs != 0 {
		t.Errorf("nothing to append: %d, %v, %+v", last, err, j.Stats())
	}
	if _, err := j.Append(t.Context(), make([]byte, 100)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Append(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, o := range []Options{{}, {Dir: dir, MaxRecord: MaxRecord + 1}, {Dir: dir, SnapshotEvery: -1}} {
		if _, err := Open(t.Context(), o, &memory{}); err == nil {
			t.Errorf("options %+v were taken", o)
		}
	}
}

func TestLargestRecord(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	want := [][]byte{[]byte("before"), bytes.Repeat([]byte("0123456789abcdef"), MaxRecord/16), []byte("after")}
	for _, r := range want {
		if _, err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, j)
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
}

// A large snapshot is not written again for a little log, whether this process wrote it or
// an earlier one.
func TestALargeSnapshotIsGoodForLonger(t *testing.T) {
	dir := t.TempDir()
	var j *Journal
	reopen := func() {
		t.Helper()
		if j != nil {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if j, err = Open(t.Context(), Options{Dir: dir, SnapshotEvery: 1000}, &memory{}); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	appendBytes := func(n int) {
		t.Helper()
		if _, err := j.Append(t.Context(), make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := func(n int) {
		t.Helper()
		err := j.WriteSnapshot(t.Context(), j.Stats().LastIndex, func(yield func([]byte, error) bool) { yield(make([]byte, n), nil) })
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(dir, snapName(j.Stats().LastIndex)))
		if err != nil || fi.Size() != j.Stats().SnapshotBytes {
			t.Fatalf("the snapshot's size is said to be %d: %v", j.Stats().SnapshotBytes, err)
		}
	}
	appendBytes(1000)
	snapshot(10_000)
	for _, want := range []bool{false, false, false, false, true} { // 4 * 1000 are less than half, 5 * are not
		reopen()
		appendBytes(1000)
		if got := j.NeedsSnapshot(); got != want {
			t.Fatalf("after %d bytes of log since a snapshot of %d NeedsSnapshot is %v", j.Stats().BytesSinceSnapshot, j.Stats().SnapshotBytes, got)
		}
	}
	snapshot(100)
	appendBytes(1000)
	if !j.NeedsSnapshot() {
		t.Fatalf("a small snapshot is good for %d bytes of log", j.Stats().BytesSinceSnapshot)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	for _, c := range []struct{ every, snapshot, want int64 }{
		{64, 0, 64}, {64, 128, 64}, {64, 130, 65}, {64, 800, 400}, {64, 5000, 512}, {1024, 5000, 1024},
	} {
		if got := dueAfter(c.every*mib, c.snapshot*mib); got != c.want*mib {
			t.Errorf("with %d MiB at least, a snapshot of %d MiB is good for %d", c.every, c.snapshot, got/mib)
		}
	}
}

func TestNeedsSnapshot(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), SnapshotEvery: 1000}, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	want := [][]byte{make([]byte, 600), make([]byte, 600)}
	for i, r := range want {
		if _, err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := j.NeedsSnapshot(); got != (i == 1) {
			t.Errorf("after %d records NeedsSnapshot is %v", i+1, got)
		}
	}
	if err := j.WriteSnapshot(t.Context(), 2, all(want)); err != nil {
		t.Fatal(err)
	}
	if j.NeedsSnapshot() {
		t.Error("still true after a snapshot")
	}
}

func TestLockedAndClosed(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	var held *lockfile.HeldError
	if _, err := Open(t.Context(), Options{Dir: dir}, &memory{}); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("opened twice: %v", err)
	}
	again := make(chan error, 1)
	go func() {
		j, err := Open(context.Background(), Options{Dir: dir, LockWait: time.Minute}, &memory{})
		if err == nil {
			err = j.Close()
		}
		again <- err
	}()
	mustClose(t, j)
	mustClose(t, j)
	if err := <-again; err != nil {
		t.Errorf("the one who waited: %v", err)
	}
	if _, err := j.Append(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := j.AppendBatch(t.Context(), [][]byte{nil}); !errors.Is(err, ErrClosed) {
		t.Errorf("AppendBatch: %v", err)
	}
	if err := j.WriteSnapshot(t.Context(), 0, all(nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("WriteSnapshot: %v", err)
	}
}

// failing is a loader that does not like what it gets.
type failing struct{ memory }

var errLoader = errors.New("not understood")

func (*failing) Replay(uint64, []byte) error { return errLoader }

func TestLoaderRefuses(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	if _, err := j.Append(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	if _, err := Open(t.Context(), Options{Dir: dir}, &failing{}); !errors.Is(err, errLoader) {
		t.Fatalf("got %v", err)
	}
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, [][]byte{[]byte("x")})
}

func TestConcurrentAppendsShareSyncs(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	const callers, each = 32, 20
	got := make([][]uint64, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				last, err := j.Append(context.Background(), fmt.Appendf(nil, "%d/%d", c, i), fmt.Appendf(nil, "%d/%d+", c, i))
				if err != nil {
					t.Error(err)
					return
				}
				got[c] = append(got[c], last)
			}
		})
	}
	wg.Wait()
	s := j.Stats()
	if s.Records != callers*each*2 || s.LastIndex != callers*each*2 {
		t.Errorf("stats %+v", s)
	}
	if s.Syncs*2 > callers*each {
		t.Errorf("%d syncs for %d calls of %d callers", s.Syncs, callers*each, callers)
	}
	mustClose(t, j)
	_, m := mustOpen(t, dir)
	for c := range callers {
		for i, last := range got[c] {
			if string(m.records[last-1]) != fmt.Sprintf("%d/%d+", c, i) || string(m.records[last-2]) != fmt.Sprintf("%d/%d", c, i) {
				t.Fatalf("caller %d was told that call %d ends at %d, where %q is", c, i, last, m.records[last-1])
			}
		}
	}
}

func TestSnapshotWhileAppending(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	var want [][]byte
	var mu sync.Mutex
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			r := record(i, 20_000)
			if _, err := j.Append(context.Background(), r); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			want = append(want, r)
			mu.Unlock()
		}
	})
	for range 10 {
		mu.Lock()
		part := want[:len(want):len(want)]
		mu.Unlock()
		if err := j.WriteSnapshot(t.Context(), uint64(len(part)), all(part)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	mustClose(t, j)
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
}
