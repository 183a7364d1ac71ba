package etcd

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

// byName lets in by name, as a worker; whoever has none is of this machine.
type byName struct{}

func (byName) Authenticate(r *http.Request) (api.Identity, error) {
	if name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return api.Identity{Name: name, Role: auth.Worker}, nil
	}
	return api.Identity{Role: auth.Admin}, nil
}

func overHTTP(_ *testing.T, s scheduler.Scheduler) schedulertest.Endpoint {
	return schedulertest.Endpoint{
		Handler: api.Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, api.Options{Auth: byName{}}),
		Client:  func(transport http.RoundTripper) scheduler.Broker { return api.NewClient("http://vagoth", transport) },
	}
}
