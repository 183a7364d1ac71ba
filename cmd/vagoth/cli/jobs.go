package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/scheduler"
)

func jobsCmd(a *app) *cobra.Command {
	c := parent("jobs", "see what is queued, running and done, and decide about it",
		jobsListCmd(a), jobsShowCmd(a), jobsWatchCmd(a), jobsLogCmd(a), jobsCancelCmd(a), jobsRetryCmd(a), jobsSkipCmd(a), jobsDoneCmd(a))
	c.Aliases = []string{"job"}
	return c
}

// unsettled are the states of jobs that are no ends.
func unsettled() []scheduler.State {
	return []scheduler.State{scheduler.Waiting, scheduler.Running, scheduler.Parked}
}

func ends() []scheduler.State {
	return []scheduler.State{scheduler.Succeeded, scheduler.Failed, scheduler.Cancelled, scheduler.Expired}
}

func jobStates() []string {
	var list []string
	for _, st := range append(unsettled(), ends()...) {
		list = append(list, string(st))
	}
	return list
}

// jobFilter is the flags that choose jobs.
type jobFilter struct {
	filter scheduler.Filter
	states []string
	since  string
}

func (j *jobFilter) flags(f *pflag.FlagSet) {
	f.StringVar(&j.filter.Queue, "queue", "", "jobs of the queue, such as the ID of a VM")
	f.StringVar(&j.filter.Action, "action", "", "jobs of the action, such as vm_start")
	f.StringVar(&j.filter.Package, "package", "", "jobs of the package")
	f.StringSliceVar(&j.states, "state", nil, "jobs in the state, such as running or failed; several count as any of them")
	f.StringVar(&j.since, "since", "", "jobs submitted since then: a length of time such as 2h, or a time such as 2026-01-31T12:00:00Z")
}

func (j *jobFilter) get(now time.Time) (f scheduler.Filter, since time.Time, err error) {
	f = j.filter
	for _, text := range j.states {
		if !slices.Contains(jobStates(), text) {
			hint := component.DidYouMean(text, slices.Values(jobStates()))
			if hint == "" {
				hint = "there are " + strings.Join(jobStates(), ", ")
			}
			return f, since, usagef("--state: a job has no state %.32q (%s)", text, hint)
		}
		f.States = append(f.States, scheduler.State(text))
	}
	if j.since == "" {
		return f, since, nil
	}
	if d, err := time.ParseDuration(j.since); err == nil && d >= 0 {
		return f, now.Add(-d), nil
	}
	if since, err = time.Parse(time.RFC3339, j.since); err != nil {
		return f, since, usagef("--since: %.40q is neither a length of time such as 2h nor a time such as 2026-01-31T12:00:00Z", j.since)
	}
	return f, since, nil
}

// endedShown is how many jobs that have ended a list shows unless told.
const endedShown = 10

func jobsListCmd(a *app) *cobra.Command {
	var choose jobFilter
	var watch bool
	var every time.Duration
	var limit int
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "list jobs: those that have not ended, and the newest that have",
		Example: `  vagoth jobs list
  vagoth jobs list --queue web1 --since 24h
  vagoth jobs list --state parked,failed -o wide`,
		Args: args(0, 0, "no arguments; use --queue and other flags to choose"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > maxListed {
				return usagef("--limit %d: use 1 to %d", limit, maxListed)
			}
			f, since, err := choose.get(a.env.Now())
			if err != nil {
				return err
			}
			show := func(ctx context.Context, client *api.Client) error {
				list, more, err := listJobs(ctx, client, f, since, limit)
				if err != nil {
					return err
				}
				if err := a.printJobs(list); err != nil {
					return err
				}
				if more {
					a.say("there are more: --limit shows them, --queue and other flags choose")
				}
				return nil
			}
			if watch {
				return a.watch(cmd, every, show)
			}
			return a.with(cmd, show)
		},
	}
	choose.flags(c.Flags())
	c.Flags().IntVar(&limit, "limit", 100, "at most so many")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again; other commands can run in between")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: the time between")
	return c
}

