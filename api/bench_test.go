package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
)

// BenchmarkPackages is the whole way of a job over HTTP, on disk: packages of
// ten jobs over four queues are submitted, taken ten at a time and completed,
// by so many clients that each do all three.
func BenchmarkPackages(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchPackages(b, clients) })
	}
}

func benchPackages(b *testing.B, clients int) {
	cfg := broker.Defaults()
	cfg.Queues = map[string]broker.QueueConfig{"r-*": {Remote: true}}
	s, err := broker.Open(b.Context(), cfg, scheduler.Deps{Data: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, Options{}), ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	tr := &http.Transport{MaxIdleConnsPerHost: clients}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	c := NewClient("http://"+l.Addr().String(), tr)
	var submitted, done atomic.Int64
	before, used := benchStats(b, s), processorTime(b)
	b.ResetTimer()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for n := submitted.Add(10); done.Load() < int64(b.N); n = submitted.Add(10) {
				took, err := tenJobs(ctx, c, n, n <= int64(b.N)+9)
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(int64(took))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	used = processorTime(b) - used
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/job") // clients and all
	b.ReportMetric(float64(b.N)/float64(max(benchStats(b, s).Syncs-before.Syncs, 1)), "jobs/sync")
	tr.CloseIdleConnections()
	if err := srv.Close(); err != nil {
		b.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		b.Error(err)
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
}

func benchStats(b *testing.B, s *broker.Broker) scheduler.Stats {
	b.Helper()
	st, err := s.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return st
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

// tenJobs submits a package, and takes and completes ten jobs of any.
func tenJobs(ctx context.Context, c *Client, n int64, submit bool) (took int, err error) {
	if submit {
		p := scheduler.Package{Jobs: make([]scheduler.Job, 10)}
		for i := range p.Jobs {
			p.Jobs[i] = scheduler.Job{Queue: fmt.Sprintf("r-%d", n/10%64*4+int64(i%4)), Action: "copy"}
		}
		if _, err := c.Submit(ctx, p); err != nil {
			return 0, err
		}
	}
	list, err := c.Next(ctx, scheduler.Want{Max: 10})
	if err != nil || len(list) == 0 {
		return 0, err
	}
	ends := make([]scheduler.Completion, len(list))
	for i, l := range list {
		ends[i].Hold = l.Hold
	}
	_, errs := c.Complete(ctx, ends...)
	return len(list), errors.Join(errs...)
}
