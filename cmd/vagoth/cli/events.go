package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

func eventsCmd(a *app) *cobra.Command {
	var e eventPrinter
	var cursor string
	c := &cobra.Command{
		Use: "events", Short: "follow what changes: a line for each change of a node or a job",
		Long: `Follow what changes from now on, until it is interrupted: a line for each change of a
node or a job, and with -o json an object with its cursor. --cursor resumes behind
such a place. Where changes were lost, as when the daemon was started again, it
says so and goes on; in json that is an object of the type gone. It needs a daemon.`,
		Example: `  vagoth events
  vagoth events --jobs --queue web1
  vagoth events --nodes --type vm -o json`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.output == "yaml" || a.output == "name" {
				return usagef("%s prints lines: leave -o %s out, or use json", cmd.CommandPath(), a.output)
			}
			ctx, cancel, err := a.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			ofJobs := e.filter.Queue+e.filter.Action+e.filter.Package+e.filter.Job != ""
			if !e.filter.Nodes && !e.filter.Jobs { // what is asked of one kind leaves the other out
				e.filter.Nodes, e.filter.Jobs = e.filter.Type != "", ofJobs
			}
			e.app, e.cursor = a, cursor
			return ended(ctx, e.run(ctx))
		},
	}
	f := c.Flags()
	f.StringVar(&cursor, "cursor", "", "begin behind this place, which an earlier event had")
	f.BoolVar(&e.filter.Nodes, "nodes", false, "only nodes, unless --jobs is given too")
	f.BoolVar(&e.filter.Jobs, "jobs", false, "only jobs, unless --nodes is given too")
	f.StringVar(&e.filter.Type, "type", "", "of nodes: those of the type, such as vm")
	f.StringVar(&e.filter.Queue, "queue", "", "of jobs: those of the queue")
	f.StringVar(&e.filter.Action, "action", "", "of jobs: those of the action")
	f.StringVar(&e.filter.Package, "package", "", "of jobs: those of the package")
	f.StringVar(&e.filter.Job, "job", "", "of jobs: this one")
	return c
}

// eventAgain is the time before a daemon that has gone is looked for again.
const eventAgain = time.Second

// eventPrinter follows changes over all that may happen to the connection.
type eventPrinter struct {
	app    *app
	filter api.EventFilter
	cursor string // behind the last that was printed
	began  bool
}

func (e *eventPrinter) run(ctx context.Context) error {
	for away := false; ; {
		r, err := e.app.reachDaemon(ctx)
		switch {
		case err != nil && !e.began, ctx.Err() != nil:
			return firstOf(err, ctx.Err())
		case err == nil && r == nil && !e.began:
			return errors.New("only a daemon tells what changes, and there is none here: start vagoth serve")
		case err == nil && r != nil:
			away = false
			err = errors.Join(e.read(ctx, r.client), r.close())
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return err
			}
		case !away:
			away = true
			e.app.say("the daemon does not answer: waiting for it")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(eventAgain):
		}
	}
}

// read prints what one connection tells. No error says that another may tell
// more.
func (e *eventPrinter) read(ctx context.Context, client *api.Client) error {
	began := false
	for ev, err := range client.Events(ctx, e.cursor, e.filter) {
		switch {
		case err == nil:
			if !e.began && e.app.output != "json" {
				e.app.say("following what changes until Ctrl-C")
			}
			began, e.began = true, true
			e.cursor = ev.Cursor
			if err := e.print(ev); err != nil {
				return err
			}
		case errors.Is(err, registry.ErrCompacted) || errors.Is(err, scheduler.ErrCompacted):
			if !e.began {
				return fmt.Errorf("%w: list what there is, and follow without --cursor", err)
			}
			e.cursor = ""
			return e.lost(err)
		case !began && !e.passes(err):
			return err
		}
	}
	return nil
}

// passes reports whether a connection that did not begin may do so later.
func (e *eventPrinter) passes(err error) bool {
	var said *api.Error
	return e.began && (!errors.As(err, &said) || said.Status >= 500 || said.Status == 429)
}

// lost says that changes were.
func (e *eventPrinter) lost(err error) error {
	if e.app.output == "json" {
		return e.encode(map[string]any{"type": api.EventGone, "message": err.Error()})
	}
	e.app.say("changes were lost (%s): list what there is; what follows is from now on", clean(err.Error()))
	return nil
}

func (e *eventPrinter) encode(v any) error {
	enc := json.NewEncoder(e.app.env.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (e *eventPrinter) print(ev api.Event) error {
	if e.app.output == "json" {
		if ev.Type == api.EventPlace {
			return nil
		}
		return e.encode(struct {
			Type   string            `json:"type"`
			Cursor string            `json:"cursor"`
			Begun  *api.Begun        `json:"begun,omitempty"`
			Node   *api.NodeEvent    `json:"node,omitempty"`
			Job    *scheduler.Status `json:"job,omitempty"`
		}{ev.Type, ev.Cursor, ev.Begun, ev.Node, ev.Job})
	}
	var words string
	switch {
	case ev.Node != nil:
		n := ev.Node.Node
		state := n.State()
		if n.Parent() != "" {
			state = trimmed(state, "on", n.Parent())
		}
		words = trimmed("node", string(ev.Node.Kind), n.Type(), n.Name(), state)
	case ev.Job != nil:
		text := what(*ev.Job)
		if text == string(ev.Job.State) {
			text = ""
		}
		words = trimmed("job ", string(ev.Job.State), ev.Job.Queue, ev.Job.Action, ev.Job.ID, text)
	default:
		return nil
	}
	_, err := fmt.Fprintln(e.app.env.Out, e.app.env.Now().Format(time.RFC3339), printable(words))
	return err
}
