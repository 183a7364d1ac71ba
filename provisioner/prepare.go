package provisioner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// What follows is what every provisioner does alike.

// Lister is an error that lists several problems, such as a Class's Validate
// may return.
type Lister interface{ List() []string }

// Prepare makes the draft that the spec asks for, with the keys that its class
// derives. It reads and writes nothing. The error is a *SpecError with every
// problem there is. Args are for the provisioner to take out of the spec
// before: what is left of them is unknown.
func Prepare(types map[string]Class, spec Spec) (registry.Draft, error) {
	d := registry.Draft{
		ID: spec.ID, Name: spec.Name, Type: spec.Type, Tenant: spec.Tenant,
		Definition: spec.Definition, Metadata: spec.Metadata, Tags: maps.Clone(spec.Tags), Keys: slices.Clone(spec.Keys),
	}
	if d.Name == "" {
		d.Name = d.ID
	}
	var problems []string
	found := func(at string, err error) {
		if err != nil {
			problems = append(problems, at+": "+err.Error())
		}
	}
	found("id", registry.CheckName(d.ID))
	if d.Name != d.ID {
		found("name", registry.CheckName(d.Name))
	}
	if d.Tenant != "" {
		found("tenant", registry.CheckName(d.Tenant))
	}
	if len(d.Tags) > registry.MaxTags {
		problems = append(problems, fmt.Sprintf("tags: %d are given, a node can have %d", len(d.Tags), registry.MaxTags))
	}
	for _, k := range slices.Sorted(maps.Keys(d.Tags)) {
		found("tags", registry.CheckTag(k, d.Tags[k]))
	}
	for _, k := range d.Keys {
		found("keys", registry.CheckKey(k))
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Args)) {
		problems = append(problems, fmt.Sprintf("args: there is no argument %.64q", k))
	}
	if len(problems) > maxProblems {
		problems = append(problems[:maxProblems], fmt.Sprintf("… and %d more", len(problems)-maxProblems))
	}
	class, typeErr := ClassOf(types, d.Type)
	found("type", typeErr)
	if typeErr == nil {
		d.State = class.Initial
		if invalid := Check(class, d.Definition); len(invalid) > 0 {
			problems = append(problems, invalid...)
		} else if len(problems) == 0 {
			keys, err := Derive(class, d.ID, d.Definition)
			found("definition", err)
			d.Keys = Merge(d.Keys, keys)
		}
	}
	if len(problems) == 0 {
		if err := d.Validate(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return registry.Draft{}, &SpecError{ID: spec.ID, Problems: problems}
	}
	return d, nil
}

// maxProblems bounds how many problems of one spec are listed beside those of
// its definition.
const maxProblems = 50

// ClassOf finds the class of a type.
func ClassOf(types map[string]Class, typ string) (Class, error) {
	if c, ok := types[typ]; ok {
		return c, nil
	}
	known := slices.Sorted(maps.Keys(types))
	if typ == "" {
		return Class{}, fmt.Errorf("it is missing: use one of %s", strings.Join(known, ", "))
	}
	if hint := component.DidYouMean(typ, slices.Values(known)); hint != "" {
		return Class{}, fmt.Errorf("there is no type %.64q (%s)", typ, hint)
	}
	return Class{}, fmt.Errorf("there is no type %.64q: use one of %s, or add a line to [node_types]", typ, strings.Join(known, ", "))
}

// Check returns every problem of a definition.
func Check(c Class, definition registry.Document) []string {
	if c.Validate == nil {
		return nil
	}
	err := c.Validate(definition)
	if err == nil {
		return nil
	}
	var several Lister
	if !errors.As(err, &several) {
		return []string{"definition: " + err.Error()}
	}
	problems := make([]string, 0, len(several.List()))
	for _, p := range several.List() {
		problems = append(problems, "definition: "+p)
	}
	return problems
}

// Derive returns the keys that a node with the definition claims.
func Derive(c Class, id string, definition registry.Document) ([]string, error) {
	if c.Keys == nil {
		return nil, nil
	}
	return c.Keys(id, definition)
}

