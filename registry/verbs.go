package registry

import (
	"context"
	"errors"
	"slices"
)

// Find resolves what a person typed: an ID, a name or a unique key. As these
// share one namespace there is at most one answer.
func Find(r Reader, ref string) (*Node, error) {
	for _, get := range []func(string) (*Node, error){r.Get, r.ByName, r.ByKey} {
		n, err := get(ref)
		if !errors.Is(err, ErrNotFound) {
			return n, err
		}
	}
	return nil, &NotFoundError{What: "node", Ref: ref}
}

// Get returns a node from a fresh view.
func Get(ctx context.Context, r Registry, id string) (*Node, error) {
	v, err := r.View(ctx)
	if err != nil {
		return nil, err
	}
	return v.Get(id)
}

// Collect returns the nodes that match q, from a fresh view.
func Collect(ctx context.Context, r Registry, q Query) ([]*Node, error) {
	v, err := r.View(ctx)
	if err != nil {
		return nil, err
	}
	var nodes []*Node
	for n, err := range v.List(q) {
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// Create adds one node.
func Create(ctx context.Context, r Registry, d Draft) (n *Node, err error) {
	err = r.Update(ctx, func(tx Tx) error {
		n, err = tx.Create(d)
		return err
	})
	return n, err
}

// Delete removes one node that has neither parent nor children.
func Delete(ctx context.Context, r Registry, id string) error {
	return r.Update(ctx, func(tx Tx) error { return tx.Delete(id) })
}

// Modify reads one node, lets fn change its draft and puts it back. A draft
// that fn leaves as it was is not written.
func Modify(ctx context.Context, r Registry, id string, fn func(*Draft) error, opts ...WriteOption) (n *Node, err error) {
	err = r.Update(ctx, func(tx Tx) error {
		n, err = ModifyIn(tx, id, fn, opts...)
		return err
	})
	return n, err
}

// ModifyIn is Modify as a part of a larger Update.
func ModifyIn(tx Tx, id string, fn func(*Draft) error, opts ...WriteOption) (*Node, error) {
	old, err := tx.Get(id)
	if err != nil {
		return nil, err
	}
	d := old.Draft()
	if err := fn(&d); err != nil {
		return nil, err
	}
	if o := WriteOptionsOf(opts...); old.Same(d) && (o.From == nil || *o.From == old.parent) {
		return old, nil
	}
	return tx.Put(d, opts...)
}

// Same reports whether d would leave n as it is.
func (n *Node) Same(d Draft) bool {
	o := NewNode(d, Stamp{})
	return n.id == o.id && n.name == o.name && n.typ == o.typ && n.tenant == o.tenant && n.parent == o.parent && n.state == o.state &&
		n.definition == o.definition && n.metadata == o.metadata && slices.Equal(n.tags, o.tags) && slices.Equal(n.keys, o.keys)
}

// SetParent moves id from the parent that the caller expects ("" for none) to
// another ("" for none). Of several callers with one expectation one wins, the
// others get *ParentError.
func SetParent(ctx context.Context, r Registry, id, from, to string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error { d.Parent = to; return nil }, MovingFrom(from))
}

// Rename gives id another name and frees the old one.
func Rename(ctx context.Context, r Registry, id, name string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error { d.Name = name; return nil })
}

// SetState writes what the node's state was seen to be.
func SetState(ctx context.Context, r Registry, id, state string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error { d.State = state; return nil })
}

// SetDefinition replaces the definition; force allows it while the node has a
// parent.
func SetDefinition(ctx context.Context, r Registry, id string, doc Document, force bool) (*Node, error) {
	var opts []WriteOption
	if force {
		opts = append(opts, Forced())
	}
	return Modify(ctx, r, id, func(d *Draft) error { d.Definition = doc; return nil }, opts...)
}

// UpdateMetadata sets and removes top-level members of the metadata.
func UpdateMetadata(ctx context.Context, r Registry, id string, set map[string]any, remove ...string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) (err error) {
		d.Metadata, err = d.Metadata.Merge(set, remove...)
		return err
	})
}

// SetTags sets and removes tags.
func SetTags(ctx context.Context, r Registry, id string, set map[string]string, remove ...string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error {
		for _, k := range remove {
			delete(d.Tags, k)
		}
		if d.Tags == nil {
			d.Tags = make(map[string]string, len(set))
		}
		for k, v := range set {
			d.Tags[k] = v
		}
		return nil
	})
}

// ClaimKeys gives unique keys to id: all of them, or none and *ConflictError.
func ClaimKeys(ctx context.Context, r Registry, id string, keys ...string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error { d.Keys = append(d.Keys, keys...); return nil })
}

// ReleaseKeys takes unique keys from id; those that it does not hold are left
// where they are.
func ReleaseKeys(ctx context.Context, r Registry, id string, keys ...string) (*Node, error) {
	return Modify(ctx, r, id, func(d *Draft) error {
		d.Keys = slices.DeleteFunc(d.Keys, func(k string) bool { return slices.Contains(keys, k) })
		return nil
	})
}
