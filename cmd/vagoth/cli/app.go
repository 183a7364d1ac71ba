package cli

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/trail"
)

// app is what the commands share: the menu, the streams and the global flags.
type app struct {
	menu manager.Menu
	env  Env

	config   string
	lockWait time.Duration
	timeout  time.Duration
	reason   string
	output   string
	verbose  bool
	noColor  bool

	consistent bool

	server, tokenFile, ca, cert, key string // of a daemon elsewhere

	through bool // the command under way speaks to a daemon
	warned  bool // of the daemon's version
}

func (a *app) globalFlags(f *pflag.FlagSet) {
	path := a.env.Getenv("VAGOTH_CONFIG")
	if path == "" {
		path = "vagoth.ini"
	}
	f.StringVarP(&a.config, "config", "c", path, "configuration file; VAGOTH_CONFIG sets the default")
	f.DurationVar(&a.lockWait, "lock-wait", 10*time.Second, "how long to wait for another vagoth that uses the data directory")
	f.DurationVar(&a.timeout, "timeout", 0, "give the command up after this time; 0 is never")
	f.StringVar(&a.reason, "reason", "", "why: kept with every change that the command makes")
	f.StringVarP(&a.output, "output", "o", "table", "table, wide, json, yaml or name")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log to standard error what is done")
	f.StringVar(&a.server, "server", a.env.Getenv("VAGOTH_URL"), "a daemon elsewhere, such as https://manager:8443; VAGOTH_URL sets the default")
	f.BoolVar(&a.consistent, "consistent", false, "see all that any manager acknowledged before: where several share a registry, the one that is asked catches up first")
	f.StringVar(&a.tokenFile, "token-file", "", "with --server: file with the token to show; VAGOTH_TOKEN holds the token itself")
	f.StringVar(&a.ca, "ca", a.env.Getenv("VAGOTH_CA"), "with --server: certificates, in PEM, that sign the daemon's, or else the system's; VAGOTH_CA")
	f.StringVar(&a.cert, "cert", a.env.Getenv("VAGOTH_CERT"), "with --server: a client certificate to show, in PEM; VAGOTH_CERT")
	f.StringVar(&a.key, "cert-key", a.env.Getenv("VAGOTH_CERT_KEY"), "with --server: its key; VAGOTH_CERT_KEY")
	f.BoolVar(&a.noColor, "no-color", a.env.Getenv("NO_COLOR") != "", "no colours on a terminal; NO_COLOR does the same")
}

// log is where components write; silent unless asked for, but for warnings.
func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.env.Err, &slog.HandlerOptions{Level: level}))
}

// with reaches the cluster, runs fn with a client of it and a context that
// carries the trail, and lets go of it.
func (a *app) with(cmd *cobra.Command, fn func(ctx context.Context, c *api.Client) error) error {
	ctx, cancel, err := a.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	return a.once(ctx, fn)
}

// once is with, for a command that reaches the cluster again and again. Without
// a daemon the jobs that fn submits are run until it returns, and no others.
func (a *app) once(ctx context.Context, fn func(ctx context.Context, c *api.Client) error) (err error) {
	r, err := a.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	a.through = r.daemon
	client := r.client
	if a.consistent {
		client = client.Consistent()
	}
	return fn(ctx, client)
}

// daemon reports, inside with and once, whether a daemon does the work. Without
// one nobody goes on when the command has ended.
func (a *app) daemon() bool { return a.through }

// context is the command's, with its timeout and its trail.
func (a *app) context(cmd *cobra.Command) (context.Context, context.CancelFunc, error) {
	if err := a.checkOutput(); err != nil {
		return nil, nil, err
	}
	who := a.env.Getenv("VAGOTH_SOURCE")
	if who == "" {
		who = a.env.Who
	}
	t := trail.New(who, a.reason)
	if err := t.Validate(); err != nil {
		return nil, nil, usageError{err}
	}
	ctx := trail.With(cmd.Context(), t)
	if a.timeout <= 0 {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	return ctx, cancel, nil
}

// version is that of the module, as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") && len(s.Value) >= 12 {
			v = "devel-" + s.Value[:12]
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	return v
}

// args checks the number of arguments; what names them in the message.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s: name %s", cmd.CommandPath(), what)
		case most >= 0 && len(args) > most:
			return usagef("%s: %q is one argument too many: it takes %s", cmd.CommandPath(), args[most], what)
		}
		return nil
	}
}

func unknownCommand(cmd *cobra.Command, word string) error {
	names := func(yield func(string) bool) {
		for _, c := range cmd.Commands() {
			if !yield(c.Name()) {
				return
			}
		}
	}
	if s := component.DidYouMean(word, names); s != "" {
		return usagef("%s has no command %q (%s)", cmd.CommandPath(), word, s)
	}
	return usagef("%s has no command %q", cmd.CommandPath(), word)
}

// parent makes a command that only has others below it.
func parent(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}}
	c.AddCommand(below...)
	return c
}
