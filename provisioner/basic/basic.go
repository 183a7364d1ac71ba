// Package basic provisions exactly what it is asked for: it checks the
// definition against the type's class, derives the unique keys and commits node
// and keys in one transaction.
//
// # Why
//
// It adds nothing, so that what somebody wrote down is what there is. Names,
// tags, keys, arguments and the definition are checked before anything is
// written, and all problems are reported at once.
package basic

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// Config is the section [provisioner] of the ini file.
type Config struct{}

// Kind is the component.
func Kind() component.Kind[provisioner.Deps, provisioner.Provisioner] {
	return component.Define("checks definitions, derives unique keys, adds nothing", Config{}, Open)
}

type basic struct{ deps provisioner.Deps }

// Open returns the provisioner.
func Open(_ context.Context, _ Config, deps provisioner.Deps) (provisioner.Provisioner, error) {
	return &basic{deps}, nil
}

func (b *basic) Provision(ctx context.Context, spec provisioner.Spec) (*registry.Node, error) {
	return provisioner.Provision(ctx, b.deps, spec)
}

func (b *basic) Plan(ctx context.Context, spec provisioner.Spec) (registry.Draft, error) {
	if err := ctx.Err(); err != nil {
		return registry.Draft{}, err
	}
	return provisioner.Prepare(b.deps.Types, spec)
}

func (b *basic) Redefine(ctx context.Context, id string, definition registry.Document, force bool) (after *registry.Node, err error) {
	err = b.deps.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err := tx.Get(id)
		if err != nil {
			return fmt.Errorf("cannot redefine %.64q: %w", id, err)
		}
		d, err := provisioner.Redraft(b.deps.Types, n, definition)
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

func (b *basic) Deprovision(ctx context.Context, id string) error {
	return b.deps.Registry.Update(ctx, func(tx registry.Tx) error {
		return provisioner.Remove(tx, b.deps.Types, id)
	})
}
