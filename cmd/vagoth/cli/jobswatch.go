package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
)

func jobsWatchCmd(a *app) *cobra.Command {
	var queue, pack string
	var every time.Duration
	c := &cobra.Command{
		Use: "watch [JOB...]", Short: "follow jobs until they have ended",
		Long: `Follow jobs until all of them have ended or are parked, and fail as they do: the named
ones, those of a queue or of a package, or all that have not ended. What is queued
meanwhile is followed too, unless jobs are named. On a terminal the jobs are drawn
again and again; elsewhere each change is a line, and with -o json an object. A
daemon tells of each change; without one the command looks again and again.`,
		Example: `  vagoth jobs watch
  vagoth jobs watch --queue web1`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && queue+pack != "", queue != "" && pack != "":
				return usagef("%s: name jobs, or a queue, or a package", cmd.CommandPath())
			case a.output == "yaml" || a.output == "name":
				return usagef("%s prints changes: leave -o %s out, or use json", cmd.CommandPath(), a.output)
			}
			w := jobsWatch{app: a, ids: args, filter: scheduler.Filter{Queue: queue, Package: pack}, known: map[string]scheduler.Status{}}
			events := api.EventFilter{Jobs: true, Queue: queue, Package: pack}
			if len(args) == 1 {
				events.Job = args[0]
			}
			if err := a.follow(cmd, every, events, &w); err != nil {
				return err
			}
			return w.failure()
		},
	}
	c.Flags().StringVar(&queue, "queue", "", "the jobs of the queue")
	c.Flags().StringVar(&pack, "package", "", "the jobs of the package")
	c.Flags().DurationVar(&every, "every", time.Second, "the time between two looks, or between two drawings")
	return c
}

// jobsWatch is what has been seen of the jobs that are watched.
type jobsWatch struct {
	app    *app
	ids    []string
	filter scheduler.Filter // where no jobs are named

	order  []string
	known  map[string]scheduler.Status
	left   int // that have not settled
	stale  bool
	hinted bool
}

// draws reports whether the jobs are drawn again and again.
func (w *jobsWatch) draws() bool { return w.app.env.Terminal && w.app.output != "json" }

// look asks for what has changed, and reports whether all have settled.
func (w *jobsWatch) look(ctx context.Context, client *api.Client) (bool, error) {
	now, err := w.ask(ctx, client)
	if err != nil {
		return false, err
	}
	for _, st := range now {
		if err := w.note(st); err != nil {
			return false, err
		}
	}
	if err := w.draw(); err != nil {
		return false, err
	}
	if len(w.known) == 0 {
		w.app.say("no jobs match")
	}
	if w.left > 0 && !w.app.daemon() && !w.hinted {
		w.hinted = true
		w.app.say("no daemon works on them: start vagoth serve")
	}
	return w.left == 0, nil
}

// take notes a change that the daemon tells of. It may be older than what a look
// has found meanwhile: so a job that seems to go back is asked about.
func (w *jobsWatch) take(ctx context.Context, client *api.Client, st scheduler.Status) (bool, error) {
	if len(w.ids) > 0 && !slices.Contains(w.ids, st.ID) {
		return false, nil
	}
	if before, seen := w.known[st.ID]; seen && stage(st) < stage(before) {
		now, err := client.Job(ctx, st.ID)
		switch {
		case err == nil:
			st = now
		case !errors.Is(err, scheduler.ErrNotFound): // else it has ended long ago
			return false, err
		}
	} else if !seen && len(w.order) >= maxListed {
		return false, nil
	}
	if err := w.note(st); err != nil {
		return false, err
	}
	if w.left > 0 {
		return false, nil
	}
	return true, w.draw()
}

// tick draws what was told since the last time.
func (w *jobsWatch) tick() (bool, error) {
	if !w.stale {
		return false, nil
	}
	return false, w.draw()
}

// stage is how far a job has come.
func stage(st scheduler.Status) int {
	switch {
	case settled(st):
		return 2
	case st.State == scheduler.Running:
		return 1
	}
	return 0
}

