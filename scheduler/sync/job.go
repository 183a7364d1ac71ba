package sync

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/scheduler"
)

// Bounds of what a job may say of itself.
const (
	maxLines = 1000
	maxText  = 4 << 10
	maxError = 16 << 10
)

// job is one job. Everything in it is guarded by the scheduler's mutex.
type job struct {
	pack   *pack
	status scheduler.Status
	after  []*dependency
	blocks []*job // those that depend on it
	lines  []scheduler.Line
	done   chan struct{} // closed when it has ended

	cancel  context.CancelCauseFunc // of the attempts; nil before the first and after the last
	cause   error                   // why it is being cancelled
	running bool                    // its goroutine exists; it holds its queue
	backoff bool                    // it is between two attempts

	children map[*pack]struct{} // packages that its handler has submitted and waits for
	awaits   map[*job]int       // jobs that its handler waits for
}

type dependency struct {
	on *job
	scheduler.Dependency
}

// now is the job's status as it is at this moment.
func (j *job) now() scheduler.Status {
	st := j.status
	if st.State == scheduler.Waiting {
		st.Waiting = j.waitsFor()
	}
	return st
}

// waitsFor says in words why a job does not run.
func (j *job) waitsFor() string {
	if j.backoff {
		return j.status.Waiting
	}
	for _, d := range j.after {
		if !d.on.status.State.Ended() {
			return "waiting for job " + d.on.status.ID
		}
	}
	if q := j.pack.s.queues[j.status.Queue]; q != nil {
		if q.holder != nil && q.holder != j {
			return "waiting for job " + q.holder.status.ID + " of queue " + j.status.Queue
		}
		if n := q.next(); n != nil && n != j {
			return "waiting for its turn in queue " + j.status.Queue
		}
	}
	return "waiting for others of its package"
}

// ready reports whether all that it depends on has ended well enough.
func (j *job) ready() bool {
	for _, d := range j.after {
		if !d.on.status.State.Ended() {
			return false
		}
	}
	return true
}

func (j *job) idempotency() [2]string { return [2]string{j.status.Trail.Source, j.status.Key} }

func (j *job) stopsWaiting(on *job) {
	if j.awaits[on]--; j.awaits[on] <= 0 {
		delete(j.awaits, on)
	}
}

// log adds a line.
func (j *job) log(at time.Time, text string) {
	text = cut(strings.TrimRight(text, "\n"), maxText)
	switch n := len(j.lines); {
	case n > maxLines:
		return
	case n == maxLines:
		text = "further lines are not kept"
	}
	j.lines = append(j.lines, scheduler.Line{At: at, Attempt: j.status.Attempt, Text: text})
}

func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// queue holds the jobs of one queue that have not ended, in the order in which
// they are to run.
type queue struct {
	jobs   []*job
	holder *job // runs, or is in backoff
}

// add puts a job at its place: an urgent one before those that wait and are
// not, any other at the end. It returns those that are overtaken.
func (q *queue) add(j *job) (overtaken []*job) {
	at := len(q.jobs)
	if j.status.Urgent {
		at = 0
		for i, o := range q.jobs {
			if o != q.holder && o.status.Urgent {
				at = i + 1
			}
		}
		for i, o := range q.jobs {
			if o == q.holder && o.backoff || o != q.holder && i >= at {
				overtaken = append(overtaken, o)
			}
		}
	}
	q.jobs = slices.Insert(q.jobs, at, j)
	return overtaken
}

// next is the job whose turn it is, nil if the queue is held or empty. A job
// that waits for a dependency does not hold up those behind it.
func (q *queue) next() *job {
	if q.holder != nil {
		return nil
	}
	for _, j := range q.jobs {
		if j.ready() {
			return j
		}
	}
	return nil
}

func (q *queue) remove(j *job) {
	if q.holder == j {
		q.holder = nil
	}
	if i := slices.Index(q.jobs, j); i >= 0 {
		q.jobs = slices.Delete(q.jobs, i, i+1)
	}
}

// circle looks for a way on which start waits for itself, and describes it.
func circle(start *job) string {
	seen := map[*job]bool{}
	var path []string
	var visit func(j *job) bool
	visit = func(j *job) bool {
		for _, to := range j.waits() {
			if to == start {
				path = append(path, j.status.ID)
				return true
			}
			if seen[to] {
				continue
			}
			seen[to] = true
			if visit(to) {
				path = append(path, j.status.ID)
				return true
			}
		}
		return false
	}
	if !visit(start) {
		return ""
	}
	slices.Reverse(path)
	if len(path) > 8 {
		path = append(path[:8], "…")
	}
	return strings.Join(append(path, start.status.ID), " waits for ")
}

// waits lists the jobs that have to end, or at least go on, before j can.
func (j *job) waits() (list []*job) {
	if j.status.State.Ended() {
		return nil
	}
	for k := range j.children {
		list = append(list, k.jobs...)
	}
	for on := range j.awaits {
		list = append(list, on)
	}
	if j.running {
		return list
	}
	for _, d := range j.after {
		list = append(list, d.on)
	}
	if q := j.pack.s.queues[j.status.Queue]; q != nil {
		if q.holder != nil {
			list = append(list, q.holder)
		}
		for _, o := range q.jobs {
			if o == j {
				break
			}
			if o.ready() { // one that waits for a dependency holds up nobody
				list = append(list, o)
			}
		}
	}
	return list
}
