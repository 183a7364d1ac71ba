package score

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// tag is a tag that is looked for: a key with any value, or with one.
type tag struct {
	key, value string
	exact      bool
	hash       uint64
}

func newTag(key string, value *string) tag {
	t := tag{key: key, hash: hashTag(key, value)}
	if value != nil {
		t.value, t.exact = *value, true
	}
	return t
}

// parseTag reads key or key=value.
func parseTag(s string) tag {
	key, value, exact := strings.Cut(s, "=")
	if !exact {
		return newTag(key, nil)
	}
	return newTag(key, &value)
}

// hashTag is FNV-1a over what is looked for.
func hashTag(key string, value *string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	if value == nil {
		return h
	}
	h = (h ^ '=') * 1099511628211
	for i := range len(*value) {
		h = (h ^ uint64((*value)[i])) * 1099511628211
	}
	return h
}

// bit is the place of a hash in a Bloom filter of 64 bits.
func bit(hash uint64) uint64 { return 1 << (hash >> 58) }

// tagCount is how many children have a tag.
type tagCount struct {
	tag
	n int
}

// tagCounts is ordered by hash and never changes.
type tagCounts []tagCount

func compareTag(a tagCount, b tag) int {
	exact := func(e bool) int {
		if e {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.hash, b.hash), strings.Compare(a.key, b.key), cmp.Compare(exact(a.exact), exact(b.exact)), strings.Compare(a.value, b.value))
}

// with returns the counts with the tags of n added (sign 1) or taken away (-1).
func (c tagCounts) with(n *registry.Node, sign int) tagCounts {
	c = slices.Clone(c)
	for i := range n.NumTags() {
		t := n.TagAt(i)
		for _, t := range [2]tag{newTag(t.Key, nil), newTag(t.Key, &t.Value)} {
			at, ok := slices.BinarySearchFunc(c, t, compareTag)
			if !ok {
				c = slices.Insert(c, at, tagCount{tag: t})
			}
			if c[at].n += sign; c[at].n == 0 {
				c = slices.Delete(c, at, at+1)
			}
		}
	}
	return c
}

// count is how many children have the tag.
func (c tagCounts) count(t tag) int {
	if at, ok := slices.BinarySearchFunc(c, t, compareTag); ok {
		return c[at].n
	}
	return 0
}

func (c tagCounts) bits() (bits uint64) {
	for _, t := range c {
		bits |= bit(t.hash)
	}
	return bits
}
