package index

import "github.com/vagoth/vagoth/registry"

// posting is the set of nodes that have an attr.
//
// That of an attr which most nodes have is broad: it only knows how many there
// are. Whoever lists it walks all nodes and skips the others, which are few, and
// writers have one tree less to keep.
type posting struct {
	attr  attr
	edit  *edit // of the batch that may change it
	broad bool
	sorted[*registry.Node]
}

func (p *posting) is(a attr) bool { return p.attr == a }

// A posting becomes broad when it has more than a half of at least so many
// nodes, and stops being so with less than a quarter. Between the two it stays
// what it is, so that going from one to the other, which looks at all nodes, is
// paid for by as many changes.
const broadFrom = 1024

func (p *posting) broadens(all int) bool {
	return p.attr.kind != attrAll && all >= broadFrom && p.n > all/2
}

func (p *posting) narrows(all int) bool { return p.n < all/4 || all < broadFrom/2 }

// add puts the node in. Unless it is a new one here it takes the place of another.
func (p *posting) add(n *registry.Node, added bool) {
	switch {
	case !p.broad:
		p.set(n, added)
	case added:
		p.n++
	}
}

func (p *posting) drop(n *registry.Node) {
	if p.broad {
		p.n--
	} else {
		p.remove(n)
	}
}

// broaden lets go of what the posting holds.
func (p *posting) broaden() { p.broad, p.tree, p.late = true, tree[*registry.Node]{}, nil }

// narrow gathers from all nodes what the posting ought to hold.
func (p *posting) narrow(all listing) {
	p.broad = false
	listing{nodes: all.nodes, only: p.attr, n: p.n}.walk("", func(n *registry.Node) bool {
		p.late = append(p.late, late[*registry.Node]{item: n})
		return true
	})
	p.settle()
}

// listing is a posting as readers use it. Without nodes it is empty.
type listing struct {
	nodes *sorted[*registry.Node]
	only  attr // those of the nodes that have it; all if it has no kind
	n     int
}

// posting holds the nodes that have a.
func (s *state) posting(a attr) listing { return s.whole().listing(a) }

func (f *finder) listing(a attr) listing {
	p, ok := f.lists.get(a)
	switch {
	case !ok:
		return listing{}
	case p.broad:
		return listing{nodes: f.listing(attr{kind: attrAll}).nodes, only: a, n: p.n}
	default:
		return listing{nodes: &p.sorted, n: p.n}
	}
}

func (l listing) len() int { return l.n }

// walk yields the nodes with an ID greater than after, in order, and reports
// whether yield wanted more.
func (l listing) walk(after string, yield func(*registry.Node) bool) bool {
	switch {
	case l.nodes == nil:
		return true
	case l.only.kind == 0:
		return l.nodes.walk(after, yield)
	default:
		return l.nodes.walk(after, func(n *registry.Node) bool { return !l.only.of(n) || yield(n) })
	}
}

// get returns the node with the ID, or nil.
func (l listing) get(id string) *registry.Node {
	if l.nodes == nil {
		return nil
	}
	if n, ok := l.nodes.get(id); ok && (l.only.kind == 0 || l.only.of(n)) {
		return n
	}
	return nil
}

// count walks it.
func (l listing) count() (n int) {
	l.walk("", func(*registry.Node) bool { n++; return true })
	return n
}
