package api

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// behind counts who wants to see what others did, and can be cut off from them.
type behind struct {
	registry.Registry
	asked atomic.Int64
	away  atomic.Bool
}

func (b *behind) View(ctx context.Context, opts ...registry.ReadOption) (registry.Reader, error) {
	var o registry.ReadOptions
	for _, f := range opts {
		f(&o)
	}
	if o.Consistent {
		b.asked.Add(1)
		if b.away.Load() {
			return nil, fmt.Errorf("%w: nobody answers", registry.ErrUnavailable)
		}
	}
	return b.Registry.View(ctx, opts...)
}

// A request that wants to see all is answered after the registry has caught up, and
// not at all if that cannot be; others ask nobody.
func TestConsistent(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	r := &behind{Registry: c.m.Registry}
	c.m.Registry = r
	for _, path := range []string{"/v1/nodes/r1", "/v1/nodes", "/v1/version", "/v1/jobs"} {
		before := r.asked.Load()
		if resp, p := c.request("GET", path, ""); resp.StatusCode != http.StatusOK || r.asked.Load() != before {
			t.Errorf("%s without the header: %d %+v, asked %d times", path, resp.StatusCode, p, r.asked.Load()-before)
		}
		if resp, p := c.request("GET", path, "", HeaderConsistent, "true"); resp.StatusCode != http.StatusOK || r.asked.Load() != before+1 {
			t.Errorf("%s with the header: %d %+v, asked %d times", path, resp.StatusCode, p, r.asked.Load()-before)
		}
	}
	client := NewClient("http://vagoth", InProcess(c.h))
	before := r.asked.Load()
	if _, err := client.Node(c.ctx, "r1"); err != nil || r.asked.Load() != before {
		t.Error(err)
	}
	if _, err := client.Consistent().Node(c.ctx, "r1"); err != nil || r.asked.Load() != before+1 {
		t.Error(err)
	}

	for _, headers := range [][]string{{HeaderConsistent, "yes"}, {HeaderConsistent, ""}, {HeaderConsistent, "true", HeaderConsistent, "true"}} {
		if resp, _ := c.request("GET", "/v1/nodes/r1", "", headers...); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d", headers, resp.StatusCode)
		}
	}
	r.away.Store(true)
	if resp, _ := c.request("GET", "/v1/nodes/r1", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("who takes what is known: %d", resp.StatusCode)
	}
	if resp, p := c.request("GET", "/v1/nodes/r1", "", HeaderConsistent, "true"); resp.StatusCode != http.StatusServiceUnavailable || p.Code != "unavailable" {
		t.Errorf("who wants all: %d %+v", resp.StatusCode, p)
	}
}
