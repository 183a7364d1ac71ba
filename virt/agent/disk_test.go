package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/internal/smalldisk"
	"github.com/vagoth/vagoth/virt/mistify"
)

// A full disk costs the requests that change something an error, and neither the
// process nor anything that was acknowledged: what is known can be read, the job
// that runs ends when there is room again, and so goes on all else.
func TestFullDisk(t *testing.T) {
	dir := smalldisk.New(t)
	cfg := testConfig()
	cfg.AsyncTimeout = 5 * time.Minute // the job below waits until the disk is full
	h := newHost(t, hostOptions{cfg: &cfg, data: dir})
	h.create(vm1)
	begun, end := make(chan struct{}), make(chan struct{})
	h.sub.onGuest(func(_ context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if method == "Test.Reboot" {
			begun <- struct{}{}
			<-end
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	})
	job := h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job()
	<-begun
	ballast := filepath.Join(dir, "ballast")
	smalldisk.Fill(t, ballast)
	acknowledged, refused := []string{vm1}, ""
	for i := 100; i < 1000 && refused == ""; i++ { // what is left of the log's file takes some
		a := h.do("POST", "/guests", `{"id":"`+uuidOf(i)+`","metadata":{"a":"`+strings.Repeat("x", 60_000)+`"}}`)
		switch {
		case a.status == http.StatusAccepted:
			acknowledged = append(acknowledged, uuidOf(i))
		case a.status < 500 || !strings.Contains(a.body, "no space left") || a.job() != "":
			t.Fatalf("%d %s", a.status, a.body)
		default:
			refused = uuidOf(i)
		}
	}
	if refused == "" {
		t.Fatal("the disk is full, and 900 guests were taken")
	}
	h.want(200, "GET", "/guests/"+vm1, "")
	h.want(404, "GET", "/guests/"+refused, "")
	close(end)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if j := h.ended(job); j.Status != mistify.JobComplete {
		t.Errorf("%+v", j)
	}
	h.create(refused)
	h.until("no job is left", func() bool { return len(h.agent.store.unended()) == 0 })
	h.stop()
	h = newHost(t, hostOptions{data: dir})
	for _, id := range append(acknowledged, refused) {
		h.want(200, "GET", "/guests/"+id, "")
	}
}

// A log that failed takes nothing any more: Run ends and says so, changes are
// refused, health says it, and what was acknowledged is there when it is opened
// again.
func TestFailedLog(t *testing.T) {
	disk := powercut.New(t, 64)
	h := newHost(t, hostOptions{data: disk.Dir()})
	h.create(vm1)
	h.stop()
	cfg := testConfig()
	a, err := Open(t.Context(), withPorts(cfg, h.agent.cfg), Deps{Data: disk.Dir()})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	handler := a.Handler()
	ask := func(method, path, body string) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body)))
		return w.Code
	}
	disk.Cut()
	if status := ask("PATCH", "/metadata", `{"a":"1"}`); status < 500 {
		t.Errorf("a change is answered with %d", status)
	}
	if err := <-ended; !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Run: %v", err)
	}
	for _, x := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/healthz", 503}, {"GET", "/guests/" + vm1, 200}, {"POST", "/guests/" + vm1 + "/reboot", 500},
	} {
		if status := ask(x.method, x.path, ""); status != x.status {
			t.Errorf("%s %s: %d, want %d", x.method, x.path, status, x.status)
		}
	}
	_ = a.Close() // that it failed was told
	disk.Remount()
	h = newHost(t, hostOptions{data: disk.Dir()})
	h.want(200, "GET", "/guests/"+vm1, "")
	if a := h.want(200, "GET", "/metadata", ""); a.body != "{}\n" {
		t.Errorf("what was refused is there: %s", a.body)
	}
	h.stop()
}

// withPorts gives the services of cfg the ports of another config.
func withPorts(cfg, from Config) Config {
	for name, c := range cfg.Services {
		c.Port = from.Services[name].Port
		cfg.Services[name] = c
	}
	return cfg
}
