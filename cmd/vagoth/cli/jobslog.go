package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
)

func jobsLogCmd(a *app) *cobra.Command {
	var follow bool
	var every time.Duration
	c := &cobra.Command{
		Use: "log JOB", Short: "print what a job has logged",
		Args: args(1, 1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow {
				return a.followLog(cmd, args[0], every)
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				lines, err := client.JobLog(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(lines, nil, func(w io.Writer) error { return printLines(w, lines) })
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is added, until the job ends; json is one object a line then")
	c.Flags().DurationVar(&every, "every", 500*time.Millisecond, "with --follow: the time between two looks at the lines of a job that runs")
	return c
}

func printLines(w io.Writer, lines []scheduler.Line) error {
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s %d  %s\n", l.At.Format(time.RFC3339), l.Attempt, clean(l.Text)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) followLog(cmd *cobra.Command, id string, every time.Duration) error {
	if a.output == "yaml" || a.output == "name" {
		return usagef("--follow prints lines: leave -o %s out, or use json", a.output)
	}
	return a.follow(cmd, every, api.EventFilter{Jobs: true, Job: id}, &logFollower{app: a, id: id})
}

// logFollower shows the lines of a job that have come since the last look.
type logFollower struct {
	app     *app
	id      string
	last    []scheduler.Line
	running bool
}

func (l *logFollower) look(ctx context.Context, client *api.Client) (bool, error) {
	st, err := client.Job(ctx, l.id) // before its lines, so that none is missed at its end
	if err != nil {
		return false, err
	}
	return l.take(ctx, client, st)
}

func (l *logFollower) take(ctx context.Context, client *api.Client, st scheduler.Status) (bool, error) {
	lines, err := client.JobLog(ctx, l.id)
	if err != nil {
		return false, err
	}
	fresh := newLines(l.last, lines)
	l.last, l.running = lines, st.State == scheduler.Running
	if l.app.output == "json" {
		enc := json.NewEncoder(l.app.env.Out)
		for _, line := range fresh {
			if err := enc.Encode(line); err != nil {
				return false, err
			}
		}
	} else if err := printLines(l.app.env.Out, fresh); err != nil {
		return false, err
	}
	if st.State == scheduler.Parked {
		l.app.say("%s", &parkedError{st})
	}
	return settled(st), nil
}

// tick: a line of its own is no change of the job, and one that does not run
// writes none.
func (l *logFollower) tick() (bool, error) { return l.running, nil }

// newLines are those of now that come behind the last ones of before. The
// oldest of a long log are forgotten, so their number alone says nothing: now
// begins with what is left of before.
func newLines(before, now []scheduler.Line) []scheduler.Line {
	n := min(len(before), len(now))
	for ; n > 0 && !sameLines(before[len(before)-n:], now[:n]); n-- {
	}
	return now[n:]
}

func sameLines(a, b []scheduler.Line) bool {
	for i := range a {
		if a[i].Text != b[i].Text || a[i].Attempt != b[i].Attempt || !a[i].At.Equal(b[i].At) {
			return false
		}
	}
	return true
}

// again looks until look has enough, with the cluster opened afresh each time,
// as watch does.
func (a *app) again(cmd *cobra.Command, every time.Duration, look func(context.Context, *api.Client) (bool, error)) error {
	if every < 100*time.Millisecond {
		return usagef("--every %s is too short: use at least 100ms", every)
	}
	ctx, cancel, err := a.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	for {
		enough := false
		err := a.once(ctx, func(ctx context.Context, client *api.Client) (err error) {
			enough, err = look(ctx, client)
			return err
		})
		if err != nil || enough {
			return ended(ctx, err)
		}
		select {
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		case <-time.After(every):
		}
	}
}
