package index

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/registry"
)

// recent is a hash table of what the latest batches changed, which the finder
// below does not know yet. It is shared by the states that these batches made: a
// batch puts its mentions in front of those before it, and each state passes over
// the mentions of changes that it does not have. So nothing is copied for a state,
// and none sees what came after it.
type recent struct {
	heads []atomic.Pointer[mention] // a power of two
	end   int                       // changes that are in it; it and count belong to whoever prepares a state
	count int                       // mentions
}

// newRecent makes an empty table with room for so many mentions.
func newRecent(room int) *recent {
	return &recent{heads: make([]atomic.Pointer[mention], room)}
}

// part is a table, with room for so many mentions, of the changes after the
// from-th up to the to-th, which it numbers from 1.
func (r *recent) part(room, from, to int) *recent {
	p := newRecent(room)
	var chain []*mention
	for i := range r.heads {
		chain = chain[:0]
		for m := r.heads[i].Load(); m != nil; m = m.next {
			if from < int(m.at) && int(m.at) <= to {
				chain = append(chain, m)
			}
		}
		// From the oldest on: what is said last about a reference has to be found first.
		for _, m := range slices.Backward(chain) {
			p.put(&mention{hash: m.hash, ref: m.ref, node: m.node, at: m.at - uint32(from), kid: m.kid}) //nolint:gosec // less than at
		}
	}
	p.end = to - from
	return p
}

// put puts m in front of what shares its head.
func (r *recent) put(m *mention) {
	head := r.head(m.hash)
	m.next = head.Load()
	head.Store(m)
	r.count++
}

// smallRecent is the room that a new table has.
const smallRecent = 1 << 8

// room is what a table needs in which so many more changes stand, of four mentions each.
func (r *recent) room(more int) int {
	room := len(r.heads)
	for r.count+4*more > 2*room {
		room *= 4
	}
	return room
}

func (r *recent) head(hash uint64) *atomic.Pointer[mention] {
	return &r.heads[hash&uint64(len(r.heads)-1)]
}

// mention is a reference, and the node that holds it since a change; or a parent,
// and a node that is or was its child.
type mention struct {
	next *mention // of the same head, older
	hash uint64
	ref  string
	node *registry.Node // nil where the reference became free
	at   uint32         // the number of the change, from 1
	kid  bool
}

// kidHash sets children apart, so that a reference is not looked for among them.
func kidHash(hash uint64) uint64 { return bits.RotateLeft64(hash, 32) }

// add puts in the changes of one batch, the first of which is the at-th. hash is
// the finder's.
func (r *recent) add(at int, batch []entry, hash func(string) uint64) {
	var slab []mention
	mention1 := func(i int, h uint64, ref string, n *registry.Node, kid bool) {
		if len(slab) == 0 {
			slab = make([]mention, slabFor(len(batch)-i))
		}
		m := &slab[0]
		slab = slab[1:]
		*m = mention{hash: h, ref: ref, node: n, at: uint32(at + i), kid: kid} //nolint:gosec // at most two of mostRecent and a batch
		r.put(m)
	}
	// A reference can go from one node to another: whoever gives one up comes first.
	for i, e := range batch {
		if e.before == nil {
			continue
		}
		refs(e.before, func(ref string) {
			if e.after == nil || !holds(e.after, ref) {
				mention1(i, hash(ref), ref, nil, false)
			}
		})
		if p := e.before.Parent(); p != "" {
			mention1(i, kidHash(hash(p)), p, e.before, true)
		}
	}
	for i, e := range batch {
		if e.after == nil {
			continue
		}
		refs(e.after, func(ref string) { mention1(i, hash(ref), ref, e.after, false) })
		if p := e.after.Parent(); p != "" && (e.before == nil || e.before.Parent() != p) {
			mention1(i, kidHash(hash(p)), p, e.after, true)
		}
	}
	r.end = at + len(batch) - 1
}

// slabFor is how many mentions are made at a time for so many changes.
func slabFor(changes int) int { return min(4*changes+1, 256) }

// owner is the node that ref names since one of the first changes (nil where it
// became free), if one of them says.
func (r *recent) owner(hash uint64, ref string, changes int) (n *registry.Node, ok bool) {
	for m := r.head(hash).Load(); m != nil; m = m.next {
		if m.hash == hash && int(m.at) <= changes && m.ref == ref && !m.kid {
			return m.node, true
		}
	}
	return nil, false
}

// kids calls yield with the ID of each node that a change touched and that stood
// on the parent before it or after it; with some twice, and perhaps with some that
// changed only later.
func (r *recent) kids(hash uint64, parent string, yield func(id string)) {
	hash = kidHash(hash)
	for m := r.head(hash).Load(); m != nil; m = m.next {
		if m.hash == hash && m.ref == parent && m.kid {
			yield(m.node.ID())
		}
	}
}

// mostRecent is how many changes the finder of a published state of so many nodes
// lacks when it is time to make them in it: the more are made at once, the more of
// them share what is copied for them. As many again may come meanwhile. The first
// who lists what a state holds waits for those of these that nobody has begun with.
func mostRecent(nodes int) int { return min(max(nodes/16, 256), 2048) }

// fold is a finder with the first of the recent changes, made beside the batches
// that follow, by whoever waits for it first.
type fold struct {
	find finder
	late []entry

	begun  atomic.Bool // somebody has been sent to make it
	once   sync.Once
	result atomic.Pointer[finder]
}

// wait returns the finder, which it makes unless somebody else does.
func (x *fold) wait() *finder {
	x.once.Do(func() {
		f := folded(x.find, x.late)
		x.result.Store(&f)
	})
	return x.result.Load()
}

// done reports whether nobody would have to wait for it.
func (x *fold) done() bool { return x.result.Load() != nil }

// begin has the state's fold made, if it has one and nobody makes it.
func (db *DB) begin(s *state) {
	if s.fold != nil && s.fold.begun.CompareAndSwap(false, true) {
		db.folds.Go(func() { s.fold.wait() })
	}
}

// folded is the finder with the changes of later batches.
func folded(f finder, changes []entry) finder {
	x := newEdits(f, mostLate)
	changes = netOf(changes)
	// A reference can go from one node to another. Whoever gives one up leaves
	// first, or it would take the entry of the one that comes.
	for _, e := range changes {
		x.release(e)
	}
	for _, e := range changes {
		x.claim(e)
		x.list(e)
	}
	return x.done()
}

// netOf joins the changes of each node, and orders them by ID.
func netOf(changes []entry) []entry {
	type numbered struct {
		entry
		id string
		i  int
	}
	all := make([]numbered, len(changes))
	for i, e := range changes {
		all[i] = numbered{e, idOf(e.before, e.after), i}
	}
	slices.SortFunc(all, func(a, b numbered) int {
		if c := strings.Compare(a.id, b.id); c != 0 {
			return c
		}
		return a.i - b.i
	})
	net := make([]entry, 0, len(all))
	for i, e := range all {
		if i > 0 && all[i-1].id == e.id {
			net[len(net)-1].after = e.after
			continue
		}
		net = append(net, e.entry)
	}
	return slices.DeleteFunc(net, func(e entry) bool { return e.before == nil && e.after == nil })
}
