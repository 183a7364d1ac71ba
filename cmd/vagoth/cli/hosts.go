package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

func hvCmd(a *app) *cobra.Command {
	return parent("hv", "add, remove and look after hypervisors", hvAddCmd(a), hvRemoveCmd(a), hvMaintenanceCmd(a), hvConfirmCmd(a))
}

func hvAddCmd(a *app) *cobra.Command {
	var def virt.HostDefinition
	var tags []string
	var memory, disk string
	var noPoll, offline bool
	c := &cobra.Command{
		Use: "add ID", Short: "add a hypervisor and poll it",
		Long: `Add a hypervisor. It is asked what it has, and what is not said of its capacity is
filled in from that. One that does not answer is refused, unless it is --offline;
then its capacity is what it reports when it is first polled. It takes VMs as soon
as a poll has reached it.`,
		Example: `  vagoth hv add hv1 --driver local
  vagoth hv add hv3 --driver remote --url https://hv3.example.org:8080
  vagoth hv add hv4 --driver remote --url https://hv4.example.org:8080 --peer qemu+tls://hv4.example.org/system
  vagoth hv add hv2 --driver local --address 'qemu+tls://hv2/system' --tag rack=a`,
		Args: args(1, 1, "an ID for the hypervisor"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if def.Driver == "" {
				return usagef("say with --driver which [drivers.NAME] reaches it")
			}
			if def.Memory, err = optionalMegabytes("memory", memory); err != nil {
				return err
			}
			if def.Disk, err = optionalMegabytes("disk", disk); err != nil {
				return err
			}
			m, err := tagMap(tags)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("url") && cmd.Flags().Changed("address") {
				return usagef("--url and --address are the same: give one")
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if !offline && !noPoll {
					if err := a.fillCapacity(ctx, client, args[0], &def); err != nil {
						return err
					}
				}
				spec, err := hostSpec(args[0], def, m)
				if err != nil {
					return err
				}
				out, err := client.Create(ctx, api.CreateRequest{Spec: spec})
				if err != nil {
					return err
				}
				if noPoll || offline {
					return a.done(out.Node, "added; it is given nothing before the first poll")
				}
				report, err := client.Poll(ctx, out.Node.ID())
				if err != nil {
					return err
				}
				for _, h := range report.Hosts {
					if h.Error != "" {
						a.say("%s is added, but cannot be asked: %s", out.Node.Name(), h.Error)
						return a.done(out.Node, "added")
					}
				}
				return a.done(out.Node, "added and up")
			})
		},
	}
	f := c.Flags()
	f.StringVar(&def.Driver, "driver", "", "the [drivers.NAME] that reaches it")
	f.StringVar(&def.Address, "address", "", "where the driver finds it, such as a libvirt URI; the driver's own if not given")
	f.StringVar(&def.Address, "url", "", "the same, for a host with an agent")
	f.StringVar(&def.Peer, "peer", "", "the libvirt URI by which other hosts reach its own, to move VMs there while they run, where an agent drives them")
	f.BoolVar(&offline, "offline", false, "add it though it does not answer now")
	f.Int64Var(&def.CPU, "cpu", 0, "hardware threads")
	f.StringVar(&memory, "memory", "", "memory, such as 64G")
	f.StringVar(&disk, "disk", "", "disk for VMs, such as 2T")
	f.StringSliceVar(&def.Types, "types", nil, "what it can run: vm, container; vm if not given")
	f.StringArrayVar(&tags, "tag", nil, "a tag, KEY or KEY=VALUE; may be repeated")
	f.BoolVar(&noPoll, "no-poll", false, "do not poll it now")
	return c
}

// fillCapacity asks a host what it has, and fills in what nobody said. A driver
// that cannot say it is no reason to refuse its hosts.
func (a *app) fillCapacity(ctx context.Context, client *api.Client, id string, def *virt.HostDefinition) error {
	has, err := client.Probe(ctx, api.ProbeRequest{ID: id, Driver: def.Driver, Address: def.Address})
	switch {
	case errors.Is(err, virt.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("%w: say --offline to add it all the same", err)
	}
	def.CPU = cmp.Or(def.CPU, has.CPU)
	def.Memory = cmp.Or(def.Memory, has.Memory)
	def.Disk = cmp.Or(def.Disk, has.Disk)
	return nil
}

func optionalMegabytes(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := megabytes(text)
	if err != nil {
		return 0, usagef("--%s: %w: write 512M, 64G or 2T", flag, err)
	}
	return n, nil
}

func hvRemoveCmd(a *app) *cobra.Command {
	b := bulk{app: a, onlyType: virt.TypeHypervisor, destroys: "remove", how: "removed"}
	c := &cobra.Command{
		Use: "remove HV...", Short: "remove hypervisors that have no VMs", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd, args, func(ctx context.Context, client *api.Client, it api.Item) (any, string, error) {
				if err := isHypervisor(it); err != nil {
					return nil, "", err
				}
				n, err := client.Delete(ctx, it.Node.ID())
				return n, "", err
			})
		},
	}
	b.flags(c.Flags())
	return c
}

func isHypervisor(it api.Item) error {
	if it.Node.Type() != virt.TypeHypervisor {
		return usagef("%s is a %s and no hypervisor", it.Node.Name(), it.Node.Type())
	}
	return nil
}

func hvMaintenanceCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "maintenance HV on|off", Short: "keep new VMs off a hypervisor, or let them on again",
		Example: `  vagoth hv maintenance hv1 on --reason "new memory"`,
		Args:    args(2, 2, "a hypervisor, and on or off"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return usagef("maintenance is on or off, not %q", args[1])
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.SetMaintenance(ctx, args[0], args[1] == "on")
				if err != nil {
					return err
				}
				return a.done(n, "maintenance is "+args[1])
			})
		},
	}
}

