package schedulertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/scheduler"
)

// plan is a list of things to do, drawn before they are done.
type plan []deed

type deed struct {
	jobs    []planned // a package, or
	release int       // let one of those that run end
	fail    bool      // … by failing
	cancel  int       // cancel one of those that have not ended
	kind    int       // 0 submits, 1 releases, 2 cancels
}

type planned struct {
	queue  int
	action int // an index into planActions
	after  []int
	accept bool // the dependencies' every end
}

func planActions() []string { return []string{"gate", "gate", "start", "stop"} }

func drawPlan() *rapid.Generator[plan] {
	return rapid.Custom(func(t *rapid.T) plan {
		var p plan
		jobs := 0
		for range rapid.IntRange(1, 25).Draw(t, "deeds") {
			d := deed{kind: rapid.SampledFrom([]int{0, 0, 1, 1, 1, 2}).Draw(t, "kind")}
			d.release = rapid.IntRange(0, 9).Draw(t, "which")
			d.cancel = d.release
			d.fail = rapid.IntRange(0, 3).Draw(t, "fail") == 0
			if d.kind == 0 {
				for range rapid.IntRange(1, 3).Draw(t, "jobs") {
					j := planned{queue: rapid.IntRange(0, 2).Draw(t, "queue"), action: rapid.IntRange(0, 3).Draw(t, "action"), accept: rapid.Bool().Draw(t, "accept")}
					if jobs > 0 {
						j.after = rapid.SliceOfNDistinct(rapid.IntRange(max(0, jobs-6), jobs-1), 0, 2, rapid.ID[int]).Draw(t, "after")
					}
					d.jobs = append(d.jobs, j)
					jobs++
				}
			}
			p = append(p, d)
		}
		return p
	})
}

// modelJob is a job of the naive model.
type modelJob struct {
	id     string
	queue  string
	action string
	urgent bool
	after  []scheduler.Dependency
	state  scheduler.State
}

// naive keeps the promises in the most obvious way: lists, and loops over them.
type naive struct {
	jobs   []*modelJob
	queues map[string][]*modelJob
}

func (m *naive) job(id string) *modelJob {
	i := slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.id == id })
	return m.jobs[i]
}

func (m *naive) submit(list []*modelJob) {
	for _, j := range list {
		j.state = scheduler.Waiting
		m.jobs = append(m.jobs, j)
		q := m.queues[j.queue]
		at := len(q)
		if j.urgent {
			at = 0
			for i, o := range q {
				if o.urgent && o.state == scheduler.Waiting {
					at = i + 1
				}
			}
			for _, o := range q[at:] {
				if o.action == "start" && o.state == scheduler.Waiting {
					o.state = scheduler.Cancelled
				}
			}
		}
		m.queues[j.queue] = slices.Insert(q, at, j)
	}
	m.settle()
}

// settle does what follows until nothing follows any more.
func (m *naive) settle() {
	for again := true; again; {
		again = false
		for _, j := range m.jobs {
			for _, d := range j.after {
				if on := m.job(d.ID); j.state == scheduler.Waiting && on.state.Ended() && !d.Accepts(on.state) {
					j.state = scheduler.Cancelled
					again = true
				}
			}
		}
	}
	for name, q := range m.queues {
		q = slices.DeleteFunc(q, func(j *modelJob) bool { return j.state.Ended() })
		m.queues[name] = q
		if slices.ContainsFunc(q, func(j *modelJob) bool { return j.state == scheduler.Running }) {
			continue
		}
		for _, j := range q {
			if !slices.ContainsFunc(j.after, func(d scheduler.Dependency) bool { return !m.job(d.ID).state.Ended() }) {
				j.state = scheduler.Running
				break
			}
		}
	}
}

func (m *naive) end(id string, s scheduler.State) {
	m.job(id).state = s
	m.settle()
}

func (m *naive) in(states ...scheduler.State) (found []string) {
	for _, j := range m.jobs {
		if slices.Contains(states, j.state) {
			found = append(found, j.id)
		}
	}
	return found
}

// model compares the scheduler with the naive one after every deed.
func model(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan().Draw(rt, "plan")
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, open)
			failure = play(b, p)
			b.close()
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func play(b *bench, p plan) string {
	m := &naive{queues: map[string][]*modelJob{}}
	canceller, cancels := b.s.(scheduler.Canceller)
	var history []string
	for _, d := range p {
		switch running, open := m.in(scheduler.Running), m.in(scheduler.Running, scheduler.Waiting); {
		case d.kind == 0:
			jobs, list := d.make(len(m.jobs))
			history = append(history, fmt.Sprintf("submit %+v", d.jobs))
			b.submit(jobs...)
			m.submit(list)
		case d.kind == 1 && len(running) > 0:
			id := running[d.release%len(running)]
			history = append(history, fmt.Sprintf("end %s (fail %t)", id, d.fail))
			if d.fail {
				b.open(id, errBoom)
				m.end(id, scheduler.Failed)
			} else {
				b.open(id, nil)
				m.end(id, scheduler.Succeeded)
			}
		case d.kind == 2 && len(open) > 0 && cancels:
			id := open[d.cancel%len(open)]
			history = append(history, "cancel "+id)
			if err := canceller.Cancel(context.Background(), id, ""); err != nil {
				return fmt.Sprintf("%s\ncannot cancel: %v", strings.Join(history, "\n"), err)
			}
			synctest.Wait()
			m.end(id, scheduler.Cancelled)
		}
		for _, j := range m.jobs {
			if st := b.status(j.id); st.State != j.state {
				return fmt.Sprintf("%s\njob %s is %s (%s %s), want %s", strings.Join(history, "\n"), j.id, st.State, st.Waiting, st.Error, j.state)
			}
		}
	}
	for q, n := range b.most {
		if n > 1 {
			return fmt.Sprintf("%d jobs of queue %s ran side by side", n, q)
		}
	}
	return ""
}

// make gives the deed's jobs names, for the scheduler and for the model.
func (d deed) make(from int) (jobs []scheduler.Job, list []*modelJob) {
	for i, p := range d.jobs {
		j := job(fmt.Sprintf("j%d", from+i), fmt.Sprintf("q%d", p.queue), planActions()[p.action])
		for _, a := range p.after {
			if a >= from+i {
				continue
			}
			dep := scheduler.Dependency{ID: fmt.Sprintf("j%d", a)}
			if p.accept {
				dep.Accept = []scheduler.State{scheduler.Succeeded, scheduler.Failed, scheduler.Cancelled, scheduler.Expired}
			}
			j.After = append(j.After, dep)
		}
		jobs = append(jobs, j)
		list = append(list, &modelJob{id: j.ID, queue: j.Queue, action: j.Action, urgent: j.Action == "stop", after: j.After})
	}
	return jobs, list
}
