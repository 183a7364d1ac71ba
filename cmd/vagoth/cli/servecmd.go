package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/cmd/vagoth/serve"
)

func serveCmd(a *app) *cobra.Command {
	var check bool
	var o serve.Options
	c := &cobra.Command{
		Use: "serve", Short: "run the manager as a daemon",
		Long: `Run the manager as a daemon: it runs jobs and polls hypervisors, and serves the
management interface on a unix socket in the data directory and, if [serve] says
so, on the network. The other commands find it by its socket.

SIGTERM or SIGINT ends it: jobs that run are handed back and begin again with
the next start. A second one ends it at once. SIGHUP reloads the configuration.`,
		Example: `  vagoth serve --check
  vagoth serve --log-level debug --log-format json`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.server != "" && cmd.Flags().Changed("server") {
				return usagef("serve is the daemon itself: leave --server out")
			}
			o.Load = a.settings
			if check {
				s, err := o.Load()
				if err != nil {
					return err
				}
				if err := serve.Check(s); err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.env.Out, "%s is valid\n", a.config)
				return err
			}
			o.Version, o.LogTo, o.Now, o.LockWait = version(), a.env.Err, a.env.Now, a.lockWait
			if !cmd.Flags().Changed("lock-wait") {
				o.LockWait = time.Minute // commands that run meanwhile come to their end
			}
			if a.verbose && o.Level == "" {
				o.Level = "debug"
			}
			return signalled(cmd.Context(), func(ctx context.Context, reload, abort <-chan struct{}) error {
				o.Reload, o.Abort = reload, abort
				return serve.Run(ctx, o)
			})
		},
	}
	c.Flags().BoolVar(&check, "check", false, "only check the configuration, with the files that it names")
	c.Flags().StringVar(&o.Level, "log-level", "", "debug, info, warn or error; what [serve] says if not given")
	c.Flags().StringVar(&o.Format, "log-format", "", "text or json; what [serve] says if not given")
	return c
}

// signalled runs a daemon until a signal ends it: the first by the context, a
// second by abort. SIGHUP is a wish to reload.
func signalled(ctx context.Context, run func(ctx context.Context, reload, abort <-chan struct{}) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	reload, abort := make(chan struct{}, 1), make(chan struct{})
	done := make(chan struct{})
	turned := make(chan struct{})
	go func() {
		defer close(turned)
		ends := 0
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if s == syscall.SIGHUP {
					select {
					case reload <- struct{}{}:
					default: // one is waiting already, and reads the file as it is then
					}
					continue
				}
				if ends++; ends == 1 {
					cancel()
				} else if ends == 2 {
					close(abort)
				}
			}
		}
	}()
	err := run(ctx, reload, abort)
	close(done)
	<-turned
	return err
}
