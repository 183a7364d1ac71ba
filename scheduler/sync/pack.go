package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// pack is a package whose caller is in Submit.
type pack struct {
	s      *Scheduler
	jobs   []*job
	open   int           // jobs that have not ended
	slots  int           // jobs that run, apart from those in backoff or waiting for what they submitted
	wake   chan struct{} // holds one wake-up
	parent *job          // the job whose handler submitted it
	work   gosync.WaitGroup
}

type callerKey struct{}

// caller is the job in whose handler ctx is, if it is one of this scheduler.
func (s *Scheduler) caller(ctx context.Context) *job {
	if j, ok := ctx.Value(callerKey{}).(*job); ok && j.pack.s == s {
		return j
	}
	return nil
}

// take puts the jobs of p into their queues, or finds those that an earlier
// submission with the same keys has made.
func (s *Scheduler) take(ctx context.Context, p scheduler.Package) (*pack, []*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, scheduler.ErrClosed
	}
	if earlier, err := s.sameKeys(p); err != nil || earlier != nil {
		return nil, earlier, err
	}
	k := &pack{s: s, open: len(p.Jobs), wake: make(chan struct{}, 1), parent: s.caller(ctx)}
	at, inside := s.now(), make(map[string]*job, len(p.Jobs))
	for _, j := range p.Jobs {
		if _, ok := s.jobs[j.ID]; ok {
			return nil, nil, fmt.Errorf("%w: there is a job with the ID %s already", scheduler.ErrConflict, j.ID)
		}
		n := &job{pack: k, done: make(chan struct{}), children: map[*pack]struct{}{}, awaits: map[*job]int{},
			status: scheduler.Status{Job: j, Package: p.ID, State: scheduler.Waiting, SubmittedAt: at}}
		k.jobs = append(k.jobs, n)
		inside[j.ID] = n
	}
	for i, j := range k.jobs {
		for _, d := range j.status.After {
			on, ok := inside[d.ID]
			if !ok {
				on, ok = s.jobs[d.ID]
			}
			if !ok {
				return nil, nil, fmt.Errorf("%w: job %d (%s) depends on job %q, which is not known (any more)", scheduler.ErrInvalid, i, j.status.Action, d.ID)
			}
			j.after = append(j.after, &dependency{on: on, Dependency: d})
		}
	}
	overtaken, err := s.enqueue(k)
	if err != nil {
		return nil, nil, err
	}
	for _, j := range k.jobs {
		s.jobs[j.status.ID] = j
		s.order = append(s.order, j)
		if j.status.Key != "" {
			s.keys[j.idempotency()] = j
		}
		for _, d := range j.after {
			d.on.blocks = append(d.on.blocks, j)
		}
	}
	s.callers.Add(1)
	for _, o := range overtaken {
		s.supersede(o.job, o.by)
	}
	for _, j := range k.jobs {
		for _, d := range j.after {
			if st := d.on.status.State; st.Ended() && !d.Accepts(st) {
				s.blocked(j, d.on)
				break
			}
		}
	}
	return k, nil, nil
}

type overtaken struct{ job, by *job }

// enqueue puts the jobs into their queues, and takes them out again if one of
// them would wait for itself.
func (s *Scheduler) enqueue(k *pack) (passed []overtaken, err error) {
	for _, j := range k.jobs {
		q := s.queues[j.status.Queue]
		if q == nil {
			q = &queue{}
			s.queues[j.status.Queue] = q
		}
		for _, o := range q.add(j) {
			if !j.status.KeepQueued {
				passed = append(passed, overtaken{o, j})
			}
		}
	}
	if k.parent == nil {
		return passed, nil // nobody waits for these but from outside
	}
	k.parent.children[k] = struct{}{}
	if chain := circle(k.parent); chain != "" {
		delete(k.parent.children, k)
		for _, j := range k.jobs {
			s.leave(j)
		}
		return nil, fmt.Errorf("%w: job %s would wait for itself, as it holds the queue %s: %s: let another job do it, after this one",
			scheduler.ErrInvalid, k.parent.status.ID, k.parent.status.Queue, chain)
	}
	return passed, nil
}

// leave takes a job out of its queue.
func (s *Scheduler) leave(j *job) {
	q := s.queues[j.status.Queue]
	if q == nil {
		return
	}
	q.remove(j)
	if len(q.jobs) == 0 {
		delete(s.queues, j.status.Queue)
	}
}

// sameKeys finds the jobs of an earlier submission with the same idempotency
// keys and content; other content is a conflict.
func (s *Scheduler) sameKeys(p scheduler.Package) ([]*job, error) {
	var earlier []*job
	for _, j := range p.Jobs {
		known := s.keys[[2]string{j.Trail.Source, j.Key}]
		if j.Key == "" || known == nil {
			continue
		}
		if !sameContent(known.status.Job, j) {
			return nil, fmt.Errorf("%w: the idempotency key %q of %q is that of job %s, which says something else: use another key",
				scheduler.ErrConflict, j.Key, j.Trail.Source, known.status.ID)
		}
		earlier = append(earlier, known)
	}
	if len(earlier) > 0 && len(earlier) < len(p.Jobs) {
		return nil, fmt.Errorf("%w: some of the package's jobs are known by their idempotency keys, others are not: submit the same package, or other keys", scheduler.ErrConflict)
	}
	return earlier, nil
}

