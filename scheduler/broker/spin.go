package broker

import (
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/spin"
)

var _ scheduler.Server = (*Broker)(nil)

// Listeners implements scheduler.Server: spin-broker's own HTTP API, if it is
// asked for.
func (b *Broker) Listeners() []scheduler.Listener {
	if b.cfg.SpinListen == "" {
		return nil
	}
	return []scheduler.Listener{{
		Name:    "spin-broker's API",
		Address: b.cfg.SpinListen,
		Handler: spin.New(b, spin.Options{Lease: b.cfg.SpinLease, Now: b.now}),
	}}
}
