package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Each benchmark measures what bounds it in the same run, before and after, and
// reports the ratio; the aims are at the benchmarks. VAGOTH_BENCH=small makes
// the stores small.

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
