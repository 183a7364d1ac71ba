package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

func packageCmd(a *app) *cobra.Command {
	return parent("package", "queue jobs that depend on each other, all of them or none",
		packageNewCmd(a), packageAddCmd(a), packageEnqueueCmd(a), packageSubmitCmd(a), packageStatusCmd(a), packageCancelCmd(a))
}

func packageNewCmd(a *app) *cobra.Command {
	var id string
	c := &cobra.Command{
		Use: "new", Short: "begin a package, to which jobs are added",
		Long: `Begin a package, and print its ID. Jobs are added to it one by one, and nothing is
queued before it is enqueued. One that never is expires.`,
		Example: `  vagoth package new --id move-1
  vagoth package add move-1 --queue storage --action create_volume --param name=v1 --param size=10
  vagoth package add move-1 --queue web1 --action vm_start --param vm=web1 --after 0
  vagoth package enqueue move-1`,
		Args: args(0, 0, "no arguments; --id names the package"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				p, err := client.NewPackage(ctx, scheduler.Package{ID: id})
				if err != nil {
					return err
				}
				return a.print(p, []string{p.ID}, func(w io.Writer) error {
					if !p.ExpiresAt.IsZero() {
						a.say("add jobs with vagoth package add; unless it is enqueued it expires in %s", ago(p.ExpiresAt.Sub(a.env.Now())))
					}
					_, err := fmt.Fprintln(w, p.ID)
					return err
				})
			})
		},
	}
	c.Flags().StringVar(&id, "id", "", "its ID; one is made if it is not given")
	return c
}

// jobFlags are the flags that make a job.
type jobFlags struct {
	job    scheduler.Job
	params []string
	after  []string
	retry  string
	expire string
	time   string
}

func (j *jobFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&j.job.Queue, "queue", "", "the resource that it needs for itself, such as the ID of a VM")
	f.StringVar(&j.job.Action, "action", "", "what it does")
	f.StringArrayVar(&j.params, "param", nil, "a parameter, KEY=VALUE, of the type that the action declares, or JSON or text; may be repeated")
	f.StringArrayVar(&j.after, "after", nil, "begin after a job, named by its ID or by its position in the package, from 0; =ENDS names the ends that will do, such as 0=succeeded,failed; may be repeated")
	f.StringVar(&j.time, "attempt-timeout", "", "how long an attempt may take, such as 5m; the action's own if not given")
	f.StringVar(&j.expire, "expires", "", "do not begin after this time has passed, such as 1h")
	f.StringVar(&j.retry, "retry", "", "how many attempts may fail, and more: 5,backoff=10s,max=5m,jitter=0.2,park")
	f.StringSliceVar(&j.job.Limits, "limit", nil, "take a slot of the limit, one of [limit.NAME]; may be repeated")
	f.BoolVar(&j.job.Urgent, "urgent", false, "overtake what waits in its queue")
	f.BoolVar(&j.job.KeepQueued, "keep-queued", false, "if it is urgent: supersede nothing")
	f.StringVar(&j.job.Key, "key", "", "idempotency key: the same job is queued once")
}

func (j *jobFlags) get(a *app) (scheduler.Job, error) {
	job := j.job
	if job.Queue == "" || job.Action == "" {
		return job, usagef("name the job's --queue and --action")
	}
	err := checkPairs("--param", j.params)
	if err != nil {
		return job, err
	}
	for _, text := range j.after {
		d, err := parseAfter(text)
		if err != nil {
			return job, err
		}
		job.After = append(job.After, d)
	}
	if job.Retry, err = parseRetry(j.retry); err != nil {
		return job, err
	}
	if job.Timeout, err = parseSpan("--attempt-timeout", j.time); err != nil {
		return job, err
	}
	d, err := parseSpan("--expires", j.expire)
	if err == nil && d > 0 {
		job.Expires = a.env.Now().Add(d.D())
	}
	return job, err
}

