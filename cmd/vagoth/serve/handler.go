package serve

import (
	"net/http"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/auth"
)

// handler is the management interface of the open cluster. Whoever comes through
// the unix socket was let in by the operating system; all others show a token or
// a certificate.
func (d *daemon) handler() http.Handler {
	return api.Handler(d.m, api.Options{
		Version: d.o.Version, Log: d.log, Now: d.o.Now,
		Auth:        auth.Local(d.tokens),
		MaxRequests: d.settings.Daemon.MaxRequests,
		Draining:    d.stopping,
		Metrics:     d.metrics,
	})
}
