package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// verb is a command that queues one action for VMs.
type verb struct {
	use, short, done, action string
	places                   bool   // it may place the VM: --host and --dry-run
	urgent                   bool   // it overtakes what waits for the VM: --keep-queued
	destroys                 string // the question before
	more                     func(c *cobra.Command, p *virt.Params)
}

func verbs() []verb {
	return []verb{
		{use: "define", short: "place VMs and make them known to their host", done: "defined", action: virt.ActionDefine, places: true},
		{use: "provision", short: "make the disks of VMs that are not there yet", done: "provisioned", action: virt.ActionProvision, places: true},
		{use: "start", short: "start VMs, placing and defining them first if need be", done: "started", action: virt.ActionStart, places: true},
		{use: "stop", urgent: true, short: "switch VMs off; with --grace, ask them to shut down first", done: "stopped", action: virt.ActionStop,
			more: func(c *cobra.Command, p *virt.Params) {
				c.Flags().StringVar(&p.Grace, "grace", "", "how long a guest may take to shut down, such as 30s, before it is switched off")
			}},
		{use: "shutdown", short: "ask guests to shut down", done: "was asked to shut down", action: virt.ActionShutdown},
		{use: "reboot", short: "ask guests to reboot", done: "was asked to reboot", action: virt.ActionReboot},
		{use: "suspend", short: "hold VMs", done: "suspended", action: virt.ActionSuspend},
		{use: "resume", short: "let suspended VMs go on", done: "resumed", action: virt.ActionResume},
		{use: "undefine", urgent: true, short: "take VMs from their host; their disks stay", done: "undefined", action: virt.ActionUndefine},
		{use: "deprovision", urgent: true, short: "wipe the disks of VMs and take them from their host", done: "deprovisioned", action: virt.ActionDeprovision, destroys: "wipe the disks of"},
		{use: "migrate", short: "move VMs to another host", done: "migrated", action: virt.ActionMigrate,
			more: func(c *cobra.Command, p *virt.Params) {
				c.Flags().StringVar(&p.To, "to", "", "the host; the allocator chooses if it is not given")
				c.Flags().BoolVar(&p.Cold, "cold", false, "only if it does not run")
			}},
	}
}

func verbCmds(a *app) []*cobra.Command {
	var list []*cobra.Command
	for _, v := range verbs() {
		list = append(list, verbCmd(a, v))
	}
	return list
}

func verbCmd(a *app, v verb) *cobra.Command {
	b := bulk{app: a, how: v.done, onlyType: vmOnly, destroys: v.destroys}
	w := waiting{app: a}
	o := order{bulk: &b, wait: &w, action: v.action, vms: true}
	var p virt.Params
	var dryRun bool
	c := &cobra.Command{
		Use: v.use + " VM...", Short: v.short, Args: cobra.ArbitraryArgs,
		Long: strings.ToUpper(v.short[:1]) + v.short[1:] + ".\n\nThe VMs are named, or selected with flags such as --tag. Each is a job of its own;\nwith several, the others go on if one fails.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if dryRun {
				b.how = "would be placed"
				return b.run(cmd, args, func(ctx context.Context, client *api.Client, it api.Item) (any, string, error) {
					return a.wouldPlace(ctx, client, it, p.Host)
				})
			}
			if o.params, err = registry.NewDocument(p); err != nil {
				return err
			}
			return o.run(cmd, args)
		},
	}
	b.flags(c.Flags())
	w.flags(c.Flags())
	if v.places {
		c.Flags().StringVar(&p.Host, "host", "", "the host to place it on, or none")
		c.Flags().BoolVar(&dryRun, "dry-run", false, "only say where it would be placed, and why")
	}
	if v.urgent {
		c.Flags().BoolVar(&o.keepQueued, "keep-queued", false, "leave jobs queued that lose their sense with this one, such as a start that waits")
	}
	if v.more != nil {
		v.more(c, &p)
	}
	return c
}

// explainJob adds the decision to a job that found no host.
func (a *app) explainJob(ctx context.Context, client *api.Client, it api.Item, err error) error {
	if !errors.Is(err, allocator.ErrNoHost) || decisionIn(err) != nil {
		return err
	}
	answer, askErr := client.Decide(ctx, it.Node.ID(), api.DecisionRequest{})
	if askErr != nil || answer.Error == "" {
		return err
	}
	return &decidedError{error: err, decision: answer.Decision}
}

