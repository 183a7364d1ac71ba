package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// streamHost is a host whose downloads are what do writes.
func streamHost(t *testing.T, do http.HandlerFunc) *host {
	t.Helper()
	cfg := testConfig()
	cfg.MaxStreams = 1
	cfg.InfoTimeout, cfg.StreamStall = 300*time.Millisecond, 500*time.Millisecond
	h := newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"download": do}})
	h.create(vm1)
	return h
}

const downloadPath = "/guests/" + vm1 + "/snapshots/one/download"

// get begins a download.
func (h *host) get(ctx context.Context) *http.Response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", h.server.URL+downloadPath, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp
}

// A download comes as it is sent, with its type and length.
func TestDownload(t *testing.T) {
	more := make(chan struct{})
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, length := range []int64{-1, int64(len(body))} {
		h := streamHost(t, func(w http.ResponseWriter, r *http.Request) {
			asked, err := io.ReadAll(r.Body)
			if want := `{"id":"guests/` + vm1 + `@one","dest":"","recursive":true,"destroyMoreRecent":false}`; err != nil || string(asked) != want {
				t.Errorf("asked %s, want %s", asked, want)
			}
			w.Header().Set("Content-Type", "application/x-zfs")
			if length >= 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			_, _ = w.Write(body[:10])
			_ = http.NewResponseController(w).Flush()
			<-more
			_, _ = w.Write(body[10:])
		})
		resp := h.get(t.Context())
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-zfs" || resp.ContentLength != length {
			t.Errorf("%d %v %d", resp.StatusCode, resp.Header, resp.ContentLength)
		}
		first := make([]byte, 10)
		if _, err := io.ReadFull(resp.Body, first); err != nil { // while the sub-agent has not sent the rest
			t.Fatal(err)
		}
		more <- struct{}{}
		rest, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(append(first, rest...), body) {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		resp.Body.Close()
		if n := len(h.agent.services["download"].places); n != 0 {
			h.until("the place is free", func() bool { return len(h.agent.services["download"].places) == 0 })
		}
		h.stop()
	}
}

// A download that breaks off is no whole one.
func TestDownloadBroken(t *testing.T) {
	for _, length := range []string{"", "1000"} {
		for _, how := range []string{"breaks", "stalls"} {
			h := streamHost(t, func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = w.Write([]byte("some"))
				_ = http.NewResponseController(w).Flush()
				if how == "stalls" {
					<-r.Context().Done()
				}
				panic(http.ErrAbortHandler)
			})
			resp := h.get(t.Context())
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(data) != "some" || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("length %q, %s: %q, %v: it passes for a whole one", length, how, data, err)
			}
			h.stop()
		}
	}
}

// A client that goes away ends the sub-agent's work, and gives its place back.
func TestDownloadGivenUp(t *testing.T) {
	ended := make(chan struct{}, 1)
	h := streamHost(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil || r.Context().Err() != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp := h.get(ctx)
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	// One guest's downloads are bounded too.
	if a := h.want(429, "GET", downloadPath, ""); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	cancel()
	resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the sub-agent still sends")
	}
	h.until("its place is free", func() bool { return len(h.agent.services["download"].places) == 0 && h.agent.streams.len() == 0 })
}

// The same while the sub-agent has nothing to send, long before it would count
// as stalled.
func TestDownloadGivenUpInSilence(t *testing.T) {
	ended := make(chan struct{}, 1)
	cfg := testConfig()
	cfg.StreamStall = time.Minute
	h := newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"download": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("some"))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			ended <- struct{}{}
		case <-time.After(15 * time.Second):
		}
	})}})
	h.create(vm1)
	ctx, cancel := context.WithCancel(t.Context())
	resp := h.get(ctx)
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the sub-agent still works")
	}
}

// A client that reads nothing does not hold a place for ever.
func TestDownloadStalledClient(t *testing.T) {
	ended := make(chan struct{}, 1)
	h := streamHost(t, func(w http.ResponseWriter, _ *http.Request) {
		defer func() { ended <- struct{}{} }()
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	resp := h.get(t.Context())
	defer resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the sub-agent still sends, and nobody reads")
	}
}

// What a sub-agent refuses is an error and not a stream.
func TestDownloadRefused(t *testing.T) {
	h := streamHost(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not found", 404) })
	a := h.want(404, "GET", downloadPath, "")
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %s", a.header, a.body)
	}
	h.want(405, "HEAD", downloadPath, "")
}

// A sub-agent inside the process is asked like any other: calls, streams,
// deadlines, panics.
func TestInside(t *testing.T) {
	cfg := testConfig()
	cfg.Services["test"] = ServiceConfig{MaxPending: 8, Timeout: 500 * time.Millisecond}
	s := newSub()
	data := bytes.Repeat([]byte("x"), 1<<20)
	h := newHost(t, hostOptions{cfg: &cfg, sub: s, deps: Deps{Local: map[string]http.Handler{
		"test": s, "download": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }),
	}}})
	h.create(vm1)
	h.want(200, "GET", "/guests/"+vm1+"/metrics/cpu", "")
	if a := h.want(200, "GET", downloadPath, ""); len(a.body) != len(data) {
		t.Errorf("%d bytes", len(a.body))
	}
	s.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if r.Action == "start" {
			panic("inside")
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	for _, action := range []string{"start", "reboot"} {
		if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/"+action, "").job()); j.Status != mistify.JobError {
			t.Errorf("%+v", j)
		}
	}
	s.onGuest(nil)
	if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job()); j.Status != mistify.JobComplete {
		t.Errorf("%+v", j)
	}
	cfg.Services["nowhere"] = ServiceConfig{}
	if _, err := Open(t.Context(), cfg, Deps{Local: map[string]http.Handler{"test": s, "download": s}}); err == nil {
		t.Error("a service that is nowhere is taken")
	}
}
