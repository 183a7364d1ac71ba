package memdb

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/gcroom"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

// sizes are the numbers of nodes; only the smallest with VAGOTH_BENCH=small.
func sizes() []int {
	if os.Getenv("VAGOTH_BENCH") == "small" {
		return []int{10_000}
	}
	return []int{10_000, 100_000, 1_000_000}
}

// fill makes n sample nodes, many to an Update.
func fill(b *testing.B, r registry.Registry, n int) {
	b.Helper()
	const many = 15
	for i := 0; i < n; i += many {
		err := r.Update(b.Context(), func(tx registry.Tx) error {
			for k := i; k < min(i+many, n); k++ {
				if _, err := tx.Create(registrytest.Sample(k)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store whose snapshot holds all nodes.
func BenchmarkOpen(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			filled := openBench(b, dir)
			fill(b, filled, n)
			begin := time.Now()
			if err := filled.Close(); err != nil { // with a snapshot
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(begin).Seconds(), "snapshot-s")
			filled = nil
			runtime.GC()
			b.ResetTimer()
			for range b.N {
				db := openBench(b, dir)
				b.StopTimer()
				if got := db.Stats().Nodes; got != n {
					b.Fatalf("%d nodes, want %d", got, n)
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "open-s")
		})
	}
}

// openBench opens the store as it is configured by default.
func openBench(b *testing.B, dir string) *DB {
	b.Helper()
	c := Defaults()
	c.Path = component.Path(dir)
	db, err := Open(b.Context(), c, registry.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// rawSyncs measures how many appends of one record, each with its own sync, this
// machine's disk takes in a second.
func rawSyncs(b *testing.B, dir string) float64 {
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rec := make([]byte, 400)
	// Written once, so that what is measured does not extend the file.
	for range 4000 {
		if _, err := f.Write(rec); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	begin, n := time.Now(), 0
	for ; n < 4000 && time.Since(begin) < 500*time.Millisecond; n++ {
		if _, err := f.WriteAt(rec, int64(n*len(rec))); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(f); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(begin).Seconds()
}

// BenchmarkCreate makes synced nodes with several callers at once.
func BenchmarkCreate(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			defer gcroom.Take().Release() // as the daemon does
			dir := b.TempDir()
			db := openBench(b, dir)
			defer db.Close()
			before := rawSyncs(b, dir)
			var next atomic.Int64
			var wg sync.WaitGroup
			ctx := b.Context()
			drafts := make([]registry.Draft, b.N)
			for i := range drafts {
				drafts[i] = registrytest.Sample(i)
				drafts[i].Parent = ""
			}
			b.ReportAllocs()
			runtime.GC()
			b.ResetTimer()
			began := processorTime()
			for range callers {
				wg.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= b.N {
							return
						}
						if _, err := registry.Create(ctx, db, drafts[i]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			used := processorTime() - began
			raw := (before + rawSyncs(b, dir)) / 2
			rate := float64(b.N) / b.Elapsed().Seconds()
			s := db.Stats()
			b.ReportMetric(rate, "creates/s")
			b.ReportMetric(raw, "raw-syncs/s")
			b.ReportMetric(rate/raw, "ratio")
			b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			b.ReportMetric(float64(s.Commits)/float64(s.Syncs), "creates/sync")
		})
	}
}
