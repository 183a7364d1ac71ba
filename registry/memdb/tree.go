package memdb

import (
	"slices"
	"strings"
)

// fanout is how many items or pages a page holds at most. A change copies a page
// of each level, so that larger ones cost writers more than they give readers.
const fanout = 32

// edit marks the pages that one batch made for itself and may still change.
// It has a size, so that no two share an address.
type edit struct{ _ byte }

// identified is what a tree holds, ordered by ID.
type identified interface{ ID() string }

// tree is an immutable B-tree. A batch takes a copy of the struct, changes the
// copy under an edit of its own, and publishes it.
type tree[E identified] struct{ root *page[E] }

// page is a leaf (items) or an inner page (below).
type page[E identified] struct {
	edit  *edit
	items []E
	*below[E]
}

// below is what an inner page has. lows[i] is not greater than any ID below
// kids[i] and greater than all below kids[i-1]; lows[0] is not used. Versions
// of a page share lows, which only change when kids come or go: it is replaced,
// never written to.
type below[E identified] struct {
	kids []*page[E]
	lows []string
}

func inner[E identified](e *edit, kids []*page[E], lows []string) *page[E] {
	return &page[E]{edit: e, below: &below[E]{kids: kids, lows: lows}}
}

// without returns a copy of s that lacks its i-th.
func without(s []string, i int) []string {
	return append(append(make([]string, 0, len(s)-1), s[:i]...), s[i+1:]...)
}

// own returns p if e may change it, and a copy that it may change if not.
func (p *page[E]) own(e *edit) *page[E] {
	if p.edit == e {
		return p
	}
	if p.below != nil {
		return inner(e, slices.Clone(p.kids), p.lows)
	}
	return &page[E]{edit: e, items: append(make([]E, 0, len(p.items)+1), p.items...)}
}

func (p *page[E]) size() int {
	if p.below != nil {
		return len(p.kids)
	}
	return len(p.items)
}

func (p *page[E]) find(id string) (int, bool) {
	return slices.BinarySearchFunc(p.items, id, func(n E, id string) int { return strings.Compare(n.ID(), id) })
}

// child is the index of the kid that id belongs to.
func (p *page[E]) child(id string) int {
	i, found := slices.BinarySearch(p.lows[1:], id)
	if found {
		i++
	}
	return i
}

// set adds n, or replaces the item of the same ID.
func (t *tree[E]) set(e *edit, n E) {
	if t.root == nil {
		t.root = &page[E]{edit: e, items: []E{n}}
		return
	}
	root, right, low := t.root.set(e, n)
	if right != nil {
		root = inner(e, []*page[E]{root, right}, []string{"", low})
	}
	t.root = root
}

// set returns the page that takes p's place and, if it had to be split, the one
// right of it with its low.
func (p *page[E]) set(e *edit, n E) (self, right *page[E], low string) {
	p = p.own(e)
	if p.below == nil {
		i, found := p.find(n.ID())
		if found {
			p.items[i] = n
			return p, nil, ""
		}
		p.items = slices.Insert(p.items, i, n)
		if len(p.items) <= fanout {
			return p, nil, ""
		}
		at := fanout / 2
		if i == fanout {
			at = fanout // ascending IDs leave full pages behind
		}
		right = &page[E]{edit: e, items: slices.Clone(p.items[at:])}
		clear(p.items[at:])
		p.items = p.items[:at]
		return p, right, right.items[0].ID()
	}
	i := p.child(n.ID())
	kid, sibling, low := p.kids[i].set(e, n)
	p.kids[i] = kid
	if sibling == nil {
		return p, nil, ""
	}
	p.kids = slices.Insert(p.kids, i+1, sibling)
	p.lows = slices.Insert(slices.Clip(p.lows), i+1, low) // a copy
	if len(p.kids) <= fanout {
		return p, nil, ""
	}
	at := fanout / 2
	if i+1 == fanout {
		at = fanout
	}
	right = inner(e, slices.Clone(p.kids[at:]), slices.Clone(p.lows[at:]))
	low = right.lows[0]
	clear(p.kids[at:])
	p.kids, p.lows = p.kids[:at], slices.Clone(p.lows[:at])
	return p, right, low
}

// remove takes out what has the ID.
func (t *tree[E]) remove(e *edit, id string) {
	if t.root == nil {
		return
	}
	root, removed := t.root.remove(e, id)
	if !removed {
		return
	}
	for root != nil && root.below != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	if root.size() == 0 {
		root = nil
	}
	t.root = root
}

func (p *page[E]) remove(e *edit, id string) (*page[E], bool) {
	if p.below == nil {
		i, found := p.find(id)
		if !found {
			return p, false
		}
		p = p.own(e)
		p.items = slices.Delete(p.items, i, i+1)
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
func (p *page[E]) drop(i int) {
	p.kids = slices.Delete(p.kids, i, i+1)
	p.lows = without(p.lows, i)
}

// merge joins the kids i and i+1 if they fit into one with room to spare, so
// that scattered deletions leave no trail of nearly empty pages.
func (p *page[E]) merge(e *edit, i int) {
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
		l.items = append(l.items, r.items...)
	}
	p.kids[i] = l
	p.drop(i + 1)
}

// walk yields the items with an ID greater than after, in order, and reports
// whether yield wanted more.
func (t *tree[E]) walk(after string, yield func(E) bool) bool {
	if t.root == nil {
		return true
	}
	return t.root.walk(after, yield)
}

func (p *page[E]) walk(after string, yield func(E) bool) bool {
	if p.below == nil {
		i := 0
		if after != "" {
			var found bool
			if i, found = p.find(after); found {
				i++
			}
		}
		for _, n := range p.items[i:] {
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

// get returns what has the ID.
func (t *tree[E]) get(id string) (item E, ok bool) {
	if t.root == nil {
		return item, false
	}
	p := t.root
	for p.below != nil {
		p = p.kids[p.child(id)]
	}
	if i, found := p.find(id); found {
		return p.items[i], true
	}
	return item, false
}

// count is how many items there are; it looks at every page.
func (t *tree[E]) count() (n int) {
	t.walk("", func(E) bool { n++; return true })
	return n
}

// first returns the item with the smallest ID.
func (t *tree[E]) first() (item E, ok bool) {
	t.walk("", func(i E) bool { item, ok = i, true; return false })
	return item, ok
}
