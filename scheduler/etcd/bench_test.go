package etcd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// size is long, or short with VAGOTH_BENCH=small.
func size(long, short int) int {
	if os.Getenv("VAGOTH_BENCH") == "small" {
		return short
	}
	return long
}

// callers calls fn for 0 to n-1, so many at a time, and returns how long it took.
func callers(b *testing.B, at, n int, fn func(i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range at {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// benched is managers that work, over etcd.
type benched struct {
	b        *testing.B
	managers []*Scheduler
	name     string
	jobs     atomic.Int64
	raws     atomic.Int64
}

func newBenched(b *testing.B, urls []string, managers int) *benched {
	b.Helper()
	m := &benched{b: b, name: fmt.Sprintf("/%s-%d/", strings.NewReplacer("/", "-", "=", "-").Replace(b.Name()), time.Now().UnixNano())}
	cfg := Defaults()
	cfg.Endpoints, cfg.Prefix = urls, "/b"+m.name[len(m.name)-21:]
	cfg.MaxQueued, cfg.HistoryCount = 1_000_000, 10_000
	cfg.Queues = map[string]engine.QueueConfig{"r-*": {Remote: true}}
	actions := map[string]scheduler.Action{"nothing": {
		Name: "nothing", Params: []scheduler.Param{{Name: "name", Type: scheduler.String}, {Name: "size", Type: scheduler.Integer}},
		Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil },
	}}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	b.Cleanup(func() {
		stop()
		work.Wait()
		for _, s := range m.managers {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	for range managers {
		s, err := Open(b.Context(), cfg, scheduler.Deps{Actions: actions})
		if err != nil {
			b.Fatal(err)
		}
		m.managers = append(m.managers, s)
		work.Go(func() {
			if err := s.Run(ctx, scheduler.RunOptions{}); err != nil {
				b.Error(err)
			}
		})
	}
	if err := m.job(0); err != nil { // all work
		b.Fatal(err)
	}
	return m
}

func benchJob(queue string) scheduler.Job {
	return scheduler.Job{Queue: queue, Action: "nothing", Params: registry.TrustedDocument(`{"name":"volume","size":10}`)}
}

// job is one from submission to its end, on a queue that is its own.
func (m *benched) job(int) error {
	n := m.jobs.Add(1)
	s := m.managers[int(n)%len(m.managers)]
	list, err := s.Submit(m.b.Context(), scheduler.Package{Jobs: []scheduler.Job{benchJob(fmt.Sprint("q-", n%1024))}})
	if err != nil {
		return err
	}
	st, err := s.Wait(m.b.Context(), list[0].ID)
	if err == nil {
		err = st.Err()
	}
	return err
}

// leads is the one that does.
func (m *benched) leads() *office {
	for _, s := range m.managers {
		if o := s.current().office; o != nil {
			return o
		}
	}
	m.b.Fatal("nobody leads")
	return nil
}

// raw makes what a job is in etcd at least, its submission and its end, as two
// transactions under one condition, of so many bytes together.
func (m *benched) raw(bytes int) func(int) error {
	s := m.managers[0]
	leads := clientv3.Compare(clientv3.CreateRevision(s.keys.leader()), "=", m.leads().term)
	value := strings.Repeat("x", bytes/2)
	client := s.st.(direct).client
	return func(int) error {
		for range 2 {
			key := fmt.Sprintf("/raw%s%020d", m.name, m.raws.Add(1))
			unused := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
			r, err := client.Txn(m.b.Context()).If(leads, unused).Then(clientv3.OpPut(key, value)).Else(clientv3.OpGet(key)).Commit()
			if err != nil || !r.Succeeded {
				return fmt.Errorf("a raw transaction: %v, %w", r, err)
			}
		}
		return nil
	}
}

// beside runs jobs and raw pairs of transactions in turns and reports both.
func (m *benched) beside(b *testing.B, at, n int) {
	before, err := m.managers[0].Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	const probe = 20
	callers(b, 1, probe, m.job)
	after, err := m.managers[0].Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	raw := m.raw(int(after.Bytes-before.Bytes)/probe + 2*(10+4)) // a commit's head and sum
	callers(b, at, n/6, raw)                                     // connections and tables are as large as they will be
	callers(b, at, n/6, m.job)
	var ours, theirs time.Duration
	var commits uint64
	for range b.N {
		ours, theirs, commits = 0, 0, 0
		for range 3 {
			theirs += callers(b, at, n/3, raw)
			if before, err = m.managers[0].Stats(b.Context()); err != nil {
				b.Fatal(err)
			}
			ours += callers(b, at, n/3, m.job)
			if after, err = m.managers[0].Stats(b.Context()); err != nil {
				b.Fatal(err)
			}
			commits += after.Syncs - before.Syncs
		}
	}
	jobs := float64(n / 3 * 3)
	b.ReportMetric(float64(theirs)/float64(ours), "of_raw")
	b.ReportMetric(jobs/ours.Seconds(), "jobs/s")
	b.ReportMetric(2*jobs/theirs.Seconds(), "raw-txns/s")
	b.ReportMetric(float64(commits)/jobs, "commits/job")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkJobs has jobs submitted, called and ended by so many callers, each of which
// waits for its job, beside raw transactions of etcd: two a job, as no job has less
// that is acknowledged, of as many bytes. On one member and on three, by one manager
// and by three.
func BenchmarkJobs(b *testing.B) {
	for _, members := range []int{1, etcdtest.Size} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			urls := []string{}
			if members == 1 {
				urls = append(urls, etcdtest.Run(b, etcdtest.Options{}).URL())
			} else {
				urls = etcdtest.Start(b).URLs()
			}
			for _, managers := range []int{1, 3} {
				b.Run(fmt.Sprintf("managers=%d", managers), func(b *testing.B) {
					m := newBenched(b, urls, managers)
					for _, at := range []int{1, 16, 256} {
						b.Run(fmt.Sprintf("callers=%d", at), func(b *testing.B) {
							m.beside(b, at, size(map[int]int{1: 900, 16: 3000, 256: 9000}[at], 30))
						})
					}
				})
			}
		})
	}
}

// BenchmarkUnfinished is the same amid so many jobs that cannot begin yet.
func BenchmarkUnfinished(b *testing.B) {
	for _, jobs := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprintf("unfinished=%d", jobs), func(b *testing.B) {
			m := newBenched(b, []string{etcdtest.Run(b, etcdtest.Options{}).URL()}, 1)
			never := benchJob("r-never")
			never.ID = "never"
			if _, err := m.managers[0].Submit(b.Context(), scheduler.Package{Jobs: []scheduler.Job{never}}); err != nil {
				b.Fatal(err)
			}
			for done, n := 0, size(jobs, jobs/1000); done < n; {
				var p scheduler.Package
				for ; len(p.Jobs) < 5000 && done < n; done++ {
					j := benchJob(fmt.Sprint("q-", done%1024))
					j.After = []scheduler.Dependency{{ID: "never"}}
					p.Jobs = append(p.Jobs, j)
				}
				if _, err := m.managers[0].Submit(b.Context(), p); err != nil {
					b.Fatal(err)
				}
			}
			m.beside(b, 16, size(3000, 30))
		})
	}
}
