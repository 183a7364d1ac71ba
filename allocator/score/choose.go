package score

import (
	"maps"
	"math"
	"slices"

	"github.com/vagoth/vagoth/allocator"
)

// rate is the policy with its weights.
type rate struct {
	pack                             bool
	cpu, memory, disk, apart, prefer float64
}

// query is a request made ready for the loop over the hosts.
type query struct {
	impossible                       bool  // a demand that no host can ever meet
	needCPU, needMemory, needDisk    int64 // what it takes
	leastCPU, leastMemory, leastDisk int64 // what must be free: nothing asked fits anywhere
	types                            uint64
	plain                            bool // none of what follows
	only                             []int
	restricted                       bool // to only
	exclude                          []int
	typeName                         string // to be compared, as its bit is shared
	custom                           []customNeed
	require, forbid, apart           []tag
	requireBits                      uint64
	prefer, preferApart              []tag
}

type customNeed struct {
	name string
	n    int64
}

func compile(t *table, req allocator.Request) *query {
	c := req.Constraints
	q := &query{
		needCPU: req.Need.CPU, needMemory: req.Need.Memory, needDisk: req.Need.Disk,
		leastCPU: least(req.Need.CPU), leastMemory: least(req.Need.Memory), leastDisk: least(req.Need.Disk),
		types: ^uint64(0),
	}
	for _, n := range []int64{req.Need.CPU, req.Need.Memory, req.Need.Disk} {
		q.impossible = q.impossible || n < 0 || n > allocator.MaxAmount
	}
	for _, name := range slices.Sorted(maps.Keys(req.Need.Custom)) {
		if n := req.Need.Custom[name]; n != 0 {
			q.impossible = q.impossible || n < 0 || n > allocator.MaxAmount
			q.custom = append(q.custom, customNeed{name, n})
		}
	}
	if req.Type != "" {
		if n, ok := t.types[req.Type]; ok {
			q.types = 1 << n
		} else {
			q.types, q.typeName = 1<<otherType, req.Type
		}
	}
	q.require, q.forbid, q.prefer = tagsOf(c.Require), tagsOf(c.Forbid), tagsOf(c.Prefer)
	for _, r := range q.require {
		q.requireBits |= bit(r.hash)
	}
	for _, s := range c.Apart {
		q.apart = append(q.apart, parseTag(s))
	}
	for _, s := range c.PreferApart {
		q.preferApart = append(q.preferApart, parseTag(s))
	}
	for _, id := range c.Exclude {
		if i, ok := t.layout.at[id]; ok {
			q.exclude = append(q.exclude, i)
		}
	}
	q.restrict(t, req)
	q.plain = len(q.exclude)+len(q.custom)+len(q.require)+len(q.forbid)+len(q.apart)+len(q.prefer)+len(q.preferApart) == 0 && q.typeName == ""
	return q
}

// restrict finds the hosts that the request names, if it names any.
func (q *query) restrict(t *table, req allocator.Request) {
	for _, id := range req.Constraints.Hosts {
		q.restricted = true
		if i, ok := t.layout.at[id]; ok {
			q.only = append(q.only, i)
		}
	}
	if req.Hint != "" {
		i := t.find(req.Hint)
		if i < 0 || q.restricted && !slices.Contains(q.only, i) {
			q.only = nil
		} else {
			q.only = []int{i}
		}
		q.restricted = true
	}
	slices.Sort(q.only)
}

// find is the row of the host with the ID or name, or -1.
func (t *table) find(ref string) int {
	if i, ok := t.layout.at[ref]; ok {
		return i
	}
	for i := range t.len() {
		if t.mark(i).host.Name == ref {
			return i
		}
	}
	return -1
}

func tagsOf(m map[string]*string) []tag {
	var tags []tag
	for _, key := range slices.Sorted(maps.Keys(m)) {
		tags = append(tags, newTag(key, m[key]))
	}
	return tags
}

func least(need int64) int64 {
	if need == 0 {
		return math.MinInt64
	}
	return need
}

// choose returns the row that scores best, the first of those that score
// alike, or -1 if none fits.
func (t *table) choose(q *query, p *rate) int {
	best, at := -1.0, -1
	if q.impossible {
		return at
	}
	if q.restricted {
		for _, i := range q.only {
			if score, ok := q.rate(t, t.room(i), i, p); ok && score > best {
				best, at = score, i
			}
		}
		return at
	}
	if q.plain {
		return t.choosePlain(q, p)
	}
	rows := t.len()
	for c, chunk := range t.rooms {
		for i := range min(chunkRows, rows-c*chunkRows) {
			if score, ok := q.rate(t, &chunk[i], c*chunkRows+i, p); ok && score > best {
				best, at = score, c*chunkRows+i
			}
		}
	}
	return at
}

