package index

import "github.com/vagoth/vagoth/registry"

// Guards is what a transaction has read of the state below it, as far as its
// answers must still hold when it commits.
type Guards struct {
	Held  map[string]uint64   // nodes by ID: the revision that was read
	Free  map[string]struct{} // words that were no node's ID, name or key
	Edges map[string]uint64   // parents by ID: the edge revision, 0 if there was none
}

func newGuards() *Guards {
	return &Guards{Held: map[string]uint64{}, Free: map[string]struct{}{}, Edges: map[string]uint64{}}
}

// Len is how many there are.
func (g *Guards) Len() int { return len(g.Held) + len(g.Free) + len(g.Edges) }

// word notes who held ref. A nil Guards notes nothing.
func (g *Guards) word(ref string, owner *registry.Node) {
	switch {
	case g == nil || ref == "":
	case owner == nil:
		g.Free[ref] = struct{}{}
	default:
		g.Held[owner.ID()] = owner.Revision()
	}
}

// edge notes what stood on parent.
func (g *Guards) edge(parent string, rev uint64) {
	if g != nil && parent != "" {
		g.Edges[parent] = rev
	}
}
