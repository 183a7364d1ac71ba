package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// A crew is what works in a process that is going to be killed: submitters, the
// scheduler's own workers, and workers outside. It says on out what was
// acknowledged, one write for each line, before anybody goes on:
//
//	submitted W N              the N-th package of submitter W is taken
//	begun JOB ATTEMPT TOKEN    the job is in somebody's hands
//	left JOB                   and no longer
//	done JOB                   its end is acknowledged
//
// A package has four jobs: one for the scheduler's own workers, one for those
// outside, and one more for each, which depend on both. Each submitter has
// queues of its own for each of the four, so that their order is known.
type crew struct {
	s   scheduler.Scheduler
	b   scheduler.Broker
	out io.Writer
}

const (
	submitters  = 4
	outsiders   = 3
	packageJobs = 4
	crewBackoff = time.Millisecond
)

func crewSettings(boot string) Settings {
	s := standard()
	s.Lease, s.HistoryCount, s.MaxQueued = 10*time.Second, 1_000_000, 1_000_000
	s.MaxLost = 2 * group // a job may be the one that each kill meets
	s.Boot = boot
	return s
}

func crewPackage(w, n int) string { return fmt.Sprintf("w%d-%d", w, n) }
func crewJob(w, n, k int) string  { return fmt.Sprintf("w%d-%d-%d", w, n, k) }

// crewQueue is left to workers outside where k is odd.
func crewQueue(w, k int) string { return fmt.Sprintf("%s-%d-%d", []string{"q", "r"}[k%2], w, k) }

func (c *crew) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}

func (c *crew) actions() map[string]scheduler.Action {
	return map[string]scheduler.Action{"work": {Name: "work", AnyParams: true, Run: func(ctx context.Context, t scheduler.Task) (any, error) {
		tr := trail.From(ctx)
		if err := c.say("begun %s %d %s", tr.Job, tr.Attempt, tr.Token); err != nil {
			return nil, err
		}
		t.Log("at work")
		err := c.say("left %s", tr.Job)
		return map[string]int{"attempt": tr.Attempt}, err
	}}}
}

// openCrew opens the store for a crew that speaks on out.
func openCrew(ctx context.Context, open Opener, dir, boot string, out io.Writer) (*crew, error) {
	c := &crew{out: out}
	s, err := open(ctx, crewSettings(boot), scheduler.Deps{Actions: c.actions(), Data: dir})
	if err != nil {
		return nil, err
	}
	b, ok := s.(scheduler.Broker)
	if !ok {
		return nil, errors.New("it is no Broker")
	}
	c.s, c.b = s, b
	return c, nil
}

// work runs the scheduler's own workers and those outside until ctx ends, and
// with submit the submitters beside. It returns the first error.
func (c *crew) work(ctx context.Context, submit bool, from []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	run := func(f func(ctx context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	if r, ok := c.s.(scheduler.Runner); ok {
		run(func(ctx context.Context) error { return r.Run(ctx, scheduler.RunOptions{}) })
	}
	for range outsiders {
		run(c.outsider)
	}
	if submit {
		for w := range submitters {
			run(func(ctx context.Context) error { return c.submitter(ctx, w, from[w]) })
		}
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// submitter submits its packages, from the n-th on, by turns whole and step by
// step. It waits for some, so that not too much is queued.
func (c *crew) submitter(ctx context.Context, w, n int) error {
	for ; ; n++ {
		if _, err := c.s.Status(ctx, crewJob(w, n, 0)); err == nil {
			continue // it came through when its submitter was killed
		}
		if err := c.submit(ctx, w, n); err != nil {
			return fmt.Errorf("package %s: %w", crewPackage(w, n), err)
		}
		if err := c.say("submitted %d %d", w, n); err != nil {
			return err
		}
		if n%4 == w {
			for k := range packageJobs {
				id := crewJob(w, n, k)
				st, err := c.s.Wait(ctx, id)
				if err != nil || st.State != scheduler.Succeeded {
					return fmt.Errorf("job %s ended as %q (%s): %w", id, st.State, st.Error, err)
				}
				if err := c.say("done %s", id); err != nil {
					return err
				}
			}
		}
	}
}

func (c *crew) submit(ctx context.Context, w, n int) error {
	var jobs []scheduler.Job
	for k := range packageJobs {
		j := scheduler.Job{ID: crewJob(w, n, k), Queue: crewQueue(w, k), Action: "work", Params: scheduler.MustParams(map[string]int{"n": n})}
		j.Retry = scheduler.Retry{Attempts: 3, Backoff: scheduler.Span(crewBackoff)}
		if k >= 2 {
			j.After = []scheduler.Dependency{{Index: index(0)}, {Index: index(1)}}
		}
		jobs = append(jobs, j)
	}
	p := scheduler.Package{ID: crewPackage(w, n), Jobs: jobs}
	b, ok := c.s.(scheduler.Builder)
	if !ok || n%3 > 0 {
		_, err := c.s.Submit(ctx, p)
		return err
	}
	if st, err := b.Package(ctx, p.ID); err == nil && st.State == scheduler.Building { // left by one that was killed
		if len(st.Jobs) != 2 {
			if _, err := b.CancelPackage(ctx, p.ID); err != nil {
				return err
			}
		}
	}
	p.Jobs = jobs[:2]
	if _, err := b.NewPackage(ctx, p); err != nil && !errors.Is(err, scheduler.ErrConflict) {
		return err
	}
	if _, err := b.AddJobs(ctx, p.ID, jobs[2:]...); err != nil {
		return err
	}
	_, err := b.Enqueue(ctx, p.ID)
	return err
}

// outsider takes jobs and does them, one failure among them now and then.
func (c *crew) outsider(ctx context.Context) error {
	for ctx.Err() == nil {
		list, err := c.b.Next(ctx, scheduler.Want{Max: 2, Wait: scheduler.Span(time.Second)})
		if err != nil {
			return err
		}
		var done []scheduler.Completion
		for _, l := range list {
			if err := c.say("begun %s %d %s", l.Job, l.Attempt, l.Token); err != nil {
				return err
			}
			end := scheduler.Completion{Hold: l.Hold, Result: scheduler.MustParams(map[string]int{"attempt": l.Attempt})}
			if l.Attempt == 1 && l.Token.Number%5 == 0 {
				end.Result, end.Error = scheduler.Completion{}.Result, "it broke"
			}
			done = append(done, end)
		}
		for _, l := range list {
			if err := c.say("left %s", l.Job); err != nil {
				return err
			}
		}
		if _, errs := c.b.Complete(ctx, done...); errors.Join(errs...) != nil {
			return errors.Join(errs...)
		}
		for _, d := range done {
			if d.Error == "" {
				if err := c.say("done %s", d.Job); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