// parseAfter reads ID or INDEX, and the ends behind a =.
func parseAfter(text string) (d scheduler.Dependency, err error) {
	ref, accept, given := strings.Cut(text, "=")
	if n, bad := strconv.Atoi(ref); bad == nil && n >= 0 {
		d.Index = &n
	} else if err := registry.CheckName(ref); err != nil {
		return d, usagef("--after: %.40q is neither the ID of a job nor a position from 0: %w", ref, err)
	} else {
		d.ID = ref
	}
	if !given {
		return d, nil
	}
	for _, word := range strings.Split(accept, ",") {
		st := scheduler.State(strings.TrimSpace(word))
		if !st.Ended() {
			known := []string{}
			for _, e := range ends() {
				known = append(known, string(e))
			}
			hint := component.DidYouMean(string(st), slices.Values(known))
			if hint == "" {
				hint = "there are " + strings.Join(known, ", ")
			}
			return d, usagef("--after: %.32q is no end of a job (%s)", word, hint)
		}
		d.Accept = append(d.Accept, st)
	}
	return d, nil
}

// parseRetry reads 5,backoff=10s,max=5m,jitter=0.2,park.
func parseRetry(text string) (r scheduler.Retry, err error) {
	if text == "" {
		return r, nil
	}
	known := []string{"attempts", "backoff", "max", "jitter", "park"}
	for i, part := range strings.Split(text, ",") {
		k, v, given := strings.Cut(part, "=")
		if _, bad := strconv.Atoi(k); i == 0 && !given && bad == nil {
			k, v, given = "attempts", k, true
		}
		switch {
		case k == "park" && !given:
			r.Park = true
		case !given:
			err = fmt.Errorf("%.32q is not KEY=VALUE", part)
		case k == "attempts":
			r.Attempts, err = strconv.Atoi(v)
		case k == "backoff":
			r.Backoff, err = parseSpan("backoff", v)
		case k == "max":
			r.Max, err = parseSpan("max", v)
		case k == "jitter":
			r.Jitter, err = strconv.ParseFloat(v, 64)
		default:
			hint := component.DidYouMean(k, slices.Values(known))
			if hint == "" {
				hint = "there are " + strings.Join(known, ", ")
			}
			err = fmt.Errorf("there is no %.32q (%s)", k, hint)
		}
		if err != nil {
			return r, usagef("--retry: %w: write 5,backoff=10s,max=5m,jitter=0.2,park", err)
		}
	}
	return r, nil
}

func parseSpan(flag, text string) (scheduler.Span, error) {
	if text == "" {
		return 0, nil
	}
	d, err := component.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usagef("%s: %.32q is no length of time: write 30s or 5m", flag, text)
	}
	return scheduler.Span(d), nil
}

func packageAddCmd(a *app) *cobra.Command {
	var j jobFlags
	c := &cobra.Command{
		Use: "add PACKAGE", Short: "add a job to a package that is not enqueued yet, and print its ID",
		Example: `  vagoth package add move-1 --queue storage --action create_volume --param name=v1
  vagoth package add move-1 --queue web1 --action vm_stop --param vm=web1 --after 0=succeeded,failed
  vagoth package add move-1 --queue storage --action wipe --after 1 --retry 5,backoff=10s,park`,
		Args: args(1, 1, "one package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := j.get(a)
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if job.Params, err = actionParams(ctx, client, job.Action, j.params); err != nil {
					return err
				}
				ids, err := client.AddJobs(ctx, args[0], job)
				if err != nil {
					return err
				}
				return a.print(api.Added{Jobs: ids}, ids, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, strings.Join(ids, "\n"))
					return err
				})
			})
		},
	}
	j.flags(c.Flags())
	return c
}

func packageEnqueueCmd(a *app) *cobra.Command {
	w := waiting{app: a}
	c := &cobra.Command{
		Use: "enqueue PACKAGE", Short: "queue a package, all of it or nothing",
		Long: `Queue a package, all of it or nothing, and wait for its jobs. Once more gives the same
answer and queues nothing.`,
		Args: args(1, 1, "one package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if err := w.check(); err != nil {
					return err
				}
				list, err := client.Enqueue(ctx, args[0], 0)
				if err != nil {
					return err
				}
				return w.end(ctx, client, list)
			})
		},
	}
	w.flags(c.Flags())
	return c
}

