package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/virt/mistify"
)

func small() bool { return os.Getenv("VAGOTH_BENCH") == "small" }

// benchHost is a host without a log.
func benchHost(b *testing.B, guests int) *host {
	cfg := testConfig()
	cfg.InfoTimeout, cfg.AsyncTimeout = 30*time.Second, 30*time.Second
	h := newHost(b, hostOptions{cfg: &cfg, deps: Deps{Log: slog.New(slog.DiscardHandler)}})
	h.sub.set(func(s *sub) { s.quiet = true })
	fill(b, h.agent, guests)
	return h
}

// fill puts guests of ordinary size into the store.
func fill(b *testing.B, a *Agent, n int) {
	var work sync.WaitGroup
	for w := range 64 {
		work.Go(func() {
			for i := w; i < n; i += 64 {
				g, err := newGuest(benchGuest(i))
				if err == nil {
					err = a.store.do(context.Background(), &change{put: g})
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	work.Wait()
}

func benchGuest(i int) *mistify.Guest {
	return &mistify.Guest{
		ID: uuidOf(i), Type: "vm", State: "running", Memory: 2048, CPU: 2, VNC: 5900 + i%100,
		NICs:     []mistify.NIC{{Name: "net0", Network: "br0", Model: "virtio", MAC: "52:54:00:12:34:56", Address: "10.0.0.1", Netmask: "255.255.255.0", Gateway: "10.0.0.254", Device: "vnet0", VLANs: []int{1}}},
		Disks:    []mistify.Disk{{Bus: "virtio", Device: "vda", Size: 10240, Volume: "guests/" + uuidOf(i) + "/disk-0", Image: "0f8fad5b-d9cb-469f-a165-70867728950e", Source: "/dev/zvol/guests/x"}},
		Metadata: map[string]string{"hostname": fmt.Sprintf("vm%d.example.org", i)},
	}
}

// rate runs do as often as b.N by some clients at once and returns how many a
// second that were, and the 99th percentile.
func rate(b *testing.B, clients, n int, do func(client int) error) (perSecond float64, p99 time.Duration) {
	b.Helper()
	times := make([]time.Duration, n)
	var next atomic.Int64
	var work sync.WaitGroup
	begin := time.Now()
	for c := range clients {
		work.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				at := time.Now()
				if err := do(c); err != nil {
					b.Error(err)
					return
				}
				times[i] = time.Since(at)
			}
		})
	}
	work.Wait()
	took := time.Since(begin)
	slices.Sort(times)
	return float64(n) / took.Seconds(), times[n*99/100]
}

// compare measures own between two halves of what bounds it.
func compare(b *testing.B, clients int, own, bound func(client int) error) {
	b.Helper()
	for range 3 {
		_, _ = own(0), bound(0) // dialled and warm
	}
	half := max(b.N/2, clients)
	before, _ := rate(b, clients, half, bound)
	runtime.GC()
	b.ResetTimer()
	got, p99 := rate(b, clients, max(b.N, clients), own)
	b.StopTimer()
	runtime.GC()
	after, _ := rate(b, clients, half, bound)
	b.ReportMetric(got, "own/s")
	b.ReportMetric((before+after)/2, "bound/s")
	b.ReportMetric(2*got/(before+after), "ratio")
	b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
}

// alternate measures own and bound in turns and compares their medians: what
// takes long is not measured often enough for compare.
func alternate(b *testing.B, own, bound func(client int) error) {
	b.Helper()
	var times [2][]time.Duration
	turn := func(i int, do func(int) error) {
		at := time.Now()
		if err := do(0); err != nil {
			b.Fatal(err)
		}
		times[i] = append(times[i], time.Since(at))
	}
	turn(0, own) // dialled and warm
	turn(1, bound)
	times = [2][]time.Duration{}
	for b.Loop() {
		turn(0, own)
		turn(1, bound)
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return times[i][len(times[i])/2].Seconds()
	}
	b.ReportMetric(1/median(0), "own/s")
	b.ReportMetric(1/median(1), "bound/s")
	b.ReportMetric(median(1)/median(0), "ratio")
}

func getter(c *http.Client, url string) func(int) error {
	return func(int) error {
		resp, err := c.Get(url)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil && (resp.StatusCode != 200 || n == 0) {
			err = fmt.Errorf("%d, %d bytes", resp.StatusCode, n)
		}
		return err
	}
}

// bareHop asks as one would by hand.
func bareHop(h *host, g *mistify.Guest) func(int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d%s", h.agent.cfg.Services["test"].Port, mistify.RPCPath)
	return func(int) error {
		body, err := json.Marshal(map[string]any{"method": "Test.CpuMetrics", "params": []any{mistify.GuestMetricsRequest{Guest: g, Type: "cpu"}}, "id": 1})
		if err != nil {
			return err
		}
		resp, err := h.http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var answer struct {
			Result mistify.GuestMetricsResponse
			Error  any
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Result.CPU) != 1 {
			return fmt.Errorf("%+v %w", answer, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// syncer appends a record of a job's size to one of some files and syncs that.
func syncer(b *testing.B, n int) func(int) error {
	files := make([]*os.File, n)
	for i := range files {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), fmt.Sprint(i)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		files[i] = f
	}
	record := make([]byte, 900)
	return func(client int) error {
		f := files[client%n]
		if _, err := f.Write(record); err != nil {
			return err
		}
		return f.Sync()
	}
}

func createAndWait(h *host, body string) error {
	resp, err := h.http.Post(h.server.URL+"/guests", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	resp, err = h.http.Get(h.server.URL + "/jobs/" + resp.Header.Get(mistify.HeaderJob) + "?wait=30s")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var j mistify.Job
	if err := json.NewDecoder(resp.Body).Decode(&j); err != nil || j.Status != mistify.JobComplete {
		return fmt.Errorf("%+v %w", j, err)
	}
	return nil
}

type empty struct{}

func (empty) Restore(uint64, iter.Seq2[[]byte, error]) error { return nil }

func (empty) Replay(uint64, []byte) error { return nil }

// appender appends a record of a job's size to a journal of its own.
func appender(b *testing.B) func(int) error {
	j, err := journal.Open(b.Context(), journal.Options{Dir: filepath.Join(b.TempDir(), "raw")}, empty{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close() })
	record := make([]byte, 900)
	return func(int) error {
		_, err := j.Append(context.Background(), record)
		return err
	}
}