// sameContent compares what two submitters wanted, whoever they are and
// whatever the jobs are called.
func sameContent(a, b scheduler.Job) bool {
	return a.Queue == b.Queue && a.Action == b.Action && a.Params == b.Params && len(a.After) == len(b.After) &&
		a.Timeout == b.Timeout && a.Expires.Equal(b.Expires) && a.Retry == b.Retry &&
		a.Urgent == b.Urgent && a.KeepQueued == b.KeepQueued
}

// drive looks after the package until all of it has ended.
func (k *pack) drive(ctx context.Context) {
	s := k.s
	defer k.work.Wait()
	if k.parent != nil {
		s.mu.Lock()
		k.parent.pack.slots-- // its handler waits here
		k.parent.pack.nudge()
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			k.parent.pack.slots++
			delete(k.parent.children, k)
			s.mu.Unlock()
		}()
	}
	gone := ctx.Done()
	for {
		s.mu.Lock()
		next := k.begin(ctx)
		open := k.open
		s.mu.Unlock()
		if open == 0 {
			return
		}
		var expiry <-chan time.Time
		var timer *time.Timer
		if next > 0 {
			timer = time.NewTimer(next)
			expiry = timer.C
		}
		select {
		case <-k.wake:
		case <-expiry:
		case <-gone:
			gone = nil
			s.mu.Lock()
			for _, j := range k.jobs {
				if !j.status.State.Ended() {
					s.cancel(j, fmt.Errorf("its caller has gone: %w", context.Cause(ctx)))
				}
			}
			s.mu.Unlock()
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// begin starts what can start, ends what has expired, and returns when the next
// job expires, 0 if none does.
func (k *pack) begin(ctx context.Context) (next time.Duration) {
	s, at := k.s, k.s.now()
	for _, j := range k.jobs {
		if j.running || j.status.State.Ended() {
			continue
		}
		if e := j.status.Expires; !e.IsZero() {
			left := e.Sub(at)
			if left <= 0 {
				s.end(j, scheduler.Expired, errors.New("it did not begin before "+e.Format(time.RFC3339)))
				continue
			}
			if next == 0 || left < next {
				next = left
			}
		}
		if ctx.Err() != nil || k.slots >= s.cfg.Parallel {
			continue
		}
		if q := s.queues[j.status.Queue]; q.next() == j {
			q.holder, j.running = j, true
			k.slots++
			attempts, cancel := context.WithCancelCause(context.WithValue(ctx, callerKey{}, j))
			j.cancel = cancel
			k.work.Go(func() {
				defer s.lost(j)
				s.run(attempts, j)
			})
		}
	}
	return next
}

// nudge wakes the package's caller.
func (k *pack) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *pack) statuses() []scheduler.Status {
	list := make([]scheduler.Status, len(k.jobs))
	for i, j := range k.jobs {
		list[i] = j.now()
	}
	return list
}

// end gives a job its end, and ends or wakes those that waited for it.
func (s *Scheduler) end(j *job, state scheduler.State, err error) {
	if j.status.State.Ended() {
		return
	}
	j.status.State, j.status.EndedAt, j.status.Waiting, j.status.Overdue, j.status.Error = state, s.now(), "", false, ""
	if err != nil {
		j.status.Error = cut(err.Error(), maxError)
		j.status = j.status.WithErr(err)
	}
	close(j.done)
	s.leave(j)
	j.pack.open--
	s.ended++
	if j.running {
		j.running = false
		if !j.backoff {
			j.pack.slots--
		}
	}
	j.pack.nudge()
	if q := s.queues[j.status.Queue]; q != nil {
		if n := q.next(); n != nil {
			n.pack.nudge()
		}
	}
	blocks := j.blocks
	j.after, j.blocks = nil, nil // keep no chain of jobs that are to be forgotten
	for _, d := range blocks {
		s.settle(d, j)
	}
	s.forget()
}

// settle tells a job that one that it depends on has ended.
func (s *Scheduler) settle(j, on *job) {
	if j.status.State.Ended() {
		return
	}
	for _, d := range j.after {
		if d.on == on && !d.Accepts(on.status.State) {
			s.blocked(j, on)
			return
		}
	}
	if q := s.queues[j.status.Queue]; j.ready() && q != nil {
		if n := q.next(); n != nil {
			n.pack.nudge()
		}
	}
}

// blocked ends a job that can never begin.
func (s *Scheduler) blocked(j, on *job) {
	j.status.Cause = on.status.ID
	s.end(j, scheduler.Cancelled, &blockedError{on: on.status})
}

// blockedError is the end of a job because of the end of another.
type blockedError struct{ on scheduler.Status }

func (e *blockedError) Error() string {
	return fmt.Sprintf("it depends on job %s (%s), which %s", e.on.ID, e.on.Action, e.on.State)
}

// supersede cancels a job that lost its sense when an urgent one overtook it.
func (s *Scheduler) supersede(j, by *job) {
	if !s.actions[j.status.Action].Superseded || j.status.State.Ended() {
		return
	}
	j.status.Cause = by.status.ID
	s.cancel(j, fmt.Errorf("superseded by job %s (%s)", by.status.ID, by.status.Action))
}

// cancel ends a job that waits, and tells one that runs.
func (s *Scheduler) cancel(j *job, why error) {
	if !j.running {
		s.end(j, scheduler.Cancelled, why)
		return
	}
	if j.cause == nil {
		j.cause = why
		j.cancel(why)
	}
}
