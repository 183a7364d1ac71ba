package memdb

import (
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// fanout is how many nodes or pages a page holds at most. A change copies a page
// of each level, so that larger ones cost writers more than they give readers.
const fanout = 32

// edit marks the pages that one batch made for itself and may still change.
// It has a size, so that no two share an address.
type edit struct{ _ byte }

// posting is an immutable B-tree of nodes, ordered by ID. A batch takes a copy
// of the struct, changes the copy under an edit of its own, and publishes it.
type posting struct {
	root *page
	n    int
}

// page is a leaf (nodes) or an inner page (below).
type page struct {
	edit  *edit
	nodes []*registry.Node
	*below
}

// below is what an inner page has. lows[i] is not greater than any ID below
// kids[i] and greater than all below kids[i-1]; lows[0] is not used. Versions
// of a page share lows, which only change when kids come or go: it is replaced,
// never written to.
type below struct {
	kids []*page
	lows []string
}

func inner(e *edit, kids []*page, lows []string) *page {
	return &page{edit: e, below: &below{kids: kids, lows: lows}}
}

// without returns a copy of s that lacks its i-th.
func without(s []string, i int) []string {
	return append(append(make([]string, 0, len(s)-1), s[:i]...), s[i+1:]...)
}

// own returns p if e may change it, and a copy that it may change if not.
func (p *page) own(e *edit) *page {
	if p.edit == e {
		return p
	}
	if p.below != nil {
		return inner(e, slices.Clone(p.kids), p.lows)
	}
	return &page{edit: e, nodes: append(make([]*registry.Node, 0, len(p.nodes)+1), p.nodes...)}
}

func (p *page) size() int {
	if p.below != nil {
		return len(p.kids)
	}
	return len(p.nodes)
}

func (p *page) find(id string) (int, bool) {
	return slices.BinarySearchFunc(p.nodes, id, func(n *registry.Node, id string) int { return strings.Compare(n.ID(), id) })
}

// child is the index of the kid that id belongs to.
func (p *page) child(id string) int {
	i, found := slices.BinarySearch(p.lows[1:], id)
	if found {
		i++
	}
	return i
}

// set adds n, or replaces the node of the same ID.
func (t *posting) set(e *edit, n *registry.Node) {
	if t.root == nil {
		t.root = &page{edit: e, nodes: []*registry.Node{n}}
		t.n = 1
		return
	}
	root, right, low, added := t.root.set(e, n)
	if right != nil {
		root = inner(e, []*page{root, right}, []string{"", low})
	}
	t.root = root
	if added {
		t.n++
	}
}

// set returns the page that takes p's place and, if it had to be split, the one
// right of it with its low.
func (p *page) set(e *edit, n *registry.Node) (self, right *page, low string, added bool) {
	p = p.own(e)
	if p.below == nil {
		i, found := p.find(n.ID())
		if found {
			p.nodes[i] = n
			return p, nil, "", false
		}
		p.nodes = slices.Insert(p.nodes, i, n)
		if len(p.nodes) <= fanout {
			return p, nil, "", true
		}
		at := fanout / 2
		if i == fanout {
			at = fanout // ascending IDs leave full pages behind
		}
		right = &page{edit: e, nodes: slices.Clone(p.nodes[at:])}
		clear(p.nodes[at:])
		p.nodes = p.nodes[:at]
		return p, right, right.nodes[0].ID(), true
	}
	i := p.child(n.ID())
	kid, sibling, low, added := p.kids[i].set(e, n)
	p.kids[i] = kid
	if sibling == nil {
		return p, nil, "", added
	}
	p.kids = slices.Insert(p.kids, i+1, sibling)
	p.lows = slices.Insert(slices.Clip(p.lows), i+1, low) // a copy
	if len(p.kids) <= fanout {
		return p, nil, "", added
	}
	at := fanout / 2
	if i+1 == fanout {
		at = fanout
	}
	right = inner(e, slices.Clone(p.kids[at:]), slices.Clone(p.lows[at:]))
	low = right.lows[0]
	clear(p.kids[at:])
	p.kids, p.lows = p.kids[:at], slices.Clone(p.lows[:at])
	return p, right, low, added
}

// remove takes out the node with the ID.
func (t *posting) remove(e *edit, id string) {
	if t.root == nil {
		return
	}
	root, removed := t.root.remove(e, id)
	if !removed {
		return
	}
	t.n--
	for root != nil && root.below != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	if root.size() == 0 {
		root = nil
	}
	t.root = root
}

func (p *page) remove(e *edit, id string) (*page, bool) {
	if p.below == nil {
		i, found := p.find(id)
		if !found {
			return p, false
		}
		p = p.own(e)
		p.nodes = slices.Delete(p.nodes, i, i+1)
		return p, true
	}
	i := p.child(id)
	kid, removed := p.kids[i].remove(e, id)
	if !removed {
		return p, false
	}
	p = p.own(e)
	p.kids[i] = kid
	switch {
	case kid.size() == 0:
		p.drop(i)
	case kid.size() < fanout/4 && i > 0:
		p.merge(e, i-1)
	case kid.size() < fanout/4 && i+1 < len(p.kids):
		p.merge(e, i)
	}
	return p, true
}

// drop takes out an empty kid. What was below it now belongs to the kid left of
// it, or, for the first, to the one that becomes the first.
func (p *page) drop(i int) {
	p.kids = slices.Delete(p.kids, i, i+1)
	p.lows = without(p.lows, i)
}

// merge joins the kids i and i+1 if they fit into one with room to spare, so
// that scattered deletions leave no trail of nearly empty pages.
func (p *page) merge(e *edit, i int) {
	l, r := p.kids[i], p.kids[i+1]
	if l.size()+r.size() > fanout*3/4 {
		return
	}
	l = l.own(e)
	if l.below != nil {
		lows := slices.Concat(l.lows, r.lows)
		lows[len(l.lows)] = p.lows[i+1]
		l.kids = append(l.kids, r.kids...)
		l.lows = lows
	} else {
		l.nodes = append(l.nodes, r.nodes...)
	}
	p.kids[i] = l
	p.drop(i + 1)
}

// walk yields the nodes with an ID greater than after, in order, and reports
// whether yield wanted more.
func (t *posting) walk(after string, yield func(*registry.Node) bool) bool {
	if t == nil || t.root == nil {
		return true
	}
	return t.root.walk(after, yield)
}

func (p *page) walk(after string, yield func(*registry.Node) bool) bool {
	if p.below == nil {
		i := 0
		if after != "" {
			var found bool
			if i, found = p.find(after); found {
				i++
			}
		}
		for _, n := range p.nodes[i:] {
			if !yield(n) {
				return false
			}
		}
		return true
	}
	i := 0
	if after != "" {
		i = p.child(after)
	}
	for ; i < len(p.kids); i++ {
		if !p.kids[i].walk(after, yield) {
			return false
		}
		after = ""
	}
	return true
}

// get returns the node with the ID, or nil.
func (t *posting) get(id string) *registry.Node {
	if t == nil || t.root == nil {
		return nil
	}
	p := t.root
	for p.below != nil {
		p = p.kids[p.child(id)]
	}
	if i, found := p.find(id); found {
		return p.nodes[i]
	}
	return nil
}

func (t *posting) len() int {
	if t == nil {
		return 0
	}
	return t.n
}