// Merge joins lists of keys, each key once, ordered.
func Merge(lists ...[]string) []string {
	keys := slices.Concat(lists...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Create is the transaction of Provision: it makes the node of a draft.
func Create(tx registry.Tx, d registry.Draft) (*registry.Node, error) {
	n, err := tx.Create(d)
	if err != nil {
		return nil, explain("provision", d.ID, tx, err)
	}
	return n, nil
}

// Redraft returns the draft of a node with another definition. Keys that the
// old definition derived are replaced by those of the new one; keys that were
// given beside them stay. If the old definition cannot be read any more, all
// keys stay.
func Redraft(types map[string]Class, n *registry.Node, definition registry.Document) (registry.Draft, error) {
	class, err := ClassOf(types, n.Type())
	if err != nil {
		return registry.Draft{}, &SpecError{ID: n.ID(), Verb: "redefine", Problems: []string{"type: " + err.Error()}}
	}
	if problems := Check(class, definition); len(problems) > 0 {
		return registry.Draft{}, &SpecError{ID: n.ID(), Verb: "redefine", Problems: problems}
	}
	keys, err := Derive(class, n.ID(), definition)
	if err != nil {
		return registry.Draft{}, &SpecError{ID: n.ID(), Verb: "redefine", Problems: []string{"definition: " + err.Error()}}
	}
	d := n.Draft()
	if old, err := Derive(class, n.ID(), n.Definition()); err == nil {
		d.Keys = slices.DeleteFunc(d.Keys, func(k string) bool { return slices.Contains(old, k) })
	}
	d.Definition, d.Keys = definition, Merge(d.Keys, keys)
	if err := d.Validate(); err != nil {
		return registry.Draft{}, &SpecError{ID: n.ID(), Verb: "redefine", Problems: []string{err.Error()}}
	}
	return d, nil
}

// Replace is the transaction of Redefine: it puts the draft of a node. One that
// changes nothing is not written.
func Replace(tx registry.Tx, n *registry.Node, d registry.Draft, force bool) (*registry.Node, error) {
	if n.Same(d) {
		return n, nil
	}
	var opts []registry.WriteOption
	if force {
		opts = append(opts, registry.Forced())
	}
	after, err := tx.Put(d, opts...)
	if err != nil {
		return nil, explain("redefine", n.ID(), tx, err)
	}
	return after, nil
}

// Remove is the transaction of Deprovision: it deletes the node, unless its
// class says that it is busy, or it has a parent or children. A node of a type
// that is no longer configured can go.
func Remove(tx registry.Tx, types map[string]Class, id string) error {
	n, err := tx.Get(id)
	if err != nil {
		return fmt.Errorf("cannot deprovision %.64q: %w", id, err)
	}
	if err := Idle(types, n); err != nil {
		return err
	}
	if err := tx.Delete(id); err != nil {
		return fmt.Errorf("cannot deprovision %s: %w", id, err)
	}
	return nil
}

// Idle returns why the node cannot be deleted, as far as the node itself can
// tell; the error is a *registry.InUseError.
func Idle(types map[string]Class, n *registry.Node) error {
	refuse := func(reason string) error {
		return fmt.Errorf("cannot deprovision %s: %w", n.ID(), &registry.InUseError{ID: n.ID(), Parent: n.Parent(), Reason: reason})
	}
	if n.Parent() != "" {
		return refuse(fmt.Sprintf("it stands on %s: undefine it there first", n.Parent()))
	}
	if class := types[n.Type()]; class.Busy != nil {
		if err := class.Busy(n); err != nil {
			return refuse(err.Error())
		}
	}
	return nil
}

// explain says of a clash who the owner is, by name, and what to do.
func explain(verb, id string, r registry.Reader, err error) error {
	var clash *registry.ConflictError
	if !errors.As(err, &clash) {
		return fmt.Errorf("cannot %s %.64q: %w", verb, id, err)
	}
	owner := clash.Owner
	if n, getErr := r.Get(owner); getErr == nil && n.Name() != owner {
		owner = fmt.Sprintf("%s (%s)", n.Name(), owner)
	}
	if clash.Owner == id && clash.Key == id {
		return fmt.Errorf("cannot %s %s: it exists already: %w", verb, id, err)
	}
	return fmt.Errorf("cannot %s %s: %w: use another, or take it from %s first", verb, id, err, owner)
}

// Provision is the whole of a provisioner that adds nothing to a spec.
func Provision(ctx context.Context, deps Deps, spec Spec) (n *registry.Node, err error) {
	d, err := Prepare(deps.Types, spec)
	if err != nil {
		return nil, err
	}
	err = deps.Registry.Update(ctx, func(tx registry.Tx) error {
		n, err = Create(tx, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}
