package agent

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/vagoth/vagoth/virt/mistify"
)

// A guest is made, changed and deleted, and what is left of it is its jobs.
func TestLife(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.sub.onGuest(func(_ context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if r.Action == "start" {
			r.Guest.State = "running"
		}
		return &mistify.GuestResponse{Guest: r.Guest, Message: "done by " + method}, nil
	})
	id := uuidOf(1)
	h.create(id)
	a := h.want(202, "POST", "/guests/"+id+"/start", "")
	if j := h.ended(a.job()); j.Status != mistify.JobComplete || j.Message != "done by Test.Start" || j.Attempt != 1 || j.GuestID != id {
		t.Errorf("start: %+v", j)
	}
	var g mistify.Guest
	if err := json.Unmarshal([]byte(h.want(200, "GET", "/guests/"+id, "").body), &g); err != nil || g.State != "running" || g.Memory != 512 {
		t.Errorf("guest %+v, %v", g, err)
	}
	a = h.want(202, "DELETE", "/guests/"+id, "")
	if j := h.ended(a.job()); j.Status != mistify.JobComplete {
		t.Errorf("delete: %+v", j)
	}
	h.want(404, "GET", "/guests/"+id, "")
	h.want(404, "GET", "/guests/"+id+"/jobs", "")
	if b := h.want(200, "GET", "/guests", "").body; b != "[]\n" {
		t.Errorf("guests: %s", b)
	}
	var jobs []mistify.Job
	if err := json.Unmarshal([]byte(h.want(200, "GET", "/jobs", "").body), &jobs); err != nil || len(jobs) != 3 || jobs[0].Action != "delete" || jobs[2].Action != "create" {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
	h.until("the runner is gone", func() bool {
		h.agent.mu.Lock()
		defer h.agent.mu.Unlock()
		return len(h.agent.runners) == 0 && h.agent.locks.len() == 0
	})
}

var errNo = errors.New("no, not this")
