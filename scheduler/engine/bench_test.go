package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	gosync "sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// small is whether the smallest sizes are enough, as in the tests of every
// commit.
func small() bool { return os.Getenv("VAGOTH_BENCH") == "small" }

// rawSync writes and syncs n times as many bytes as a job has, into space that is
// already there: what the machine can do in the same minute.
func rawSync(b *testing.B, n int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 8 << 20
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 600)
	start := time.Now()
	for i := range n {
		if _, err := f.WriteAt(buf, int64(i*len(buf))%(size-int64(len(buf)))); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(n)
}

func benchConfig() Config {
	cfg := Defaults()
	cfg.MaxQueued = 10_000_000
	cfg.HistoryCount = 1_000_000
	cfg.Queues = map[string]QueueConfig{"r-*": {Remote: true}}
	return cfg
}

func benchOpen(b *testing.B) *Engine {
	b.Helper()
	br, err := onDisk(b.Context(), benchConfig(), scheduler.Deps{Data: b.TempDir()}, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := br.Close(); err != nil {
			b.Error(err)
		}
	})
	return br
}

func benchJob(queue string) scheduler.Job {
	return scheduler.Job{Queue: queue, Action: "far", Params: registry.TrustedDocument(`{"name":"volume","size":10}`)}
}

// ways lets callers take jobs through submit, next and complete, one job at a
// time each on a queue of its own, and reports what that cost.
func ways(b *testing.B, br *Engine, callers int) {
	raw := rawSync(b, 500)
	before, err := br.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	used := processorTime(b)
	b.ResetTimer()
	var wg gosync.WaitGroup
	for c := range callers {
		n := b.N / callers
		if c < b.N%callers {
			n++
		}
		wg.Go(func() {
			if err := way(b.Context(), br, fmt.Sprint("r-way-", c), n); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	used = processorTime(b) - used
	raw = (raw + rawSync(b, 500)) / 2
	after, err := br.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(time.Second)/float64(raw), "raw-syncs/s")
	b.ReportMetric(float64(after.Bytes-before.Bytes)/float64(b.N), "B/job")
	b.ReportMetric(float64(b.N)/float64(max(after.Syncs-before.Syncs, 1)), "jobs/sync")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/job")
}

// processorTime is what this process has used. It tells more than the speed on a
// machine that others use too.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func way(ctx context.Context, br *Engine, queue string, n int) error {
	want := scheduler.Want{Worker: "w", Queues: []string{queue}}
	for range n {
		if _, err := br.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{benchJob(queue)}}); err != nil {
			return err
		}
		list, err := br.Next(ctx, want)
		if err != nil || len(list) != 1 {
			return fmt.Errorf("next gave %d jobs, %w", len(list), err)
		}
		if _, errs := br.Complete(ctx, scheduler.Completion{Hold: list[0].Hold}); errs[0] != nil {
			return errs[0]
		}
	}
	return nil
}

// fillBlocked queues n jobs that wait for one that nobody ends, before whatever
// comes, in the queues that are given.
func fillBlocked(b *testing.B, br *Engine, n int, queues ...string) {
	b.Helper()
	never := benchJob("never")
	never.ID, never.Queue = "never", "r-never"
	if _, err := br.Submit(b.Context(), scheduler.Package{Jobs: []scheduler.Job{never}}); err != nil {
		b.Fatal(err)
	}
	if list, err := br.Next(b.Context(), scheduler.Want{Queues: []string{"r-never"}, Lease: scheduler.Span(time.Hour)}); err != nil || len(list) != 1 {
		b.Fatal(list, err)
	}
	for done := 0; done < n; {
		var p scheduler.Package
		for len(p.Jobs) < 5000 && done < n {
			j := benchJob(queues[done%len(queues)])
			j.After = []scheduler.Dependency{{ID: "never"}}
			p.Jobs = append(p.Jobs, j)
			done++
		}
		if _, err := br.Submit(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
}

// fillHistory lets n jobs succeed.
func fillHistory(b *testing.B, br *Engine, n int) {
	b.Helper()
	ctx := b.Context()
	for done := 0; done < n; {
		var p scheduler.Package
		for len(p.Jobs) < 1000 && done < n {
			p.Jobs = append(p.Jobs, benchJob(fmt.Sprint("r-old-", len(p.Jobs))))
			done++
		}
		if _, err := br.Submit(ctx, p); err != nil {
			b.Fatal(err)
		}
		list, err := br.Next(ctx, scheduler.Want{Max: 1000})
		if err != nil || len(list) != len(p.Jobs) {
			b.Fatal(len(list), err)
		}
		ends := make([]scheduler.Completion, len(list))
		for i, l := range list {
			ends[i].Hold = l.Hold
		}
		if _, errs := br.Complete(ctx, ends...); errs[0] != nil {
			b.Fatal(errs[0])
		}
	}
	runtime.GC()
}

func BenchmarkJobs(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { ways(b, benchOpen(b), callers) })
	}
}

