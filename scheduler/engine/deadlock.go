package engine

import (
	"fmt"
	"slices"
)

// deadlock reports, in words, whether the job on, or else a free slot of each of
// the limits, would never come if the function of start waited for it: those who
// could free a slot wait, over whatever way, for each other and for start. It sees
// what circle does not: a slot is somebody's of several.
//
// Jobs that wait for each other are a set in which each one waits for one of the
// set, or for a slot of a limit all of whose holders are in it. The search takes
// all that could be in it, and drops who waits for nobody of the rest, until
// nothing changes.
func (b *Engine) deadlock(start, on *job, limits []string) string {
	d := &dead{b: b, start: start, frees: on == nil, in: map[*job]bool{}}
	first := d.holders(limits)
	if on != nil {
		first = []*job{on}
	}
	d.reach(first)
	if len(d.list) >= maxWalk || !d.limited {
		return ""
	}
	for looks, again := 0, true; again; looks += len(d.list) {
		if looks > maxLooks {
			return ""
		}
		again = false
		for _, j := range slices.Backward(d.list) {
			if d.in[j] && j != start && d.why(j) == "" {
				d.in[j], again = false, true
			}
		}
	}
	switch {
	case on == nil:
		return d.full(limits)
	case d.in[on]:
		return d.why(on)
	}
	return ""
}

// maxLooks bounds the work on long chains; what takes more is not seen.
const maxLooks = 10 * maxWalk

type dead struct {
	b       *Engine
	start   *job
	frees   bool // it gives back what it holds before it waits
	in      map[*job]bool
	list    []*job
	limited bool // a limit is on the way
}

// reach collects all for whom the jobs may wait.
func (d *dead) reach(todo []*job) {
	for len(todo) > 0 && len(d.list) < maxWalk {
		j := todo[0]
		todo = todo[1:]
		if _, seen := d.in[j]; seen || j == nil || j.state.ended() {
			continue
		}
		d.in[j] = true
		d.list = append(d.list, j)
		if j == d.start {
			continue
		}
		for on := range d.b.awaits[j] {
			todo = append(todo, on)
		}
		names := j.limits()
		if j.run != nil {
			names = j.run.taking
		}
		if j.state == waiting {
			todo = append(todo, before(j)...)
			for i := range j.after {
				if on := d.b.core.table.get(j.after[i].seq); !j.after[i].met && on != nil {
					todo = append(todo, on)
				}
			}
		}
		todo = append(todo, d.holders(names)...)
	}
}

// before are those whose turn in the queue comes before that of j: who has the
// queue, and who will have it next.
func before(j *job) []*job {
	var list []*job
	if h := j.queue.holder; h != nil {
		list = append(list, h)
	}
	if r := j.queue.ready; len(r) > 0 && r[0].place < j.place {
		list = append(list, r[0])
	}
	return list
}

// holders are those who hold a slot of limits that have none left.
func (d *dead) holders(names []string) []*job {
	var list []*job
	for _, name := range names {
		if taken := d.taken(name); len(taken) > 0 {
			d.limited = true
			list = append(list, taken...)
		}
	}
	return list
}

// taken are the holders of a limit that has no slot left; nobody if it has one.
func (d *dead) taken(name string) []*job {
	l := d.b.limits[name]
	if l == nil || l.cfg.Slots <= 0 {
		return nil
	}
	list := l.taken
	if d.frees && slices.Contains(list, d.start) {
		list = slices.DeleteFunc(slices.Clone(list), func(j *job) bool { return j == d.start })
	}
	if len(list) < l.cfg.Slots {
		return nil
	}
	return list
}

// why says for whom of the set j waits; it is empty if that is nobody.
func (d *dead) why(j *job) string {
	for on := range d.b.awaits[j] {
		if d.in[on] {
			return "waits for " + on.id
		}
	}
	if j.run != nil {
		return d.full(j.run.taking)
	}
	if j.state != waiting {
		return ""
	}
	for _, on := range before(j) {
		if d.in[on] {
			return fmt.Sprintf("waits for its turn in queue %s behind %s", j.queue.name, on.id)
		}
	}
	for i := range j.after {
		if on := d.b.core.table.get(j.after[i].seq); !j.after[i].met && on != nil && d.in[on] {
			return "waits for " + on.id
		}
	}
	return d.full(j.limits())
}

// full names a limit all of whose slots are held by jobs of the set.
func (d *dead) full(names []string) string {
	for _, name := range names {
		taken := d.taken(name)
		if len(taken) > 0 && !slices.ContainsFunc(taken, func(j *job) bool { return !d.in[j] }) {
			return fmt.Sprintf("waits for a slot of limit %s, all of which jobs hold that wait for each other, %s for one", name, taken[0].id)
		}
	}
	return ""
}
