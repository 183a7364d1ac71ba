package drivertest

import (
	"context"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// fenced lets a manager that was taken for dead come late, with a lower token than that
// of the one that was given its job.
func fenced(b *bench) {
	if f, ok := b.d.(virt.Fencer); !ok || !f.Fences() {
		b.Skip("the driver does not compare tokens")
	}
	with := func(token trail.Token, do func(context.Context, virt.Host, virt.Guest) error, g virt.Guest) error {
		return b.call(func(ctx context.Context) error {
			return do(trail.With(ctx, trail.Trail{Token: token}), b.h, g)
		})
	}
	power := func(op virt.PowerOp) func(context.Context, virt.Host, virt.Guest) error {
		return func(ctx context.Context, h virt.Host, g virt.Guest) error { return b.d.Power(ctx, h, g, op) }
	}
	first, lower, higher, epoch := trail.Token{Epoch: 7, Number: 4}, trail.Token{Epoch: 7, Number: 3}, trail.Token{Epoch: 7, Number: 5}, trail.Token{Epoch: 8, Number: 1}
	g, other := b.guest(), b.guest()
	b.must("provision with a token", with(first, b.d.Provision, g))
	b.is("define with a lower token", with(lower, b.d.Define, g), virt.ErrConflict)
	if _, n := b.listed(b.h, g); n != 0 {
		b.Error("a guest is there that was defined with a lower token")
	}
	b.must("define with the same token", with(first, b.d.Define, g))
	b.must("start with a higher token", with(higher, power(virt.PowerStart), g))
	for _, op := range []virt.PowerOp{virt.PowerStop, virt.PowerShutdown, virt.PowerReboot} { // a driver may see that a start has nothing to do
		b.is(string(op)+" with a lower token", with(first, power(op), g), virt.ErrConflict)
	}
	b.is("define with a lower token", with(lower, b.d.Define, g), virt.ErrConflict)
	if s, ok := b.d.(virt.Suspender); ok {
		b.is("suspend with a lower token", with(first, s.Suspend, g), virt.ErrConflict)
	}
	b.state(g, virt.Running)
	b.must("provision another guest with a lower token", with(lower, b.d.Provision, other))
	b.must("define it", with(lower, b.d.Define, other))

	b.must("stop with a token of a later epoch", with(epoch, power(virt.PowerStop), g))
	b.is("start with the token before", with(higher, power(virt.PowerStart), g), virt.ErrConflict)
	b.state(g, virt.Stopped)
	b.must("start without a token", b.power(g, virt.PowerStart)) // a person by hand
	b.must("stop without one", b.power(g, virt.PowerStop))
	b.is("undefine with a lower token", with(higher, b.d.Undefine, g), virt.ErrConflict)
	b.state(g, virt.Stopped)
	b.must("undefine with the same one", with(epoch, b.d.Undefine, g))
	// It is remembered also when the guest is gone.
	b.is("define with a lower token what was undefined", with(higher, b.d.Define, g), virt.ErrConflict)
	if _, n := b.listed(b.h, g); n != 0 {
		b.Error("a guest is there that was defined with a lower token after it was undefined")
	}
}
