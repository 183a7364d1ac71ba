package score

import (
	"slices"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// table is every host of one snapshot. It never changes.
type table struct {
	rev    uint64
	layout *layout
	chunks []*chunk
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

// chunk is what a newer table copies to change a row.
type chunk [chunkRows]row

const chunkRows = 32

// row is what the choice needs of a host, so that the loop over all hosts reads
// no other memory for a request without constraints.
type row struct {
	freeCPU, freeMemory, freeDisk int64   // below 0 if more than there is was given away
	invCPU, invMemory, invDisk    float64 // 1/capacity, 0 where there is none
	types                         uint64  // bits of table.types; all of them if it can run everything
	blocked                       bool    // not up, in maintenance, or with children that cannot be read
	hostBits, kidBits             uint64  // Bloom filters over the tags of the host and of its children
	host                          *host
	kids                          *kids // nil if there is nothing special
}

// host is the rest of what is known of a host.
type host struct {
	allocator.Host
	node     *registry.Node
	capacity allocator.Resources // with overcommit
}

// kids is what only some hosts' children have.
type kids struct {
	custom map[string]int64 // what they use
	tags   tagCounts
	unread []string // IDs of those whose demand cannot be read, ordered
}

// otherType is the bit of all types beyond the first 63.
const otherType = 63

func (t *table) row(i int) *row { return &t.chunks[i/chunkRows][i%chunkRows] }

func (t *table) len() int { return len(t.layout.ids) }

// used is what the children take.
func (r *row) used() allocator.Resources {
	u := allocator.Resources{
		CPU: r.host.capacity.CPU - r.freeCPU, Memory: r.host.capacity.Memory - r.freeMemory, Disk: r.host.capacity.Disk - r.freeDisk,
	}
	if r.kids != nil {
		u.Custom = r.kids.custom
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
	table *table
	own   []bool // by chunk
	types bool   // the map of types is its own
}

// edit begins a table that is as t.
func (m *maker) edit(t *table) *builder {
	fresh := *t
	fresh.chunks = slices.Clone(t.chunks)
	return &builder{maker: m, table: &fresh, own: make([]bool, len(t.chunks))}
}

func (b *builder) row(i int) *row {
	c := i / chunkRows
	if !b.own[c] {
		copied := *b.table.chunks[c]
		b.table.chunks[c], b.own[c] = &copied, true
	}
	return &b.table.chunks[c][i%chunkRows]
}

// child adds (sign 1) or takes away (-1) what a child is to the host in row i.
// It must be given the same node, or one with the same type, definition and
// tags, to take away as was added.
func (b *builder) child(i int, n *registry.Node, sign int) {
	r := b.row(i)
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
	k := &kids{}
	if r.kids != nil {
		*k = *r.kids
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
		r.kidBits = k.tags.bits()
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
	r.kids = k
	if len(k.custom) == 0 && len(k.tags) == 0 && len(k.unread) == 0 {
		r.kids = nil
	}
	r.block()
}

// set writes what host h is into row i, which keeps what its children use.
func (b *builder) set(i int, n *registry.Node, h allocator.Host) {
	r := b.row(i)
	var used allocator.Resources
	if r.host != nil {
		used = r.used()
	}
	capacity := allocator.Effective(h, b.over)
	r.host = &host{Host: h, node: n, capacity: capacity}
	r.freeCPU, r.freeMemory, r.freeDisk = capacity.CPU-used.CPU, capacity.Memory-used.Memory, capacity.Disk-used.Disk
	r.invCPU, r.invMemory, r.invDisk = inverse(capacity.CPU), inverse(capacity.Memory), inverse(capacity.Disk)
	r.types = b.typeBits(h.Types)
	r.hostBits = 0
	for key, value := range h.Tags {
		r.hostBits |= bit(hashTag(key, nil)) | bit(hashTag(key, &value))
	}
	r.block()
}

// block sums up what keeps everything off.
func (r *row) block() {
	r.blocked = r.host.State != allocator.StateUp || r.host.Maintenance || r.kids != nil && len(r.kids.unread) > 0
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
	b := &builder{maker: m, table: &table{layout: l, chunks: make([]*chunk, chunks), types: map[string]uint{}}, own: make([]bool, chunks), types: true}
	for i := range b.table.chunks {
		b.table.chunks[i], b.own[i] = &chunk{}, true
	}
	return b
}
