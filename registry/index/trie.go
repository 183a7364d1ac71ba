package index

import (
	"math/bits"
	"slices"
)

// keyed is what a trie holds, found by its key.
type keyed[K comparable] interface{ is(key K) bool }

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
	items      []hashed[I]
	kids       []*branch[K, I]
}

// hashed is an item and the hash of its key: most that are not looked for are
// passed over without a look at them.
type hashed[I any] struct {
	hash uint64
	item I
}

// own returns b if e may change it, and a copy that it may change if not.
func (b *branch[K, I]) own(e *edit) *branch[K, I] {
	if b.edit == e {
		return b
	}
	return &branch[K, I]{
		edit: e, held: b.held, over: b.over,
		items: append(make([]hashed[I], 0, len(b.items)+1), b.items...), kids: slices.Clone(b.kids),
	}
}

// slot is the bit that stands for the hash at the level.
func slot(hash uint64, level uint) uint32 { return 1 << (hash >> level & trieSlots) }

// rank is how many bits of set are below bit.
func rank(set, bit uint32) int { return bits.OnesCount32(set & (bit - 1)) }

// get returns what has the key.
func (t *trie[K, I]) get(key K) (item I, ok bool) { return t.find(t.hash(key), key) }

// find is get for one who knows the hash.
func (t *trie[K, I]) find(hash uint64, key K) (item I, ok bool) {
	b := t.root
	for level := uint(0); b != nil; level += trieBits {
		if level >= trieDepth {
			if i := b.index(key); i >= 0 {
				return b.items[i].item, true
			}
			break
		}
		bit := slot(hash, level)
		if b.held&bit != 0 {
			if it := &b.items[rank(b.held, bit)]; it.hash == hash && it.item.is(key) {
				return it.item, true
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
	return slices.IndexFunc(b.items, func(h hashed[I]) bool { return h.item.is(key) })
}

// set adds the item with the key, or replaces the one that has it.
func (t *trie[K, I]) set(e *edit, key K, item I) {
	if t.root == nil {
		t.root = &branch[K, I]{edit: e}
	}
	var added bool
	if t.root, added = t.root.put(e, 0, key, hashed[I]{t.hash(key), item}); added {
		t.n++
	}
}

func (b *branch[K, I]) put(e *edit, level uint, key K, h hashed[I]) (self *branch[K, I], added bool) {
	b = b.own(e)
	if level >= trieDepth {
		i := b.index(key)
		if i >= 0 {
			b.items[i] = h
		} else {
			b.items = append(b.items, h)
		}
		return b, i < 0
	}
	bit := slot(h.hash, level)
	i, kid := rank(b.held, bit), rank(b.over, bit)
	switch {
	case b.over&bit != 0:
		b.kids[kid], added = b.kids[kid].put(e, level+trieBits, key, h)
		return b, added
	case b.held&bit == 0:
		b.items = slices.Insert(b.items, i, h)
		b.held |= bit
		return b, true
	}
	was := b.items[i]
	if was.hash == h.hash && was.item.is(key) {
		b.items[i] = h
		return b, false
	}
	b.items = slices.Delete(b.items, i, i+1)
	b.held &^= bit
	b.kids = slices.Insert(b.kids, kid, two(e, level+trieBits, was, h))
	b.over |= bit
	return b, true
}

// two makes a branch of two items of different keys.
func two[K comparable, I keyed[K]](e *edit, level uint, x, y hashed[I]) *branch[K, I] {
	b := &branch[K, I]{edit: e}
	if level >= trieDepth {
		b.items = []hashed[I]{x, y}
		return b
	}
	xBit, yBit := slot(x.hash, level), slot(y.hash, level)
	switch {
	case xBit == yBit:
		b.over, b.kids = xBit, []*branch[K, I]{two[K](e, level+trieBits, x, y)}
	case xBit < yBit:
		b.held, b.items = xBit|yBit, []hashed[I]{x, y}
	default:
		b.held, b.items = xBit|yBit, []hashed[I]{y, x}
	}
	return b
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
	for _, h := range b.items {
		fn(h.item)
	}
	for _, k := range b.kids {
		k.walk(fn)
	}
}
