package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
)

func schedulerCmd(a *app) *cobra.Command {
	return parent("scheduler", "copy jobs, packages and queues into another scheduler", copyJobsCmd(a), reclaimCmd(a))
}

func copyJobsCmd(a *app) *cobra.Command {
	var from, to string
	var keep bool
	c := &cobra.Command{
		Use: "copy", Short: "copy all jobs, packages and queues into the scheduler of another configuration", Args: args(0, 0, "no arguments"),
		Long: `Copy what the scheduler holds that one configuration file chooses into the one that
another chooses, such as from broker to etcd: jobs that wait, are blocked, in backoff or
parked, with their order, dependencies, attempts, log lines and idempotency keys; packages
that are being built; pauses of queues; and the history. Both are read again at the end
and compared. Then the source is marked, so that no daemon and no command works with it any
more, as jobs would be done twice: vagoth scheduler reclaim takes the mark away. With --keep
the source goes on, and the copy is for a look or a test apart from its hosts.

No daemon and no other command may use either store meanwhile. The target is empty; a copy
is there as a whole or not at all, and one that was broken off is begun again.

A job that ran in a manager when that ended begins again in the target with a higher
attempt, as after any end of a daemon. One that a worker outside has stays with it: the
worker completes it at the target, which gives it its full lease once more. Tokens of the
target are greater than all that the source has given.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usagef("name both files: vagoth scheduler copy --from old.ini --to new.ini")
			}
			ctx, cancel, err := a.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			rep, err := a.copyJobs(ctx, from, to, keep)
			if err != nil {
				return err
			}
			return a.print(rep, nil, func(w io.Writer) error {
				what := "copied"
				switch {
				case rep.Both.Empty():
					_, err := fmt.Fprintf(w, "neither holds anything: is the data directory of %s the right one?\n", from)
					return err
				case rep.Already:
					what = "were there already"
				}
				end := fmt.Sprintf("%s is marked: its jobs go on with %s", from, to)
				if !rep.Retired {
					end = fmt.Sprintf("%s goes on: do not start %s beside it on the same hosts, its jobs would be done twice", from, to)
				}
				_, err := fmt.Fprintf(w, "%d jobs, %d ended ones and %d packages being built %s\nboth hold %s; sha256 %s\n%s\n",
					rep.Both.Jobs, rep.Both.Ended, rep.Both.Packages, what, rep.Both, rep.Both.SHA256, end)
				return err
			})
		},
	}
	c.Flags().StringVar(&from, "from", "", "configuration file of the scheduler to read")
	c.Flags().StringVar(&to, "to", "", "configuration file of the scheduler to write")
	c.Flags().BoolVar(&keep, "keep", false, "do not mark the source: it goes on, and the copy is apart")
	return c
}

func reclaimCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "reclaim", Short: "use a scheduler again whose jobs were copied away", Args: args(0, 0, "no arguments"),
		Long: `Take the mark away that vagoth scheduler copy has left in the scheduler of this
configuration: daemons and commands work with it again.

Only where the copy is gone, or none of its jobs has begun: what the copy has done since is
not known here, and is done once more. To go back with what was done, copy it back into an
empty store instead.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel, err := a.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			was, err := a.reclaim(ctx)
			if err != nil {
				return err
			}
			return a.print(struct {
				Was string `json:"was"` // where its jobs had been copied to
			}{was}, nil, func(w io.Writer) error {
				text := "it was not marked"
				if was != "" {
					text = "its jobs go on here, and not with " + was
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		},
	}
}

func (a *app) reclaim(ctx context.Context) (was string, err error) {
	x, err := a.side("--config", a.config)
	if err != nil {
		return "", err
	}
	if err := x.idle(ctx); err != nil {
		return "", err
	}
	s, err := x.store(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	was = s.Retired()
	return was, s.Retire(ctx, "")
}

// copyJobsReport is what was copied.
type copyJobsReport struct {
	Already bool           `json:"already"` // and not by this copy
	Both    scheduler.Held `json:"both"`    // what both hold in the end
	Retired bool           `json:"retired"` // the source, so that only the copy is used
}

func (a *app) copyJobs(ctx context.Context, fromFile, toFile string, keep bool) (rep copyJobsReport, err error) {
	var sides [2]*side
	for i, one := range [][2]string{{"--from", fromFile}, {"--to", toFile}} {
		if sides[i], err = a.side(one[0], one[1]); err != nil {
			return rep, err
		}
		if err := sides[i].idle(ctx); err != nil {
			return rep, err
		}
	}
	source, target := sides[0], sides[1]
	if err := withStores(ctx, source, target, func(from, to scheduler.Store) error {
		held, err := from.Held(ctx)
		if err != nil {
			return err
		}
		rep.Already, err = a.copyStore(ctx, from, to, held.Records)
		return err
	}); err != nil {
		return rep, err
	}
	// Opened once more, so that what was written is read and not what is remembered.
	return rep, withStores(ctx, source, target, func(from, to scheduler.Store) error {
		if rep.Both, err = scheduler.CompareStores(ctx, from, to); err != nil {
			return fmt.Errorf("%s and %s: %w", source.file, target.file, err)
		}
		switch {
		case rep.Both.Empty():
			return nil
		case keep:
			return to.Retire(ctx, "")
		}
		rep.Retired = true
		host, _ := os.Hostname() // for people
		file, err := filepath.Abs(target.file)
		if err != nil {
			return err
		}
		return scheduler.HandOver(ctx, from, to, fmt.Sprintf("the scheduler of %s on %s at %s", file, host, a.env.Now().UTC().Format(time.RFC3339)))
	})
}

// withStores opens what both schedulers have stored, while f runs.
func withStores(ctx context.Context, source, target *side, f func(from, to scheduler.Store) error) (err error) {
	from, err := source.store(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := target.store(ctx)
	if err != nil {
		var held *lockfile.HeldError
		if errors.As(err, &held) && held.PID == os.Getpid() {
			return usagef("--from %s and --to %s have one store: name two", source.file, target.file)
		}
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return f(from, to)
}

// store opens what the scheduler has stored.
func (x *side) store(ctx context.Context) (scheduler.Store, error) {
	s, err := manager.OpenStore(ctx, x.s, x.options())
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", x.flag, x.file, err)
	}
	return s, nil
}

// copyStore shows how far it is.
func (a *app) copyStore(ctx context.Context, from, to scheduler.Store, total int) (already bool, err error) {
	p := a.progress(total)
	defer p.end()
	said := a.env.Now()
	return scheduler.CopyStore(ctx, from, to, func(done int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done = done
		p.draw()
		if now := a.env.Now(); !a.env.Terminal && now.Sub(said) >= waitLine {
			said = now
			a.say("%d of %d records", done, total)
		}
	})
}
