package index

import (
	"context"
	"iter"
	"math"
	"slices"

	"github.com/vagoth/vagoth/registry"
)

// reader is a registry.Reader over a published state.
type reader struct {
	ctx context.Context //nolint:containedctx // View's context bounds the reader
	s   *state
	db  *DB
}

var (
	_ registry.Reader = (*reader)(nil)
	_ registry.Delta  = (*reader)(nil)
)

func (r *reader) Get(id string) (*registry.Node, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if n := r.s.node(id); n != nil {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "node", Ref: id}
}

func (r *reader) ByName(name string) (*registry.Node, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if n := r.s.owner(name); n != nil && n.Name() == name {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "name", Ref: name}
}

func (r *reader) ByKey(key string) (*registry.Node, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if n := r.s.owner(key); n != nil && n.HasKey(key) {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "key", Ref: key}
}

func (r *reader) List(q registry.Query) iter.Seq2[*registry.Node, error] {
	return stack{base: r.s}.list(r.ctx, q)
}

func (r *reader) Children(id string) (registry.Children, error) {
	if err := r.ctx.Err(); err != nil {
		return registry.Children{}, err
	}
	if id == "" {
		return registry.Children{}, nil
	}
	s := stack{base: r.s}
	return registry.Children{Edge: s.edge(id), Nodes: s.children(id)}, nil
}

func (r *reader) Keys(prefix, from string) iter.Seq2[registry.Key, error] {
	return stack{base: r.s}.keys(r.ctx, prefix, from)
}

func (r *reader) Blob(id, key string) ([]byte, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	data, ok := r.s.blob(id, key)
	if !ok {
		return nil, &registry.NotFoundError{What: "blob", Ref: id + "/" + key}
	}
	return slices.Clone(data), nil
}

// Revision implements registry.Delta.
func (r *reader) Revision() uint64 { return r.s.rev }

// Since implements registry.Delta.
func (r *reader) Since(from uint64) (iter.Seq[registry.Change], bool) {
	commits, ok := r.db.history.since(from, r.s.rev, math.MaxInt32)
	if !ok {
		return nil, false
	}
	return func(yield func(registry.Change) bool) {
		for _, c := range commits {
			for i := range c.changes {
				if !yield(r.db.change(c, i)) {
					return
				}
			}
		}
	}, true
}
