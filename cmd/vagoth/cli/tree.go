package cli

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
)

// branch is a node with what stands on it.
type branch struct {
	api.Item
	Children []*branch `json:"children,omitempty"`
}

func treeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tree [NODE]", Short: "show what stands on what",
		Args: args(0, 1, "at most one node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				return a.tree(ctx, client, args...)
			})
		},
	}
}

// tree prints the whole forest, or the tree below one node.
func (a *app) tree(ctx context.Context, client *api.Client, root ...string) error {
	items, err := collect(ctx, client, registry.Query{})
	if err != nil {
		return err
	}
	forest := grow(items)
	if len(root) > 0 {
		it, err := client.Node(ctx, root[0])
		if err != nil {
			return err
		}
		forest = []*branch{forestFind(forest, it.Node.ID(), it)}
	}
	var names []string
	for _, it := range items {
		names = append(names, it.Node.Name())
	}
	return a.print(forest, names, func(w io.Writer) error {
		if len(forest) == 0 {
			a.say("the cluster is empty: add a hypervisor with vagoth hv add")
		}
		for _, b := range forest {
			if err := a.drawBranch(w, b, "", ""); err != nil {
				return err
			}
		}
		return nil
	})
}

// grow joins children to their parents. Nodes with something below them come
// first, each level by name.
func grow(items []api.Item) []*branch {
	all := make(map[string]*branch, len(items))
	for _, it := range items {
		all[it.Node.ID()] = &branch{Item: it}
	}
	var roots []*branch
	for _, it := range items {
		b := all[it.Node.ID()]
		if p, ok := all[it.Node.Parent()]; ok {
			p.Children = append(p.Children, b)
		} else {
			roots = append(roots, b)
		}
	}
	for _, b := range all {
		sortBranches(b.Children)
	}
	sortBranches(roots)
	return roots
}

func sortBranches(list []*branch) {
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if (a.Node.Type() == "hv") != (b.Node.Type() == "hv") {
			return a.Node.Type() == "hv"
		}
		return a.Node.Name() < b.Node.Name()
	})
}

func forestFind(forest []*branch, id string, it api.Item) *branch {
	for _, b := range forest {
		if b.Node.ID() == id {
			return b
		}
		if found := forestFind(b.Children, id, it); found.Children != nil || found.Node != it.Node {
			return found
		}
	}
	return &branch{Item: it}
}

func (a *app) drawBranch(w io.Writer, b *branch, first, rest string) error {
	var more []string
	for _, c := range b.View {
		if !c.Wide && c.Column != "host" && c.Value != "-" && c.Value != "" {
			more = append(more, c.Column+" "+c.Value)
		}
	}
	line := fmt.Sprintf("%s%s  %s", first, b.Node.Name(), a.paintState(stateText(b.Item)))
	if len(more) > 0 {
		line += "  (" + strings.Join(more, ", ") + ")"
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return err
	}
	for i, c := range b.Children {
		mark, below := "├─ ", "│  "
		if i == len(b.Children)-1 {
			mark, below = "└─ ", "   "
		}
		if err := a.drawBranch(w, c, rest+mark, rest+below); err != nil {
			return err
		}
	}
	return nil
}
