package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// run is one attempt of one action.
type run struct {
	*menu
	parts  virt.Parts
	task   scheduler.Task
	params virt.Params
	id     string

	node  *registry.Node
	guest virt.Guest
	place // where the VM is, if it has a parent
}

// place is a hypervisor with its driver.
type place struct {
	host       virt.Host
	hypervisor *registry.Node
	driver     virt.Driver
	driverName string
}

func (p place) there() bool { return p.hypervisor != nil }

// look reads where the VM stands. A migration that was interrupted is settled
// first, and after an attempt without an answer the driver is asked.
func (r *run) look(ctx context.Context) error {
	if err := r.readHeld(ctx); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if max(r.task.Job().Trail.Attempt, trail.From(ctx).Attempt) > 1 && r.there() {
		info, err := r.info(ctx)
		switch {
		case errors.Is(err, virt.ErrNotFound):
			r.task.Log(r.host.ID + " does not have it")
		case err != nil:
			return err
		default:
			r.task.Log(fmt.Sprintf("%s has it, %s", r.host.ID, info.State))
		}
	}
	return nil
}

// readHeld reads the node, and takes the limits of the hosts that it is about
// before any driver hears of it. To read takes none.
func (r *run) readHeld(ctx context.Context) error {
	if err := r.read(ctx); err != nil || r.task.Job().Action == virt.ActionPoll {
		return err
	}
	for range maxChoices {
		about := []string{r.host.ID, virt.MovesTo(r.node)}
		if err := r.take(ctx, about...); err != nil {
			return err
		}
		// While it waited, an operator may have freed the VM or placed it.
		if err := r.read(ctx); err != nil {
			return err
		}
		if r.host.ID == about[0] && virt.MovesTo(r.node) == about[1] {
			return nil
		}
	}
	return fmt.Errorf("%w: %s changed its host %d times while its turn there was waited for: try again", registry.ErrConflict, r.node.Name(), maxChoices)
}

