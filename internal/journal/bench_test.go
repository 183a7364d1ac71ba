package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

const benchRecord = 900

// rawSync writes and syncs n times as many bytes as a record has, into space that is
// already there, and returns the time of one.
func rawSync(b *testing.B, n int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, segmentBytes); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	buf := record(1, benchRecord)
	start := time.Now()
	at := int64(0)
	for range n {
		if _, err := f.WriteAt(buf, at); err != nil {
			b.Fatal(err)
		}
		if at += int64(len(buf)); at+int64(len(buf)) > segmentBytes {
			at = 0
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(n)
}

func BenchmarkRawSync(b *testing.B) {
	d := rawSync(b, b.N)
	b.ReportMetric(float64(time.Second)/float64(d), "syncs/s")
}

// BenchmarkAppend appends one record per call and reports how many times as fast that is
// as a bare write and sync for each, measured before and after in the same run.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			j, err := Open(b.Context(), Options{Dir: b.TempDir()}, &memory{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			r := record(1, benchRecord)
			raws := min(max(b.N/callers, 20), 500)
			raw := rawSync(b, raws)
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range callers {
				n := b.N / callers
				if c < b.N%callers {
					n++
				}
				wg.Go(func() {
					for range n {
						if _, err := j.Append(b.Context(), r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			raw = (raw + rawSync(b, raws)) / 2
			s := j.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(b.N)*raw.Seconds()/b.Elapsed().Seconds(), "x-raw")
			b.ReportMetric(float64(s.Records)/float64(max(s.Syncs, 1)), "records/sync")
		})
	}
}
