// Package cli is vagoth's command line, over any menu.
//
// # Why
//
// It is a package, and takes its streams and its menu as arguments, so that a
// program with other components has the same command line, and tests run
// commands without a shell.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
)

// Env is where a command reads and writes.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // Out is one, so colours and redrawing make sense
	Ask      bool // In is one, so questions can be asked
	Getenv   func(string) string
	Now      func() time.Time
	Who      string // the source of trails where VAGOTH_SOURCE names none
}

// System is the environment of this process.
func System() Env {
	who := "cli"
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = u.Username
	}
	return Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: term.IsTerminal(int(os.Stdout.Fd())), Ask: term.IsTerminal(int(os.Stdin.Fd())),
		Getenv: os.Getenv, Now: time.Now, Who: who,
	}
}

// usageError is a command that was typed wrongly.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is a failure that has been printed where it happened.
type reportedError struct{ err error }

func (e reportedError) Error() string { return e.err.Error() }
func (e reportedError) Unwrap() error { return e.err }

// Run runs one command and returns its exit code: 0 done, 1 failed, 2 usage,
// 3 not found, 4 conflict.
func Run(ctx context.Context, menu manager.Menu, env Env, args []string) int {
	root := newRoot(&app{menu: menu, env: env})
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return api.ExitOK
	}
	var reported reportedError
	if !errors.As(err, &reported) {
		_, _ = fmt.Fprintf(env.Err, "vagoth: %s\n", printable(err.Error()))
	}
	var usage usageError
	if errors.As(err, &usage) {
		_, _ = fmt.Fprintf(env.Err, "Try: %s --help\n", cmd.CommandPath())
		return api.ExitUsage
	}
	var bad *config.Error
	if errors.As(err, &bad) {
		return api.ExitUsage
	}
	return api.CodeOf(err).Exit
}

// newRoot is the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "vagoth",
		Short: "manage a cluster of hypervisors and what runs on them",
		Long: `vagoth manages a cluster of hypervisors and the virtual machines on them.

What the cluster is made of stands in vagoth.ini. To see it at work with
simulated hypervisors, type: vagoth quickstart`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{suggestFlag(cmd, err)} })
	a.globalFlags(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "To begin:"},
		&cobra.Group{ID: "nodes", Title: "Nodes:"},
		&cobra.Group{ID: "vm", Title: "Virtual machines:"},
		&cobra.Group{ID: "hosts", Title: "Hypervisors:"},
		&cobra.Group{ID: "jobs", Title: "Jobs:"},
		&cobra.Group{ID: "store", Title: "Store, configuration and daemon:"},
	)
	group := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
		}
		root.AddCommand(cmds...)
	}
	group("start", quickstartCmd(a), statusCmd(a), versionCmd(a))
	group("nodes", newCmd(a), listCmd(a), treeCmd(a), infoCmd(a), setCmd(a), renameCmd(a), deleteCmd(a), blobCmd(a))
	group("vm", verbCmds(a)...)
	group("vm", whyCmd(a), doCmd(a), snapshotCmd(a), diskCmd(a), metricsCmd(a), consoleCmd(a))
	group("hosts", hvCmd(a), pollCmd(a), imageCmd(a))
	group("jobs", jobsCmd(a), queueCmd(a), packageCmd(a), eventsCmd(a))
	group("store", registryCmd(a), schedulerCmd(a), configCmd(a), componentsCmd(a), serveCmd(a), tokenCmd(a), agentCmd(a), subagentCmd(a))
	root.SetHelpCommandGroupID("store")
	root.SetCompletionCommandGroupID("store")
	a.complete(root)
	return root
}