// take waits until the attempt holds the limits of these hosts, and of no others.
// An empty ID is no host.
func (r *run) take(ctx context.Context, hosts ...string) error {
	var names []string
	for _, h := range hosts {
		if h != "" && !slices.Contains(names, scheduler.HostLimit(h)) {
			names = append(names, scheduler.HostLimit(h))
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := scheduler.TakeLimits(ctx, r.task, names...); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return fmt.Errorf("cannot wait for %s: %w", strings.Join(names, " and "), err)
	}
	return nil
}

// read reads the node and, if it has one, its host.
func (r *run) read(ctx context.Context) error {
	v, err := r.parts.Registry.View(ctx)
	if err != nil {
		return err
	}
	if r.node, err = v.Get(r.id); err != nil {
		return err
	}
	if r.node.Type() != virt.TypeVM {
		return fmt.Errorf("%w: it is of type %s, not a virtual machine (type %s)", virt.ErrInvalid, r.node.Type(), virt.TypeVM)
	}
	if r.guest, err = virt.GuestOf(r.node); err != nil {
		return err
	}
	r.place = place{}
	if r.node.Parent() != "" {
		r.place, err = r.placeOf(v, r.node.Parent())
	}
	return err
}

func (r *run) placeOf(v registry.Reader, id string) (place, error) {
	n, err := v.Get(id)
	if err != nil {
		return place{}, err
	}
	host, def, err := virt.HostOf(n)
	if err != nil {
		return place{}, err
	}
	d, err := r.parts.Driver(def.Driver)
	if err != nil {
		return place{}, fmt.Errorf("host %s: %w", id, err)
	}
	return place{host: host, hypervisor: n, driver: d, driverName: def.Driver}, nil
}

// call calls the driver under a deadline and puts what and where into the
// error. A host that does not answer in time is unreachable.
func (r *run) call(ctx context.Context, p place, limit time.Duration, what string, fn func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := fn(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cannot %s %s on host %s: %w (%w)", what, r.node.Name(), p.host.ID, context.Cause(ctx), err)
	case bounded.Err() != nil && !errors.Is(err, virt.ErrUnreachable):
		err = fmt.Errorf("%w: no answer within %s: %w", virt.ErrUnreachable, limit, err)
	}
	if errors.Is(err, virt.ErrUnreachable) {
		return r.unreachable(p, what, err)
	}
	return fmt.Errorf("cannot %s %s on host %s: %w", what, r.node.Name(), p.host.ID, err)
}

// unreachable says what is known and what can be done.
func (r *run) unreachable(p place, what string, err error) error {
	since := "its VMs were never seen"
	if e, ok := virt.EvidenceOf(r.node); ok && !e.At.IsZero() && e.Host == p.host.ID {
		since = fmt.Sprintf("%s was last seen there %s ago", r.node.Name(), component.FormatDuration(r.now().Sub(e.At).Truncate(time.Second)))
	}
	return fmt.Errorf("cannot %s %s on host %s: %w (%s): try `vagoth poll %s`; if you have made sure that it is dead, `vagoth hv confirm-down %s --reason …`",
		what, r.node.Name(), p.host.ID, err, since, p.host.ID, p.host.ID)
}

func (r *run) now() time.Time {
	if r.parts.Now == nil {
		return time.Now()
	}
	return r.parts.Now()
}

// reach fails at once when the host is known to be down, and soon when it did
// not answer last time and still does not.
func (r *run) reach(ctx context.Context, p place, what string) error {
	switch virt.HostState(p.hypervisor.State()) {
	case virt.Down:
		return fmt.Errorf("cannot %s %s: %w: %s was confirmed down: poll it when it is back", what, r.node.Name(), virt.ErrUnreachable, p.host.ID)
	case virt.Unreachable:
		err := r.call(ctx, p, r.cfg.Probe, what, func(ctx context.Context) error {
			_, err := p.driver.Info(ctx, p.host, r.guest)
			return err
		})
		if errors.Is(err, virt.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// info asks the host for the VM.
func (r *run) info(ctx context.Context) (virt.Info, error) { return r.infoAt(ctx, r.place) }

func (r *run) infoAt(ctx context.Context, p place) (info virt.Info, err error) {
	if err := r.reach(ctx, p, "ask for"); err != nil {
		return info, err
	}
	err = r.call(ctx, p, r.cfg.Call, "ask for", func(ctx context.Context) (err error) {
		info, err = p.driver.Info(ctx, p.host, r.guest)
		return err
	})
	return info, err
}

// evidenceAge is how old the evidence of an unchanged state may grow before an
// action that looked writes it anew.
const evidenceAge = time.Minute

// saw writes the state in which the host was seen to have the VM. It refuses if
// the VM is no longer there, such as when an operator freed it meanwhile.
func (r *run) saw(ctx context.Context, s virt.State) error {
	at := r.now()
	return r.change(ctx, func(d *registry.Draft, n *registry.Node) (err error) {
		e, ok := virt.EvidenceOf(n)
		fresh := ok && e.Host == r.host.ID && e.Reason == "" && at.Sub(e.At) < evidenceAge && !at.Before(e.At)
		if n.State() == string(s) && fresh {
			return nil
		}
		d.State = string(s)
		d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaEvidence: virt.Evidence{At: at, Host: r.host.ID}})
		return err
	})
}

// change modifies the node if its parent is still what this attempt has seen.
func (r *run) change(ctx context.Context, fn func(*registry.Draft, *registry.Node) error, opts ...registry.WriteOption) error {
	return r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := r.same(tx)
		if err != nil {
			return err
		}
		n, err = registry.ModifyIn(tx, r.id, func(d *registry.Draft) error { return fn(d, n) }, opts...)
		r.node = n
		return err
	})
}

// same reads the node in a transaction and refuses if its parent changed.
func (r *run) same(tx registry.Tx) (*registry.Node, error) {
	n, err := tx.Get(r.id)
	if err != nil {
		return nil, err
	}
	if n.Parent() != r.node.Parent() {
		return nil, fmt.Errorf("%w: %s was on host %q and is on %q by now: look, and try again", registry.ErrConflict, n.Name(), r.node.Parent(), n.Parent())
	}
	return n, nil
}

// step logs and reports a step.
func (r *run) step(percent int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.task.Progress(percent, text)
	r.task.Log(text)
}

// nowhere is the error of what needs a host.
func (r *run) nowhere(what string) error {
	return fmt.Errorf("cannot %s %s: %w: it is on no host: `vagoth start %s` places and starts it", what, r.node.Name(), virt.ErrConflict, r.node.Name())
}