// maxListed bounds a list of jobs.
const maxListed = 100_000

// listJobs finds the jobs. Where neither states nor a time are asked for, it
// finds those that have not ended, and the newest of the others.
func listJobs(ctx context.Context, client *api.Client, f scheduler.Filter, since time.Time, limit int) (list []scheduler.Status, more bool, err error) {
	list = []scheduler.Status{}
	add := func(f scheduler.Filter, most int) error {
		f.Limit = most + 1
		n := 0
		for st, err := range client.AllJobs(ctx, f, since) {
			if err != nil {
				return err
			}
			if n++; n > most {
				more = true
				break
			}
			list = append(list, st)
		}
		return nil
	}
	if len(f.States) > 0 || !since.IsZero() {
		return list, more, add(f, limit)
	}
	f.States = unsettled()
	if err := add(f, limit); err != nil || more {
		return list, more, err
	}
	f.States = ends()
	seen := more
	err = add(f, min(endedShown, limit-len(list)))
	return list, seen, err
}

func (a *app) printJobs(list []scheduler.Status) error {
	names := make([]string, 0, len(list))
	for _, st := range list {
		names = append(names, st.ID)
	}
	return a.print(list, names, func(w io.Writer) error {
		if len(list) == 0 {
			a.say("no jobs match")
			return nil
		}
		return a.jobTable(w, list)
	})
}

func (a *app) jobTable(w io.Writer, list []scheduler.Status) error {
	wide := a.output == "wide"
	t := &table{head: []string{"JOB", "QUEUE", "ACTION", "STATE", "AGE", "WHAT"}}
	if wide {
		t.head = []string{"JOB", "QUEUE", "ACTION", "STATE", "AGE", "TRY", "WORKER", "BY", "PACKAGE", "WHAT"}
	}
	for _, st := range list {
		row := []string{st.ID, st.Queue, st.Action, string(st.State), ago(a.env.Now().Sub(st.SubmittedAt))}
		text := what(st)
		if wide {
			row = append(row, fmt.Sprint(st.Attempt), dash(clean(st.Worker)), dash(st.Trail.Source), st.Package)
		} else {
			text = short(text, 60)
		}
		t.add(append(row, text)...)
	}
	return t.write(w, a.paint)
}

func jobsShowCmd(a *app) *cobra.Command {
	var lines int
	c := &cobra.Command{
		Use: "show JOB", Short: "show a job: what it waits for, its attempts, the end of its log, what to do",
		Args: args(1, 1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return usagef("--lines %d: use 0 or more", lines)
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				st, err := client.Job(ctx, args[0])
				if err != nil {
					return err
				}
				log, err := client.JobLog(ctx, args[0])
				if err != nil {
					return err
				}
				log = log[max(0, len(log)-lines):]
				out := struct {
					scheduler.Status
					Log  []scheduler.Line `json:"log,omitempty"`
					Hint string           `json:"hint,omitempty"`
				}{st, log, hint(ctx, client, st)}
				return a.print(out, []string{st.ID}, func(w io.Writer) error { return a.describeJob(w, st, log, out.Hint) })
			})
		},
	}
	c.Flags().IntVar(&lines, "lines", 10, "at most so many lines of the log, the last ones")
	return c
}

// hint says what can be done about the job, if something can.
func hint(ctx context.Context, client *api.Client, st scheduler.Status) string {
	switch {
	case st.State == scheduler.Parked:
		return fmt.Sprintf("decide: vagoth jobs retry %[1]s tries it again, skip %[1]s lets what depends on it go on, done %[1]s takes it as done by hand", st.ID)
	case st.Overdue:
		return "its time is over, and what it began cannot be taken back: it holds its queue until it answers; look at what it works on"
	case st.State == scheduler.Waiting:
		q, err := client.Queue(ctx, st.Queue)
		switch {
		case err != nil:
		case q.Mode == scheduler.Paused:
			return "its queue is paused: vagoth queue resume " + st.Queue
		case q.Running != "" && q.Running != st.ID:
			return "its queue is at work on vagoth jobs show " + q.Running
		}
	case st.Cause != "" && st.State != scheduler.Succeeded:
		return fmt.Sprintf("it ended because of another: vagoth jobs show %[1]s, then perhaps vagoth jobs retry %[1]s --with-dependents", st.Cause)
	case st.State == scheduler.Failed || st.State == scheduler.Cancelled || st.State == scheduler.Expired:
		return "once what it failed for is gone: vagoth jobs retry " + st.ID
	}
	return ""
}