func hvConfirmCmd(a *app) *cobra.Command {
	var req api.ConfirmRequest
	var yes bool
	c := &cobra.Command{
		Use: "confirm-down HV", Short: "say that a silent hypervisor is really off, and free its VMs",
		Long: `Say that a hypervisor which does not answer is really switched off, and free its
VMs so that they can be placed elsewhere. Make sure first, at its power switch:
a VM that still runs there and is started elsewhere destroys its disks.

It is refused while the hypervisor answers, needs --reason, and is recorded.`,
		Example: `  vagoth hv confirm-down hv1 --reason "power supply burnt, pulled the plug"`,
		Args:    args(1, 1, "one hypervisor"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(a.reason) == "" {
				return usagef("say with --reason how you made sure that %s is off", args[0])
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				it, err := client.Node(ctx, args[0])
				if err != nil {
					return err
				}
				if err := isHypervisor(it); err != nil {
					return err
				}
				on, err := collect(ctx, client, registry.Query{Parent: registry.Is(it.Node.ID())})
				if err != nil {
					return err
				}
				a.say("VMs on %s: %d", it.Node.Name(), len(on))
				for _, vm := range on {
					a.say("  %s  %s", vm.Node.Name(), stateText(vm))
				}
				if !yes {
					if err := a.ask(fmt.Sprintf("Is %s switched off, and may its VMs be freed?", it.Node.Name())); err != nil {
						return err
					}
				}
				out, err := client.ConfirmDown(ctx, it.Node.ID(), req)
				if err != nil {
					return err
				}
				return a.print(out, out.Freed, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s is down; %d VMs are free: %s\n", it.Node.Name(), len(out.Freed), dash(strings.Join(out.Freed, ", ")))
					return err
				})
			})
		},
	}
	c.Flags().BoolVar(&req.AbandonDisks, "abandon-disks", false, "give up the disks there, so that the VMs can be placed elsewhere with empty ones")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func pollCmd(a *app) *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use: "poll [HV...]", Short: "ask hypervisors what runs there, and note what changed",
		Long: `Ask hypervisors what runs there, and note what changed. With --every it goes on
until it is interrupted; other commands can run in between.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("every") {
				if len(args) > 0 {
					return usagef("--every polls all hypervisors: name none")
				}
				if every < shortestPoll {
					return usagef("--every %s is too short: use at least %s", every, shortestPoll)
				}
				return a.pollLoop(cmd, every)
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				report, err := client.Poll(ctx, args...)
				if err != nil {
					return err
				}
				return a.printReport(report)
			})
		},
	}
	c.Flags().DurationVar(&every, "every", 0, "go on, with this time between polls, such as 10s")
	return c
}

func (a *app) pollLoop(cmd *cobra.Command, every time.Duration) error {
	ctx, cancel, err := a.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	r, err := a.reachDaemon(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		return a.pollDaemon(ctx, r, every)
	}
	s, err := a.settings()
	if err != nil {
		return err
	}
	o := manager.Options{Log: a.log(), Now: a.env.Now, LockWait: a.lockWait}
	err = manager.Loop(ctx, s, o, every, func(r monitor.Report, err error) {
		if err == nil {
			err = a.printReport(r)
		}
		if err != nil {
			a.say("%s: %s", a.env.Now().Format(time.TimeOnly), err)
		}
	})
	return ended(ctx, err)
}

// pollDaemon asks a daemon to poll again and again, beside its own schedule.
func (a *app) pollDaemon(ctx context.Context, r *reached, every time.Duration) error {
	defer func() { _ = r.close() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		report, err := r.client.Poll(ctx)
		if err == nil {
			err = a.printReport(report)
		}
		if err != nil && ctx.Err() == nil {
			a.say("%s: %s", a.env.Now().Format(time.TimeOnly), err)
		}
		select {
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		case <-tick.C:
		}
	}
}

func (a *app) printReport(r monitor.Report) error {
	var names []string
	for _, h := range r.Hosts {
		names = append(names, h.Name)
	}
	return a.print(r, names, func(w io.Writer) error {
		t := &table{head: []string{"HYPERVISOR", "STATE", "VMS", "TOOK", "FOUND"}}
		for _, h := range r.Hosts {
			var found []string
			for _, f := range h.Findings {
				found = append(found, f.Text)
			}
			if h.Error != "" {
				found = append(found, h.Error)
			}
			if h.Skipped != "" {
				found = append(found, "skipped: "+h.Skipped)
			}
			vms := fmt.Sprint(h.Guests)
			if !h.Complete {
				vms = "-"
			}
			t.add(h.Name, dash(string(h.State)), vms, h.Took.Round(time.Millisecond).String(), strings.Join(found, "; "))
		}
		if len(t.rows) == 0 {
			a.say("there are no hypervisors: add one with vagoth hv add")
			return nil
		}
		if err := t.write(w, a.paint); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%d hypervisors in %s, %d nodes changed\n", len(r.Hosts), r.Took.Round(time.Millisecond), r.Written)
		return err
	})
}

// hostSpec is the provisioner's spec of a hypervisor.
func hostSpec(id string, def virt.HostDefinition, tags map[string]string) (provisioner.Spec, error) {
	doc, err := registry.NewDocument(def)
	return provisioner.Spec{ID: id, Type: virt.TypeHypervisor, Definition: doc, Tags: tags}, err
}
