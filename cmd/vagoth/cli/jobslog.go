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
	c.Flags().DurationVar(&every, "every", 500*time.Millisecond, "with --follow: the time between two looks")
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

// followLog looks again and again, with the cluster opened afresh each time
// where no daemon has it, so that others can work on the job.
func (a *app) followLog(cmd *cobra.Command, id string, every time.Duration) error {
	if a.output == "yaml" || a.output == "name" {
		return usagef("--follow prints lines: leave -o %s out, or use json", a.output)
	}
	var last []scheduler.Line
	return a.again(cmd, every, func(ctx context.Context, client *api.Client) (bool, error) {
		st, err := client.Job(ctx, id) // before its lines, so that none is missed at its end
		if err != nil {
			return false, err
		}
		lines, err := client.JobLog(ctx, id)
		if err != nil {
			return false, err
		}
		fresh := newLines(last, lines)
		last = lines
		if a.output == "json" {
			enc := json.NewEncoder(a.env.Out)
			for _, l := range fresh {
				if err := enc.Encode(l); err != nil {
					return false, err
				}
			}
		} else if err := printLines(a.env.Out, fresh); err != nil {
			return false, err
		}
		if st.State == scheduler.Parked {
			a.say("%s", &parkedError{st})
		}
		return settled(st), nil
	})
}

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
