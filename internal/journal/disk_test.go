package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/internal/smalldisk"
	"github.com/vagoth/vagoth/internal/testlong"
)

// TestPowerCut cuts the power of the disk while callers append and snapshots are written.
func TestPowerCut(t *testing.T) {
	disk := powercut.New(t, 64)
	dir := filepath.Join(disk.Dir(), "journal")
	r := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 3))
	var acknowledged uint64
	for round := range testlong.Count(t, 50) {
		c := &counting{}
		j, err := Open(t.Context(), Options{Dir: dir}, c)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if c.n < acknowledged {
			t.Fatalf("round %d: record %d was acknowledged, the journal ends with %d", round, acknowledged, c.n)
		}
		acknowledged = c.n
		enough := uint64(r.IntN(400))
		target := c.n + enough
		reached := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(reached)
			for n := c.n; ; {
				batch := make([][]byte, 1+n%5)
				for i := range batch {
					n++
					batch[i] = crashRecord(n)
				}
				last, err := j.AppendBatch(context.Background(), batch)
				if err != nil {
					if _, again := j.AppendBatch(context.Background(), batch); !errors.Is(err, ErrFailed) || !errors.Is(again, ErrFailed) {
						t.Errorf("after the power was cut: %v, then %v", err, again)
					}
					return
				}
				acknowledged = last
				if last >= target {
					select {
					case reached <- struct{}{}:
					default:
					}
				}
				if last%7 == 0 {
					_ = j.WriteSnapshot(context.Background(), last, all([][]byte{binary.LittleEndian.AppendUint64(nil, last)}))
				}
			}
		})
		<-reached
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) // the moment is random, nothing waits for it
		disk.Cut()
		wg.Wait()
		_ = j.Close()
		disk.Remount()
	}
	t.Logf("%d records survived", acknowledged)
}

func TestFullDisk(t *testing.T) {
	disk := smalldisk.New(t)
	dir, ballast := filepath.Join(disk, "journal"), filepath.Join(disk, "ballast")
	j, _ := mustOpen(t, dir)
	var want [][]byte
	for round := range 3 {
		smalldisk.Fill(t, ballast)
		refused := 0
		for i := 0; refused < 3; i++ {
			if i > 1000 {
				t.Fatal("a full disk takes everything")
			}
			r := record(len(want), 100_000)
			last, err := j.Append(t.Context(), r)
			if err == nil {
				if want = append(want, r); last != uint64(len(want)) {
					t.Fatalf("round %d: index %d, want %d", round, last, len(want))
				}
				continue
			}
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFailed) {
				t.Fatalf("round %d: a full disk gives %v", round, err)
			}
			refused++
		}
		if err := j.WriteSnapshot(t.Context(), uint64(len(want)), all(want)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("round %d: a snapshot on a full disk: %v", round, err)
		}
		if round == 1 { // opening does not need space
			mustClose(t, j)
			smalldisk.Fill(t, filepath.Join(disk, "more"))
			var m *memory
			j, m = mustOpen(t, dir)
			wantRecords(t, m.records, want)
			if err := os.Remove(filepath.Join(disk, "more")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r := record(len(want), 100)
			if _, err := j.Append(t.Context(), r); err != nil {
				t.Fatalf("round %d: with space again: %v", round, err)
			}
			want = append(want, r)
		}
		mustClose(t, j)
		var m *memory
		j, m = mustOpen(t, dir)
		wantRecords(t, m.records, want)
		// Make room for the next round.
		if err := j.WriteSnapshot(t.Context(), uint64(len(want)), all(want)); err != nil {
			t.Logf("round %d: %v", round, err)
		}
	}
}

// TestSpaceAgain fills the disk while the next segment is made in advance, which fails
// unseen; once there is space again that failure must not reach a caller.
func TestSpaceAgain(t *testing.T) {
	disk := smalldisk.New(t)
	dir, ballast := filepath.Join(disk, "journal"), filepath.Join(disk, "ballast")
	j, _ := mustOpen(t, dir)
	mustClose(t, j)
	smalldisk.Fill(t, ballast)
	j, _ = mustOpen(t, dir)
	var want [][]byte
	add := func(n int) {
		t.Helper()
		for range n {
			r := record(len(want), 100_000)
			if _, err := j.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			want = append(want, r)
		}
	}
	add(30)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	add(30)
	mustClose(t, j)
	_, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
}

// TestFailed makes the note of a synced batch fail: its caller was not acknowledged, and
// nobody is until the journal is opened again.
func TestFailed(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir)
	if _, err := j.Append(t.Context(), []byte("first")); err != nil {
		t.Fatal(err)
	}
	sane := j.mark.f
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	j.mark.f = closed
	if _, err := j.Append(t.Context(), []byte("second")); !errors.Is(err, ErrFailed) || !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	j.mark.f = sane
	if _, err := j.Append(t.Context(), []byte("third")); !errors.Is(err, ErrFailed) {
		t.Errorf("a failed journal took a record: %v", err)
	}
	if err := j.WriteSnapshot(t.Context(), 1, all([][]byte{[]byte("first")})); !errors.Is(err, ErrFailed) {
		t.Errorf("a failed journal took a snapshot: %v", err)
	}
	if s := j.Stats(); s.LastIndex != 1 || s.Records != 1 {
		t.Errorf("stats %+v", s)
	}
	_ = j.Close()
	j, m := mustOpen(t, dir)
	if len(m.records) > 2 || string(m.records[0]) != "first" {
		t.Errorf("found %q", m.records)
	}
	if _, err := j.Append(t.Context(), []byte("fourth")); err != nil {
		t.Error(err)
	}
}

// TestRewind cuts off what was written, even synced, but not acknowledged.
func TestRewind(t *testing.T) {
	for name, c := range map[string]struct {
		before, size, lost int
	}{
		"in the first segment":        {3, 100, 4},
		"nothing before":              {0, 100, 2},
		"over several segments":       {3, 1 << 20, 11},
		"all since a segment's start": {4, 1<<20 + 1000, 1},
		"nothing lost":                {3, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			j, _ := mustOpen(t, dir)
			var want [][]byte
			for i := range c.before {
				want = append(want, record(i, c.size))
				if _, err := j.Append(t.Context(), want[i]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range c.lost {
				if _, err := save(j.w, j.id, uint64(c.before+i), [][]byte{record(1000+i, c.size)}, nil); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := j.rewind(syscall.ENOSPC); err != nil {
					t.Fatal(err)
				}
				want = append(want, record(len(want), c.size))
				if _, err := j.Append(t.Context(), want[len(want)-1]); err != nil {
					t.Fatal(err)
				}
			}
			mustClose(t, j)
			_, m := mustOpen(t, dir)
			wantRecords(t, m.records, want)
		})
	}
}