func packageSubmitCmd(a *app) *cobra.Command {
	var file string
	w := waiting{app: a}
	c := &cobra.Command{
		Use: "submit", Short: "queue the package that stands in a file, all of it or nothing",
		Long: `Queue the package that stands in a file, JSON or YAML, all of it or nothing, and wait
for its jobs. A dependency names a job by the id that the file gives it, by its index
in the file from 0, or one that was queued earlier by its ID.`,
		Example: `  vagoth package submit -f package.yaml
  vagoth package submit -f - --no-wait <package.json`,
		Args: args(0, 0, "no arguments: name the file with -f"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("name the file with -f; - is standard input")
			}
			p, err := a.readPackage(file)
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if err := w.check(); err != nil {
					return err
				}
				list, err := patiently(ctx, a, func() ([]scheduler.Status, error) { return client.Submit(ctx, p) })
				if err != nil {
					return err
				}
				return w.end(ctx, client, list)
			})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the file, JSON or YAML; - is standard input")
	w.flags(c.Flags())
	return c
}

func packageStatusCmd(a *app) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "status [PACKAGE]", Short: "show a package and its jobs, or list the packages",
		Args: args(0, 1, "at most one package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > maxListed {
				return usagef("--limit %d: use 1 to %d", limit, maxListed)
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if len(args) == 0 {
					return a.listPackages(ctx, client, limit)
				}
				p, err := client.Package(ctx, args[0])
				if err != nil {
					return err
				}
				jobs, more, err := listJobs(ctx, client, scheduler.Filter{Package: p.ID, States: append(unsettled(), ends()...)}, p.CreatedAt, limit)
				if err != nil {
					return err
				}
				inOrder(jobs, p.Jobs)
				out := struct {
					scheduler.PackageStatus
					Status []scheduler.Status `json:"status"`
				}{p, jobs}
				return a.print(out, []string{p.ID}, func(w io.Writer) error {
					if err := a.describePackage(w, p, jobs); err != nil {
						return err
					}
					if more {
						a.say("there are more: --limit shows them")
					}
					return nil
				})
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 100, "at most so many packages, or jobs of one")
	return c
}

// inOrder sorts jobs as their package has them.
func inOrder(jobs []scheduler.Status, ids []string) {
	at := make(map[string]int, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	slices.SortStableFunc(jobs, func(a, b scheduler.Status) int { return at[a.ID] - at[b.ID] })
}

func (a *app) listPackages(ctx context.Context, client *api.Client, limit int) error {
	list, names := []scheduler.PackageStatus{}, []string{}
	for p, err := range client.Packages(ctx, limit) {
		if err != nil {
			return err
		}
		list, names = append(list, p), append(names, p.ID)
	}
	return a.print(list, names, func(w io.Writer) error {
		if len(list) == 0 {
			a.say("there are no packages")
			return nil
		}
		t := &table{head: []string{"PACKAGE", "STATE", "JOBS", "AGE", "BY", "WHERE THEY STAND"}}
		for _, p := range list {
			t.add(p.ID, string(p.State), fmt.Sprint(len(p.Jobs)), ago(a.env.Now().Sub(p.CreatedAt)), dash(p.Trail.Source), counts(p))
		}
		return t.write(w, a.paint)
	})
}

func counts(p scheduler.PackageStatus) string {
	var parts []string
	for _, st := range append(unsettled(), ends()...) {
		if n := p.Counts[st]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, st))
		}
	}
	return strings.Join(parts, ", ")
}

func (a *app) describePackage(w io.Writer, p scheduler.PackageStatus, jobs []scheduler.Status) error {
	line := fmt.Sprintf("%s is %s: %d jobs", p.ID, p.State, len(p.Jobs))
	if text := counts(p); text != "" {
		line += ", " + text
	}
	if p.State == scheduler.Building && !p.ExpiresAt.IsZero() {
		line += fmt.Sprintf("; it expires in %s unless it is enqueued", ago(p.ExpiresAt.Sub(a.env.Now())))
	}
	if _, err := fmt.Fprintln(w, line); err != nil || len(jobs) == 0 {
		return err
	}
	return a.jobTable(w, jobs)
}

func packageCancelCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel PACKAGE", Short: "cancel all jobs of a package that have not ended, or discard one that is not enqueued",
		Args: args(1, 1, "one package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				p, err := client.CancelPackage(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(p, []string{p.ID}, func(w io.Writer) error {
					text := counts(p)
					if text == "" {
						text = "nothing of it is queued"
					}
					_, err := fmt.Fprintf(w, "%s cancelled: %s\n", p.ID, text)
					return err
				})
			})
		},
	}
}
