package memdb

import (
	"math/bits"
	"slices"
)

// keyed is what a trie holds, found by its key.
type keyed[K comparable] interface{ key() K }

// edit marks what one batch made for itself and may still change. It has a size,
// so that no two share an address.
type edit struct{ _ byte }

// trie is an immutable hash trie. A batch takes a copy of the struct, changes the
// copy under an edit of its own, and publishes it.
type trie[K comparable, I keyed[K]] struct {
	hash func(K) uint64
	root *branch[K, I]
	n    int
}

// A level looks at so many bits of the hash; below the last one, where they have
// been used up, a branch holds all that share a hash, in a row.
const (
	trieBits  = 5
	trieSlots = 1<<trieBits - 1
	trieDepth = 65
)

// branch has for each value of its bits an item, a branch below it, or nothing.
type branch[K comparable, I keyed[K]] struct {
	edit       *edit
	held, over uint32 // the values that have an item; those that have a branch
	items      []I
	kids       []*branch[K, I]
}

// own returns b if e may change it, and a copy that it may change if not.
func (b *branch[K, I]) own(e *edit) *branch[K, I] {
	if b.edit == e {
		return b
	}
	return &branch[K, I]{
		edit: e, held: b.held, over: b.over,
		items: append(make([]I, 0, len(b.items)+1), b.items...), kids: slices.Clone(b.kids),
	}
}

// slot is the bit that stands for the hash at the level.
func slot(hash uint64, level uint) uint32 { return 1 << (hash >> level & trieSlots) }

// rank is how many bits of set are below bit.
func rank(set, bit uint32) int { return bits.OnesCount32(set & (bit - 1)) }

// get returns what has the key.
func (t *trie[K, I]) get(key K) (item I, ok bool) {
	hash, b := t.hash(key), t.root
	for level := uint(0); b != nil; level += trieBits {
		if level >= trieDepth {
			if i := b.index(key); i >= 0 {
				return b.items[i], true
			}
			break
		}
		bit := slot(hash, level)
		if b.held&bit != 0 {
			if it := b.items[rank(b.held, bit)]; it.key() == key {
				return it, true
			}
			break
		}
		if b.over&bit == 0 {
			break
		}
		b = b.kids[rank(b.over, bit)]
	}
	return item, false
}

// index is where the key stands among items that share a hash, or -1.
func (b *branch[K, I]) index(key K) int {
	return slices.IndexFunc(b.items, func(i I) bool { return i.key() == key })
}

// set adds item, or replaces the item of the same key.
func (t *trie[K, I]) set(e *edit, item I) {
	if t.root == nil {
		t.root = &branch[K, I]{edit: e}
	}
	var added bool
	if t.root, added = t.put(t.root, e, 0, t.hash(item.key()), item); added {
		t.n++
	}
}

func (t *trie[K, I]) put(b *branch[K, I], e *edit, level uint, hash uint64, item I) (self *branch[K, I], added bool) {
	b = b.own(e)
	if level >= trieDepth {
		i := b.index(item.key())
		if i >= 0 {
			b.items[i] = item
		} else {
			b.items = append(b.items, item)
		}
		return b, i < 0
	}
	bit := slot(hash, level)
	i, kid := rank(b.held, bit), rank(b.over, bit)
	switch {
	case b.over&bit != 0:
		b.kids[kid], added = t.put(b.kids[kid], e, level+trieBits, hash, item)
		return b, added
	case b.held&bit == 0:
		b.items = slices.Insert(b.items, i, item)
		b.held |= bit
		return b, true
	}
	was := b.items[i]
	if was.key() == item.key() {
		b.items[i] = item
		return b, false
	}
	below := &branch[K, I]{edit: e}
	for _, one := range []I{was, item} {
		below, _ = t.put(below, e, level+trieBits, t.hash(one.key()), one)
	}
	b.items = slices.Delete(b.items, i, i+1)
	b.held &^= bit
	b.kids = slices.Insert(b.kids, kid, below)
	b.over |= bit
	return b, true
}

// remove takes out what has the key.
func (t *trie[K, I]) remove(e *edit, key K) {
	if _, ok := t.get(key); !ok {
		return
	}
	t.n--
	if t.root = t.root.remove(e, 0, t.hash(key), key); len(t.root.items) == 0 && len(t.root.kids) == 0 {
		t.root = nil
	}
}

// remove takes out the key, which is below b.
func (b *branch[K, I]) remove(e *edit, level uint, hash uint64, key K) *branch[K, I] {
	b = b.own(e)
	if level >= trieDepth {
		i := b.index(key)
		b.items = slices.Delete(b.items, i, i+1)
		return b
	}
	bit := slot(hash, level)
	i, at := rank(b.held, bit), rank(b.over, bit)
	if b.held&bit != 0 {
		b.items = slices.Delete(b.items, i, i+1)
		b.held &^= bit
		return b
	}
	kid := b.kids[at].remove(e, level+trieBits, hash, key)
	b.kids[at] = kid
	if len(kid.kids) > 0 || len(kid.items) > 1 {
		return b
	}
	// What is alone in a branch moves up, so that the trie is as if what was
	// removed had never been there.
	b.kids = slices.Delete(b.kids, at, at+1)
	b.over &^= bit
	b.items = slices.Insert(b.items, i, kid.items[0])
	b.held |= bit
	return b
}

// walk calls fn with every item, in no order.
func (t *trie[K, I]) walk(fn func(I)) {
	if t.root != nil {
		t.root.walk(fn)
	}
}

func (b *branch[K, I]) walk(fn func(I)) {
	for _, i := range b.items {
		fn(i)
	}
	for _, k := range b.kids {
		k.walk(fn)
	}
}