// mine are the queues of the 16 callers of ways.
func mine() []string {
	var list []string
	for c := range 16 {
		list = append(list, fmt.Sprint("r-way-", c))
	}
	return list
}

func BenchmarkJobsBehindBlocked(b *testing.B) {
	n := 100_000
	if small() {
		n = 1000
	}
	b.Run(fmt.Sprintf("blocked=%d", n), func(b *testing.B) {
		br := benchOpen(b)
		fillBlocked(b, br, n, mine()...)
		ways(b, br, 16)
	})
}

func BenchmarkJobsAfterHistory(b *testing.B) {
	n := 300_000
	if small() {
		n = 1000
	}
	b.Run(fmt.Sprintf("history=%d", n), func(b *testing.B) {
		br := benchOpen(b)
		fillHistory(b, br, n)
		ways(b, br, 16)
	})
}

// BenchmarkPackages submits packages of ten jobs over four queues, and takes and
// completes up to ten at a time.
func BenchmarkPackages(b *testing.B) {
	const callers = 16
	br := benchOpen(b)
	raw := rawSync(b, 500)
	used := processorTime(b)
	b.ResetTimer()
	var wg gosync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			ctx := b.Context()
			queues := []string{fmt.Sprintf("r-%d-a", c), fmt.Sprintf("r-%d-b", c), fmt.Sprintf("r-%d-c", c), fmt.Sprintf("r-%d-d", c)}
			for done := 0; done < b.N/callers; done += 10 {
				var p scheduler.Package
				for i := range 10 {
					p.Jobs = append(p.Jobs, benchJob(queues[i%4]))
				}
				if _, err := br.Submit(ctx, p); err != nil {
					b.Error(err)
					return
				}
				for left := 10; left > 0; {
					list, err := br.Next(ctx, scheduler.Want{Queues: queues, Max: 10})
					if err != nil || len(list) == 0 {
						b.Error(len(list), err)
						return
					}
					ends := make([]scheduler.Completion, len(list))
					for i, l := range list {
						ends[i].Hold = l.Hold
					}
					_, errs := br.Complete(ctx, ends...)
					if errs[0] != nil {
						b.Error(errs[0])
						return
					}
					left -= len(list)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	used = processorTime(b) - used
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(time.Second)/float64(raw), "raw-syncs/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/job")
}

// BenchmarkNext asks for the one job that can begin, behind n that cannot, gives
// it back and asks again.
func BenchmarkNext(b *testing.B) {
	sizes := []int{10_000, 100_000, 1_000_000}
	if small() {
		sizes = []int{1000}
	}
	for _, n := range sizes {
		b.Run(fmt.Sprintf("queued=%d", n), func(b *testing.B) {
			br := Memory(benchConfig(), scheduler.Deps{})
			defer br.Close()
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			fillBlocked(b, br, n, "r-q")
			runtime.ReadMemStats(&after)
			if _, err := br.Submit(b.Context(), scheduler.Package{Jobs: []scheduler.Job{benchJob("r-q")}}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				list, err := br.Next(b.Context(), scheduler.Want{Queues: []string{"r-q"}})
				if err != nil || len(list) != 1 {
					b.Fatal(len(list), err)
				}
				if err := br.HandBack(b.Context(), list[0].Hold, ""); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/queued")
		})
	}
}

// BenchmarkIdle has 5,000 workers wait, and reports what that writes.
func BenchmarkIdle(b *testing.B) {
	n := 5000
	if small() {
		n = 100
	}
	br := benchOpen(b)
	before, err := br.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ctx, stop := context.WithCancel(b.Context())
		var wg gosync.WaitGroup
		for i := range n {
			wg.Go(func() {
				want := scheduler.Want{Wait: scheduler.Span(time.Minute)}
				if i%2 == 0 {
					want.Queues = []string{fmt.Sprint("r-", i)}
				}
				if list, _ := br.Next(ctx, want); len(list) > 0 {
					b.Error("there is nothing to do")
				}
			})
		}
		for {
			if s, err := br.Stats(b.Context()); err != nil || s.Workers == n {
				break
			}
			runtime.Gosched()
		}
		stop()
		wg.Wait()
	}
	after, err := br.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(after.Bytes-before.Bytes), "B-written")
}
