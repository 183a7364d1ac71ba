package index

import (
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// layer is what has been written over a state, or over another layer, and not
// been published.
type layer struct {
	nodes map[string]entry
	refs  map[string]string   // ID, name or key: its owner, or "" where it became free
	edges map[string]uint64   // 0 where the parent was deleted
	kids  map[string][]string // parent: nodes that came or went, some twice
	blobs map[string][]byte   // by blobKey; nil where it was removed
}

// entry is a node of a layer.
type entry struct {
	before *registry.Node // below the layer; nil if there was none
	after  *registry.Node // nil if it was deleted
}

// newLayer makes a layer with room for about as many nodes.
func newLayer(nodes int) *layer {
	return &layer{
		nodes: make(map[string]entry, nodes), refs: make(map[string]string, 4*nodes), edges: map[string]uint64{},
		kids: map[string][]string{}, blobs: map[string][]byte{},
	}
}

// stack is a state with up to two layers over it: one that is being synced, and
// the one that gathers. Both may be nil.
type stack struct {
	base       *state
	under, top *layer
	saw        *Guards // what was read of base; nil where nobody asks
}

func (s stack) layers(yield func(*layer) bool) {
	if s.top != nil && !yield(s.top) {
		return
	}
	if s.under != nil {
		yield(s.under)
	}
}

func (s stack) node(id string) *registry.Node {
	for l := range s.layers {
		if e, ok := l.nodes[id]; ok {
			return e.after
		}
	}
	if s.saw != nil {
		s.saw.word(id, s.base.owner(id)) // who is called so, if it is no node's ID
	}
	return s.base.node(id)
}

// glimpse is node, and is not noted as seen.
func (s stack) glimpse(id string) *registry.Node {
	s.saw = nil
	return s.node(id)
}

// owner is the node that holds ref as its ID, its name or a key.
func (s stack) owner(ref string) *registry.Node {
	for l := range s.layers {
		if id, ok := l.refs[ref]; ok {
			if id == "" {
				return nil
			}
			return s.node(id)
		}
	}
	n := s.base.owner(ref)
	s.saw.word(ref, n)
	if n == nil || s.under == nil && s.top == nil {
		return n
	}
	return s.node(n.ID())
}

func (s stack) edge(parent string) uint64 {
	for l := range s.layers {
		if rev, ok := l.edges[parent]; ok {
			return rev
		}
	}
	return s.base.edge(parent)
}

func (s stack) blob(id, key string) ([]byte, bool) {
	k := blobKey(id, key)
	for l := range s.layers {
		if data, ok := l.blobs[k]; ok {
			return data, data != nil
		}
	}
	if s.saw != nil {
		s.saw.word(id, s.base.owner(id)) // a node's revision grows with its blobs
	}
	return s.base.blob(id, key)
}

// children returns the nodes whose parent is id, ordered by ID.
func (s stack) children(id string) []*registry.Node {
	s.saw.edge(id, s.base.edge(id))
	touched := map[string]*registry.Node{}
	base := s.base.family(id, func(kid string) { touched[kid] = s.glimpse(kid) })
	for l := range s.layers {
		for _, kid := range l.kids[id] {
			if _, seen := touched[kid]; !seen {
				touched[kid] = s.glimpse(kid)
			}
		}
	}
	nodes := make([]*registry.Node, 0, base.len()+len(touched))
	s.merge(base, "", touched, func(n *registry.Node) bool { return n.Parent() == id }, func(n *registry.Node) bool {
		nodes = append(nodes, n)
		return true
	})
	return nodes
}

// merge walks base with what the layers changed: touched holds every node that
// came, went or became another (nil where it went), and those of them that match
// are yielded in their place.
func (s stack) merge(base listing, after string, touched map[string]*registry.Node, match, yield func(*registry.Node) bool) {
	var fresh []*registry.Node
	for _, n := range touched {
		if n != nil && n.ID() > after && match(n) {
			fresh = append(fresh, n)
		}
	}
	slices.SortFunc(fresh, func(a, b *registry.Node) int { return strings.Compare(a.ID(), b.ID()) })
	more := base.walk(after, func(n *registry.Node) bool {
		for len(fresh) > 0 && fresh[0].ID() < n.ID() {
			if !yield(fresh[0]) {
				return false
			}
			fresh = fresh[1:]
		}
		if _, gone := touched[n.ID()]; gone {
			return true // it stands in fresh, if anywhere
		}
		if n = s.current(n); n == nil || !match(n) {
			return true
		}
		return yield(n)
	})
	for _, n := range fresh {
		if !more || !yield(n) {
			return
		}
	}
}

// current is n as the layers have it. A node whose parent stayed the same may
// have been changed otherwise and not be among the touched.
func (s stack) current(n *registry.Node) *registry.Node {
	if s.top == nil && s.under == nil {
		return n
	}
	for l := range s.layers {
		if e, ok := l.nodes[n.ID()]; ok {
			return e.after
		}
	}
	return n
}

// changed reports whether a layer changed the node.
func (s stack) changed(id string) bool {
	for l := range s.layers {
		if _, ok := l.nodes[id]; ok {
			return true
		}
	}
	return false
}

// touched holds every node that the layers changed.
func (s stack) touched() map[string]*registry.Node {
	if s.top == nil && s.under == nil {
		return nil
	}
	m := map[string]*registry.Node{}
	for l := range s.layers {
		for id, e := range l.nodes {
			if _, seen := m[id]; !seen {
				m[id] = e.after
			}
		}
	}
	return m
}

// refs calls yield with the ID, the name and the keys of n, each once.
func refs(n *registry.Node, yield func(string)) {
	yield(n.ID())
	if n.Name() != n.ID() {
		yield(n.Name())
	}
	for i := range n.NumKeys() {
		if k := n.KeyAt(i); k != n.ID() && k != n.Name() {
			yield(k)
		}
	}
}

// holds reports whether ref is n's ID, its name or one of its keys.
func holds(n *registry.Node, ref string) bool {
	return n.ID() == ref || n.Name() == ref || n.HasKey(ref)
}
