package agent

import (
	"net/http"
	"strings"
	"testing"
	"time"

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
