package template

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// hooks are the hooks of a provisioner; nil is none.
type hooks struct{ before, after hook }

func (h hooks) any() bool { return h.before != nil || h.after != nil }

// maxPlans is how often a plan is made anew because somebody else took its
// addresses, before that is reported.
const maxPlans = 16

// provisionHooked plans, asks, commits exactly the plan, and tells. An address
// that somebody takes between plan and commit costs a new plan: the hook hears
// that the old one is cancelled.
func (t *templates) provisionHooked(ctx context.Context, spec provisioner.Spec) (*registry.Node, error) {
	for plan := 1; ; plan++ {
		v, err := t.deps.Registry.View(ctx)
		if err != nil {
			return nil, err
		}
		d, picked, err := t.draft(v, spec)
		if err != nil {
			return nil, err
		}
		e := event(ctx, "provision", d, nil)
		if err := t.ask(ctx, e); err != nil {
			return nil, fmt.Errorf("cannot provision %s: %w", d.ID, err)
		}
		var n *registry.Node
		err = t.deps.Registry.Update(ctx, func(tx registry.Tx) error {
			n, err = provisioner.Create(tx, d)
			return err
		})
		if err == nil {
			return t.provisioned(ctx, e, n)
		}
		t.cancel(ctx, e, err)
		if plan == maxPlans || !lost(err, picked) {
			return nil, err
		}
	}
}

// provisioned tells the after hook, and takes the node back if that fails.
func (t *templates) provisioned(ctx context.Context, e Event, n *registry.Node) (*registry.Node, error) {
	failed := t.tell(ctx, e)
	if failed == nil {
		return n, nil
	}
	back, cancel := t.afterwards(ctx)
	defer cancel()
	err := t.deps.Registry.Update(back, func(tx registry.Tx) error {
		now, err := tx.Get(n.ID())
		if errors.Is(err, registry.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if !now.CreatedAt().Equal(n.CreatedAt()) {
			return nil // another one, of the same ID
		}
		return provisioner.Remove(tx, t.types, n.ID())
	})
	if err != nil {
		return nil, fmt.Errorf("node %s is provisioned, but its after hook failed: %w; and it cannot be taken back: %w", n.ID(), failed, err)
	}
	t.cancel(ctx, e, failed)
	return nil, fmt.Errorf("cannot provision %s: its after hook failed, so it was taken back: %w", n.ID(), failed)
}

// redefineHooked is the same for a new definition. What the after hook says
// does not undo it.
func (t *templates) redefineHooked(ctx context.Context, id string, definition registry.Document, force bool) (*registry.Node, error) {
	for plan := 1; ; plan++ {
		v, err := t.deps.Registry.View(ctx)
		if err != nil {
			return nil, err
		}
		n, err := v.Get(id)
		if err != nil {
			return nil, fmt.Errorf("cannot redefine %.64q: %w", id, err)
		}
		d, picked, err := t.redraft(v, n, definition)
		if err != nil {
			return nil, err
		}
		old := n.Draft()
		e := event(ctx, "redefine", d, &old)
		if err := t.ask(ctx, e); err != nil {
			return nil, fmt.Errorf("cannot redefine %s: %w", id, err)
		}
		moved := false
		var after *registry.Node
		err = t.deps.Registry.Update(ctx, func(tx registry.Tx) error {
			now, err := tx.Get(id)
			if err != nil {
				return fmt.Errorf("cannot redefine %s: %w", id, err)
			}
			if moved = !now.Same(old); moved {
				return fmt.Errorf("cannot redefine %s: %w: it changed %d times while the hook was asked", id, registry.ErrConflict, maxPlans)
			}
			after, err = provisioner.Replace(tx, now, d, force)
			return err
		})
		if err == nil {
			if err := t.tell(ctx, e); err != nil {
				return after, fmt.Errorf("%s is redefined, but its after hook failed: %w", id, err)
			}
			return after, nil
		}
		t.cancel(ctx, e, err)
		if plan == maxPlans || !moved && !lost(err, picked) {
			return nil, err
		}
	}
}

func (t *templates) deprovisionHooked(ctx context.Context, id string) error {
	n, err := registry.Get(ctx, t.deps.Registry, id)
	if err != nil {
		return fmt.Errorf("cannot deprovision %.64q: %w", id, err)
	}
	if err := provisioner.Idle(t.types, n); err != nil {
		return err
	}
	e := event(ctx, "deprovision", n.Draft(), nil)
	if err := t.ask(ctx, e); err != nil {
		return fmt.Errorf("cannot deprovision %s: %w", id, err)
	}
	err = t.deps.Registry.Update(ctx, func(tx registry.Tx) error { return provisioner.Remove(tx, t.types, id) })
	if err != nil {
		t.cancel(ctx, e, err)
		return err
	}
	if err := t.tell(ctx, e); err != nil {
		return fmt.Errorf("%s is deprovisioned, but its after hook failed: %w", id, err)
	}
	return nil
}

// lost reports whether err is that somebody else has one of the keys that we
// chose, so that other ones will do.
func lost(err error, picked []string) bool {
	var clash *registry.ConflictError
	return errors.As(err, &clash) && slices.Contains(picked, clash.Key)
}

func (t *templates) ask(ctx context.Context, e Event) error {
	if t.hooks.before == nil {
		return nil
	}
	e.Phase = phaseBefore
	return t.hooks.before.tell(ctx, e)
}

// tell is after the commit, and so outlives the caller's context.
func (t *templates) tell(ctx context.Context, e Event) error {
	if t.hooks.after == nil {
		return nil
	}
	ctx, cancel := t.afterwards(ctx)
	defer cancel()
	e.Phase = phaseAfter
	return t.hooks.after.tell(ctx, e)
}

// cancel tells the before hook that what it allowed did not come to pass.
func (t *templates) cancel(ctx context.Context, e Event, why error) {
	if t.hooks.before == nil {
		return
	}
	ctx, cancel := t.afterwards(ctx)
	defer cancel()
	e.Phase = phaseCancel
	if err := t.hooks.before.tell(ctx, e); err != nil {
		t.deps.Log.Warn("the before hook did not take the cancellation", slog.String("node", e.Node.ID),
			slog.String("event", e.Event), slog.Any("error", err), slog.Any("because", why), slog.Any("trail", e.Trail))
	}
}

// afterwards is the context of what has to be done even if the caller is gone.
func (t *templates) afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
}
