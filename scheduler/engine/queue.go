package engine

import (
	"github.com/vagoth/vagoth/scheduler"
)

// queue holds the jobs of one queue that have not ended and are not parked: all
// of them in a list, in the order submitted, and in a heap those that nothing
// but their turn keeps. One that is blocked costs the others nothing.
type queue struct {
	name   string
	cfg    QueueConfig
	holder *job // the job that is handed out
	ready  []*job
	first  *job
	last   *job

	waiting    int  // in the list, without the holder
	urgent     int  // of those
	moved      int  // of those: stand where a retry has put them
	blocked    int  // of those
	blockedAll *int // the sum over all queues
	parked     int
	newest     *job // of all that are known of it, also of those that have ended

	base int64 // urgent jobs stand at base and their number

	mode   scheduler.QueueMode // as an operator set it; empty leaves it to the configuration
	reason string

	bucket bucket // of its rate
	timer  *timer // end of a backoff, or the next hand-out that its rate allows

	key     int64 // the place of its next job when it came into the heaps it is in
	dirty   bool
	busy    int        // place among the queues that are not idle, -1 outside
	lane    int32      // place in its lane's heap, -1 outside
	byHead  int32      // place in the heap of its next job's action
	head    *queueHeap // that heap, if it is in the lane of workers outside
	wants   []string   // the limits that its next job takes, while it is in a lane
	waits   *limit     // it waits for a slot
	waitsIn *queueHeap // among these
	waitPos int32
}

// modeNow is what the queue does.
func (q *queue) modeNow() scheduler.QueueMode {
	switch {
	case q.mode != "":
		return q.mode
	case q.cfg.Paused:
		return scheduler.Paused
	}
	return scheduler.Open
}

func (q *queue) reasonNow() string {
	if q.mode == "" && q.cfg.Paused {
		return q.cfg.Reason
	}
	return q.reason
}

// idle reports whether the queue has nothing to do. It is forgotten once the last
// job that it had is, too.
func (q *queue) idle() bool {
	return q.first == nil && q.holder == nil && q.parked == 0 && q.mode == ""
}

// urgentBase is far before the places of all jobs that are not urgent, which are
// their numbers, and urgentRoom is how many urgent jobs may follow each other.
const (
	urgentBase = -1 << 61
	urgentRoom = 1 << 40
)

// urgentPlace is where an urgent job would stand: behind the urgent ones that
// wait, before all others.
func (q *queue) urgentPlace(seq uint64) int64 {
	base := q.base
	if q.urgent == 0 {
		base = urgentBase
		if q.moved > 0 {
			base = min(base, q.lowest()-urgentRoom-int64(seq))
		}
	}
	return base + int64(seq)
}

// lowest is the first place that a job that waits has.
func (q *queue) lowest() int64 {
	low := int64(1)
	for j := q.first; j != nil; j = j.next {
		if j.state == waiting {
			low = min(low, j.place)
		}
	}
	return low
}

// link puts a job at its place in the list, which is by submission.
func (q *queue) link(j *job) {
	after := q.last
	for after != nil && after.seq > j.seq {
		after = after.prev // one that is brought back by a retry
	}
	j.prev = after
	if after == nil {
		j.next, q.first = q.first, j
	} else {
		j.next, after.next = after.next, j
	}
	if j.next == nil {
		q.last = j
	} else {
		j.next.prev = j
	}
}

func (q *queue) unlink(j *job) {
	if j.prev == nil {
		q.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		q.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
}

// enter adds a waiting job.
func (q *queue) enter(j *job) {
	q.link(j)
	q.count(j, 1)
	if j.blockers == 0 {
		q.push(j)
	}
}

// leave takes a job out, wherever it stands.
func (q *queue) leave(j *job) {
	q.unlink(j)
	if q.holder == j {
		q.holder = nil
		return
	}
	q.count(j, -1)
	if j.pos >= 0 {
		q.drop(j)
	}
}

func (q *queue) count(j *job, by int) {
	q.waiting += by
	if j.moved {
		q.moved += by
	} else if j.urgent {
		if base := j.place - int64(j.seq); by > 0 && (q.urgent == 0 || base > q.base) {
			q.base = base // also of one that comes back
		}
		q.urgent += by
	}
	if j.blockers > 0 {
		q.blocked += by
		*q.blockedAll += by
	}
}

// unblock is called when the last dependency of a job has ended.
func (q *queue) unblock(j *job) {
	q.blocked--
	*q.blockedAll--
	q.push(j)
}

// take makes a ready job the holder.
func (q *queue) take(j *job) {
	q.count(j, -1)
	if j.pos >= 0 {
		q.drop(j)
	}
	q.holder = j
}

// giveBack makes the holder a waiting job again, at its old place.
func (q *queue) giveBack(j *job) {
	q.holder = nil
	q.count(j, 1)
	q.push(j)
}

// The heap of ready jobs, the next one first.

func (q *queue) push(j *job) {
	j.pos = int32(len(q.ready))
	q.ready = append(q.ready, j)
	q.up(int(j.pos))
}

func (q *queue) drop(j *job) {
	i, n := int(j.pos), len(q.ready)-1
	q.ready[i] = q.ready[n]
	q.ready[i].pos = int32(i)
	q.ready[n] = nil
	q.ready = q.ready[:n]
	j.pos = -1
	if i < n {
		q.up(i)
		q.down(i)
	}
	if cap(q.ready) > 64 && n < cap(q.ready)/4 {
		q.ready = append(make([]*job, 0, n*2), q.ready...)
	}
}

func (q *queue) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if q.ready[p].place <= q.ready[i].place {
			return
		}
		q.swap(p, i)
		i = p
	}
}

func (q *queue) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(q.ready) {
			return
		}
		if c+1 < len(q.ready) && q.ready[c+1].place < q.ready[c].place {
			c++
		}
		if q.ready[i].place <= q.ready[c].place {
			return
		}
		q.swap(i, c)
		i = c
	}
}

func (q *queue) swap(a, b int) {
	q.ready[a], q.ready[b] = q.ready[b], q.ready[a]
	q.ready[a].pos, q.ready[b].pos = int32(a), int32(b)
}
