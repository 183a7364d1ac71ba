package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// waiting is the flags of a command that queues jobs.
type waiting struct {
	app      *app
	yes, not bool
}

func (w *waiting) flags(f *pflag.FlagSet) {
	f.BoolVar(&w.yes, "wait", false, "wait for the end of the jobs, as it does anyway without --no-wait; --timeout bounds it")
	f.BoolVar(&w.not, "no-wait", false, "only queue the jobs, for a vagoth serve to work on")
}

// check refuses to leave jobs to nobody. It is asked where the cluster has been
// reached.
func (w *waiting) check() error {
	switch {
	case w.yes && w.not:
		return usagef("--wait or --no-wait, not both")
	case w.not && !w.app.daemon():
		return errors.New("--no-wait leaves the jobs to a daemon, and there is none here: start vagoth serve, or leave the flag out")
	}
	return nil
}

// How jobs are waited for.
const (
	waiters    = 8                      // jobs that are asked about at once
	waitSlice  = 2 * time.Second        // one question
	waitDraw   = 500 * time.Millisecond // one question, if its answer is drawn
	waitLine   = 5 * time.Second        // between two lines about a job, where nothing can be drawn
	waitFew    = 5                      // jobs that have lines of their own there
	waitAgain  = 500 * time.Millisecond // before a question that was not answered is asked again
	waitSilent = 20                     // questions without an answer in a row, for one job
	giveUp     = 10 * time.Second       // for jobs that are cancelled to end
)

// awaited is a job that a command waits for.
type awaited struct {
	name string // what people call it: its node, or its ID
	st   scheduler.Status
	err  error  // it could not be asked about
	held string // the parked job that it waits for, itself or through others

	silent int // questions that were not answered
	said   string
	saidAt time.Time
}

// settled: it has ended, or nothing happens before a person decides.
func settled(st scheduler.Status) bool {
	return st.State.Ended() || st.State == scheduler.Parked
}

// failure is why the job did not succeed, as far as it is known.
func (j *awaited) failure() error {
	switch {
	case j.err != nil:
		return j.err
	case j.st.State == scheduler.Parked:
		return &parkedError{j.st}
	case j.held != "":
		return fmt.Errorf("job %s (%s) waits for job %s, which is parked", j.st.ID, j.st.Action, j.held)
	}
	return api.JobError(j.st)
}

// over: there is nothing more to wait for.
func (j *awaited) over() bool { return j.err != nil || j.held != "" || settled(j.st) }

// parkedError is a job that a person has to decide about.
type parkedError struct{ st scheduler.Status }

func (e *parkedError) Error() string {
	msg := fmt.Sprintf("job %s (%s) is parked", e.st.ID, e.st.Action)
	if e.st.Error != "" {
		msg += ": " + clean(e.st.Error)
	}
	return msg + ": decide with vagoth jobs retry, skip or done " + e.st.ID
}

// await waits for all jobs together, and calls end for each that has settled,
// several at once. It returns ctx's error if that came first; the jobs' own
// failures are theirs.
//
// It asks about a few at a time, those queued first before the others, and goes
// on to the next as soon as one does not move: so neither a great number of jobs
// nor one that is stuck keeps the others from being seen.
func (a *app) await(ctx context.Context, client *api.Client, p *progress, jobs []*awaited, end func(*awaited)) error {
	todo := make(chan *awaited, len(jobs))
	for _, j := range jobs {
		todo <- j
	}
	left := len(jobs)
	var mu sync.Mutex
	slice := waitSlice
	if a.env.Terminal {
		slice = waitDraw
	}
	if left == 0 {
		return nil
	}
	began := a.env.Now()
	parked := map[string]string{} // those that are, and those that wait for them: for which
	work := func() {
		for j := range todo {
			if !j.over() {
				j.ask(ctx, client, slice)
			}
			mu.Lock()
			j.held = blockedBy(j.st, parked)
			if j.st.State == scheduler.Parked {
				parked[j.st.ID] = j.st.ID
			} else if j.held != "" {
				parked[j.st.ID] = j.held
			}
			mu.Unlock()
			if !j.over() && ctx.Err() == nil {
				p.tell(j, began)
				todo <- j
				continue
			}
			if j.over() {
				p.forget(j)
				end(j)
			}
			mu.Lock()
			if left--; left == 0 {
				close(todo)
			}
			mu.Unlock()
		}
	}
	var all sync.WaitGroup
	for range min(waiters, len(jobs)) {
		all.Go(work)
	}
	all.Wait()
	for _, j := range jobs {
		if !j.over() {
			return ctx.Err()
		}
	}
	return nil
}