// choosePlain is choose where only capacity counts: rate, written out, as the
// call would cost more than what it does.
func (t *table) choosePlain(q *query, p *rate) int {
	best, at := -1.0, -1
	types, leastCPU, leastMemory, leastDisk := q.types, q.leastCPU, q.leastMemory, q.leastDisk
	needCPU, needMemory, needDisk := q.needCPU, q.needMemory, q.needDisk
	rated := *p
	rows := t.len()
	for c, chunk := range t.rooms {
		part := chunk[:min(chunkRows, rows-c*chunkRows)]
		for i := range part {
			r := &part[i]
			if r.types&types == 0 || r.freeCPU < leastCPU || r.freeMemory < leastMemory || r.freeDisk < leastDisk {
				continue
			}
			score := float64(rated.cpu*share(rated.pack, r.freeCPU-needCPU, r.invCPU)) +
				float64(rated.memory*share(rated.pack, r.freeMemory-needMemory, r.invMemory)) +
				float64(rated.disk*share(rated.pack, r.freeDisk-needDisk, r.invDisk))
			if score > best {
				best, at = score, c*chunkRows+i
			}
		}
	}
	return at
}

// rate is the score of a host, and whether it fits.
func (q *query) rate(t *table, r *room, i int, p *rate) (float64, bool) {
	if r.types&q.types == 0 || r.freeCPU < q.leastCPU || r.freeMemory < q.leastMemory || r.freeDisk < q.leastDisk {
		return 0, false
	}
	score := float64(p.cpu*share(p.pack, r.freeCPU-q.needCPU, r.invCPU)) +
		float64(p.memory*share(p.pack, r.freeMemory-q.needMemory, r.invMemory)) +
		float64(p.disk*share(p.pack, r.freeDisk-q.needDisk, r.invDisk))
	if q.plain {
		return score, true
	}
	m := t.mark(i)
	if !q.allows(m, i) {
		return 0, false
	}
	if len(q.preferApart) > 0 {
		score += float64(p.apart * q.apartness(m))
	}
	if len(q.prefer) > 0 {
		score += float64(p.prefer * q.liking(m))
	}
	return score, true
}

// share is what a resource adds: the part that stays free, or is used. A host
// that has none of it counts as full.
func share(pack bool, free int64, inverse float64) float64 {
	v := float64(free) * inverse
	if v < 0 {
		v = 0
	}
	if v > 1 {
		v = 1
	}
	if pack {
		return 1 - v
	}
	return v
}

// allows looks at what only some requests ask.
func (q *query) allows(m *mark, i int) bool {
	if slices.Contains(q.exclude, i) || m.hostBits&q.requireBits != q.requireBits {
		return false
	}
	if q.typeName != "" && len(m.host.Types) > 0 && !slices.Contains(m.host.Types, q.typeName) {
		return false
	}
	for _, t := range q.require {
		if !m.hasTag(t) {
			return false
		}
	}
	for _, t := range q.forbid {
		if m.hasTag(t) {
			return false
		}
	}
	for _, t := range q.apart {
		if m.beside(t) > 0 {
			return false
		}
	}
	for _, c := range q.custom {
		used := int64(0)
		if m.kids != nil {
			used = max(m.kids.custom[c.name], 0)
		}
		if m.host.capacity.Custom[c.name]-used < c.n {
			return false
		}
	}
	return true
}

func (m *mark) hasTag(t tag) bool {
	if m.hostBits&bit(t.hash) == 0 {
		return false
	}
	got, ok := m.host.Tags[t.key]
	return ok && (!t.exact || got == t.value)
}

// beside is how many children have the tag.
func (m *mark) beside(t tag) int {
	if m.kidBits&bit(t.hash) == 0 {
		return 0
	}
	return m.kids.tags.count(t)
}

// apartness falls with each sibling that had better be elsewhere.
func (q *query) apartness(m *mark) float64 {
	n := 0
	for _, t := range q.preferApart {
		n += m.beside(t)
	}
	return 1 / float64(1+n)
}

// liking is the part of the preferred tags that the host has.
func (q *query) liking(m *mark) float64 {
	n := 0
	for _, t := range q.prefer {
		if m.hasTag(t) {
			n++
		}
	}
	return float64(n) / float64(len(q.prefer))
}
