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
		r := t.row(i)
		v := allocator.Verdict{Host: r.host.ID, Name: r.host.Name, Chosen: i == chosen}
		v.Ruled = allocator.Rules(r.host.Host, s.over, req, r.occupied())
		if len(v.Ruled) == 0 {
			v.Terms = s.rate.terms(q, r)
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
func (p *rate) terms(q *query, r *row) []allocator.Term {
	terms := []allocator.Term{
		{Name: "cpu", Weight: p.cpu, Value: p.share(r.freeCPU-q.needCPU, r.invCPU)},
		{Name: "memory", Weight: p.memory, Value: p.share(r.freeMemory-q.needMemory, r.invMemory)},
		{Name: "disk", Weight: p.disk, Value: p.share(r.freeDisk-q.needDisk, r.invDisk)},
	}
	if len(q.preferApart) > 0 {
		terms = append(terms, allocator.Term{Name: "apart", Weight: p.apart, Value: q.apartness(r)})
	}
	if len(q.prefer) > 0 {
		terms = append(terms, allocator.Term{Name: "prefer", Weight: p.prefer, Value: q.liking(r)})
	}
	return terms
}

func (r *row) occupied() allocator.Occupied {
	o := allocator.Occupied{Used: r.used(), Beside: func(tag string) int { return r.beside(parseTag(tag)) }}
	if r.kids != nil && len(r.kids.unread) > 0 {
		shown := r.kids.unread[:min(len(r.kids.unread), 3)]
		o.Unread = fmt.Sprintf("cannot tell what %s takes", strings.Join(shown, ", "))
		if more := len(r.kids.unread) - len(shown); more > 0 {
			o.Unread = fmt.Sprintf("cannot tell what %s and %d more take", strings.Join(shown, ", "), more)
		}
	}
	return o
}
