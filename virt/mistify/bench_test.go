package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"
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

	ours := func(e Endpoint) func(b *testing.B) {
		return func(b *testing.B) {
			c := newRPC(b, e, RPCOptions{MaxPending: 16})
			b.SetParallelism(8) // 16 clients on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					var r GuestMetricsResponse
					if err := c.Call(ctx, "Test.CPU", request, &r); err != nil || len(r.CPU) != 2 {
						b.Error(r, err)
					}
					cancel()
				}
			})
		}
	}
	b.Run("bare", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				body, _ := json.Marshal(map[string]any{"method": "Test.CPU", "params": []any{request}, "id": 1})
				resp, err := client.Post(bareServer.URL+RPCPath, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				var answer struct {
					Result GuestMetricsResponse
					Error  any
					ID     uint64
				}
				if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Result.CPU) != 2 {
					b.Error(answer, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	})
	b.Run("port", ours(port))
	b.Run("socket", ours(socket))
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
	const size = 256 << 20
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
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			resp, err := bareServer.Client().Get(bareServer.URL)
			if err != nil {
				b.Fatal(err)
			}
			copyAll(b, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(size)
		c := newRPC(b, e, RPCOptions{})
		for b.Loop() {
			d, err := c.Stream(context.Background(), "Test.Download", &SnapshotRequest{})
			if err != nil {
				b.Fatal(err)
			}
			copyAll(b, d)
			_ = d.Close()
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
