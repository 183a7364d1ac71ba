package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// start starts the VM, after defining it and making its disks where need be.
func (r *run) start(ctx context.Context) (Result, error) {
	if err := r.fitToRun(ctx); err != nil {
		return Result{}, err
	}
	if r.there() {
		info, err := r.info(ctx)
		switch {
		case err == nil && info.State == virt.Running:
			return Result{Host: r.host.ID, State: info.State, Text: "it runs already"}, r.saw(ctx, info.State)
		case err == nil && info.State == virt.Paused:
			if err := r.saw(ctx, info.State); err != nil {
				return Result{}, err
			}
			return Result{}, fmt.Errorf("cannot start %s: %w: it is suspended on %s: `vagoth resume %s` lets it go on", r.node.Name(), virt.ErrConflict, r.host.ID, r.node.Name())
		case err != nil && !errors.Is(err, virt.ErrNotFound):
			return Result{}, err
		}
	}
	if err := r.defined(ctx, virt.ActionStart); err != nil {
		return Result{}, err
	}
	if err := r.makeDisks(ctx); err != nil {
		return Result{}, err
	}
	if err := r.stillHere(ctx); err != nil {
		return Result{}, err
	}
	r.step(80, "starting it on %s", r.host.ID)
	if err := r.power(ctx, virt.PowerStart, "start"); err != nil {
		return Result{}, err
	}
	return r.outcome(ctx)
}

// fitToRun refuses a VM that an operator has to look at first, and a host that
// was asked for and is not the one that the VM has.
func (r *run) fitToRun(ctx context.Context) error {
	if a, ok := virt.AlarmOf(r.node); ok && a.Kind == alarmTwice {
		return fmt.Errorf("cannot start %s: %w: %s: stop it where it does not belong, then poll", r.node.Name(), virt.ErrConflict, a.Text)
	}
	if !r.there() || r.params.Host == "" {
		return nil
	}
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	return r.asked(v)
}

// alarmTwice is the kind of the alarm that the monitor raises for a VM on two
// hosts.
const alarmTwice = "seen-twice"

// stillHere looks once more before the one step that must not happen twice: an
// operator may have freed the VM while this attempt waited for its host.
func (r *run) stillHere(ctx context.Context) error {
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	n, err := v.Get(r.id)
	if err != nil {
		return err
	}
	if n.Parent() != r.host.ID {
		return fmt.Errorf("%w: %s is not on %s any more: look, and try again", registry.ErrConflict, n.Name(), r.host.ID)
	}
	return nil
}

func (r *run) power(ctx context.Context, op virt.PowerOp, what string) error {
	return r.call(ctx, r.place, r.cfg.Call, what, func(ctx context.Context) error { return r.driver.Power(ctx, r.host, r.guest, op) })
}

// outcome asks how the VM is after the deed, and writes it down.
func (r *run) outcome(ctx context.Context) (Result, error) {
	info, err := r.info(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Host: r.host.ID, State: info.State}, r.saw(ctx, info.State)
}

func off(s virt.State) bool { return s == virt.Stopped || s == virt.Crashed }

// stop turns the VM off, after asking it to shut down if there is a grace.
func (r *run) stop(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{State: virt.State(r.node.State()), Text: "it is on no host"}, nil
	}
	info, err := r.info(ctx)
	if err != nil {
		return Result{}, err
	}
	if r.params.Grace != "" && info.State == virt.Running {
		grace, err := time.ParseDuration(r.params.Grace)
		if err != nil {
			return Result{}, fmt.Errorf("%w: grace: %w", virt.ErrInvalid, err)
		}
		if info.State, err = r.graceful(ctx, grace); err != nil {
			return Result{}, err
		}
	}
	if !off(info.State) {
		r.step(80, "turning it off on %s", r.host.ID)
		if err := r.power(ctx, virt.PowerStop, "stop"); err != nil {
			return Result{}, err
		}
	}
	return r.outcome(ctx)
}

