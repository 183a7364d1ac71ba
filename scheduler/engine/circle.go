package engine

import (
	"context"
	"slices"
	"strings"
)

type callerKey struct{}

// caller is the job in whose handler ctx is, if it is one of this broker.
func (b *Engine) caller(ctx context.Context) *job {
	if t, ok := ctx.Value(callerKey{}).(*task); ok && t.b == b {
		return t.j
	}
	return nil
}

// maxWalk bounds the jobs that are looked at in search of a circle.
const maxWalk = 100_000

// circle looks for a way on which one of the jobs in first waits for start, and
// describes it. It follows what holds a job for certain: the job that holds its
// queue, those it depends on, and those for which its handler waits. Those that
// stand before it in its queue wait for the same holder.
func (b *Engine) circle(start *job, first []*job) string {
	from := map[*job]*job{}
	var todo []*job
	visit := func(by *job, list ...*job) bool {
		for _, j := range list {
			if j == nil || j.state.ended() {
				continue
			}
			if _, seen := from[j]; seen {
				continue
			}
			from[j] = by
			if j == start {
				return true
			}
			todo = append(todo, j)
		}
		return false
	}
	found := visit(nil, first...)
	for !found && len(todo) > 0 && len(from) < maxWalk {
		j := todo[0]
		todo = todo[1:]
		for on := range b.awaits[j] {
			found = found || visit(j, on)
		}
		if j.state != waiting {
			continue
		}
		found = found || visit(j, j.queue.holder)
		for _, d := range j.after {
			found = found || !d.met && visit(j, b.core.table.get(d.seq))
		}
	}
	if !found {
		return ""
	}
	var path []string
	for j := start; j != nil; j = from[j] {
		path = append(path, j.id)
	}
	slices.Reverse(path)
	if len(path) > 8 {
		path = append(path[:7], "…", start.id)
	}
	return strings.Join(path, " waits for ")
}
