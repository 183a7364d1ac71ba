package cli

import (
	"context"
	"encoding/json"
	"errors"
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
	c.Flags().DurationVar(&every, "every", 500*time.Millisecond, "with --follow: the time between two looks where no daemon tells of lines")
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
	f := &logFollower{app: a, id: id}
	return a.again(cmd, every, func(ctx context.Context, client *api.Client) (bool, error) {
		if !a.daemon() {
			return f.look(ctx, client, 0)
		}
		return f.listen(ctx, client)
	})
}

// logFollower shows the lines of a job that it has not shown yet.
type logFollower struct {
	app  *app
	id   string
	next int
}

// listen is woken by the daemon for each line, until nothing more follows. It
// begins anew where the daemon has gone, or is one that wakes nobody.
func (l *logFollower) listen(ctx context.Context, client *api.Client) (bool, error) {
	for {
		enough, err := l.look(ctx, client, api.MaxWait)
		answer := (*api.Error)(nil)
		switch {
		case errors.Is(err, scheduler.ErrUnsupported):
			return l.look(ctx, client, 0)
		case err == nil && !enough:
		case err == nil, errors.As(err, &answer) && !errors.Is(err, scheduler.ErrClosed):
			return enough, err
		default:
			return false, ctx.Err()
		}
	}
}

// look shows what has come, waiting for it so long, and reports whether nothing
// follows.
func (l *logFollower) look(ctx context.Context, client *api.Client, wait time.Duration) (bool, error) {
	part, err := client.JobLines(ctx, l.id, l.next, wait)
	if err != nil {
		return false, err
	}
	l.next = part.Next
	if l.app.output == "json" {
		enc := json.NewEncoder(l.app.env.Out)
		for _, line := range part.Lines {
			if err := enc.Encode(line); err != nil {
				return false, err
			}
		}
	} else if err := printLines(l.app.env.Out, part.Lines); err != nil {
		return false, err
	}
	if part.State == scheduler.Parked {
		st, err := client.Job(ctx, l.id)
		if err != nil {
			return false, err
		}
		l.app.say("%s", &parkedError{st})
	}
	return settled(scheduler.Status{State: part.State}), nil
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
