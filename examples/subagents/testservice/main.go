// Command testservice is a sub-agent that implements every action, of a host
// that is only in its memory: guests, images, snapshots and metrics.
//
//	go run ./examples/subagents/testservice -port 9999
//
// agent.json beside it is the config of an agent that uses it for everything.
// It is there to try an agent and its clients without a hypervisor, and to test
// what they do when a sub-agent misbehaves: a stage's args in the config tell it
// to (see misbehave), and -record notes every call.
//
// It says on its standard output where it listens, so -port 0 can be used.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "testservice:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, logs io.Writer) (err error) {
	flags := flag.NewFlagSet("testservice", flag.ContinueOnError)
	flags.SetOutput(logs)
	var e mistify.Endpoint
	flags.IntVar(&e.Port, "port", 9999, "the port on loopback; 0 takes a free one")
	flags.StringVar(&e.Socket, "socket", "", "the path of a unix socket, instead of a port")
	record := flags.String("record", "", "the file to which every call is added as a line of JSON")
	delay := flags.Duration("delay", 0, "how long every action on a guest takes")
	size := flags.Int64("download-size", 0, "how many bytes a snapshot has; 0 is the six of foobar")
	verbose := flags.Bool("verbose", false, "log calls that fail")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if e.Socket != "" {
		e.Port = 0
	}
	level := slog.LevelError
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))

	h := newHost(*delay, *size)
	if *record != "" {
		f, err := os.OpenFile(*record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("cannot record calls: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		h.record = f
	}
	s := mistify.NewServer(mistify.ServerOptions{Log: log, Grace: 2 * time.Second})
	h.register(s)
	ln, err := mistify.Listen(e)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening on %s\n", ln.Addr())
	return s.Serve(ctx, ln)
}
