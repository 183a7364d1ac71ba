package index

import (
	"slices"
	"strings"
)

// fanout is how many items or pages a page holds at most. A change copies a page
// of each level, so that larger ones cost writers more than they give readers.
const fanout = 32

// identified is what a tree holds, ordered by ID.
type identified interface{ ID() string }

// tree is an immutable B-tree. Many changes at once make the next: each page that
// one of them is in is copied once.
type tree[E identified] struct{ root *page[E] }

// page is a leaf (items) or an inner page (below).
type page[E identified] struct {
	items []E
	*below[E]
}

// below is what an inner page has. lows[i] is not greater than any ID below
// kids[i] and greater than all below kids[i-1]; lows[0] is not used. Versions of
// a page share lows as long as no kids come or go.
type below[E identified] struct {
	kids []*page[E]
	lows []string
}

// part is a page that has come to stand right of another, and its low.
type part[E identified] struct {
	low  string
	page *page[E]
}

// late is a change: an item that is new or in the place of the one with its ID,
// or that has gone.
type late[E identified] struct {
	item E
	gone bool
}

func (p *page[E]) size() int {
	if p.below != nil {
		return len(p.kids)
	}
	return len(p.items)
}

func find[E identified](items []E, id string) (int, bool) {
	return slices.BinarySearchFunc(items, id, func(n E, id string) int { return strings.Compare(n.ID(), id) })
}

// child is the index of the kid that id belongs to.
func (p *page[E]) child(id string) int {
	i, found := slices.BinarySearch(p.lows[1:], id)
	if found {
		i++
	}
	return i
}

// with returns the tree with changes, of which a later one counts more.
func (t tree[E]) with(changes []late[E]) tree[E] {
	if len(changes) == 0 {
		return t
	}
	root := t.root
	if root == nil {
		root = new(page[E])
	}
	root, more := root.with(inOrder(changes))
	for len(more) > 0 {
		kids, lows := []*page[E]{root}, []string{""}
		for _, m := range more {
			kids, lows = append(kids, m.page), append(lows, m.low)
		}
		root, more = inners(kids, lows, false)
	}
	for root.below != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	if root.size() == 0 {
		root = nil
	}
	return tree[E]{root}
}

// with returns the page with changes, each of another ID and in their order, and
// what now stands right of it. It may be empty.
func (p *page[E]) with(changes []late[E]) (*page[E], []part[E]) {
	if p.below == nil {
		return p.leafWith(changes)
	}
	type growth struct {
		at   int
		more []part[E]
	}
	var grown []growth
	kids, small := slices.Clone(p.kids), false
	for len(changes) > 0 {
		i, n := p.child(changes[0].item.ID()), len(changes)
		if i+1 < len(kids) {
			n = until(changes, p.lows[i+1])
		}
		kid, more := kids[i].with(changes[:n])
		if kids[i] = kid; len(more) > 0 {
			grown = append(grown, growth{i, more})
		}
		small = small || kid.size() < fanout/4
		changes = changes[n:]
	}
	if len(grown) == 0 && !small {
		return &page[E]{below: &below[E]{kids, p.lows}}, nil
	}
	ascending := len(grown) == 1 && grown[0].at == len(kids)-1
	var all []*page[E]
	var lows []string
	for i, kid := range kids {
		all, lows = joined(all, lows, part[E]{p.lows[i], kid})
		if len(grown) > 0 && grown[0].at == i {
			for _, m := range grown[0].more {
				all, lows = joined(all, lows, m)
			}
			grown = grown[1:]
		}
	}
	return inners(all, lows, ascending)
}

// until is how many of the changes are of IDs less than low; the first one is.
func until[E identified](changes []late[E], low string) int {
	step := 1
	for step < len(changes) && changes[step].item.ID() < low {
		step *= 2
	}
	from, to := step/2, min(step, len(changes))
	n, _ := slices.BinarySearchFunc(changes[from:to], low, func(c late[E], low string) int { return strings.Compare(c.item.ID(), low) })
	return from + n
}

// joined puts a page behind others. Empty ones are left out, and small ones join
// the one before if there is room to spare, so that scattered deletions leave no
// trail of nearly empty pages.
func joined[E identified](kids []*page[E], lows []string, next part[E]) ([]*page[E], []string) {
	n := next.page.size()
	if n == 0 {
		return kids, lows
	}
	if len(kids) > 0 {
		last := kids[len(kids)-1]
		if m := last.size(); min(m, n) < fanout/4 && m+n <= fanout*3/4 {
			kids[len(kids)-1] = last.joined(next)
			return kids, lows
		}
	}
	return append(kids, next.page), append(lows, next.low)
}

