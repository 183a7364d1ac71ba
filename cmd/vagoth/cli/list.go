package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
)

func listCmd(a *app) *cobra.Command {
	var sel selector
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "list nodes",
		Example: `  vagoth list --type vm --state running
  vagoth list --tag role=web -o name
  vagoth list --parent hv1 --watch`,
		Args: args(0, 0, "no arguments; use --name and other flags to choose"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := sel.get()
			if err != nil {
				return err
			}
			show := func(ctx context.Context, client *api.Client) error {
				items, err := collect(ctx, client, q)
				if err != nil {
					return err
				}
				return a.printItems(items)
			}
			if watch {
				return a.watch(cmd, every, show)
			}
			return a.with(cmd, show)
		},
	}
	sel.flags(c.Flags())
	c.Flags().IntVar(&sel.query.Limit, "limit", 0, "at most so many; 0 is all")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again; other commands can run in between")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: the time between")
	return c
}

func collect(ctx context.Context, client *api.Client, q registry.Query) ([]api.Item, error) {
	items := []api.Item{}
	for it, err := range client.Nodes(ctx, q) {
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// watch runs show with the cluster opened afresh each time, so that it keeps
// nobody out in between. Being interrupted is its normal end.
func (a *app) watch(cmd *cobra.Command, every time.Duration, show func(context.Context, *api.Client) error) error {
	if every < 100*time.Millisecond {
		return usagef("--every %s is too short: use at least 100ms", every)
	}
	ctx, cancel, err := a.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	for {
		if a.env.Terminal {
			if _, err := io.WriteString(a.env.Out, "\x1b[H\x1b[2J"); err != nil {
				return err
			}
		}
		if err := a.once(ctx, show); err != nil {
			return ended(ctx, err)
		}
		select {
		case <-ctx.Done():
			return ended(ctx, ctx.Err())
		case <-time.After(every):
		}
	}
}

// ended is nil if err only says that the person had enough.
func ended(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// printItems shows nodes. Those of one type have that type's columns; of
// several types, the columns that all have.
func (a *app) printItems(items []api.Item) error {
	names := make([]string, len(items))
	for i, it := range items {
		names[i] = it.Node.Name()
	}
	return a.print(items, names, func(w io.Writer) error {
		t := &table{head: []string{"NAME", "TYPE", "STATE"}}
		common := a.columns(items)
		for _, c := range common {
			t.head = append(t.head, strings.ToUpper(c))
		}
		if a.output == "wide" {
			t.head = append(t.head, "TENANT", "TAGS", "ID")
		}
		for _, it := range items {
			row := []string{it.Node.Name(), it.Node.Type(), stateText(it)}
			for _, c := range common {
				row = append(row, cell(it, c))
			}
			if a.output == "wide" {
				row = append(row, dash(it.Node.Tenant()), dash(tagText(it.Node)), it.Node.ID())
			}
			t.add(row...)
		}
		if len(t.rows) == 0 {
			a.say("no nodes match")
			return nil
		}
		return t.write(w, a.paint)
	})
}

func (a *app) columns(items []api.Item) (common []string) {
	if len(items) == 0 {
		return nil
	}
	for _, c := range items[0].View {
		everywhere := !c.Wide || a.output == "wide"
		for _, it := range items {
			if everywhere {
				_, everywhere = findCell(it, c.Column)
			}
		}
		if everywhere {
			common = append(common, c.Column)
		}
	}
	return common
}

func findCell(it api.Item, column string) (string, bool) {
	for _, c := range it.View {
		if c.Column == column {
			return c.Value, true
		}
	}
	return "", false
}

// cell is a column's value; hosts are shown by name.
func cell(it api.Item, column string) string {
	v, _ := findCell(it, column)
	if v != "" && v == it.Node.Parent() && it.ParentName != "" {
		return it.ParentName
	}
	return dash(v)
}

// stateText is a state and, where it is not known, since when at the latest.
func stateText(it api.Item) string {
	s := dash(it.Node.State())
	if it.Alarm != "" {
		s += " !"
	}
	if it.Seen != nil && (s == "unknown" || s == "unreachable" || s == "missing") {
		s += " (seen " + ago(it.Seen.Age) + " ago)"
	}
	return s
}

func tagText(n *registry.Node) string {
	tags := make([]string, 0, n.NumTags())
	for i := range n.NumTags() {
		t := n.TagAt(i)
		if t.Value != "" {
			t.Key += "=" + t.Value
		}
		tags = append(tags, t.Key)
	}
	return strings.Join(tags, ",")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
