package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/benchdisk"
	"github.com/vagoth/vagoth/internal/gcroom"
	"github.com/vagoth/vagoth/internal/spareprocs"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
)

// BenchmarkPackages is the whole way of a job over HTTP, on disk: packages of
// ten jobs over four queues are submitted, taken ten at a time and completed,
// by so many clients that each do all three: bare ones, which cost next to
// nothing, since they share the processors with what is measured, and those of
// this package.
func BenchmarkPackages(b *testing.B) {
	defer gcroom.Take().Release() // as the daemon does
	spareprocs.Take()             // too
	defer spareprocs.Release()
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			benchPackages(b, clients, func(address string) benchWorker { return dialWire(b, address) })
		})
	}
	for _, brief := range []bool{true, false} {
		b.Run(fmt.Sprintf("clients=16/go/brief=%v", brief), func(b *testing.B) {
			tr := &http.Transport{MaxIdleConnsPerHost: 16}
			defer tr.CloseIdleConnections()
			benchPackages(b, 16, func(address string) benchWorker {
				c := NewClient("http://"+address, tr)
				if brief {
					c = c.Brief()
				}
				return &goWorker{c}
			})
		})
	}
}

// benchWorker is a client of the benchmark.
type benchWorker interface {
	submit(ctx context.Context, queues int64) error
	work(ctx context.Context) (took int, err error) // takes and completes up to ten jobs
}

func benchPackages(b *testing.B, clients int, dial func(address string) benchWorker) {
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
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	raw := benchdisk.Sync(b, 500) // before anybody is connected, as it may take longer than a connection may be silent
	workers := make([]benchWorker, clients)
	for i := range workers {
		workers[i] = dial(l.Addr().String())
	}
	var submitted, done, rounds atomic.Int64
	before, used := benchStats(b, s), processorTime(b)
	b.ResetTimer()
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() {
			for n := submitted.Add(10); done.Load() < int64(b.N); n = submitted.Add(10) {
				if n <= int64(b.N)+9 {
					if err := w.submit(ctx, n/10%64*4); err != nil {
						b.Error(err)
						return
					}
				}
				took, err := w.work(ctx)
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(int64(took))
				rounds.Add(1)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	used = processorTime(b) - used
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/job") // clients and all
	b.ReportMetric(float64(b.N)/float64(max(benchStats(b, s).Syncs-before.Syncs, 1)), "jobs/sync")
	b.ReportMetric(float64(b.N)/float64(rounds.Load()), "jobs/next")
	raw = (raw + benchdisk.Sync(b, 500)) / 2
	b.ReportMetric(float64(time.Second)/float64(raw), "raw-syncs/s")
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

// goWorker is one that uses Client.
type goWorker struct{ c *Client }

func (g *goWorker) submit(ctx context.Context, queues int64) error {
	p := scheduler.Package{Jobs: make([]scheduler.Job, 10)}
	for i := range p.Jobs {
		p.Jobs[i] = scheduler.Job{Queue: fmt.Sprintf("r-%d", queues+int64(i%4)), Action: "copy"}
	}
	_, err := g.c.Submit(ctx, p)
	return err
}

func (g *goWorker) work(ctx context.Context) (int, error) {
	list, err := g.c.Next(ctx, scheduler.Want{Max: 10, Wait: pause})
	if err != nil || len(list) == 0 {
		return 0, err
	}
	ends := make([]scheduler.Completion, len(list))
	for i, l := range list {
		ends[i].Hold = l.Hold
	}
	_, errs := g.c.Complete(ctx, ends...)
	return len(list), errors.Join(errs...)
}

// pause is how long a worker waits where there is nothing to do.
const pause = scheduler.Span(20 * time.Millisecond)

// wireWorker is one that knows but the few answers that it gets.
type wireWorker struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
	text []byte
	body []byte
}

func dialWire(b *testing.B, address string) *wireWorker {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &wireWorker{conn: conn, r: bufio.NewReader(conn)}
}

// post sends w.text and leaves the answer in w.body.
func (w *wireWorker) post(path string) error {
	w.out = append(append(append(w.out[:0], "POST "...), path...), " HTTP/1.1\r\nHost: vagoth\r\nPrefer: return=minimal\r\nContent-Length: "...)
	w.out = append(strconv.AppendInt(w.out, int64(len(w.text)), 10), "\r\n\r\n"...)
	if _, err := w.conn.Write(append(w.out, w.text...)); err != nil {
		return err
	}
	length, first := 0, ""
	for {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if first == "" {
			first = string(line)
		}
		if text, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
				return err
			}
		}
	}
	w.body = slices.Grow(w.body[:0], length)[:length]
	if _, err := io.ReadFull(w.r, w.body); err != nil {
		return err
	}
	if !strings.Contains(first, " 200 ") {
		return fmt.Errorf("%s: %s%s", path, first, w.body)
	}
	return nil
}

func (w *wireWorker) submit(_ context.Context, queues int64) error {
	w.text = append(w.text[:0], `{"jobs":[`...)
	for i := range int64(10) {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		w.text = strconv.AppendInt(append(w.text, `{"queue":"r-`...), queues+i%4, 10)
		w.text = append(w.text, `","action":"copy"}`...)
	}
	w.text = append(w.text, "]}"...)
	return w.post("/v1/jobs")
}

func (w *wireWorker) work(context.Context) (took int, err error) {
	w.text = append(w.text[:0], `{"max":10,"wait":"20ms"}`...)
	if err := w.post("/v1/leases/next"); err != nil {
		return 0, err
	}
	// A lease begins with what a completion needs.
	w.text = append(w.text[:0], `{"completions":[`...)
	for rest := w.body; ; took++ {
		_, lease, ok := bytes.Cut(rest, []byte(`{"job":"`))
		hold, after, found := bytes.Cut(lease, []byte(`,"queue"`))
		if !ok || !found {
			break
		}
		if rest = after; took > 0 {
			w.text = append(w.text, ',')
		}
		w.text = append(append(append(w.text, `{"job":"`...), hold...), '}')
	}
	if took == 0 {
		return 0, nil
	}
	w.text = append(w.text, "]}"...)
	if err := w.post("/v1/leases/complete"); err != nil {
		return 0, err
	}
	if bytes.Contains(w.body, []byte("error")) {
		return 0, fmt.Errorf("completing was refused: %s", w.body)
	}
	return took, nil
}
