package agent

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// guest finds a guest, or nil.
func (s *store) guest(id string) *guest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.guests[id]
}

// guestList is the JSON of all guests, ordered by id.
func (s *store) guestList() []byte {
	s.mu.RLock()
	all := s.all
	s.mu.RUnlock()
	if all != nil {
		return all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != nil {
		return s.all
	}
	size := 3
	for _, g := range s.guests {
		size += len(g.answer()) + 1
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteByte('[')
	for i, id := range s.order {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(s.guests[id].answer())
	}
	b.WriteString("]\n")
	s.all = b.Bytes()
	return s.all
}

// job finds a job, or nil.
func (s *store) job(id string) *state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.jobs[id]; e != nil {
		return e.now
	}
	return nil
}

// await waits for a job's end, or until ctx ends or stop is closed, and gives
// what is known of it then; nil if there is no such job.
func (s *store) await(ctx context.Context, id string, stop <-chan struct{}) *state {
	s.mu.Lock()
	e := s.jobs[id]
	if e == nil || e.now.Status.Ended() {
		s.mu.Unlock()
		if e == nil {
			return nil
		}
		return e.now
	}
	if e.done == nil {
		e.done = make(chan struct{})
	}
	done := e.done
	s.mu.Unlock()
	select {
	case <-done:
	case <-stop:
	case <-ctx.Done():
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return e.now
}

// latest lists jobs, the newest first: those of a queue, or all if it is empty.
func (s *store) latest(queue string, limit int) []mistify.Job {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from := s.byTime
	if queue != "" {
		q := s.queues[queue]
		if q == nil {
			return []mistify.Job{}
		}
		from = q.all
	}
	jobs := make([]mistify.Job, 0, max(0, min(limit, from.Len())))
	for e := from.Back(); e != nil && len(jobs) < limit; e = e.Prev() {
		jobs = append(jobs, value(e).now.Job)
	}
	return jobs
}

// head is the job of a queue that is next, or runs; nil if there is none.
func (s *store) head(queue string) *state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if q := s.queues[queue]; q != nil && q.waiting.Len() > 0 {
		return value(q.waiting.Front()).now
	}
	return nil
}

// waiting lists the jobs of a queue that have not ended, in order.
func (s *store) waiting(queue string) []*state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	q := s.queues[queue]
	if q == nil {
		return nil
	}
	jobs := make([]*state, 0, q.waiting.Len())
	for e := q.waiting.Front(); e != nil; e = e.Next() {
		jobs = append(jobs, value(e).now)
	}
	return jobs
}

// lengths gives how many jobs have not ended, of a queue and of all.
func (s *store) lengths(queue string) (own, all int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if q := s.queues[queue]; q != nil {
		own = q.waiting.Len()
	}
	return own, s.open
}

// busy lists the queues that have jobs which have not ended.
func (s *store) busy() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name, q := range s.queues {
		if q.waiting.Len() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unended gives all jobs that have not ended, as they were queued.
func (s *store) unended() []*state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var jobs []*state
	for e := s.byTime.Front(); e != nil; e = e.Next() {
		if st := value(e).now; !st.Status.Ended() {
			jobs = append(jobs, st)
		}
	}
	return jobs
}

func (s *store) token(id string) trail.Token {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fences[id]
}

// metadata is a copy of the host's.
func (s *store) metadata() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.meta)
}

func (s *store) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.guests)
}
