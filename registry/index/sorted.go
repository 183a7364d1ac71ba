package index

import (
	"slices"
	"sync/atomic"
)

// sorted is an immutable set of items, ordered by ID: a tree, and the latest
// changes, which the tree lacks. Most of them are never asked for between two
// batches, so that whoever asks first brings the tree up to date, and the writer
// only does when there are many changes. Its length is always known.
//
// A batch takes next of the set and changes that, until it is published.
type sorted[E identified] struct {
	most    int // changes that the tree may lack
	tree    tree[E]
	n       int
	late    []late[E]
	settled atomic.Pointer[tree[E]] // the tree with late, once somebody has asked
}

// next returns a version of s that a batch may change.
func (s *sorted[E]) next(most int) *sorted[E] {
	n := new(sorted[E])
	n.follow(s, most)
	return n
}

func (s *sorted[E]) follow(before *sorted[E], most int) {
	s.most, s.n = most, before.n
	if t := before.settled.Load(); t != nil {
		s.tree = *t
		return
	}
	s.tree, s.late = before.tree, slices.Clip(before.late)
}

// set adds item, or, if it is not a new one, replaces the item of the same ID.
func (s *sorted[E]) set(item E, added bool) {
	if added {
		s.n++
	}
	s.change(late[E]{item: item})
}

// remove takes out the item, which is there, or one of the same ID.
func (s *sorted[E]) remove(item E) {
	s.n--
	s.change(late[E]{item: item, gone: true})
}

func (s *sorted[E]) change(c late[E]) {
	// Few in a small set: a late node keeps the one before it from being forgotten.
	if s.late = append(s.late, c); len(s.late) >= min(max(s.n/8, 8), s.most) {
		s.settle()
	}
}

// mostLate is how many changes the tree of a published set lacks at most: the
// first who asks for it waits no longer than it takes to make these, about a
// millisecond.
const mostLate = 128

// settle makes the changes in the tree.
func (s *sorted[E]) settle() {
	s.tree, s.late = s.tree.with(s.late), nil
}

// whole returns the tree with all changes. Two who ask at the same time may both
// make it.
func (s *sorted[E]) whole() *tree[E] {
	if len(s.late) == 0 {
		return &s.tree
	}
	if t := s.settled.Load(); t != nil {
		return t
	}
	t := s.tree.with(s.late)
	s.settled.Store(&t)
	return &t
}

func (s *sorted[E]) len() int {
	if s == nil {
		return 0
	}
	return s.n
}

// walk yields the items with an ID greater than after, in order, and reports
// whether yield wanted more.
func (s *sorted[E]) walk(after string, yield func(E) bool) bool {
	if s == nil {
		return true
	}
	return s.whole().walk(after, yield)
}

// from is walk, but begins with the ID itself.
func (s *sorted[E]) from(id string, yield func(E) bool) bool {
	if s == nil {
		return true
	}
	t := s.whole()
	if item, ok := t.get(id); ok && !yield(item) {
		return false
	}
	return t.walk(id, yield)
}

// get returns what has the ID.
func (s *sorted[E]) get(id string) (item E, ok bool) {
	if s == nil {
		return item, false
	}
	return s.whole().get(id)
}
