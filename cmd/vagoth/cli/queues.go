package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
)

func queueCmd(a *app) *cobra.Command {
	return parent("queue", "look at queues and limits; pause, resume and drain queues",
		queueListCmd(a), queueShowCmd(a), queueLimitsCmd(a), queuePauseCmd(a), queueResumeCmd(a), queueDrainCmd(a))
}

func queueListCmd(a *app) *cobra.Command {
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "list the queues that hold jobs, are not open, or stand in vagoth.ini",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := func(ctx context.Context, client *api.Client) error {
				list := []scheduler.QueueStatus{}
				for q, err := range client.Queues(ctx) {
					if err != nil {
						return err
					}
					list = append(list, q)
				}
				return a.printQueues(list)
			}
			if watch {
				return a.watch(cmd, every, show)
			}
			return a.with(cmd, show)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again; other commands can run in between")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: the time between")
	return c
}

func (a *app) printQueues(list []scheduler.QueueStatus) error {
	var names []string
	for _, q := range list {
		names = append(names, q.Name)
	}
	return a.print(list, names, func(w io.Writer) error {
		if len(list) == 0 {
			a.say("all queues are open and empty")
			return nil
		}
		return a.queueTable(w, list)
	})
}

func (a *app) queueTable(w io.Writer, list []scheduler.QueueStatus) error {
	t := &table{head: []string{"QUEUE", "MODE", "DEPTH", "BLOCKED", "PARKED", "OLDEST", "RUNNING", "WHAT"}}
	for _, q := range list {
		oldest := "-"
		if !q.Oldest.IsZero() {
			oldest = ago(a.env.Now().Sub(q.Oldest))
		}
		t.add(q.Name, queueMode(q), fmt.Sprint(q.Depth), fmt.Sprint(q.Blocked), fmt.Sprint(q.Parked), oldest, dash(q.Running), short(queueWhat(q), 60))
	}
	return t.write(w, a.paint)
}

func queueMode(q scheduler.QueueStatus) string {
	mode := string(q.Mode)
	if q.Remote {
		mode += ", remote"
	}
	return mode
}

// queueWhat is why the queue is not open, or what it waits for.
func queueWhat(q scheduler.QueueStatus) string {
	text := q.Waiting
	if q.Reason != "" {
		text = strings.TrimPrefix(text+"; "+q.Reason, "; ")
	}
	return clean(text)
}

func queueShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show QUEUE", Short: "show what stands in a queue",
		Args: args(1, 1, "one queue"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				q, err := client.Queue(ctx, args[0])
				if err != nil {
					return err
				}
				jobs, more, err := listJobs(ctx, client, scheduler.Filter{Queue: args[0], States: unsettled()}, time.Time{}, 20)
				if err != nil {
					return err
				}
				out := struct {
					scheduler.QueueStatus
					Jobs []scheduler.Status `json:"jobs"`
				}{q, jobs}
				return a.print(out, []string{q.Name}, func(w io.Writer) error { return a.describeQueue(w, q, jobs, more) })
			})
		},
	}
}

func (a *app) describeQueue(w io.Writer, q scheduler.QueueStatus, jobs []scheduler.Status, more bool) error {
	rows := [][2]string{{"queue", q.Name}, {"mode", queueMode(q)}, {"reason", clean(q.Reason)}, {"rate", q.Rate}, {"depth", fmt.Sprint(q.Depth)}, {"parked", fmt.Sprint(q.Parked)}, {"running", q.Running}, {"waiting", clean(q.Waiting)}}
	if q.Blocked > 0 {
		rows = append(rows, [2]string{"blocked", fmt.Sprintf("%d, by %s", q.Blocked, dash(strings.Join(q.BlockedBy, ", ")))})
	}
	if !q.Oldest.IsZero() {
		rows = append(rows, [2]string{"oldest", ago(a.env.Now().Sub(q.Oldest)) + " ago"})
	}
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-9s%s\n", r[0], r[1]); err != nil {
			return err
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	if err := a.jobTable(w, jobs); err != nil {
		return err
	}
	if more {
		a.say("there are more: vagoth jobs list --queue %s", q.Name)
	}
	return nil
}

func queueLimitsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "limits", Short: "list the limits of [limit.NAME], and those in use",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				list, err := client.Limits(ctx)
				if err != nil {
					return err
				}
				var names []string
				for _, l := range list {
					names = append(names, l.Name)
				}
				return a.print(list, names, func(w io.Writer) error {
					if len(list) == 0 {
						a.say("no limits are configured or in use")
						return nil
					}
					t := &table{head: []string{"LIMIT", "SLOTS", "TAKEN", "WAITING", "RATE", "HELD BY"}}
					for _, l := range list {
						slots := "-"
						if l.Slots > 0 {
							slots = fmt.Sprint(l.Slots)
						}
						t.add(l.Name, slots, fmt.Sprint(l.Taken), fmt.Sprint(l.Waiting), dash(l.Rate), strings.Join(l.Holders, ", "))
					}
					return t.write(w, a.paint)
				})
			})
		},
	}
}

