package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// jobDeed is something that a person does to one job. It returns the jobs that
// it touched, and words for each.
type jobDeed func(ctx context.Context, client *api.Client, id string) ([]scheduler.Status, error)

// eachJob does it to all of the jobs, one after the other, and goes on after a
// failure. If they are queued by it, w waits for them.
func (a *app) eachJob(cmd *cobra.Command, ids []string, how string, do jobDeed, w *waiting) error {
	return a.with(cmd, func(ctx context.Context, client *api.Client) error {
		if w != nil {
			if err := w.check(); err != nil {
				return err
			}
		}
		touched := []scheduler.Status{}
		var errs []error
		for _, id := range ids {
			list, err := do(ctx, client, id)
			if err != nil {
				errs = append(errs, err)
				a.say("%s: %s", id, err)
			}
			touched = append(touched, list...)
		}
		if w != nil && len(touched) > 0 && !a.daemon() {
			a.say("no daemon works on what is tried again: start vagoth serve")
			if err := a.printTouched(touched, "queued"); err != nil {
				return err
			}
		} else if w != nil && len(touched) > 0 {
			if err := w.end(ctx, client, touched); err != nil {
				errs = append(errs, err)
			}
		} else if err := a.printTouched(touched, how); err != nil {
			return err
		}
		if len(errs) == 0 {
			return nil
		}
		if len(ids) > 1 {
			a.say("%d of %d failed", len(errs), len(ids))
		}
		return reportedError{worst(errs)}
	})
}

func (a *app) printTouched(list []scheduler.Status, how string) error {
	var names []string
	for _, st := range list {
		names = append(names, st.ID)
	}
	return a.print(list, names, func(w io.Writer) error {
		for _, st := range list {
			words := how
			if words == "" {
				words = string(st.State)
			}
			if _, err := fmt.Fprintf(w, "%s %s\n", st.ID, words); err != nil {
				return err
			}
		}
		return nil
	})
}

func one(st scheduler.Status, err error) ([]scheduler.Status, error) {
	if err != nil {
		return nil, err
	}
	return []scheduler.Status{st}, nil
}

func jobsCancelCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel JOB...", Short: "end jobs early; --reason is kept with them",
		Long: `End jobs early. One that waits or is parked is cancelled at once, and what depends
on it with it; one that runs is told so, and is cancelled when it obeys.`,
		Example: `  vagoth jobs cancel 0198c7d2-5f4e-7c31-b9d4-2f0a6f1f2a11 --reason "wrong host"`,
		Args:    args(1, -1, "jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(cmd, args, "", func(ctx context.Context, client *api.Client, id string) ([]scheduler.Status, error) {
				st, err := client.CancelJob(ctx, id)
				if err == nil && !st.State.Ended() {
					a.say("%s is told to stop, and still runs: vagoth jobs watch %s", id, id)
				}
				return one(st, err)
			}, nil)
		},
	}
}

func jobsRetryCmd(a *app) *cobra.Command {
	var o scheduler.RetryOptions
	w := waiting{app: a}
	c := &cobra.Command{
		Use: "retry JOB...", Short: "give jobs that are parked or did not succeed another round of attempts",
		Long: `Give jobs that are parked, failed, cancelled or expired another round of attempts, at
the head of their queues. --with-dependents does the same to those that ended because
of them. The command waits for them where a daemon works on them.`,
		Args: args(1, -1, "jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(cmd, args, "", func(ctx context.Context, client *api.Client, id string) ([]scheduler.Status, error) {
				// Without a daemon a command runs what it has submitted, and that
				// these were not.
				if w.yes && !a.daemon() {
					return nil, errors.New("--wait waits for a daemon to try it again, and there is none here: start vagoth serve, or leave the flag out")
				}
				return client.RetryJob(ctx, id, o)
			}, &w)
		},
	}
	c.Flags().BoolVar(&o.WithDependents, "with-dependents", false, "also those that ended because of it")
	w.flags(c.Flags())
	return c
}

func jobsSkipCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "skip JOB...", Short: "cancel parked jobs, and let what depends on them go on",
		Args: args(1, -1, "jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(cmd, args, "skipped; what depends on it goes on", func(ctx context.Context, client *api.Client, id string) ([]scheduler.Status, error) {
				return one(client.SkipJob(ctx, id))
			}, nil)
		},
	}
}

func jobsDoneCmd(a *app) *cobra.Command {
	var text string
	c := &cobra.Command{
		Use: "done JOB...", Short: "say that somebody did by hand what parked jobs could not",
		Long: `Mark parked jobs as succeeded: somebody did by hand what they could not. What depends
on them goes on, and finds in --result what it would have found there.`,
		Example: `  vagoth jobs done 0198c7d2-5f4e-7c31-b9d4-2f0a6f1f2a11 --result '{"volume": "v1"}' --reason "made it by hand"`,
		Args:    args(1, -1, "jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var result registry.Document
			if text != "" {
				var err error
				if result, err = registry.ParseDocument([]byte(text)); err != nil {
					return usagef("--result: %w", err)
				}
			}
			return a.eachJob(cmd, args, "done", func(ctx context.Context, client *api.Client, id string) ([]scheduler.Status, error) {
				return one(client.DoneJob(ctx, id, result))
			}, nil)
		},
	}
	c.Flags().StringVar(&text, "result", "", "what the job would have answered, a JSON object")
	return c
}

// end waits for jobs that were queued, unless it is not to, and prints them.
func (w *waiting) end(ctx context.Context, client *api.Client, list []scheduler.Status) error {
	a := w.app
	if w.not {
		return a.printTouched(list, "queued")
	}
	jobs := make([]*awaited, 0, len(list))
	for _, st := range list {
		jobs = append(jobs, &awaited{name: st.ID, st: st})
	}
	p := a.progress(len(jobs))
	err := a.await(ctx, client, p, jobs, func(j *awaited) { p.step(j.failure() != nil) })
	p.end()
	if err != nil {
		err = a.given(ctx, client, jobs)
	}
	return errors.Join(a.printEnded(jobs), err)
}

// printEnded prints how jobs ended, and is the worst of their failures.
func (a *app) printEnded(jobs []*awaited) error {
	list := make([]scheduler.Status, 0, len(jobs))
	var errs []error
	for _, j := range jobs {
		list = append(list, j.st)
		if err := j.failure(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := a.printTouched(list, ""); err != nil {
		return err
	}
	for _, err := range errs {
		a.say("%s", err)
	}
	if len(errs) == 0 {
		return nil
	}
	if len(jobs) > 1 {
		a.say("%d of %d failed", len(errs), len(jobs))
	}
	return reportedError{worst(errs)}
}
