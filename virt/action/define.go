package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// maxChoices bounds how often a host is chosen again because somebody else took
// the room.
const maxChoices = 32

// define places the VM, if it has no host, and makes it known there.
func (r *run) define(ctx context.Context) (Result, error) {
	if err := r.defined(ctx, virt.ActionDefine); err != nil {
		return Result{}, err
	}
	return r.outcome(ctx)
}

// defined makes sure that the VM has a host that knows it.
func (r *run) defined(ctx context.Context, what string) error {
	if err := r.placed(ctx, what); err != nil {
		return err
	}
	if err := r.held(ctx); err != nil {
		return err
	}
	if err := r.reach(ctx, r.place, "define"); err != nil {
		return err
	}
	r.step(40, "defining it on %s", r.host.ID)
	err := r.call(ctx, r.place, r.cfg.Call, "define", func(ctx context.Context) error { return r.driver.Define(ctx, r.host, r.guest) })
	if err != nil {
		return r.undo(ctx, err)
	}
	return nil
}

// held waits for the limit of the host that the VM was placed on, and looks
// whether it is there still.
func (r *run) held(ctx context.Context) error {
	if err := r.take(ctx, r.host.ID); err != nil {
		return err
	}
	return r.stillHere(ctx)
}

// undo gives a reservation back after the driver refused, if the VM was never
// seen on the host and is not there now. When the driver gave no answer the VM
// may be there, and the reservation stays.
func (r *run) undo(ctx context.Context, refusal error) error {
	refused := errors.Is(refusal, virt.ErrUnsupported) || errors.Is(refusal, virt.ErrInvalid) || errors.Is(refusal, virt.ErrConflict)
	if !refused {
		return fmt.Errorf("%w; its place on %s is kept, as it may be there: try again, or `vagoth undefine %s`", refusal, r.host.ID, r.node.Name())
	}
	if r.node.State() != string(virt.Defined) {
		return refusal
	}
	if _, err := r.info(ctx); !errors.Is(err, virt.ErrNotFound) {
		return fmt.Errorf("%w; its place on %s is kept, as it may be there", refusal, r.host.ID)
	}
	from := r.host.ID
	err := r.change(ctx, func(d *registry.Draft, _ *registry.Node) error {
		d.Parent, d.State = "", string(virt.New)
		return nil
	}, registry.MovingFrom(from))
	if err != nil {
		return errors.Join(refusal, fmt.Errorf("cannot give its place on %s back: %w", from, err))
	}
	r.place = place{}
	return fmt.Errorf("%w; its place on %s was given back", refusal, from)
}

// placed makes sure that the VM has a host.
func (r *run) placed(ctx context.Context, what string) error {
	for range maxChoices {
		v, err := r.parts.Registry.View(ctx)
		if err != nil {
			return err
		}
		if r.node, err = v.Get(r.id); err != nil {
			return err
		}
		if r.node.Parent() != "" {
			if r.place, err = r.placeOf(v, r.node.Parent()); err != nil {
				return err
			}
			return r.asked(v)
		}
		req, err := virt.PlacementOf(v, r.node, r.params.Host)
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
		}
		d, err := r.parts.Allocator.Decide(ctx, v, req)
		if err != nil {
			return r.noHost(ctx, err)
		}
		err = r.reserve(ctx, d)
		switch {
		case err == nil:
			r.step(20, "placed on %s", d.Host)
		case errors.Is(err, errTaken):
			r.task.Log(fmt.Sprintf("choosing again: %v", err))
		default:
			return fmt.Errorf("cannot place %s on %s: %w", r.node.Name(), d.Host, err)
		}
	}
	return fmt.Errorf("%w: %s was to be placed %d times and somebody else took the room each time: try again", registry.ErrConflict, r.node.Name(), maxChoices)
}

// asked refuses a host that was asked for and is not the one that it has.
func (r *run) asked(v registry.Reader) error {
	if r.params.Host == "" {
		return nil
	}
	h, err := registry.Find(v, r.params.Host)
	if err != nil {
		return err
	}
	if h.ID() != r.host.ID {
		return fmt.Errorf("%w: %s is on %s, not on %s: `vagoth migrate %s --to %s` moves it", virt.ErrConflict, r.node.Name(), r.host.ID, h.ID(), r.node.Name(), h.ID())
	}
	return nil
}

// errTaken: what was decided on a snapshot no longer holds.
var errTaken = errors.New("it is not as it was when it was decided")