// blockedBy is the parked job that a waiting one waits for, "" if there is none.
func blockedBy(st scheduler.Status, parked map[string]string) string {
	if st.State != scheduler.Waiting {
		return ""
	}
	for _, d := range st.After {
		if by := parked[d.ID]; by != "" {
			return by
		}
	}
	return ""
}

// ask looks at the job.
func (j *awaited) ask(ctx context.Context, client *api.Client, d time.Duration) {
	st, err := client.WaitJob(ctx, j.st.ID, d)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		j.st, j.silent = st, 0
		return
	case errors.Is(err, scheduler.ErrNotFound):
		j.err = fmt.Errorf("job %s is not known any more; how it ended was not seen: %w", j.st.ID, err)
		return
	}
	if j.silent++; j.silent > waitSilent {
		j.err = fmt.Errorf("cannot ask about job %s, which may go on: %w", j.st.ID, err)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(waitAgain):
	}
}

// given handles jobs whose command was interrupted, or timed out: a daemon goes
// on with them, and without one nobody would, so they are cancelled.
func (a *app) given(ctx context.Context, client *api.Client, jobs []*awaited) error {
	var left []*awaited
	for _, j := range jobs {
		if !j.over() {
			left = append(left, j)
		}
	}
	if len(left) == 0 {
		return nil
	}
	why := "interrupted"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		why = fmt.Sprintf("--timeout %s is over", a.timeout)
	}
	if a.daemon() {
		watch := "vagoth jobs watch " + left[0].st.ID
		if len(left) > 1 {
			watch = "vagoth jobs list"
		}
		a.say("%s: %s queued, and vagoth serve goes on with them: %s", why, countJobs(len(left), "stays", "stay"), watch)
		return reportedError{ctx.Err()}
	}
	t := trail.From(ctx)
	t.Reason = why
	last, cancel := context.WithTimeout(trail.With(context.WithoutCancel(ctx), t), giveUp)
	defer cancel()
	for _, j := range left {
		st, err := client.CancelJob(last, j.st.ID)
		switch {
		case err == nil:
			j.st = st
		case !errors.Is(err, scheduler.ErrConflict): // else it has just ended
			j.err = fmt.Errorf("job %s could not be cancelled, and waits for a vagoth serve: %w", j.st.ID, err)
		}
	}
	quiet := *a
	quiet.env.Terminal = false
	if err := quiet.await(last, client, quiet.progress(0), left, func(*awaited) {}); err != nil {
		a.say("%s: not every job ended within %s; what is left waits for a vagoth serve", why, giveUp)
		return reportedError{ctx.Err()}
	}
	a.say("%s: %s cancelled", why, countJobs(len(left), "is", "are"))
	return reportedError{ctx.Err()}
}

func countJobs(n int, one, many string) string {
	if n == 1 {
		return "one job " + one
	}
	return fmt.Sprintf("%d jobs %s", n, many)
}

// what says how far a job is, or how it ended.
func what(st scheduler.Status) string {
	text := ""
	switch st.State {
	case scheduler.Waiting:
		if text = st.Waiting; text == "" {
			text = "waiting"
		}
	case scheduler.Running:
		text = strings.TrimSpace(st.Progress)
		if st.Percent > 0 {
			text = strings.TrimSpace(fmt.Sprintf("%d%% %s", st.Percent, text))
		}
		if st.Waiting != "" {
			text = st.Waiting
		}
		if st.Overdue {
			text = strings.TrimSpace("overdue " + text)
		}
	default:
		text = st.Error
	}
	return clean(text)
}

// clean makes one line of a text that comes from actions and workers.
func clean(text string) string {
	return strings.TrimSpace(printable(strings.NewReplacer("\n", " ", "\t", " ").Replace(text)))
}

// short cuts a text to n characters.
func short(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// worst is the error that an exit code is made of: one that failed outweighs
// one typed wrongly, that a conflict, and that something that is not there.
func worst(errs []error) error {
	rank := func(err error) int {
		var u usageError
		if errors.As(err, &u) {
			return 3
		}
		switch api.CodeOf(err).Exit {
		case api.ExitNotFound:
			return 1
		case api.ExitConflict:
			return 2
		}
		return 4
	}
	var found error
	for _, err := range errs {
		if err != nil && (found == nil || rank(err) > rank(found)) {
			found = err
		}
	}
	return found
}
