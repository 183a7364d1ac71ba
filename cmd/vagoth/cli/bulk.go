package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

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

func (b *bulk) run(cmd *cobra.Command, names []string, do doing) error {
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
		return b.each(ctx, client, items, do)
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

// each works on all items, several at once, and reports them in their order. It
// goes on after a failure, and fails with the first one in the end.
func (b *bulk) each(ctx context.Context, client *api.Client, items []api.Item, do doing) error {
	results := make([]any, len(items))
	words := make([]string, len(items))
	errs := make([]error, len(items))
	progress := b.app.progress(len(items))
	var g errgroup.Group
	g.SetLimit(b.parallel)
	for i, it := range items {
		g.Go(func() error {
			results[i], words[i], errs[i] = do(ctx, client, it)
			progress.step(errs[i] != nil)
			return nil
		})
	}
	_ = g.Wait()
	progress.end()
	return b.report(items, results, words, errs)
}

func (b *bulk) report(items []api.Item, results []any, words []string, errs []error) error {
	a := b.app
	var first error
	type entry struct {
		Name   string `json:"name"`
		Result any    `json:"result,omitempty"`
		Error  string `json:"error,omitempty"`
		Code   string `json:"code,omitempty"`
	}
	var list []entry
	var names []string
	failed := 0
	for i, it := range items {
		e := entry{Name: it.Node.Name(), Result: results[i]}
		if err := errs[i]; err != nil {
			failed++
			if first == nil {
				first = err
			}
			e.Error, e.Code = err.Error(), api.CodeOf(err).Name
			a.say("%s: %s", it.Node.Name(), err)
			if d := decisionIn(err); d != nil && a.output != "json" && a.output != "yaml" {
				_ = a.printDecision(a.env.Err, d)
			}
		} else {
			names = append(names, it.Node.Name())
			if a.output == "table" || a.output == "wide" {
				if _, err := fmt.Fprintln(a.env.Out, strings.TrimSpace(it.Node.Name()+" "+b.how+" "+words[i])); err != nil {
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
	if first == nil {
		return nil
	}
	if len(items) > 1 {
		a.say("%d of %d failed", failed, len(items))
	}
	return reportedError{first}
}

// progress is one line on a terminal that says how far a long work is.
type progress struct {
	a            *app
	mu           sync.Mutex
	total        int
	done, failed int
}

func (a *app) progress(total int) *progress { return &progress{a: a, total: total} }

func (p *progress) shown() bool { return p.a.env.Terminal && p.total > 1 }

func (p *progress) step(failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if failed {
		p.failed++
	}
	if p.shown() {
		_, _ = fmt.Fprintf(p.a.env.Err, "\r%d of %d, %d failed", p.done, p.total, p.failed)
	}
}

func (p *progress) end() {
	if p.shown() {
		_, _ = fmt.Fprint(p.a.env.Err, "\r\x1b[K")
	}
}

// vmOnly is the type that selectors of the VM verbs find.
const vmOnly = virt.TypeVM
