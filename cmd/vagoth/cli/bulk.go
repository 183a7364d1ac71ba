package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/virt"
)

// bulk does one thing to several nodes, named or selected.
type bulk struct {
	app      *app
	sel      selector
	onlyType string // what a selector finds; "" is every type
	destroys string // the verb of a question before; "" asks nothing
	how      string // what was done, such as "started"
	yes      bool
	parallel int
	before   func() error // may refuse, once the cluster is reached
}

func (b *bulk) flags(f *pflag.FlagSet) {
	b.sel.flags(f)
	f.BoolVar(&b.sel.all, "all", false, "every node that there is to choose from")
	f.IntVar(&b.parallel, "parallel", 8, "how many at once")
	if b.destroys != "" {
		f.BoolVarP(&b.yes, "yes", "y", false, "do not ask")
	}
}

// doing handles one node. It returns what json shows, and words for people.
type doing func(ctx context.Context, client *api.Client, it api.Item) (result any, words string, err error)

// run does one thing to each node, several at once.
func (b *bulk) run(cmd *cobra.Command, names []string, do doing) error {
	return b.on(cmd, names, func(ctx context.Context, client *api.Client, items []api.Item) error {
		return b.each(ctx, client, items, do)
	})
}

// on finds the nodes, asks whether it may, and goes on with them.
func (b *bulk) on(cmd *cobra.Command, names []string, do func(context.Context, *api.Client, []api.Item) error) error {
	if b.parallel < 1 || b.parallel > 256 {
		return usagef("--parallel %d: use 1 to 256", b.parallel)
	}
	q, err := b.sel.get()
	if err != nil {
		return err
	}
	selects := !q.IsEmpty() || b.sel.all
	switch {
	case len(names) > 0 && selects:
		return usagef("%s: name nodes or select them with flags, not both", cmd.CommandPath())
	case len(names) == 0 && !selects:
		return usagef("%s: name nodes, or select them with flags such as --tag; --all is every one", cmd.CommandPath())
	}
	return b.app.with(cmd, func(ctx context.Context, client *api.Client) error {
		if b.before != nil {
			if err := b.before(); err != nil {
				return err
			}
		}
		var items []api.Item
		for _, ref := range names {
			it, err := client.Node(ctx, ref)
			if err != nil {
				return err
			}
			items = append(items, it)
		}
		if selects {
			if q.Type == "" {
				q.Type = b.onlyType
			}
			var err error
			if items, err = collect(ctx, client, q); err != nil {
				return err
			}
			b.app.say("%d nodes match", len(items))
		}
		if err := b.confirm(items); err != nil {
			return err
		}
		return do(ctx, client, items)
	})
}

// confirm asks before something is destroyed.
func (b *bulk) confirm(items []api.Item) error {
	if b.destroys == "" || b.yes || len(items) == 0 {
		return nil
	}
	names := make([]string, 0, 5)
	for _, it := range items[:min(len(items), 5)] {
		names = append(names, it.Node.Name())
	}
	what := strings.Join(names, ", ")
	if len(items) > 5 {
		what += fmt.Sprintf(" and %d more", len(items)-5)
	}
	return b.app.ask(fmt.Sprintf("%s %s?", b.destroys, what))
}

// ask is nil if a person at a terminal says yes.
func (a *app) ask(question string) error {
	if !a.env.Ask {
		return usagef("%s This cannot be undone, and there is no terminal to ask on: add --yes", question)
	}
	_, _ = fmt.Fprintf(a.env.Err, "%s Type yes to go on: ", question)
	line, err := bufio.NewReader(a.env.In).ReadString('\n')
	if err != nil && line == "" {
		return fmt.Errorf("no answer: nothing was done")
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// outcome is what became of one node.
type outcome struct {
	result any    // for json
	name   string // for -o name; the node's if empty
	words  string // after its name
	err    error
	known  bool
}

// each works on all items, several at once, and reports them in their order. It
// goes on after a failure, and fails in the end.
func (b *bulk) each(ctx context.Context, client *api.Client, items []api.Item, do doing) error {
	out := make([]outcome, len(items))
	progress := b.app.progress(len(items))
	var g errgroup.Group
	g.SetLimit(b.parallel)
	for i, it := range items {
		g.Go(func() error {
			o := &out[i]
			o.result, o.words, o.err = do(ctx, client, it)
			o.words = strings.TrimSpace(b.how + " " + o.words)
			progress.step(o.err != nil)
			return nil
		})
	}
	_ = g.Wait()
	progress.end()
	return b.report(items, out)
}

func (b *bulk) report(items []api.Item, out []outcome) error {
	a := b.app
	type entry struct {
		Name   string `json:"name"`
		Result any    `json:"result,omitempty"`
		Error  string `json:"error,omitempty"`
		Code   string `json:"code,omitempty"`
	}
	var list []entry
	var names []string
	var errs []error
	for i, it := range items {
		o := out[i]
		e := entry{Name: it.Node.Name(), Result: o.result}
		if err := o.err; err != nil {
			errs = append(errs, err)
			e.Error, e.Code = err.Error(), api.CodeOf(err).Name
			a.say("%s: %s", it.Node.Name(), err)
			if d := decisionIn(err); d != nil && a.output != "json" && a.output != "yaml" {
				_ = a.printDecision(a.env.Err, d)
			}
		} else {
			if o.name == "" {
				o.name = it.Node.Name()
			}
			names = append(names, o.name)
			if a.output == "table" || a.output == "wide" {
				if _, err := fmt.Fprintln(a.env.Out, strings.TrimSpace(it.Node.Name()+" "+o.words)); err != nil {
					return err
				}
			}
		}
		list = append(list, e)
	}
	if a.output != "table" && a.output != "wide" {
		if err := a.print(list, names, nil); err != nil {
			return err
		}
	}
	if len(errs) == 0 {
		return nil
	}
	if len(items) > 1 {
		a.say("%d of %d failed", len(errs), len(items))
	}
	return reportedError{worst(errs)}
}

// vmOnly is the type that selectors of the VM verbs find.
const vmOnly = virt.TypeVM
