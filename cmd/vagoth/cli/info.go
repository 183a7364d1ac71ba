package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func infoCmd(a *app) *cobra.Command {
	var live bool
	c := &cobra.Command{
		Use: "info NODE", Short: "show all that is known of a node",
		Args: args(1, 1, "one node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				it, err := client.Node(ctx, args[0])
				if err != nil {
					return err
				}
				out := struct {
					api.Item
					Live *virt.Info         `json:"live,omitempty"`
					Jobs []scheduler.Status `json:"jobs,omitempty"`
				}{Item: it}
				// A worker's token may not ask, and a scheduler without queues has none.
				out.Jobs, _ = client.Jobs(ctx, scheduler.Filter{Queue: it.Node.ID(), States: unsettled(), Limit: infoJobs})
				if live {
					i, err := client.Info(ctx, args[0])
					if err != nil {
						return err
					}
					out.Live = &i
				}
				return a.print(out, []string{it.Node.Name()}, func(w io.Writer) error { return a.describe(w, it, out.Live, out.Jobs) })
			})
		},
	}
	c.Flags().BoolVar(&live, "live", false, "ask its host as well, now")
	return c
}

// infoJobs is how many jobs of a node are shown.
const infoJobs = 5

func (a *app) describe(w io.Writer, it api.Item, live *virt.Info, jobs []scheduler.Status) error {
	n := it.Node
	rows := [][2]string{{"name", n.Name()}, {"id", n.ID()}, {"type", n.Type()}, {"state", a.paintState(stateText(it))}}
	add := func(k, v string) {
		if v != "" && v != "-" {
			rows = append(rows, [2]string{k, v})
		}
	}
	add("alarm", it.Alarm)
	add("tenant", n.Tenant())
	if n.Parent() != "" {
		add("on", it.ParentName+" ("+n.Parent()+")")
	}
	for _, c := range it.View {
		if c.Column != "host" {
			add(c.Column, c.Value)
		}
	}
	if it.Seen != nil {
		add("last seen", fmt.Sprintf("%s (%s ago, or later) %s", it.Seen.At.Format(time.RFC3339), ago(it.Seen.Age), it.Seen.Reason))
	}
	for _, st := range jobs {
		text := what(st)
		if text == string(st.State) {
			text = ""
		}
		add("job", trimmed(st.ID, st.Action, string(st.State), text))
	}
	add("tags", tagText(n))
	add("keys", strings.Join(n.Keys(), ", "))
	for _, b := range n.Blobs() {
		add("blob", fmt.Sprintf("%s (%d bytes)", b.Key, b.Size))
	}
	add("created", n.CreatedAt().Format(time.RFC3339))
	changed := n.UpdatedAt().Format(time.RFC3339)
	if t := n.Changed(); t.Source != "" {
		changed += " by " + t.Source
		if t.Reason != "" {
			changed += " (" + t.Reason + ")"
		}
		changed += " in " + t.Transaction
	}
	add("changed", changed)
	add("revision", fmt.Sprint(n.Revision()))
	if live != nil {
		add("live state", a.paintState(string(live.State)))
		add("live CPU time", live.CPUTime.String())
		add("console", live.Console)
		add("vnc", live.VNC)
		add("addresses", strings.Join(live.Addresses, ", "))
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-14s%s\n", r[0], r[1]); err != nil {
			return err
		}
	}
	for _, doc := range []struct{ name, text string }{{"definition", n.Definition().String()}, {"metadata", n.Metadata().String()}} {
		if doc.text == "{}" {
			continue
		}
		text, err := yaml.JSONToYAML(json.RawMessage(doc.text))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n  %s\n", doc.name, strings.ReplaceAll(strings.TrimRight(string(text), "\n"), "\n", "\n  ")); err != nil {
			return err
		}
	}
	return nil
}
