package index

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// every is how many nodes a listing walks between two looks at its context.
const every = 256

// list yields the nodes that match q, ordered by ID.
func (s stack) list(ctx context.Context, q registry.Query) iter.Seq2[*registry.Node, error] {
	return func(yield func(*registry.Node, error) bool) {
		if err := q.Validate(); err != nil {
			yield(nil, err)
			return
		}
		left, walked, failed := q.Limit, 0, false
		ended := func() bool {
			walked++
			failed = failed || walked%every == 0 && ctx.Err() != nil
			return failed
		}
		match := func(n *registry.Node) bool {
			return ended() || q.Matches(n) // if it ended, only to get to emit
		}
		emit := func(n *registry.Node) bool {
			if failed || ended() || !yield(n, nil) {
				return false
			}
			left--
			return left != 0 // never for a Limit of 0
		}
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		s.plan(q, match, emit)
		if failed {
			yield(nil, ctx.Err())
		}
	}
}

// plan walks the smallest set of nodes that is known to hold all that match.
func (s stack) plan(q registry.Query, match, emit func(*registry.Node) bool) {
	one := func(ref string) {
		if n := s.owner(ref); n != nil && n.ID() > q.After && match(n) {
			emit(n)
		}
	}
	prefix, exact := literal(q.Name)
	switch {
	case q.Key != "":
		one(q.Key)
		return
	case exact && prefix != "":
		one(prefix)
		return
	}
	least, conditions := s.least(q)
	if conditions == 1 && q.Name == "" && s.top == nil && s.under == nil {
		least.walk(q.After, emit) // all that is in it matches
		return
	}
	if prefix != "" {
		if named, ok := s.named(prefix, least.len()/4); ok {
			least = named
		}
	}
	s.merge(least, q.After, s.touched(), match, emit)
}

// least returns the smallest posting of those that q's conditions name (nil where
// one of them has no nodes), and how many there are.
func (s stack) least(q registry.Query) (least listing, conditions int) {
	consider := func(a attr) {
		if p := s.base.posting(a); conditions == 0 || p.len() < least.len() {
			least = p
		}
		conditions++
	}
	if q.Type != "" {
		consider(attr{kind: attrType, a: q.Type})
	}
	if q.State != "" {
		consider(attr{kind: attrState, a: q.State})
	}
	if q.Tenant != "" {
		consider(attr{kind: attrTenant, a: q.Tenant})
	}
	if q.Parent != nil {
		consider(attr{kind: attrParent, a: *q.Parent})
	}
	for k, v := range q.Tags {
		switch {
		case v == nil:
			consider(attr{kind: attrTag, a: k})
		case *v == "":
			consider(attr{kind: attrTag, a: k})
			conditions++ // not all that have it are bare
		default:
			consider(attr{kind: attrTagged, a: k, b: *v})
		}
	}
	if conditions == 0 {
		consider(attr{kind: attrAll})
	}
	return least, conditions
}

// named gathers the nodes of the published state whose name starts with prefix,
// unless there seem to be more than limit.
func (s stack) named(prefix string, limit int) (listing, bool) {
	if limit == 0 {
		return listing{}, false
	}
	found := &sorted[*registry.Node]{most: limit + 1}
	seen := 0
	more := func() bool { seen++; return seen <= limit }
	s.base.whole().names.from(prefix, func(o owned) bool {
		if !strings.HasPrefix(o.ref, prefix) || !more() {
			return false
		}
		found.set(s.base.node(o.id), true)
		return true
	})
	// Those named like their ID stand there only by ID.
	s.base.posting(attr{kind: attrAll}).nodes.from(prefix, func(n *registry.Node) bool {
		if !strings.HasPrefix(n.ID(), prefix) || !more() {
			return false
		}
		if n.Name() == n.ID() {
			found.set(n, true)
		}
		return true
	})
	return listing{nodes: found, n: found.n}, seen <= limit
}

// literal returns what every name that matches the pattern begins with, and
// whether only that name does.
func literal(pattern string) (prefix string, exact bool) {
	i := strings.IndexAny(pattern, `*?[\`)
	if i < 0 {
		return pattern, true
	}
	return pattern[:i], false
}

// keys yields the unique keys that start with prefix, from from on.
func (s stack) keys(ctx context.Context, prefix, from string) iter.Seq2[registry.Key, error] {
	return func(yield func(registry.Key, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(registry.Key{}, err)
			return
		}
		fresh := s.freshKeys(prefix, from)
		walked, stopped := 0, false
		give := func(k registry.Key, err error) bool {
			stopped = stopped || !yield(k, err) || err != nil
			return !stopped
		}
		s.base.whole().keys.from(max(prefix, from), func(o owned) bool {
			if walked++; walked%every == 0 && ctx.Err() != nil {
				return give(registry.Key{}, ctx.Err())
			}
			if !strings.HasPrefix(o.ref, prefix) {
				return false
			}
			if s.changed(o.id) {
				return true // its keys, if any are left, are among the fresh
			}
			for len(fresh) > 0 && fresh[0].Key < o.ref {
				if !give(fresh[0], nil) {
					return false
				}
				fresh = fresh[1:]
			}
			return give(registry.Key{Key: o.ref, Owner: o.id}, nil)
		})
		for _, k := range fresh {
			if stopped || !give(k, nil) {
				return
			}
		}
	}
}

// freshKeys are the keys of the nodes that the layers changed.
func (s stack) freshKeys(prefix, from string) []registry.Key {
	var fresh []registry.Key
	for _, n := range s.touched() {
		if n == nil {
			continue
		}
		for i := range n.NumKeys() {
			if k := n.KeyAt(i); strings.HasPrefix(k, prefix) && k >= from {
				fresh = append(fresh, registry.Key{Key: k, Owner: n.ID()})
			}
		}
	}
	slices.SortFunc(fresh, func(a, b registry.Key) int { return strings.Compare(a.Key, b.Key) })
	return fresh
}
