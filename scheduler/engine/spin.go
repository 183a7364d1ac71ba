package engine

import (
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/spin"
)

// Listeners implements scheduler.Server: the six verbs of spin-broker, if an
// address is configured for them.
func (b *Engine) Listeners() []scheduler.Listener {
	if b.cfg.SpinListen == "" {
		return nil
	}
	return []scheduler.Listener{{
		Name: "spin-broker's verbs", Address: b.cfg.SpinListen, Small: true,
		Handler: spin.New(b, spin.Options{Lease: b.cfg.SpinLease, Now: b.now}),
	}}
}