// setQueues sets the mode of all of the queues, and goes on after a failure.
func (a *app) setQueues(ctx context.Context, client *api.Client, names []string, m scheduler.QueueMode) ([]scheduler.QueueStatus, error) {
	list := []scheduler.QueueStatus{}
	var errs []error
	for _, name := range names {
		q, err := client.SetQueue(ctx, name, m)
		if err != nil {
			errs = append(errs, err)
			a.say("%s: %s", name, err)
			continue
		}
		list = append(list, q)
	}
	if err := worst(errs); err != nil {
		return list, reportedError{err}
	}
	return list, nil
}

func (a *app) queuesDone(list []scheduler.QueueStatus, words func(scheduler.QueueStatus) string) error {
	var names []string
	for _, q := range list {
		names = append(names, q.Name)
	}
	return a.print(list, names, func(w io.Writer) error {
		for _, q := range list {
			if _, err := fmt.Fprintf(w, "%s %s\n", q.Name, words(q)); err != nil {
				return err
			}
		}
		return nil
	})
}

func queuePauseCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "pause QUEUE...", Short: "let queues hand out nothing; they take jobs",
		Long: `Let queues hand out nothing until they are resumed; they take jobs. What runs goes on.
The --reason is shown to whoever asks why nothing moves.`,
		Example: `  vagoth queue pause storage --reason "replacing a disk"`,
		Args:    args(1, -1, "queues"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				list, failed := a.setQueues(ctx, client, args, scheduler.Paused)
				err := a.queuesDone(list, func(q scheduler.QueueStatus) string {
					words := fmt.Sprintf("paused; %d wait", q.Depth)
					if q.Running != "" {
						words += ", and " + q.Running + " still runs"
					}
					return words
				})
				return firstOf(err, failed)
			})
		},
	}
}

func queueResumeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "resume QUEUE...", Short: "open queues again that are paused or drained",
		Args: args(1, -1, "queues"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				list, failed := a.setQueues(ctx, client, args, scheduler.Open)
				err := a.queuesDone(list, func(q scheduler.QueueStatus) string { return fmt.Sprintf("open; %d wait", q.Depth) })
				return firstOf(err, failed)
			})
		},
	}
}

func queueDrainCmd(a *app) *cobra.Command {
	var wait bool
	var every time.Duration
	c := &cobra.Command{
		Use: "drain QUEUE...", Short: "let queues take no jobs, and hand out those that they have",
		Long: `Let queues take no jobs until they are resumed; what they have is handed out. With
--wait it returns when they are empty; jobs that are parked count as well.`,
		Example: `  vagoth queue drain storage --wait --timeout 10m && vagoth queue list`,
		Args:    args(1, -1, "queues"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if wait && !a.daemon() {
					return errors.New("--wait waits for a daemon to work on the jobs, and there is none here: start vagoth serve, or leave the flag out")
				}
				list, failed := a.setQueues(ctx, client, args, scheduler.Draining)
				if wait {
					for i := range list {
						var err error
						if list[i], err = a.emptied(ctx, client, list[i], every); err != nil {
							return err
						}
					}
				}
				err := a.queuesDone(list, func(q scheduler.QueueStatus) string {
					if q.Depth+q.Parked == 0 && q.Running == "" {
						return "takes no jobs, and is empty"
					}
					return fmt.Sprintf("takes no jobs; %d are left", held(q))
				})
				return firstOf(err, failed)
			})
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "until they are empty; --timeout bounds it")
	c.Flags().DurationVar(&every, "every", 500*time.Millisecond, "with --wait: the time between two looks")
	return c
}

// held is how many jobs of the queue have not ended.
func held(q scheduler.QueueStatus) int {
	n := q.Depth + q.Parked
	if q.Running != "" {
		n++
	}
	return n
}

// emptied waits until no job of the queue is left.
func (a *app) emptied(ctx context.Context, client *api.Client, q scheduler.QueueStatus, every time.Duration) (scheduler.QueueStatus, error) {
	if every < 100*time.Millisecond {
		return q, usagef("--every %s is too short: use at least 100ms", every)
	}
	said := ""
	for {
		if held(q) == 0 {
			return q, nil
		}
		if text := fmt.Sprintf("%s: %d are left, %d of them parked", q.Name, held(q), q.Parked); text != said {
			said = text
			a.say("%s", text)
		}
		select {
		case <-ctx.Done():
			return q, fmt.Errorf("%s is not empty: %d jobs are left; it goes on draining: %w", q.Name, held(q), ctx.Err())
		case <-time.After(every):
		}
		var err error
		if q, err = client.Queue(ctx, q.Name); err != nil {
			return q, err
		}
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