func (p *page[E]) joined(right part[E]) *page[E] {
	if p.below == nil {
		return &page[E]{items: slices.Concat(p.items, right.page.items)}
	}
	lows := slices.Concat(p.lows, right.page.lows)
	lows[len(p.lows)] = right.low
	return &page[E]{below: &below[E]{slices.Concat(p.kids, right.page.kids), lows}}
}

func (p *page[E]) leafWith(changes []late[E]) (*page[E], []part[E]) {
	items, rest := make([]E, 0, len(p.items)+len(changes)), p.items
	for _, c := range changes {
		i, found := find(rest, c.item.ID())
		items = append(items, rest[:i]...)
		if found {
			i++
		}
		rest = rest[i:]
		if !c.gone {
			items = append(items, c.item)
		}
	}
	if len(items)+len(rest) <= fanout {
		return &page[E]{items: append(items, rest...)}, nil
	}
	each := pageful(len(items)+len(rest), len(rest) == 0)
	items = append(items, rest...)
	self := &page[E]{items: slices.Clone(items[:each])}
	var more []part[E]
	for some := range slices.Chunk(items[each:], each) {
		more = append(more, part[E]{some[0].ID(), &page[E]{items: slices.Clone(some)}})
	}
	return self, more
}

// inners makes inner pages of what is to be below them.
func inners[E identified](kids []*page[E], lows []string, ascending bool) (*page[E], []part[E]) {
	if len(kids) <= fanout {
		return &page[E]{below: &below[E]{kids, lows}}, nil
	}
	each := pageful(len(kids), ascending)
	make1 := func(from int) *page[E] {
		to := min(from+each, len(kids))
		return &page[E]{below: &below[E]{slices.Clone(kids[from:to]), slices.Clone(lows[from:to])}}
	}
	var more []part[E]
	for from := each; from < len(kids); from += each {
		more = append(more, part[E]{lows[from], make1(from)})
	}
	return make1(0), more
}

// pageful is how many of n, which are too many for one page, each page gets:
// those that come in ascending order leave full pages behind, others some room.
func pageful(n int, ascending bool) int {
	if ascending {
		return fanout
	}
	pages := (n + fanout*3/4 - 1) / (fanout * 3 / 4)
	return (n + pages - 1) / pages
}

// inOrder returns the last change of each ID, ordered by ID. As each batch comes
// in order, it merges what is in order already.
func inOrder[E identified](changes []late[E]) []late[E] {
	var ends []int // of what is in order
	strict := true
	for i := 1; i < len(changes); i++ {
		if c := strings.Compare(changes[i-1].item.ID(), changes[i].item.ID()); c >= 0 {
			strict = false
			if c > 0 {
				ends = append(ends, i)
			}
		}
	}
	if strict {
		return changes // others read them, so they are not written to
	}
	ends = append(ends, len(changes))
	from, to := slices.Clone(changes), make([]late[E], len(changes))
	for len(ends) > 1 {
		n, begin := 0, 0
		for i := 0; i < len(ends); i += 2 {
			if i+1 == len(ends) {
				copy(to[begin:], from[begin:ends[i]])
				ends[n] = ends[i]
			} else {
				merge(to[begin:ends[i+1]], from[begin:ends[i]], from[ends[i]:ends[i+1]])
				ends[n] = ends[i+1]
			}
			begin = ends[n]
			n++
		}
		from, to, ends = to, from, ends[:n]
	}
	last := from[:0]
	for i, c := range from {
		if i+1 == len(from) || from[i+1].item.ID() != c.item.ID() {
			last = append(last, c)
		}
	}
	return last
}

// merge fills to with both, of equal ones those in a first.
func merge[E identified](to, a, b []late[E]) {
	for i := range to {
		if len(b) == 0 || len(a) > 0 && a[0].item.ID() <= b[0].item.ID() {
			to[i], a = a[0], a[1:]
		} else {
			to[i], b = b[0], b[1:]
		}
	}
}

// walk yields the items with an ID greater than after, in order, and reports
// whether yield wanted more.
func (t tree[E]) walk(after string, yield func(E) bool) bool {
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
			if i, found = find(p.items, after); found {
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
func (t tree[E]) get(id string) (item E, ok bool) {
	if t.root == nil {
		return item, false
	}
	p := t.root
	for p.below != nil {
		p = p.kids[p.child(id)]
	}
	if i, found := find(p.items, id); found {
		return p.items[i], true
	}
	return item, false
}

// count is how many items there are; it looks at every page.
func (t tree[E]) count() (n int) {
	t.walk("", func(E) bool { n++; return true })
	return n
}

// first returns the item with the smallest ID.
func (t tree[E]) first() (item E, ok bool) {
	t.walk("", func(i E) bool { item, ok = i, true; return false })
	return item, ok
}