// decidedError is an error with the decision that explains it.
type decidedError struct {
	error
	decision *allocator.Decision
}

func (e *decidedError) Unwrap() error { return e.error }

func decisionIn(err error) *allocator.Decision {
	var d *decidedError
	if errors.As(err, &d) {
		return d.decision
	}
	var e *api.Error
	if errors.As(err, &e) {
		return e.Decision
	}
	return nil
}

func (a *app) wouldPlace(ctx context.Context, client *api.Client, it api.Item, host string) (any, string, error) {
	if it.Node.Parent() != "" {
		return nil, "nowhere: it is on " + it.ParentName, nil
	}
	answer, err := client.Decide(ctx, it.Node.ID(), api.DecisionRequest{Host: host})
	if err != nil {
		return nil, "", err
	}
	if answer.Error != "" {
		return answer.Decision, "", &decidedError{error: &api.Error{Problem: api.Problem{Message: answer.Error, Code: "no_host"}}, decision: answer.Decision}
	}
	var b strings.Builder
	b.WriteString("on " + hostName(answer.Decision) + "\n")
	if err := a.printDecision(&b, answer.Decision); err != nil {
		return nil, "", err
	}
	return answer.Decision, strings.TrimRight(b.String(), "\n"), nil
}

func hostName(d *allocator.Decision) string {
	for _, v := range d.Hosts() {
		if v.Host == d.Host && v.Name != "" {
			return v.Name
		}
	}
	return d.Host
}

func whyCmd(a *app) *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use: "why VM", Short: "show why a VM was placed where it is, or why it cannot be placed",
		Long: `Show the placement decision of a VM: for every host what ruled it out, required
against observed, or its score by term. For a VM on a host it is the decision
that put it there; for any other, what would be decided now (--now asks that
for a placed VM too).`,
		Args: args(1, 1, "one VM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				it, err := client.Node(ctx, args[0])
				if err != nil {
					return err
				}
				if it.Node.Parent() != "" && !now {
					d, err := client.LastDecision(ctx, it.Node.ID())
					if err != nil {
						return err
					}
					return a.showDecision(d, fmt.Sprintf("%s was placed on %s %s ago", it.Node.Name(), hostName(d), ago(a.env.Now().Sub(d.At))))
				}
				answer, err := client.Decide(ctx, it.Node.ID(), api.DecisionRequest{})
				if err != nil {
					return err
				}
				title := answer.Error
				if title == "" {
					title = fmt.Sprintf("%s would be placed on %s now", it.Node.Name(), hostName(answer.Decision))
				}
				return a.showDecision(answer.Decision, title)
			})
		},
	}
	c.Flags().BoolVar(&now, "now", false, "decide anew, even if it has a host")
	return c
}

func (a *app) showDecision(d *allocator.Decision, title string) error {
	return a.print(d, []string{d.Host}, func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, title); err != nil {
			return err
		}
		return a.printDecision(w, d)
	})
}

// printDecision writes the verdict on every host.
func (a *app) printDecision(w io.Writer, d *allocator.Decision) error {
	t := &table{head: []string{"  HOST", "SCORE", "WHY"}}
	for _, v := range d.Hosts() {
		name := v.Name
		if name == "" {
			name = v.Host
		}
		mark := "  "
		if v.Host == d.Host && d.Host != "" {
			mark = "* "
		}
		score := fmt.Sprintf("%.3f", v.Score)
		var why []string
		for _, r := range v.Ruled {
			score = "-"
			why = append(why, fmt.Sprintf("%s: needs %s, has %s", r.Filter, r.Required, r.Observed))
		}
		for _, term := range v.Terms {
			why = append(why, fmt.Sprintf("%s %.3g×%.3g", term.Name, term.Weight, term.Value))
		}
		t.add(mark+name, score, strings.Join(why, "; "))
	}
	return t.write(w, a.paint)
}

// shortest poll interval that makes sense.
const shortestPoll = time.Second
