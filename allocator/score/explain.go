package score

import (
	"fmt"
	"strings"

	"github.com/vagoth/vagoth/allocator"
)

// explain gives the verdict on every host of the table that a decision was made
// on. What rules a host out comes from the rules that all allocators share, not
// from the fast loop.
func (s *scorer) explain(t *table, req allocator.Request, chosen int) []allocator.Verdict {
	q := compile(t, req)
	verdicts := make([]allocator.Verdict, 0, t.len())
	for i := range t.len() {
		m := t.mark(i)
		v := allocator.Verdict{Host: m.host.ID, Name: m.host.Name, Chosen: i == chosen}
		v.Ruled = allocator.Rules(m.host.Host, s.over, req, t.occupied(i))
		if len(v.Ruled) == 0 {
			v.Terms = s.rate.terms(q, t.room(i), m)
			for _, term := range v.Terms {
				v.Score += float64(term.Weight * term.Value)
			}
		}
		verdicts = append(verdicts, v)
	}
	verdicts = append(verdicts, allocator.Absent(req, func(host string) bool { return t.find(host) >= 0 })...)
	allocator.SortVerdicts(verdicts)
	return verdicts
}

// terms are the parts of query.rate, in its order.
func (p *rate) terms(q *query, r *room, m *mark) []allocator.Term {
	terms := []allocator.Term{
		{Name: "cpu", Weight: p.cpu, Value: share(p.pack, r.freeCPU-q.needCPU, r.invCPU)},
		{Name: "memory", Weight: p.memory, Value: share(p.pack, r.freeMemory-q.needMemory, r.invMemory)},
		{Name: "disk", Weight: p.disk, Value: share(p.pack, r.freeDisk-q.needDisk, r.invDisk)},
	}
	if len(q.preferApart) > 0 {
		terms = append(terms, allocator.Term{Name: "apart", Weight: p.apart, Value: q.apartness(m)})
	}
	if len(q.prefer) > 0 {
		terms = append(terms, allocator.Term{Name: "prefer", Weight: p.prefer, Value: q.liking(m)})
	}
	return terms
}

func (t *table) occupied(i int) allocator.Occupied {
	m := t.mark(i)
	o := allocator.Occupied{Used: t.used(i), Beside: func(tag string) int { return m.beside(parseTag(tag)) }}
	if m.kids != nil && len(m.kids.unread) > 0 {
		shown := m.kids.unread[:min(len(m.kids.unread), 3)]
		o.Unread = fmt.Sprintf("cannot tell what %s takes", strings.Join(shown, ", "))
		if more := len(m.kids.unread) - len(shown); more > 0 {
			o.Unread = fmt.Sprintf("cannot tell what %s and %d more take", strings.Join(shown, ", "), more)
		}
	}
	return o
}
