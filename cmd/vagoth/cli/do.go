package cli

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/registry"
)

// doCmd runs any action by its name, such as one of [actions].
func doCmd(a *app) *cobra.Command {
	var given []string
	b := bulk{app: a, how: "done"}
	w := waiting{app: a}
	o := order{bulk: &b, wait: &w, logs: true}
	c := &cobra.Command{
		Use: "do ACTION NODE...", Short: "run an action of [actions], or a built-in one by its name",
		Long: `Run an action by its name, as a job on each node's own queue. The actions are those
of [actions] in vagoth.ini and the built-in ones, such as vm_start. --arg reaches a
command of [actions] in its params.args. What it logs goes to standard error, its
result is shown with -o json.`,
		Example: `  vagoth do notify web1 --arg channel=ops
  vagoth do vm_poll --tag role=web -o json`,
		Args: args(1, -1, "an action, then nodes"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.action = args[0]
			if o.params, err = argParams(given); err != nil {
				return err
			}
			return o.run(cmd, args[1:])
		},
	}
	b.flags(c.Flags())
	w.flags(c.Flags())
	c.Flags().StringArrayVar(&given, "arg", nil, "an argument, KEY=VALUE; VALUE is JSON or text; may be repeated")
	return c
}

func argParams(given []string) (registry.Document, error) {
	if len(given) == 0 {
		return registry.Document{}, nil
	}
	all := metaPatch(given, nil)
	data, err := json.Marshal(map[string]any{"args": all})
	if err != nil {
		return registry.Document{}, err
	}
	return registry.ParseDocument(data)
}
