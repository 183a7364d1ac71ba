// Command simple is the least that a sub-agent is: one method, which greets a
// guest in its metadata.
//
//	go run ./examples/subagents/simple -port 9998
//
// An agent uses it as a stage of an action, before or behind others:
//
//	[agent.service.simple]
//	port = 9998
//	[agent.action.create]
//	stage.1 = simple Simple.Greet greeting=welcome
//
// simple.py in the folder above is the same in Python.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "simple:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("simple", flag.ContinueOnError)
	port := flags.Int("port", 9998, "the port on loopback; 0 takes a free one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := mistify.NewServer(mistify.ServerOptions{Log: log})
	mistify.Register(s, "Simple.Greet", func(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		return greet(ctx, log, r)
	})
	ln, err := mistify.Listen(mistify.Endpoint{Port: *port})
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", ln.Addr())
	return s.Serve(ctx, ln)
}

// greet may be called again for a guest that it has greeted: that changes
// nothing, so its stage can be marked idempotent.
func greet(ctx context.Context, log *slog.Logger, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	g := r.Guest
	if g == nil {
		return nil, fmt.Errorf("%w request: it has no guest", virt.ErrInvalid)
	}
	greeting := r.Args["greeting"]
	if greeting == "" {
		greeting = "hello"
	}
	if g.Metadata == nil {
		g.Metadata = map[string]string{}
	}
	g.Metadata["greeting"] = greeting
	log.Info("greeted", "guest", g.ID, "action", r.Action, "trail", trail.From(ctx))
	return &mistify.GuestResponse{Guest: g, Message: "greeted with " + greeting}, nil
}
