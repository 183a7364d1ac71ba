package schedulertest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// world is the model of a scheduler: lists, and loops over them.
type world struct {
	at     time.Time
	since  time.Time // what happened until then was done
	jobs   []*worldJob
	queues map[string]*worldQueue
	heads  int // how often a job was put at the head of its queue
}

type worldQueue struct {
	name   string
	paused bool
	token  trail.Token
	last   *worldJob // that began
}

type worldJob struct {
	id        string
	job       scheduler.Job
	remote    bool
	urgent    bool
	state     scheduler.State
	attempt   int
	failed    int
	lost      int
	token     trail.Token
	until     time.Time       // of its lease
	notBefore time.Time       // the end of its backoff
	cancelled bool            // its worker is to stop
	skipped   bool            // its dependents went on
	head      int             // the greater the nearer to the head
	met       map[string]bool // dependencies whose end it has accepted
}

func (m *world) queue(name string) *worldQueue {
	if m.queues[name] == nil {
		m.queues[name] = &worldQueue{name: name}
	}
	return m.queues[name]
}

func (m *world) job(id string) *worldJob {
	for _, j := range m.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

func (m *world) in(states ...scheduler.State) (found []*worldJob) {
	for _, j := range m.jobs {
		if slices.Contains(states, j.state) {
			found = append(found, j)
		}
	}
	return found
}

func (m *world) submit(list []*worldJob) {
	for _, j := range list {
		if j.urgent {
			for _, o := range m.jobs {
				if o.job.Queue == j.job.Queue && o.job.Action == "start" && o.state == scheduler.Waiting {
					m.end(o, scheduler.Cancelled)
				}
			}
		}
		m.jobs = append(m.jobs, j)
	}
	m.settle()
}

// settle ends those that can never begin.
func (m *world) settle() {
	for again := true; again; {
		again = false
		for _, j := range m.in(scheduler.Waiting) {
			for _, d := range j.job.After {
				switch on := m.job(d.ID); {
				case !on.state.Ended() || j.met[d.ID]:
				case on.skipped || d.Accepts(on.state):
					j.met[d.ID] = true // also if it is brought back later
				case j.state == scheduler.Waiting:
					j.state = scheduler.Cancelled
					again = true
				}
			}
		}
	}
}

func (m *world) end(j *worldJob, s scheduler.State) {
	j.state = s
	m.settle()
}

// broke is an attempt that failed.
func (m *world) broke(j *worldJob, final bool) {
	j.failed++
	switch {
	case !final && j.failed < j.job.Retry.Attempts:
		j.state, j.notBefore = scheduler.Waiting, m.at.Add(j.job.Retry.Delay(j.failed, 0))
	case j.job.Retry.Park:
		m.end(j, scheduler.Parked)
	default:
		m.end(j, scheduler.Failed)
	}
}

// lost is a lease that ran out.
func (m *world) lost(j *worldJob) {
	j.lost++
	switch {
	case j.cancelled:
		m.end(j, scheduler.Cancelled)
	case j.lost < maxLost:
		j.state = scheduler.Waiting
	case j.job.Retry.Park:
		m.end(j, scheduler.Parked)
	default:
		m.end(j, scheduler.Failed)
	}
}

// nextEvent is the first thing that time does until then: the end of a lease or a
// backoff, or the expiry of a job.
func (m *world) nextEvent(end time.Time) (next *worldJob, when time.Time) {
	see := func(j *worldJob, at time.Time) {
		if at.Before(m.since) {
			at = m.since // one that comes back from its worker when its time is over
		}
		if !at.After(end) && (next == nil || at.Before(when)) {
			next, when = j, at
		}
	}
	for _, j := range m.in(scheduler.Running, scheduler.Waiting) {
		switch {
		case j.state == scheduler.Running && j.remote:
			see(j, j.until)
		case j.state == scheduler.Waiting && !j.job.Expires.IsZero():
			see(j, j.job.Expires)
		}
		if j.state == scheduler.Waiting && j.notBefore.After(m.since) {
			see(j, j.notBefore)
		}
	}
	return next, when
}

func (m *world) retry(j *worldJob) {
	m.heads++
	j.state, j.failed, j.lost, j.head, j.notBefore, j.cancelled = scheduler.Waiting, 0, 0, m.heads, time.Time{}, false
	j.job.Expires = time.Time{} // an operator wants it now
	m.settle()
}

// busy reports whether a job of the queue runs.
func (m *world) busy(queue string) bool {
	return slices.ContainsFunc(m.in(scheduler.Running), func(j *worldJob) bool { return j.job.Queue == queue })
}

// accepted reports whether somebody who has not ended has accepted the end of
// the job, or the job itself that of one that was brought back since.
func (m *world) accepted(j *worldJob) bool {
	for _, d := range j.job.After {
		if j.met[d.ID] && !m.job(d.ID).state.Ended() {
			return true
		}
	}
	return slices.ContainsFunc(m.jobs, func(o *worldJob) bool { return o.met[j.id] && !o.state.Ended() })
}

// reopened gives jobs back that ran in the process, and lets leases begin anew.
func (m *world) reopened() {
	for _, j := range m.in(scheduler.Running) {
		if j.remote {
			j.until = m.at.Add(lease)
		} else {
			j.state = scheduler.Waiting
		}
	}
}

func (m *world) blockedBy(j *worldJob) *worldJob {
	for _, d := range j.job.After {
		if on := m.job(d.ID); !j.met[d.ID] {
			return on
		}
	}
	return nil
}

// short is a limit of which the job can get no slot.
func (m *world) short(j *worldJob) string {
	for _, name := range j.job.Limits {
		taken := 0
		for _, o := range m.in(scheduler.Running) {
			if slices.Contains(o.job.Limits, name) {
				taken++
			}
		}
		if taken >= standard().Limits[name].Slots {
			return name
		}
	}
	return ""
}

// sequence is a way to choose the next job of a queue. Whether a job that an operator
// put at the head is overtaken by an urgent one, and whether one that comes back
// from its worker is overtaken by those that came meanwhile, is left open.
type sequence int

const (
	headFirst sequence = iota
	urgentFirst
	holderFirst
)

func sequences() []sequence { return []sequence{headFirst, urgentFirst, holderFirst} }

// first is the job of the queue that is next, nil if one runs or all are
// blocked.
func (m *world) first(queue string, o sequence) *worldJob {
	var list []*worldJob
	for _, j := range m.jobs {
		if j.job.Queue != queue {
			continue
		}
		if j.state == scheduler.Running {
			return nil
		}
		if j.state == scheduler.Waiting && m.blockedBy(j) == nil {
			list = append(list, j)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if last := m.queue(queue).last; o == holderFirst && slices.Contains(list, last) {
		return last
	}
	return slices.MinFunc(list, func(a, b *worldJob) int {
		urgent, head := boolean(b.urgent)-boolean(a.urgent), cmp.Compare(b.head, a.head)
		if o == urgentFirst {
			return cmp.Or(urgent, head)
		}
		return cmp.Or(head, urgent)
	}) // among equals the first
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// eligible are the jobs that may begin now.
func (m *world) eligible() (list []*worldJob) {
	for _, name := range worldQueues() {
		for _, o := range sequences() {
			j := m.first(name, o)
			if j != nil && !m.queue(name).paused && !j.notBefore.After(m.at) && m.short(j) == "" && !slices.Contains(list, j) {
				list = append(list, j)
			}
		}
	}
	return list
}

// sure reports whether the job may begin and nobody of its queue may instead.
func (m *world) sure(j *worldJob) bool {
	return !slices.ContainsFunc(sequences(), func(o sequence) bool { return m.first(j.job.Queue, o) != j })
}

// why is what keeps a job from beginning, for people.
func (m *world) why(j *worldJob) string {
	var words []string
	add := func(is bool, what string) {
		if is {
			words = append(words, what)
		}
	}
	on := m.blockedBy(j)
	add(j.state != scheduler.Waiting, "it is "+string(j.state))
	add(on != nil, "it is blocked")
	add(m.queue(j.job.Queue).paused, "its queue is paused")
	add(j.notBefore.After(m.at), "it is in backoff")
	add(m.short(j) != "", "there is no slot of "+m.short(j))
	if first := m.first(j.job.Queue, headFirst); first != j && first != nil {
		add(true, "before it comes "+first.id)
	}
	return strings.Join(words, ", ")
}

// compare looks at every job, queue and limit.
func (p *player) compare() {
	m := p.m
	for _, j := range m.jobs {
		st := p.status(j.id)
		if st.State != j.state || st.Attempt != j.attempt || st.Failed != j.failed && j.state == scheduler.Waiting {
			p.fail("job %s is %s (%s %s), attempt %d, failed %d, lost %d; want %s, %d, %d, %d", j.id, st.State, st.Waiting, st.Error, st.Attempt, st.Failed, st.Lost,
				j.state, j.attempt, j.failed, j.lost)
			return
		}
		if want := m.reason(j); !strings.Contains(st.Waiting, want) {
			p.fail("job %s says %q, want something with %s (%s)", j.id, st.Waiting, want, m.why(j))
		}
	}
	for _, j := range m.eligible() {
		if !j.remote && m.sure(j) {
			p.fail("%s does not begin although nothing is in its way", j.id)
		}
	}
	for _, name := range worldQueues() {
		p.compareQueue(name)
	}
	limits, err := p.queues.Limits(context.Background())
	if err != nil {
		p.fail("limits: %v", err)
	}
	for _, l := range limits {
		taken := 0
		for _, j := range m.in(scheduler.Running) {
			taken += boolean(slices.Contains(j.job.Limits, l.Name))
		}
		if l.Taken != taken {
			p.fail("of the limit %s %d slots are taken, want %d", l.Name, l.Taken, taken)
		}
	}
}

func (p *player) compareQueue(name string) {
	st, err := p.queues.Queue(context.Background(), name)
	if err != nil {
		p.fail("queue %s: %v", name, err)
		return
	}
	want := scheduler.QueueStatus{Mode: scheduler.Open}
	if p.m.queue(name).paused {
		want.Mode = scheduler.Paused
	}
	for _, j := range p.m.jobs {
		if j.job.Queue != name {
			continue
		}
		switch j.state {
		case scheduler.Waiting:
			want.Depth++
			want.Blocked += boolean(p.m.blockedBy(j) != nil)
		case scheduler.Parked:
			want.Parked++
		case scheduler.Running:
			want.Running = j.id
		}
	}
	if got := fmt.Sprint(st.Mode, st.Depth, st.Blocked, st.Parked, st.Running); got != fmt.Sprint(want.Mode, want.Depth, want.Blocked, want.Parked, want.Running) {
		p.fail("the queue %s says %+v, want mode, depth, blocked, parked and running of %+v", name, st, want)
	}
}

// reason is a word that the job must say it waits for, where it can only be
// this.
func (m *world) reason(j *worldJob) string {
	open := !m.queue(j.job.Queue).paused
	switch on := m.blockedBy(j); {
	case j.state != scheduler.Waiting:
		return ""
	case on != nil:
		if open && len(j.job.After) == 1 {
			return on.id
		}
	case !m.sure(j):
	case !open:
		if !j.notBefore.After(m.at) && m.short(j) == "" {
			return "paused"
		}
	case j.notBefore.After(m.at):
		return "attempt"
	case len(j.job.Limits) == 1:
		return m.short(j)
	}
	return ""
}
