package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

func agentCmd(a *app) *cobra.Command {
	var check bool
	var src hostagent.Source
	var o hostagent.Options
	c := &cobra.Command{
		Use: "agent", Short: "run the agent of a host, or ask one",
		Long: `Run the agent of this host: one REST interface over all that the host can do, as
the sections [agent], [agent.service.NAME] and [agent.action.NAME] of vagoth.ini
say, or the agent.json of a Mistify agent as it is. What else is in vagoth.ini is
the manager's: one file serves both. Where none of this is said the agent runs
virtual machines on this host's libvirt, with their disks in the data directory.

SIGTERM or SIGINT ends it: stages that run come to their end, and what is queued
stays queued. A second one ends it at once. SIGHUP reloads tokens and
certificates.`,
		Example: `  vagoth agent -c vagoth.ini
  vagoth agent --mistify agent.json --listen 127.0.0.1:8080
  vagoth agent call guests`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				return unknownCommand(cmd, words[0])
			}
			from := src
			if from.Mistify == "" || cmd.Flags().Changed("config") {
				from.INI = a.config
			}
			if from.INI != "" && !fileExists(from.INI) {
				if cmd.Flags().Changed("config") || a.env.Getenv("VAGOTH_CONFIG") != "" {
					return fmt.Errorf("there is no %s here: name one with --config, or an agent.json with --mistify; `vagoth agent example` shows one", from.INI)
				}
				from.INI = "" // all is as by default
			}
			o.Load = func() (*hostagent.Settings, error) { return hostagent.Read(from, a.agentMenu()) }
			if check {
				s, err := o.Load()
				if err == nil {
					err = hostagent.Check(s)
				}
				if err != nil {
					return err
				}
				for _, w := range s.Warnings {
					a.say("vagoth: %s", w)
				}
				_, err = fmt.Fprintf(a.env.Out, "%s is valid\n", cmp.Or(strings.TrimSpace(from.INI+" "+from.Mistify), "what is said in no file"))
				return err
			}
			o.Version, o.LogTo, o.Now, o.LockWait = version(), a.env.Err, a.env.Now, a.lockWait
			if a.verbose && o.Level == "" {
				o.Level = "debug"
			}
			return signalled(cmd.Context(), func(ctx context.Context, reload, abort <-chan struct{}) error {
				o.Reload, o.Abort = reload, abort
				return hostagent.Run(ctx, o)
			})
		},
	}
	c.Flags().StringVar(&src.Mistify, "mistify", "", "the agent.json of a Mistify agent, for services, actions and dbpath; no vagoth.ini is needed then")
	c.Flags().StringVar(&src.Listen, "listen", "", "address to serve at, such as 127.0.0.1:8080 or unix:/run/agent.sock; what the file says if not given")
	c.Flags().StringVar(&src.Data, "data", "", "directory of what the agent remembers; what the file says if not given")
	c.Flags().BoolVar(&check, "check", false, "only check the configuration, with the files that it names")
	c.Flags().StringVar(&o.Level, "log-level", "", "debug, info, warn or error; what [agent] says if not given")
	c.Flags().StringVar(&o.Format, "log-format", "", "text or json; what [agent] says if not given")
	c.AddCommand(agentCallCmd(a), agentFenceResetCmd(a), agentExampleCmd(a))
	return c
}

func agentFenceResetCmd(a *app) *cobra.Command {
	url := ""
	c := &cobra.Command{
		Use: "fence-reset GUEST", Short: "forget the highest token that was seen for a guest",
		Long: `Make an agent forget the highest fencing token that it has seen for a guest, so
that calls with a lower one pass again: after the manager's store was restored
from a copy, or when another manager takes the guest over. Until a newer token
comes, somebody who was given the guest before can change it.`,
		Args: args(1, 1, "the ID of a guest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.askAgent(cmd, url, func(ctx context.Context, c *mistify.Client) error {
				if err := c.ResetFence(ctx, args[0]); err != nil {
					return err
				}
				return a.print(map[string]string{"guest": args[0]}, args, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "the token of %s is forgotten\n", args[0])
					return err
				})
			})
		},
	}
	a.agentURL(c, &url)
	return c
}

func agentExampleCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "example [SUBAGENT...]", Short: "print the sections of an agent, for vagoth.ini",
		Long: `Print the section [agent] with every key, those of sub-agents inside the process,
and what each of them does for which action: of libvirt and dir if none is named,
which is what an agent without these sections has.`,
		Example: `  vagoth agent example >agent.ini
  vagoth agent example sim`,
		RunE: func(_ *cobra.Command, names []string) error {
			for _, name := range names {
				if err := a.checkSubAgent(name); err != nil {
					return err
				}
			}
			if len(names) == 0 {
				names = a.menu.Defaults.SubAgents
			}
			return hostagent.WriteExample(a.env.Out, a.agentMenu(), names)
		},
	}
}

func (a *app) agentMenu() hostagent.Menu {
	return hostagent.Menu{SubAgents: a.menu.SubAgents, Stages: a.menu.Stages, Default: a.menu.Defaults.SubAgents}
}

// checkSubAgent refuses a name that the menu has not.
func (a *app) checkSubAgent(name string) error {
	if _, ok := a.menu.SubAgents[name]; ok {
		return nil
	}
	all := "there are " + strings.Join(slices.Sorted(maps.Keys(a.menu.SubAgents)), ", ")
	if s := component.DidYouMean(name, maps.Keys(a.menu.SubAgents)); s != "" {
		all = s
	}
	return usagef("there is no sub-agent %.64q (%s)", name, all)
}

// openSubAgent opens one of the menu, with its section of the file if it is to
// be read.
func (a *app) openSubAgent(ctx context.Context, name string, configured bool) (subagent.SubAgent, error) {
	if err := a.checkSubAgent(name); err != nil {
		return nil, err
	}
	f, _ := config.Parse("vagoth.ini", nil)
	if configured {
		var err error
		if f, err = config.Load(a.config); err != nil {
			return nil, err
		}
	}
	top := config.Section(f, "", manager.TopDefaults())
	choice := config.Select(f, "subagent."+name, name, a.menu.SubAgents)
	for _, s := range f.Sections() {
		f.Claim(s.Name) // of the agent and the manager
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	data := string(top.Data)
	if !filepath.IsAbs(data) {
		data = filepath.Join(f.Dir(), data)
	}
	return choice.Open(ctx, subagent.Deps{Name: name, Data: filepath.Join(data, "subagents", name), Log: a.log(), Now: a.env.Now})
}

func subagentCmd(a *app) *cobra.Command {
	var e mistify.Endpoint
	var level, format string
	c := &cobra.Command{
		Use: "subagent NAME", Short: "run a sub-agent as a process of its own",
		Long: `Run a sub-agent as a process of its own, at a port of the loopback or a unix
socket, for an agent that names it in [agent.service.NAME]. Its keys stand in
[subagent.NAME] of the file that --config names; without --config it has its
defaults. vagoth components lists the sub-agents.`,
		Example: `  vagoth subagent libvirt --port 20001
  vagoth subagent sim --socket /run/vagoth/sim.sock -c vagoth.ini`,
		Args: args(1, 1, "a sub-agent"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if e.Socket != "" {
				if cmd.Flags().Changed("port") {
					return usagef("--port and --socket exclude each other")
				}
				e.Port = 0
			}
			log, _, err := serve.NewLog(a.env.Err, level, format)
			if err != nil {
				return usageError{err}
			}
			sub, err := a.openSubAgent(cmd.Context(), args[0], cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, sub.Close()) }()
			server := mistify.NewServer(mistify.ServerOptions{Log: log})
			sub.Register(server)
			l, err := mistify.Listen(e)
			if err != nil {
				return err
			}
			log.Info("serving", "subagent", args[0], "address", l.Addr().String())
			serve.Systemd{Log: log}.Ready("serving at %s", l.Addr())
			return server.Serve(cmd.Context(), l)
		},
	}
	c.Flags().IntVar(&e.Port, "port", 9999, "port on the loopback; 0 takes a free one, which the log names")
	c.Flags().StringVar(&e.Socket, "socket", "", "path of a unix socket, instead of a port")
	c.Flags().StringVar(&level, "log-level", slog.LevelInfo.String(), "debug, info, warn or error")
	c.Flags().StringVar(&format, "log-format", "text", "text or json")
	return c
}

// agentTime is how long an agent may take to accept a connection.
const agentTime = 10 * time.Second
