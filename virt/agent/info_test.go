package agent

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Questions about one guest wait for each other past max_info, and are refused
// when that takes too long.
func TestThrottle(t *testing.T) {
	cfg := testConfig()
	cfg.MaxInfo, cfg.InfoTimeout = 2, 400*time.Millisecond
	h := newHost(t, hostOptions{cfg: &cfg})
	h.create(vm1)
	h.create(ct1)
	h.sub.set(func(s *sub) {
		s.snap = func(string, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
			return &mistify.SnapshotResponse{}, nil
		}
	})
	for range 2 { // two places are taken
		leave, err := h.agent.info.enter(t.Context(), vm1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
	}
	a := h.want(429, "GET", "/guests/"+vm1+"/snapshots", "")
	if !strings.Contains(a.body, "2 questions") {
		t.Errorf("%s", a.body)
	}
	h.want(200, "GET", "/guests/"+ct1+"/snapshots", "")
}

// A listing says whether it is complete, and who is in doubt.
func TestStatusIncomplete(t *testing.T) {
	cfg := testConfig()
	cfg.InfoTimeout = 300 * time.Millisecond
	other := newSub()
	cfg.Services["other"] = ServiceConfig{}
	cfg.Actions["status"] = ActionConfig{Stages: []Stage{{Service: "test", Method: "Test.Status"}, {Service: "other", Method: "Test.Status"}}}
	h := newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"other": other}})
	h.create(vm1)
	answer := func(complete bool, guests ...mistify.Seen) func(*mistify.StatusRequest) (*mistify.StatusResponse, error) {
		return func(*mistify.StatusRequest) (*mistify.StatusResponse, error) {
			return &mistify.StatusResponse{Complete: complete, Guests: guests}, nil
		}
	}
	h.sub.set(func(s *sub) { s.status = answer(true, mistify.Seen{ID: vm1, State: "running"}) })
	other.set(func(s *sub) { s.status = answer(true, mistify.Seen{ID: ct1, State: "stopped"}, mistify.Seen{ID: vm1}) })
	s, err := h.client.Status(t.Context())
	if err != nil || !s.Complete || len(s.Guests) != 2 || s.Guests[0].Stranger || !s.Guests[1].Stranger {
		t.Errorf("%+v %v", s, err)
	}
	other.set(func(s *sub) { s.status = answer(false) })
	if s, err := h.client.Status(t.Context()); err != nil || s.Complete || len(s.Guests) != 1 || !strings.Contains(strings.Join(s.Problems, " "), "2/2 Test.Status of other") {
		t.Errorf("%+v %v", s, err)
	}
	other.set(func(s *sub) {
		s.status = func(*mistify.StatusRequest) (*mistify.StatusResponse, error) { return nil, errNo }
	})
	if s, err := h.client.Status(t.Context()); err != nil || s.Complete || len(s.Problems) != 1 {
		t.Errorf("%+v %v", s, err)
	}
}

// The metrics of guests of all types have one pipeline: a sub-agent that has no such
// guest leaves it to the others, and one that is broken is an error.
func TestMetricsOfTwoSubAgents(t *testing.T) {
	cfg := testConfig()
	cfg.Services["other"] = ServiceConfig{}
	cfg.Actions["cpuMetrics"] = ActionConfig{Stages: []Stage{{Service: "other", Method: "Other.CpuMetrics"}, {Service: "test", Method: "Test.CpuMetrics"}}}
	cfg.Actions["nicMetrics"] = ActionConfig{Stages: []Stage{{Service: "other", Method: "Other.CpuMetrics"}}}
	other, answer := mistify.NewServer(mistify.ServerOptions{}), error(nil)
	mistify.Register(other, "Other.CpuMetrics", func(_ context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
		return &mistify.GuestMetricsResponse{Guest: r.Guest, CPU: []mistify.CPUMetrics{{CPUTime: 7}}}, answer
	})
	h := newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"other": other}})
	h.create(vm1)
	for _, c := range []struct {
		err   error
		count int
		nics  int
	}{{nil, 2, 200}, {virt.ErrNotFound, 1, 404}, {virt.ErrUnreachable, 0, 502}} {
		answer = c.err
		got, err := h.client.CPUMetrics(t.Context(), vm1)
		if len(got) != c.count || (err == nil) != (c.count > 0) {
			t.Errorf("the other says %v: %+v (%v)", c.err, got, err)
		}
		h.want(c.nics, "GET", "/guests/"+vm1+"/metrics/nic", "")
	}
}

// The name of a container's image, which stores of disks refuse, is found by the
// sub-agent that has it.
func TestNamesOfImages(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.sub.set(func(s *sub) {
		s.image = func(method string, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
			if !strings.Contains(method, "Container") {
				return nil, virt.ErrInvalid
			}
			if !strings.HasPrefix(r.ID, "team") {
				return nil, virt.ErrNotFound
			}
			return &mistify.ImageResponse{Images: []mistify.Image{{ID: r.ID, Type: mistify.TypeContainer}}}, nil
		}
	})
	for _, id := range []string{"team/web:1", "team@sha256:1"} {
		if i, err := h.client.Image(t.Context(), id); err != nil || i.ID != id {
			t.Errorf("%s: %+v (%v)", id, i, err)
		}
	}
	h.want(400, "GET", "/images/other", "")
	h.want(404, "GET", "/images/other%2Fpath", "")
}
