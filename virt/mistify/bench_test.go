package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkHop compares a call of ours with a bare JSON-RPC hop of net/http: the
// same messages, connections kept, nothing compressed.
func BenchmarkHop(b *testing.B) {
	request := &GuestMetricsRequest{Guest: fullGuest(), Type: MetricsCPU}
	s := NewServer(ServerOptions{})
	Register(s, "Test.CPU", func(_ context.Context, r *GuestMetricsRequest) (*GuestMetricsResponse, error) {
		return &GuestMetricsResponse{Guest: r.Guest, Type: r.Type, CPU: make([]CPUMetrics, 2)}, nil
	})
	port := serve(b, s, Endpoint{})
	socket := serve(b, s, Endpoint{Socket: filepath.Join(b.TempDir(), "s")})
	bareServer := httptest.NewServer(http.HandlerFunc(bareHop))
	defer bareServer.Close()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	// One round of calls by 16 clients, and how long it took.
	const clients, each = 16, 25
	round := func(b *testing.B, call func() error) time.Duration {
		begun := time.Now()
		var g errgroup.Group
		for range clients {
			g.Go(func() error {
				for range each {
					if err := call(); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	bare := func() error {
		body, err := json.Marshal(map[string]any{"method": "Test.CPU", "params": []any{request}, "id": 1})
		if err != nil {
			return err
		}
		resp, err := client.Post(bareServer.URL+RPCPath, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		var answer struct {
			Result GuestMetricsResponse
			Error  any
			ID     uint64
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		if err == nil && len(answer.Result.CPU) != 2 {
			err = fmt.Errorf("the answer is %+v", answer)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	ours := func(c *RPC) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			var r GuestMetricsResponse
			err := c.Call(ctx, "Test.CPU", request, &r)
			if err == nil && len(r.CPU) != 2 {
				err = fmt.Errorf("the answer is %+v", r)
			}
			return err
		}
	}
	onPort, onSocket := ours(newRPC(b, port, RPCOptions{MaxPending: clients})), ours(newRPC(b, socket, RPCOptions{MaxPending: clients}))
	var took [3]time.Duration
	rounds := 0
	for b.Loop() { // side by side, so that what else the machine does slows all of them
		took[0] += round(b, bare)
		took[1] += round(b, onPort)
		took[2] += round(b, onSocket)
		rounds++
	}
	b.ReportMetric(float64(rounds*clients*each)/took[0].Seconds(), "bare/s")
	b.ReportMetric(float64(rounds*clients*each)/took[1].Seconds(), "port/s")
	b.ReportMetric(float64(rounds*clients*each)/took[2].Seconds(), "socket/s")
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "port-of-bare")
	b.ReportMetric(took[0].Seconds()/took[2].Seconds(), "socket-of-bare")
}

// bareHop is what one would write by hand.
func bareHop(w http.ResponseWriter, r *http.Request) {
	var c struct {
		Method string
		Params [1]GuestMetricsRequest
		ID     json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"result": GuestMetricsResponse{Guest: c.Params[0].Guest, Type: c.Params[0].Type, CPU: make([]CPUMetrics, 2)}, "error": nil, "id": c.ID,
	})
}

// BenchmarkStream compares a download through ours with one of net/http.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	s := NewServer(ServerOptions{})
	RegisterStream(s, "Test.Download", "/download", func(context.Context, *SnapshotRequest) (*Download, error) {
		return &Download{ReadCloser: io.NopCloser(io.LimitReader(zeros{}, size)), Length: size}, nil
	})
	e := serve(b, s, Endpoint{})
	e.Path = "/download"
	bareServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(zeros{}, size), make([]byte, 128<<10))
	}))
	defer bareServer.Close()
	copyAll := func(b *testing.B, r io.Reader) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 128<<10))
		if err != nil || n != size {
			b.Fatal(n, err)
		}
	}
	c := newRPC(b, e, RPCOptions{})
	var took [2]time.Duration
	b.SetBytes(2 * size)
	for b.Loop() {
		begun := time.Now()
		resp, err := bareServer.Client().Get(bareServer.URL)
		if err != nil {
			b.Fatal(err)
		}
		copyAll(b, resp.Body)
		_ = resp.Body.Close()
		between := time.Now()
		d, err := c.Stream(context.Background(), "Test.Download", &SnapshotRequest{})
		if err != nil {
			b.Fatal(err)
		}
		copyAll(b, d)
		_ = d.Close()
		took[0] += between.Sub(begun)
		took[1] += time.Since(between)
	}
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "of-bare")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
