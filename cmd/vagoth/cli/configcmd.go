package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

func configCmd(a *app) *cobra.Command {
	check := &cobra.Command{
		Use: "check [FILE]", Short: "check the configuration, and open nothing", Args: args(0, 1, "at most one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := append(slices.Clone(args), a.config)[0]
			if err := a.checkOutput(); err != nil {
				return err
			}
			f, err := config.Load(path)
			if err != nil {
				return err
			}
			s, err := manager.Read(f, a.menu)
			if err != nil {
				return err
			}
			return a.print(s.Choices, nil, func(w io.Writer) error {
				if _, err := fmt.Fprintf(w, "%s is valid\n", path); err != nil {
					return err
				}
				for _, c := range s.Choices {
					if _, err := fmt.Fprintf(w, "  %-16s %s\n", c.Section, c.Kind); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	example := &cobra.Command{
		Use: "example", Short: "print a vagoth.ini with every key, its help and its default", Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return manager.WriteExample(a.env.Out, a.menu) },
	}
	return parent("config", "check the configuration, or print an example", check, example)
}

func componentsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "components [NAME]", Short: "list the components that vagoth.ini can name, with their keys", Args: args(0, 1, "at most one name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			type described struct {
				Contract string            `json:"contract"`
				Name     string            `json:"name"`
				Default  bool              `json:"default,omitempty"`
				Help     string            `json:"help"`
				Keys     []component.Field `json:"keys"`
			}
			var list []described
			var comps []component.Component
			var names []string
			for _, e := range a.menu.Entries() {
				names = append(names, e.Name)
				if len(args) == 0 || e.Name == args[0] || e.Contract == args[0] {
					list = append(list, described{e.Contract, e.Name, e.Chosen, e.Help(), e.Fields()})
					comps = append(comps, e)
				}
			}
			if len(list) == 0 {
				return usagef("there is no component %q: there are %v", args[0], names)
			}
			return a.print(list, names, func(w io.Writer) error { return component.WriteTable(w, comps) })
		},
	}
}
