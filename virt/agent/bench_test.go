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
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Each benchmark measures what bounds it in the same run, before and after, and
// reports the ratio; the aims are at the benchmarks. VAGOTH_BENCH=small makes
// the stores small.

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

// Aim: 0.5 of bare gin with the same bytes.
func BenchmarkGuest(b *testing.B) {
	h := benchHost(b, 1000)
	data := h.agent.store.guest(uuidOf(7)).data
	e := gin.New()
	e.GET("/guests/:id", func(c *gin.Context) { c.Data(200, "application/json", data) })
	bare := httptest.NewServer(e)
	defer bare.Close()
	compare(b, 16, getter(h.http, h.server.URL+"/guests/"+uuidOf(7)), getter(h.http, bare.URL+"/guests/"+uuidOf(7)))
}

// Aim with 10,000 guests: 0.5 of writing those bytes from memory.
func BenchmarkGuests(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		if small() && n > 1000 {
			continue
		}
		b.Run(fmt.Sprint("guests=", n), func(b *testing.B) {
			h := benchHost(b, n)
			data := h.agent.store.guestList()
			bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data)
			}))
			defer bare.Close()
			compare(b, 16, getter(h.http, h.server.URL+"/guests"), getter(h.http, bare.URL))
		})
	}
}

// Aim: none of its own; it is what BenchmarkGuests is while guests change.
func BenchmarkGuestsChanging(b *testing.B) {
	h := benchHost(b, 1000)
	g, err := newGuest(benchGuest(0))
	if err != nil {
		b.Fatal(err)
	}
	get := getter(h.http, h.server.URL+"/guests")
	b.ResetTimer()
	for range b.N {
		h.agent.store.mu.Lock()
		h.agent.store.putGuest(g)
		h.agent.store.mu.Unlock()
		if err := get(0); err != nil {
			b.Fatal(err)
		}
	}
}

// Aim: 0.7 of a bare JSON-RPC hop to the same service: by the same client of
// net/http. Beside it stands what our own client of JSON-RPC does.
func BenchmarkInfo(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			h := benchHost(b, 10)
			rpc, err := mistify.NewRPC(mistify.Endpoint{Port: h.agent.cfg.Services["test"].Port}, mistify.RPCOptions{MaxPending: 64})
			if err != nil {
				b.Fatal(err)
			}
			defer rpc.Close()
			g := benchGuest(7)
			hop := func(int) error {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				var out mistify.GuestMetricsResponse
				return rpc.Call(ctx, "Test.CpuMetrics", &mistify.GuestMetricsRequest{Guest: g, Type: "cpu"}, &out)
			}
			ours, _ := rate(b, clients, max(b.N/2, clients), hop)
			compare(b, clients, getter(h.http, h.server.URL+"/guests/"+uuidOf(7)+"/metrics/cpu"), bareHop(h, g))
			b.ReportMetric(ours, "rpc/s")
		})
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

// Aim with 16 clients: 0.25 of appends to one log, each synced by who appended it;
// the same with 10 and 1,000 jobs in the log; 4 KB written per job. Beside it
// stand as many clients that sync a file each, and those of a journal, which share
// their syncs.
func BenchmarkCreate(b *testing.B) {
	for _, log := range []int{10, 1000} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("log=%d/clients=%d", log, clients), func(b *testing.B) {
				h := benchHost(b, 0)
				for range log {
					h.create(newID())
				}
				shared, _ := rate(b, clients, max(b.N/2, clients), appender(b))
				body := strings.Replace(jsonOf(b, benchGuest(1)), `"id":"`+uuidOf(1)+`",`, "", 1)
				create := func(int) error { return createAndWait(h, body) }
				before := h.agent.store.journal.Stats().Bytes
				files, _ := rate(b, clients, max(b.N/2, clients), syncer(b, clients))
				compare(b, clients, create, syncer(b, 1))
				b.ReportMetric(files, "files/s")
				done := float64(max(b.N, clients) + 3)
				b.ReportMetric(shared, "appends/s")
				b.ReportMetric(float64(h.agent.store.journal.Stats().Bytes-before)/done, "B-written/job")
			})
		}
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

func BenchmarkJobStatus(b *testing.B) {
	h := benchHost(b, 0)
	id := h.want(202, "POST", "/guests", "{}").job()
	h.ended(id)
	get := getter(h.http, h.server.URL+"/jobs/"+id)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer bare.Close()
	compare(b, 16, get, getter(h.http, bare.URL))
}

// Aim: 0.9 of the sub-agent's own stream.
func BenchmarkDownload(b *testing.B) {
	size := 256 << 20
	if small() {
		size = 16 << 20
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	source := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for sent := 0; sent < size; sent += len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	direct := httptest.NewServer(source)
	defer direct.Close()
	cfg := testConfig()
	h := newHost(b, hostOptions{cfg: &cfg, deps: Deps{Log: slog.New(slog.DiscardHandler)}, subs: map[string]http.Handler{"download": source}})
	fill(b, h.agent, 1)
	b.SetBytes(int64(size))
	alternate(b, getter(h.http, h.server.URL+"/guests/"+uuidOf(0)+"/snapshots/s/download"), getter(h.http, direct.URL))
}

// Aim: 4 KB a guest.
func BenchmarkMemory(b *testing.B) {
	n := 10_000
	if small() {
		n = 1000
	}
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		h := benchHost(b, n)
		_ = h.agent.store.guestList()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/guest")
		h.stop()
	}
}