// note keeps how a job stands, and prints it where that is not drawn.
func (w *jobsWatch) note(st scheduler.Status) error {
	before, seen := w.known[st.ID]
	if !seen {
		w.order = append(w.order, st.ID)
	}
	if seen && !settled(before) {
		w.left--
	}
	if !settled(st) {
		w.left++
	}
	w.known[st.ID], w.stale = st, true
	if w.draws() || seen && changeText(before) == changeText(st) {
		return nil
	}
	return w.line(st)
}

// ask returns the jobs that are watched, apart from those that have ended
// before: all that are named, or all that match and have not settled, and
// those that did since the last look.
func (w *jobsWatch) ask(ctx context.Context, client *api.Client) ([]scheduler.Status, error) {
	var now []scheduler.Status
	asked := map[string]bool{}
	get := func(id string) error {
		if st, seen := w.known[id]; asked[id] || seen && st.State.Ended() {
			return nil
		}
		st, err := client.Job(ctx, id)
		if err != nil {
			return err
		}
		now, asked[id] = append(now, st), true
		return nil
	}
	if len(w.ids) > 0 {
		for _, id := range w.ids {
			if err := get(id); err != nil {
				return nil, err
			}
		}
		return now, nil
	}
	f := w.filter
	if f.Package == "" || len(w.known) > 0 {
		f.States = unsettled() // of a package, those that ended before count too
	}
	for st, err := range client.AllJobs(ctx, f, time.Time{}) {
		if err != nil {
			return nil, err
		}
		if len(now) < maxListed {
			now, asked[st.ID] = append(now, st), true
		}
	}
	for _, id := range w.order {
		if err := get(id); err != nil && !errors.Is(err, scheduler.ErrNotFound) {
			return nil, err
		}
	}
	return now, nil
}

func changeText(st scheduler.Status) string { return string(st.State) + " " + what(st) }

func (w *jobsWatch) line(st scheduler.Status) error {
	if w.app.output == "json" {
		return json.NewEncoder(w.app.env.Out).Encode(st)
	}
	text := what(st)
	if text == string(st.State) {
		text = ""
	}
	_, err := fmt.Fprintln(w.app.env.Out, trimmed(st.ID, st.Queue, st.Action, string(st.State), text))
	return err
}

func trimmed(words ...string) string {
	text := ""
	for _, word := range words {
		if word == "" {
			continue
		}
		if text != "" {
			text += " "
		}
		text += word
	}
	return text
}

// drawnJobs is how many jobs are drawn.
const drawnJobs = 30

// draw shows, on a terminal, the jobs that move, and behind them those that have
// ended, the last ones first.
func (w *jobsWatch) draw() error {
	w.stale = false
	if !w.draws() {
		return nil
	}
	var list []scheduler.Status
	failed := 0
	for _, moving := range []bool{true, false} {
		for i := range w.order {
			st := w.known[w.order[len(w.order)-1-i]]
			if moving {
				st = w.known[w.order[i]]
			}
			if settled(st) == moving {
				continue
			}
			if settled(st) && st.State != scheduler.Succeeded {
				failed++
			}
			if len(list) < drawnJobs {
				list = append(list, st)
			}
		}
	}
	if _, err := io.WriteString(w.app.env.Out, "\x1b[H\x1b[2J"); err != nil {
		return err
	}
	if err := w.app.jobTable(w.app.env.Out, list); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w.app.env.Out, "\n%d of %d ended, %d failed\n", len(w.order)-w.left, len(w.order), failed)
	return err
}

// failure is the worst of those of the jobs.
func (w *jobsWatch) failure() error {
	var errs []error
	for _, id := range w.order {
		j := awaited{st: w.known[id]}
		if !settled(j.st) {
			continue // the person had enough
		}
		errs = append(errs, j.failure())
	}
	err := worst(errs)
	if err == nil {
		return nil
	}
	for _, err := range errs {
		if err != nil {
			w.app.say("%s", err)
		}
	}
	return reportedError{err}
}