// graceful asks the guest to shut down and waits until it is off or the grace
// is over.
func (r *run) graceful(ctx context.Context, grace time.Duration) (virt.State, error) {
	r.step(20, "asking it to shut down within %s", grace)
	if err := r.power(ctx, virt.PowerShutdown, "shut down"); err != nil {
		if errors.Is(err, virt.ErrUnsupported) {
			r.task.Log(err.Error())
			return virt.Running, nil
		}
		return "", err
	}
	over := time.NewTimer(grace)
	defer over.Stop()
	again := time.NewTicker(r.cfg.Look)
	defer again.Stop()
	for {
		info, err := r.info(ctx)
		if err != nil {
			return "", err
		}
		if off(info.State) {
			r.task.Log("it has shut down")
			return info.State, nil
		}
		select {
		case <-again.C:
		case <-over.C:
			r.task.Log("it has not shut down in time")
			return info.State, nil
		case <-ctx.Done():
			return "", fmt.Errorf("cannot wait for %s to shut down: %w", r.node.Name(), context.Cause(ctx))
		}
	}
}

// shutdown asks the VM to shut down.
func (r *run) shutdown(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{State: virt.State(r.node.State()), Text: "it is on no host"}, nil
	}
	info, err := r.info(ctx)
	if err != nil {
		return Result{}, err
	}
	if off(info.State) {
		return Result{Host: r.host.ID, State: info.State, Text: "it is off already"}, r.saw(ctx, info.State)
	}
	r.step(50, "asking it to shut down on %s", r.host.ID)
	if err := r.power(ctx, virt.PowerShutdown, "shut down"); err != nil {
		return Result{}, err
	}
	return r.outcome(ctx)
}

// reboot asks the VM to start again.
func (r *run) reboot(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{}, r.nowhere("reboot")
	}
	if err := r.reach(ctx, r.place, "reboot"); err != nil {
		return Result{}, err
	}
	r.step(50, "asking it to reboot on %s", r.host.ID)
	if err := r.power(ctx, virt.PowerReboot, "reboot"); err != nil {
		return Result{}, err
	}
	return r.outcome(ctx)
}

// suspend holds the VM.
func (r *run) suspend(ctx context.Context) (Result, error) {
	return r.hold(ctx, "suspend", virt.Suspender.Suspend)
}

// resume lets the VM go on.
func (r *run) resume(ctx context.Context) (Result, error) {
	return r.hold(ctx, "resume", virt.Suspender.Resume)
}

func (r *run) hold(ctx context.Context, what string, fn func(virt.Suspender, context.Context, virt.Host, virt.Guest) error) (Result, error) {
	if !r.there() {
		return Result{}, r.nowhere(what)
	}
	s, ok := r.driver.(virt.Suspender)
	if !ok {
		return Result{}, fmt.Errorf("cannot %s %s: %w by the driver %q of host %s", what, r.node.Name(), virt.ErrUnsupported, r.driverName, r.host.ID)
	}
	if err := r.reach(ctx, r.place, what); err != nil {
		return Result{}, err
	}
	r.step(50, "%s on %s", what, r.host.ID)
	if err := r.call(ctx, r.place, r.cfg.Call, what, func(ctx context.Context) error { return fn(s, ctx, r.host, r.guest) }); err != nil {
		return Result{}, err
	}
	return r.outcome(ctx)
}

// poll asks the host for the VM's state and writes it down.
func (r *run) poll(ctx context.Context) (Result, error) {
	if !r.there() {
		return Result{State: virt.State(r.node.State()), Text: "it is on no host"}, nil
	}
	info, err := r.info(ctx)
	switch {
	case err == nil:
		return Result{Host: r.host.ID, State: info.State}, r.saw(ctx, info.State)
	case errors.Is(err, virt.ErrNotFound):
		// This job holds the VM's queue, so nobody is about to define it.
		s := virt.Missing
		if r.node.State() == string(virt.Defined) {
			s = virt.Defined
		}
		return Result{Host: r.host.ID, State: s, Text: "its host does not have it"}, r.unseen(ctx, s, "its host does not have it")
	case errors.Is(err, virt.ErrUnreachable):
		return Result{}, errors.Join(err, r.unseen(ctx, virt.Unknown, "its host cannot be reached"))
	}
	return Result{}, err
}

// unseen writes a state that follows from not seeing the VM; the evidence keeps
// the time when it was seen last.
func (r *run) unseen(ctx context.Context, s virt.State, why string) error {
	return r.change(ctx, func(d *registry.Draft, n *registry.Node) (err error) {
		e, _ := virt.EvidenceOf(n)
		if n.State() == string(s) && e.Reason == why {
			return nil
		}
		d.State, e.Reason = string(s), why
		d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaEvidence: e})
		return err
	})
}
