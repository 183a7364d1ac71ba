package score

import (
	"slices"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// table is every host of one snapshot. It never changes. A row has two parts:
// the loop over all hosts reads only the first of them for a request without
// constraints, and a child that has no tags changes nothing else.
type table struct {
	rev    uint64
	layout *layout
	rooms  []*roomChunk
	marks  []*markChunk
	types  map[string]uint // the bit of each type that a host can run
	// witness is the first host's node. A registry hands out one node as long
	// as it does not change, so the witness tells its own store from another.
	witness *registry.Node
}

// layout says which row is whose. Tables with the same hosts share it.
type layout struct {
	ids []string // ordered
	at  map[string]int
}

// A chunk is what a newer table copies to change a row.
type (
	roomChunk [chunkRows]room
	markChunk [chunkRows]mark
)

const chunkRows = 32

// room is what a host has left.
type room struct {
	freeCPU, freeMemory, freeDisk int64   // below 0 if more than there is was given away
	invCPU, invMemory, invDisk    float64 // 1/capacity, 0 where there is none
	types                         uint64  // bits of table.types; none if nothing may be placed there at all
}

// mark is what only some requests ask about.
type mark struct {
	hostBits, kidBits uint64 // Bloom filters over the tags of the host and of its children
	host              *host
	kids              *kids // nil if there is nothing special
}

// host is the rest of what is known of a host.
type host struct {
	allocator.Host
	node     *registry.Node
	capacity allocator.Resources // with overcommit
	types    uint64              // bits of what it can run; all of them if that is everything
}

// kids is what only some hosts' children have.
type kids struct {
	custom map[string]int64 // what they use
	tags   tagCounts
	unread []string // IDs of those whose demand cannot be read, ordered
}

// otherType is the bit of all types beyond the first 63.
const otherType = 63

func (t *table) room(i int) *room { return &t.rooms[i/chunkRows][i%chunkRows] }

func (t *table) mark(i int) *mark { return &t.marks[i/chunkRows][i%chunkRows] }

func (t *table) len() int { return len(t.layout.ids) }

// used is what the children of the host in row i take.
func (t *table) used(i int) allocator.Resources {
	r, m := t.room(i), t.mark(i)
	if m.host == nil {
		return allocator.Resources{}
	}
	u := allocator.Resources{
		CPU: m.host.capacity.CPU - r.freeCPU, Memory: m.host.capacity.Memory - r.freeMemory, Disk: m.host.capacity.Disk - r.freeDisk,
	}
	if m.kids != nil {
		u.Custom = m.kids.custom
	}
	return u
}

// maker turns nodes into rows.
type maker struct {
	host func(*registry.Node) (allocator.Host, bool)
	need func(*registry.Node) (allocator.Resources, error)
	over allocator.Overcommit
}

// builder changes a table that nobody else has seen, copying each chunk that
// it touches once.
type builder struct {
	*maker
	table              *table
	ownRooms, ownMarks []bool // by chunk; nil until there is one
	types              bool   // the map of types is its own
}

// edit begins a table that is as t.
func (m *maker) edit(t *table) *builder {
	fresh := *t
	return &builder{maker: m, table: &fresh}
}

func (b *builder) room(i int) *room {
	if b.ownRooms == nil {
		b.table.rooms = slices.Clone(b.table.rooms)
		b.ownRooms = make([]bool, len(b.table.rooms))
	}
	c := i / chunkRows
	if !b.ownRooms[c] {
		copied := *b.table.rooms[c]
		b.table.rooms[c], b.ownRooms[c] = &copied, true
	}
	return b.table.room(i)
}

func (b *builder) mark(i int) *mark {
	if b.ownMarks == nil {
		b.table.marks = slices.Clone(b.table.marks)
		b.ownMarks = make([]bool, len(b.table.marks))
	}
	c := i / chunkRows
	if !b.ownMarks[c] {
		copied := *b.table.marks[c]
		b.table.marks[c], b.ownMarks[c] = &copied, true
	}
	return b.table.mark(i)
}

// child adds (sign 1) or takes away (-1) what a child is to the host in row i.
// It must be given the same node, or one with the same type, definition and
// tags, to take away as was added.
func (b *builder) child(i int, n *registry.Node, sign int) {
	r := b.room(i)
	need, err := b.need(n)
	need = need.Bounded()
	if err != nil {
		need = allocator.Resources{}
	}
	r.freeCPU -= int64(sign) * need.CPU
	r.freeMemory -= int64(sign) * need.Memory
	r.freeDisk -= int64(sign) * need.Disk
	if err == nil && len(need.Custom) == 0 && n.NumTags() == 0 {
		return
	}
	m := b.mark(i)
	k := &kids{}
	if m.kids != nil {
		*k = *m.kids
	}
	if len(need.Custom) > 0 {
		custom := make(map[string]int64, len(k.custom)+len(need.Custom))
		for name, v := range k.custom {
			custom[name] = v
		}
		for name, v := range need.Custom {
			if custom[name] += int64(sign) * v; custom[name] == 0 {
				delete(custom, name)
			}
		}
		k.custom = custom
	}
	if n.NumTags() > 0 {
		k.tags = k.tags.with(n, sign)
		m.kidBits = k.tags.bits()
	}
	if err != nil {
		at, there := slices.BinarySearch(k.unread, n.ID())
		k.unread = slices.Clone(k.unread)
		switch {
		case sign > 0 && !there:
			k.unread = slices.Insert(k.unread, at, n.ID())
		case sign < 0 && there:
			k.unread = slices.Delete(k.unread, at, at+1)
		}
	}
	m.kids = k
	if len(k.custom) == 0 && len(k.tags) == 0 && len(k.unread) == 0 {
		m.kids = nil
	}
	r.types = m.types()
}

// set writes what host h is into row i, which keeps what its children use.
func (b *builder) set(i int, n *registry.Node, h allocator.Host) {
	used := b.table.used(i)
	r, m := b.room(i), b.mark(i)
	capacity := allocator.Effective(h, b.over)
	m.host = &host{Host: h, node: n, capacity: capacity, types: b.typeBits(h.Types)}
	m.hostBits = 0
	for key, value := range h.Tags {
		m.hostBits |= bit(hashTag(key, nil)) | bit(hashTag(key, &value))
	}
	*r = room{
		freeCPU: capacity.CPU - used.CPU, freeMemory: capacity.Memory - used.Memory, freeDisk: capacity.Disk - used.Disk,
		invCPU: inverse(capacity.CPU), invMemory: inverse(capacity.Memory), invDisk: inverse(capacity.Disk),
		types: m.types(),
	}
}

// types are the bits of what may be placed on the host now.
func (m *mark) types() uint64 {
	if m.host.State != allocator.StateUp || m.host.Maintenance || m.kids != nil && len(m.kids.unread) > 0 {
		return 0
	}
	return m.host.types
}

func inverse(n int64) float64 {
	if n <= 0 {
		return 0
	}
	return 1 / float64(n)
}

func (b *builder) typeBits(types []string) uint64 {
	if len(types) == 0 {
		return ^uint64(0)
	}
	var bits uint64
	for _, name := range types {
		n, ok := b.table.types[name]
		if !ok {
			n = uint(min(len(b.table.types), otherType))
			if !b.types {
				own := make(map[string]uint, len(b.table.types)+1)
				for k, v := range b.table.types {
					own[k] = v
				}
				b.table.types, b.types = own, true
			}
			if n < otherType {
				b.table.types[name] = n
			}
		}
		bits |= 1 << n
	}
	return bits
}

// blank begins a table with the given hosts, ordered, whose rows are to be set.
func (m *maker) blank(ids []string) *builder {
	l := &layout{ids: ids, at: make(map[string]int, len(ids))}
	for i, id := range ids {
		l.at[id] = i
	}
	chunks := (len(ids) + chunkRows - 1) / chunkRows
	b := &builder{
		maker: m, types: true, ownRooms: make([]bool, chunks), ownMarks: make([]bool, chunks),
		table: &table{layout: l, rooms: make([]*roomChunk, chunks), marks: make([]*markChunk, chunks), types: map[string]uint{}},
	}
	for c := range chunks {
		b.table.rooms[c], b.table.marks[c] = &roomChunk{}, &markChunk{}
		b.ownRooms[c], b.ownMarks[c] = true, true
	}
	return b
}