// reserve sets the parent if the host still is as the decision saw it.
func (r *run) reserve(ctx context.Context, d *allocator.Decision) error {
	blob, err := kept(d)
	if err != nil {
		return err
	}
	return r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := tx.Get(r.id)
		if err != nil {
			return err
		}
		if n.Parent() != "" || n.Definition() != r.node.Definition() || virt.DisksOn(n) != virt.DisksOn(r.node) {
			return fmt.Errorf("%w: %s has changed", errTaken, n.Name())
		}
		if err := r.fits(tx, d, r.id); err != nil {
			return err
		}
		n, err = registry.ModifyIn(tx, r.id, func(dr *registry.Draft) (err error) {
			dr.Parent, dr.State = d.Host, string(virt.Defined)
			dr.Metadata, err = dr.Metadata.Merge(nil, virt.MetaEvidence)
			return err
		}, registry.MovingFrom(""))
		if err != nil {
			return err
		}
		r.node = n
		return tx.PutBlob(r.id, virt.BlobDecision, blob)
	})
}

// fits checks a decision against the host and its children as they are now,
// leaving out the child except. What it read still holds at commit.
func (r *run) fits(tx registry.Tx, d *allocator.Decision, except string) error {
	hn, err := tx.Get(d.Host)
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("%w: %w", errTaken, err)
	}
	if err != nil {
		return err
	}
	host, ok := virt.AllocatorHost(hn)
	if !ok {
		return fmt.Errorf("%w: %s is no hypervisor", errTaken, d.Host)
	}
	children, err := tx.Children(d.Host)
	if err != nil {
		return err
	}
	for _, why := range allocator.Rules(host, d.Over, d.Request, allocator.Occupy(children.Nodes, r.need, except)) {
		return fmt.Errorf("%w: %s: %s: %s is required, there is %s", errTaken, d.Host, why.Filter, why.Required, why.Observed)
	}
	return nil
}

// noHost keeps the decision of a VM that fits nowhere, so that it can be asked
// for.
func (r *run) noHost(ctx context.Context, err error) error {
	var none *allocator.NoHostError
	if !errors.As(err, &none) {
		return err
	}
	blob, keepErr := kept(none.Decision)
	if keepErr == nil {
		keepErr = r.parts.Registry.Update(ctx, func(tx registry.Tx) error {
			if _, err := tx.Get(r.id); err != nil {
				return err
			}
			return tx.PutBlob(r.id, virt.BlobDecision, blob)
		})
	}
	if keepErr != nil {
		r.task.Log(fmt.Sprintf("the decision is not kept: %v", keepErr))
	}
	return fmt.Errorf("%w: `vagoth why %s` shows every host", err, r.node.Name())
}

// Of a decision over more than keepAll hosts, the best and the first of those
// that were ruled out are kept, half of it each.
const keepAll = 64

// kept encodes a decision for the VM's blob: whole, or its ends with a summary
// that counts them all.
func kept(d *allocator.Decision) ([]byte, error) {
	short := *d
	var verdicts []allocator.Verdict
	if d.Hosts != nil {
		verdicts = d.Hosts()
	}
	left, all := 0, allocator.Decision{Hosts: func() []allocator.Verdict { return verdicts }}
	if len(verdicts) > keepAll {
		every := verdicts
		all.Hosts = func() []allocator.Verdict { return every }
		fit := 0
		for fit < len(verdicts) && len(verdicts[fit].Ruled) == 0 {
			fit++
		}
		best := min(fit, max(keepAll/2, keepAll-(len(verdicts)-fit)))
		out := verdicts[fit:min(len(verdicts), fit+keepAll-best)]
		some := append(append([]allocator.Verdict(nil), verdicts[:best]...), out...)
		for _, v := range verdicts[best:fit] {
			if v.Chosen {
				some = append([]allocator.Verdict{v}, some...)
			}
		}
		left = len(verdicts) - len(some)
		verdicts = some
	}
	short.Hosts = func() []allocator.Verdict { return verdicts }
	data, err := json.Marshal(&short)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the decision: %w", err)
	}
	if left == 0 {
		return data, nil
	}
	more, err := json.Marshal(struct {
		Summary string `json:"summary"`
		Left    int    `json:"left_out"`
	}{all.Summary(), left})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the decision: %w", err)
	}
	return append(append(data[:len(data)-1], ','), more[1:]...), nil
}