func (a *app) describeJob(w io.Writer, st scheduler.Status, log []scheduler.Line, hint string) error {
	var b strings.Builder
	add := func(k, v string) {
		if v != "" {
			fmt.Fprintf(&b, "%-12s%s\n", k, v)
		}
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return fmt.Sprintf("%s (%s ago)", t.Format(time.RFC3339), ago(a.env.Now().Sub(t)))
	}
	add("job", st.ID)
	add("action", st.Action)
	add("queue", st.Queue)
	add("package", st.Package)
	add("state", a.paintState(string(st.State)))
	if text := what(st); text != "" && text != string(st.State) {
		add(map[bool]string{true: "error", false: "progress"}[st.Error != ""], text)
	}
	add("code", st.Code)
	add("because of", st.Cause)
	for _, d := range st.After {
		accept := "succeeded"
		if len(d.Accept) > 0 {
			accept = joinStates(d.Accept)
		}
		add("after", d.ID+" ("+accept+")")
	}
	add("limits", strings.Join(st.Limits, ", "))
	if st.Timeout > 0 {
		add("timeout", st.Timeout.String()+" for an attempt")
	}
	add("retry", retryText(st.Retry))
	if st.Urgent {
		add("urgent", "yes")
	}
	add("key", st.Key)
	by := ""
	if st.Trail.Source != "" {
		by = " by " + st.Trail.Source
	}
	if st.Trail.Reason != "" {
		by += " (" + st.Trail.Reason + ")"
	}
	add("submitted", when(st.SubmittedAt)+by)
	add("begins by", when(st.Expires))
	add("started", when(st.StartedAt))
	add("parked", when(st.ParkedAt))
	add("ended", when(st.EndedAt))
	add("worker", clean(st.Worker))
	add("lease until", when(st.Until))
	if !st.Params.IsEmpty() {
		add("params", clean(st.Params.String()))
	}
	if !st.Result.IsEmpty() {
		add("result", clean(st.Result.String()))
	}
	if len(st.Attempts) > 0 {
		b.WriteString("attempts\n")
		t := &table{head: []string{"  TRY", "BEGAN", "TOOK", "WORKER", "OUTCOME"}}
		for _, at := range st.Attempts {
			took := "-"
			if !at.Ended.IsZero() {
				took = at.Ended.Sub(at.Began).Round(time.Millisecond).String()
			}
			t.add(fmt.Sprintf("  %d", at.Number), at.Began.Format(time.RFC3339), took, dash(clean(at.Worker)), dash(clean(at.Outcome)))
		}
		if err := t.write(&b, a.paint); err != nil {
			return err
		}
	}
	if len(log) > 0 {
		b.WriteString("log\n")
		for _, l := range log {
			fmt.Fprintf(&b, "  %s  %s\n", l.At.Format(time.TimeOnly), clean(l.Text))
		}
	}
	if hint != "" {
		fmt.Fprintf(&b, "\n%s\n", hint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func joinStates(list []scheduler.State) string {
	words := make([]string, 0, len(list))
	for _, st := range list {
		words = append(words, string(st))
	}
	return strings.Join(words, ", ")
}

func retryText(r scheduler.Retry) string {
	if r == (scheduler.Retry{}) {
		return ""
	}
	text := fmt.Sprintf("%d attempts", max(r.Attempts, 1))
	if r.Backoff > 0 {
		text += ", " + r.Backoff.String() + " after the first failure"
	}
	if r.Park {
		text += ", then parked"
	}
	return text
}
