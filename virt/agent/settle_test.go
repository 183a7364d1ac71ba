package agent

import (
	"context"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Whoever settles a guest waits for the move that is under way, and from then on none with
// the same token or a lower one is taken, whatever else is. A guest that has moved is
// forgotten.
func TestSettle(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	begun, go1 := make(chan string, 1), make(chan struct{})
	h.sub.mu.Lock()
	h.sub.guest = func(ctx context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if strings.HasSuffix(method, ".Migrate") {
			begun <- r.To
			select {
			case <-go1:
			case <-ctx.Done():
			}
		}
		return &mistify.GuestResponse{Guest: r.Guest}, nil
	}
	h.sub.mu.Unlock()
	settle := func(token, wait, want string) {
		t.Helper()
		if a := h.want(200, "PUT", "/v1/guests/"+vm1+"/fence?wait="+wait, "", "Vagoth-Token", token); strings.TrimSpace(a.body) != want {
			t.Errorf("settled with %s it says %s, want %s", token, a.body, want)
		}
	}
	move := func(status int, token string) answer {
		t.Helper()
		return h.want(status, "POST", "/guests/"+vm1+"/migrate", `{"to":"qemu+tls://h2/system"}`, "Vagoth-Token", token)
	}
	job := move(202, "5.1").job()
	if to := <-begun; to != "qemu+tls://h2/system" {
		t.Errorf("the sub-agent is to move it to %q", to)
	}
	settle("5.2", "0s", `{"jobs":1}`)
	settle("5.2", "10ms", `{"jobs":1}`)
	h.want(412, "PUT", "/v1/guests/"+vm1+"/fence", "", "Vagoth-Token", "5.1")
	close(go1)
	settle("5.2", "1m", `{"jobs":0}`)
	if j := h.ended(job); j.Status != mistify.JobComplete {
		t.Errorf("the move is %+v", j)
	}
	h.want(404, "GET", "/guests/"+vm1, "")

	h.ended(h.want(202, "POST", "/guests", `{"id":"`+vm1+`"}`, "Vagoth-Token", "5.2").job())
	move(412, "5.1")
	move(412, "5.2")
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/start", "", "Vagoth-Token", "5.2").job())
	h.ended(move(202, "5.3").job())
	h.want(404, "GET", "/guests/"+vm1, "")

	var s settled
	for n := range keptFences + 10 {
		s.note(uuidOf(n), tokenOf(n))
	}
	if len(s.tokens) != keptFences || len(s.order) != keptFences || s.refuse(uuidOf(3), tokenOf(3)) != nil || s.refuse(uuidOf(keptFences), tokenOf(keptFences)) == nil {
		t.Errorf("%d tokens are kept of %d guests", len(s.tokens), len(s.order))
	}
}

func tokenOf(n int) trail.Token { return trail.Token{Epoch: 1, Number: uint64(n) + 1} }
