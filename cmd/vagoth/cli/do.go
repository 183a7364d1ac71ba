package cli

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
)

// doCmd runs any action by its name, such as one of [actions].
func doCmd(a *app) *cobra.Command {
	var given, params []string
	b := bulk{app: a, how: "done"}
	w := waiting{app: a}
	o := order{bulk: &b, wait: &w, logs: true}
	c := &cobra.Command{
		Use: "do ACTION NODE...", Short: "run an action of [actions], or a built-in one by its name",
		Long: `Run an action by its name, as a job on each node's own queue. The actions are those
of [actions] in vagoth.ini and the built-in ones, such as vm_start. --param sets a
parameter, of the type that the action declares; --arg reaches a command of
[actions] in its params.args. What it logs goes to standard error, its result is
shown with -o json.`,
		Example: `  vagoth do notify web1 --arg channel=ops
  vagoth do resize web1 --param size=20
  vagoth do vm_poll --tag role=web -o json`,
		Args: args(1, -1, "an action, then nodes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.action = args[0]
			if err := checkPairs("--param", params); err != nil {
				return err
			}
			if err := checkPairs("--arg", given); err != nil {
				return err
			}
			o.prepare = func(ctx context.Context, client *api.Client) (err error) {
				if o.params, err = actionParams(ctx, client, o.action, params); err == nil {
					o.params, err = withArgs(o.params, given)
				}
				return err
			}
			return o.run(cmd, args[1:])
		},
	}
	b.flags(c.Flags())
	w.flags(c.Flags())
	c.Flags().StringArrayVar(&params, "param", nil, "a parameter of the action, KEY=VALUE; may be repeated")
	c.Flags().StringArrayVar(&given, "arg", nil, "an argument of a command, KEY=VALUE; VALUE is JSON or text; may be repeated")
	return c
}

// withArgs adds what --arg gives, beside what the parameter args has.
func withArgs(doc registry.Document, given []string) (registry.Document, error) {
	if len(given) == 0 {
		return doc, nil
	}
	var has struct {
		Args map[string]json.RawMessage `json:"args"`
	}
	if err := doc.Decode(&has); err != nil {
		return doc, usagef("--param args: it is no object, which --arg could add to: %w", err)
	}
	all := map[string]any{}
	for k, v := range has.Args {
		all[k] = v
	}
	for _, pair := range given {
		k, text, _ := strings.Cut(pair, "=")
		all[k] = looseValue(text)
	}
	return doc.Merge(map[string]any{"args": all})
}
