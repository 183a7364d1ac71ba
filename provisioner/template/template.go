package template

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Kind is the component.
func Kind() component.Kind[provisioner.Deps, provisioner.Provisioner] {
	return component.Define("templates, sizes, address pools and hooks", Defaults(), Open)
}

type templates struct {
	cfg     Config
	deps    provisioner.Deps
	types   map[string]provisioner.Class // deriving the pools' keys too
	pools   pools
	hooks   hooks
	timeout time.Duration
}

// Open returns the provisioner.
func Open(_ context.Context, cfg Config, deps provisioner.Deps) (provisioner.Provisioner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot open provisioner template: %w", err)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	t := &templates{cfg: cfg, deps: deps, timeout: cfg.Timeout, pools: pools{byName: map[string]*pool{}}}
	var err error
	if t.pools.mac, err = parsePrefix(cfg.MAC); err != nil {
		return nil, err
	}
	for name, n := range cfg.Networks {
		if t.pools.byName[name], err = newPool(name, n); err != nil {
			return nil, err
		}
	}
	t.pools.names = slices.Sorted(maps.Keys(t.pools.byName))
	if t.hooks.before, err = parseHook(cfg.Before, cfg.Timeout, cfg.Token); err != nil {
		return nil, err
	}
	if t.hooks.after, err = parseHook(cfg.After, cfg.Timeout, cfg.Token); err != nil {
		return nil, err
	}
	t.types = make(map[string]provisioner.Class, len(deps.Types))
	for name, class := range deps.Types {
		derive := class
		class.Keys = func(id string, definition registry.Document) ([]string, error) {
			keys, err := provisioner.Derive(derive, id, definition)
			if err != nil {
				return nil, err
			}
			return provisioner.Merge(keys, t.pools.keys(definition)), nil
		}
		t.types[name] = class
	}
	return t, nil
}

// draft makes the draft of a spec with addresses that are free for r, and the
// keys of those that it chose itself.
func (t *templates) draft(r registry.Reader, spec provisioner.Spec) (registry.Draft, []string, error) {
	spec, problems := t.cfg.expand(spec)
	if t.types[spec.Type].Only == virt.TypeVM {
		doc, err := imaged(spec.Definition)
		if err != nil {
			problems = append(problems, err.Error())
		} else {
			spec.Definition = doc
		}
	}
	a, err := t.pools.assign(r, spec.ID, spec.Definition, registry.Document{})
	if err != nil {
		return registry.Draft{}, nil, fmt.Errorf("cannot provision %.64q: %w", spec.ID, err)
	}
	spec.Definition = a.definition
	d, err := provisioner.Prepare(t.types, spec)
	if err := join(spec.ID, "", err, append(problems, a.problems...)); err != nil {
		return registry.Draft{}, nil, err
	}
	return d, a.picked, nil
}

// redraft is draft for a node that gets another definition.
func (t *templates) redraft(r registry.Reader, n *registry.Node, definition registry.Document) (registry.Draft, []string, error) {
	a, err := t.pools.assign(r, n.ID(), definition, n.Definition())
	if err != nil {
		return registry.Draft{}, nil, fmt.Errorf("cannot redefine %s: %w", n.ID(), err)
	}
	d, err := provisioner.Redraft(t.types, n, a.definition)
	if err := join(n.ID(), "redefine", err, a.problems); err != nil {
		return registry.Draft{}, nil, err
	}
	return d, a.picked, nil
}

// join adds problems to those that an error lists already.
func join(id, verb string, err error, problems []string) error {
	var spec *provisioner.SpecError
	switch {
	case len(problems) == 0:
		return err
	case err == nil:
		return &provisioner.SpecError{ID: id, Verb: verb, Problems: problems}
	case errors.As(err, &spec):
		return &provisioner.SpecError{ID: id, Verb: verb, Problems: append(problems, spec.Problems...)}
	}
	return err
}

func (t *templates) Plan(ctx context.Context, spec provisioner.Spec) (registry.Draft, error) {
	v, err := t.deps.Registry.View(ctx)
	if err != nil {
		return registry.Draft{}, err
	}
	d, _, err := t.draft(v, spec)
	return d, err
}

func (t *templates) Provision(ctx context.Context, spec provisioner.Spec) (*registry.Node, error) {
	if t.hooks.any() {
		return t.provisionHooked(ctx, spec)
	}
	var n *registry.Node
	err := t.deps.Registry.Update(ctx, func(tx registry.Tx) error {
		d, _, err := t.draft(tx, spec)
		if err != nil {
			return err
		}
		n, err = provisioner.Create(tx, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (t *templates) Redefine(ctx context.Context, id string, definition registry.Document, force bool) (*registry.Node, error) {
	if t.hooks.any() {
		return t.redefineHooked(ctx, id, definition, force)
	}
	var after *registry.Node
	err := t.deps.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := tx.Get(id)
		if err != nil {
			return fmt.Errorf("cannot redefine %.64q: %w", id, err)
		}
		d, _, err := t.redraft(tx, n, definition)
		if err != nil {
			return err
		}
		after, err = provisioner.Replace(tx, n, d, force)
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

func (t *templates) Deprovision(ctx context.Context, id string) error {
	if t.hooks.any() {
		return t.deprovisionHooked(ctx, id)
	}
	return t.deps.Registry.Update(ctx, func(tx registry.Tx) error { return provisioner.Remove(tx, t.types, id) })
}

// event is a hook's event on the caller's behalf.
func event(ctx context.Context, what string, node registry.Draft, old *registry.Draft) Event {
	return Event{Event: what, Node: node, Old: old, Trail: trail.From(ctx)}
}

func hint(word string, known iter.Seq[string]) string {
	if s := component.Choices(word, known); s != "" {
		return " (" + s + ")"
	}
	return ""
}

// short bounds what a message repeats of somebody's input.
func short(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
