// Package benchdisk measures what the disk can do beside a benchmark, whose
// figures mean little without it where a machine's disk is shared.
package benchdisk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// size is how much of the disk is written to, again and again.
const size = 8 << 20

// Sync is how long it takes to write and sync as many bytes as a job has, into
// space that is already there: the mean of n times.
func Sync(tb testing.TB, n int) time.Duration {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "raw"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		tb.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
	buf := make([]byte, 600)
	start := time.Now()
	for i := range n {
		if _, err := f.WriteAt(buf, int64(i*len(buf))%(size-int64(len(buf)))); err != nil {
			tb.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			tb.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(n)
}
