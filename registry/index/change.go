package index

import (
	"github.com/vagoth/vagoth/registry"
)

// change is what an Update did to one node.
type change struct {
	id            string
	before, after *registry.Node // nil: there was none, there is none
	again         bool           // deleted and created anew
	encoded       string         // of after, which is made of it
	touched       int            // keys, for registry.MaxTouched
	blobs         map[string]int // bytes written, by blob
}

// size is what the change counts for registry.MaxUpdate.
func (c *change) size() int {
	n := len(c.encoded)
	for _, b := range c.blobs {
		n += b
	}
	return n
}

// account returns the Update's change of the node as it is with this write, and
// refuses what exceeds the limits of an Update. It changes nothing.
func (t *tx) account(old, node *registry.Node, encoded, key string, blob *operation) (*change, error) {
	c := t.joined(old, node)
	c.encoded = encoded
	touched, size := 0, 0
	for _, other := range t.changes {
		if other.id != c.id {
			touched += other.touched
			size += other.size()
		}
	}
	if blob != nil {
		written := map[string]int{key: len(blob.data)}
		for k, n := range c.blobs {
			if k != key {
				written[k] = n
			}
		}
		c.blobs = written
	}
	c.touched = c.count()
	touched += c.touched
	if edges := 2 + len(t.bumped); touched+edges > registry.MaxTouched { // else there is no need to count them
		touched += t.edges(old, node)
	}
	if touched > registry.MaxTouched {
		return nil, &registry.LimitError{What: "update", Unit: "keys touched", Got: touched, Max: registry.MaxTouched}
	}
	if size += c.size(); size > registry.MaxUpdate {
		return nil, &registry.LimitError{What: "update", Unit: "bytes", Got: size, Max: registry.MaxUpdate}
	}
	return c, nil
}

// edges is how many edge revisions the Update moves with a write.
func (t *tx) edges(old, node *registry.Node) int {
	moved := map[string]bool{}
	for _, parent := range t.bumped {
		moved[parent] = true
	}
	for _, n := range []*registry.Node{old, node} {
		if n != nil && n.Parent() != "" && (old == nil || node == nil || old.Parent() != node.Parent() || old.Definition() != node.Definition()) {
			moved[n.Parent()] = true
		}
	}
	return len(moved)
}

// joined is the change from old to node, joined with what the transaction did to
// the node before.
func (t *tx) joined(old, node *registry.Node) *change {
	c := &change{before: old}
	id := idOf(old, node)
	for _, earlier := range t.changes {
		if earlier.id == id {
			*c = *earlier
			break
		}
	}
	c.id, c.after, c.encoded = id, node, ""
	c.again = c.again || old == nil && c.before != nil
	return c
}

func idOf(old, node *registry.Node) string {
	if old != nil {
		return old.ID()
	}
	return node.ID()
}

// count is how many keys the change touches: the node, what it can be called
// beside its ID where that changes, and its blobs.
func (c *change) count() int {
	n := 1 + len(c.blobs)
	differ := func(a, b *registry.Node) {
		if a == nil {
			return
		}
		refs(a, func(ref string) {
			if ref != a.ID() && (b == nil || c.again || !holds(b, ref)) {
				n++
			}
		})
	}
	differ(c.before, c.after)
	differ(c.after, c.before)
	if c.before != nil && (c.after == nil || c.again) {
		n += len(c.before.Blobs())
	}
	return n
}

// record puts c in the place of the change of the same node, if there is one.
func (t *tx) record(c *change) {
	for i, other := range t.changes {
		if other.id == c.id {
			t.changes[i] = c
			return
		}
	}
	t.changes = append(t.changes, c)
}
