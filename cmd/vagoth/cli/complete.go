package cli

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/virt"
)

// Completion runs while somebody waits for a key to take effect, so it is
// bounded, says nothing of what fails, and makes nothing that is not there.
const (
	completeLockWait = 200 * time.Millisecond
	completeLook     = 1500 * time.Millisecond // what was found until then is offered
	completeGiveUp   = 2 * time.Second         // for what does not heed its context
	completeMost     = 200                     // values
)

// place is where a value stands on a command line.
type place struct {
	find   func(*completion) // nil finds nothing
	typ    string            // of nodes that can stand there; "" is any
	files  bool              // a file, of one of exts if there are any
	exts   []string
	repeat bool // it is the last place, and stands for those after it
}

func node(typ string) place  { return place{find: (*completion).nodes, typ: typ} }
func nodes(typ string) place { return place{find: (*completion).nodes, typ: typ, repeat: true} }
func words(list ...string) place {
	return place{find: func(c *completion) { c.add("", list...) }}
}
func files(exts ...string) place { return place{files: true, exts: exts} }

// argPlaces are the places of every command that takes arguments.
func argPlaces() map[string][]place {
	m := map[string][]place{
		"new":             {{}, {find: (*completion).pairs, repeat: true}},
		"set":             {node(""), {find: (*completion).pairs, repeat: true}},
		"info":            {node("")},
		"tree":            {node("")},
		"rename":          {node("")},
		"delete":          {nodes("")},
		"blob get":        {node(""), {find: (*completion).blobs}},
		"blob put":        {node(""), {find: (*completion).blobs}, files()},
		"blob list":       {node("")},
		"blob delete":     {node(""), {find: (*completion).blobs}},
		"why":             {node(vmOnly)},
		"do":              {{find: (*completion).actions}, {find: (*completion).actedOn, repeat: true}},
		"poll":            {nodes(virt.TypeHypervisor)},
		"hv add":          {{}},
		"hv remove":       {nodes(virt.TypeHypervisor)},
		"hv maintenance":  {node(virt.TypeHypervisor), words("on", "off")},
		"hv confirm-down": {node(virt.TypeHypervisor)},
		"registry export": {files()},
		"registry import": {files()},
		"config check":    {files("ini")},
		"components":      {{find: (*completion).components}},
		"token create":    {{}},
		"token revoke":    {{}},
	}
	for _, c := range []string{"show", "rollback", "delete", "download"} {
		m["snapshot "+c] = []place{node(vmOnly), {find: (*completion).snapshots}}
	}
	m["snapshot create"] = []place{node(vmOnly), {}}
	m["snapshot list"] = []place{node(vmOnly)}
	m["image list"] = []place{nodes(virt.TypeHypervisor)}
	m["image show"] = []place{{find: (*completion).images}, node(virt.TypeHypervisor)}
	m["image save"] = []place{node(vmOnly), {}}
	for _, c := range []string{"fetch", "delete"} {
		m["image "+c] = []place{{find: (*completion).images}, nodes(virt.TypeHypervisor)}
	}
	m["disk attach"] = []place{node(vmOnly)}
	m["disk detach"] = []place{node(vmOnly), {find: (*completion).disks}}
	m["disk list"] = []place{node(vmOnly)}
	m["metrics"] = []place{node(vmOnly)}
	m["console"] = []place{node(vmOnly)}
	m["subagent"] = []place{{find: (*completion).subagents}}
	m["agent example"] = m["subagent"]
	m["agent fence-reset"] = []place{{}}
	for _, c := range agentCalls() {
		if c.most != 0 {
			m["agent call "+strings.Fields(c.use)[0]] = []place{{}}
		}
	}
	m["agent call upload"] = []place{{}, files()}
	m["agent call metrics"] = []place{{}, words("cpu", "disk", "nic")}
	for _, v := range verbs() {
		m[v.use] = []place{nodes(vmOnly)}
	}
	return merged(m, jobPlaces())
}

// flagPlaces are the places of flags, by name, for every command that has one;
// those of "COMMAND --NAME" win. A flag that is not here takes free text.
func flagPlaces() map[string]place {
	host := node(virt.TypeHypervisor)
	return merged(map[string]place{
		"--output":     words(formats()...),
		"--token-file": files(),
		"--ca":         files("pem", "crt"),
		"--cert":       files("pem", "crt"),
		"--cert-key":   files("pem", "key"),
		"--role":       words("reader", "operator", "admin", "worker"),
		"--log-level":  words("debug", "info", "warn", "error"),
		"--log-format": words("text", "json"),
		"--config":     files("ini"),
		"--definition": files("json", "yaml", "yml"),
		"--kernel":     files(),
		"--initrd":     files(),
		"--type":       {find: (*completion).types},
		"--types":      words(virt.TypeVM, virt.TypeContainer),
		"--driver":     {find: (*completion).drivers},
		"--state":      {find: (*completion).states},
		"--tenant":     {find: (*completion).tenants},
		"--tag":        {find: (*completion).tags},
		"--key":        {find: (*completion).keys},
		"--name":       node(""),
		"--parent":     host,
		"--host":       host,
		"--to":         host,
		"--untag":      {find: (*completion).ownTags},
		"--unmeta":     {find: (*completion).ownMetadata},
		"--release":    {find: (*completion).ownKeys},
		"new --name":   {}, // what they name is new
		"new --key":    {},

		"--mistify":                files("json"),
		"--socket":                 files(),
		"agent call download --to": files(),
		"snapshot download --to":   files(),
		"snapshot download --disk": {find: (*completion).disks},
		"--bus":                    words("virtio", "scsi", "sata", "ide"),
		"--format":                 words("qcow2", "raw"),
		"image fetch --type":       words(virt.TypeVM, virt.TypeContainer),
		"agent call images --type": words(virt.TypeVM, virt.TypeContainer),
		"agent call fetch --type":  words(virt.TypeVM, virt.TypeContainer),
		"agent call jobs --guest":  {},
	}, jobFlagPlaces())
}

// complete gives the commands below root what the tables say.
func (a *app) complete(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	args, flags := argPlaces(), flagPlaces()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), root.Name()+" ")
		places := args[path]
		typ := ""
		if len(places) > 0 {
			c.ValidArgsFunction = a.completeArgs(places)
			typ = places[0].typ
		}
		give := func(f *pflag.Flag) {
			p, ok := flags[path+" --"+f.Name]
			if !ok {
				p, ok = flags["--"+f.Name]
			}
			if !ok {
				return
			}
			if p.typ == "" {
				p.typ = typ // a selector finds what could be named instead
			}
			// It fails only for a flag that has a function already.
			_ = c.RegisterFlagCompletionFunc(f.Name, a.completePlace(p))
		}
		c.Flags().VisitAll(give) // not LocalFlags, which changes what the help says
		c.PersistentFlags().VisitAll(give)
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(root)
}

func (a *app) completeArgs(places []place) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		i := len(args)
		if last := len(places) - 1; i > last {
			if !places[last].repeat {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			i = last
		}
		return a.completePlace(places[i])(cmd, args, prefix)
	}
}

func (a *app) completePlace(p place) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case len(p.exts) > 0:
			return p.exts, cobra.ShellCompDirectiveFilterFileExt
		case p.files:
			return nil, cobra.ShellCompDirectiveDefault
		case p.find == nil:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		quiet := *a
		quiet.lockWait, quiet.verbose, quiet.warned = completeLockWait, false, true
		quiet.env.Err = io.Discard
		c := &completion{app: &quiet, args: args, prefix: prefix, typ: p.typ, repeat: p.repeat, seen: map[string]bool{}, directive: cobra.ShellCompDirectiveNoFileComp}
		if f := cmd.Flags().Lookup("type"); f != nil && f.Changed && p.typ != virt.TypeHypervisor {
			c.typ = f.Value.String()
		}
		if f := cmd.Flags().Lookup("action"); f != nil {
			c.action = f.Value.String()
		}
		return c.run(cmd.Context(), p.find)
	}
}

// completion is one question of the shell, with the answers so far.
type completion struct {
	app    *app
	ctx    context.Context // of the question
	args   []string        // those before
	prefix string
	typ    string // of the nodes asked for
	action string // that a flag names
	repeat bool   // an argument that is there is not offered again

	found     []cobra.Completion
	seen      map[string]bool
	directive cobra.ShellCompDirective
}

// run looks until its time is over. What does not heed its context by then is
// left alone: the process ends next, and a store survives that at any moment.
func (c *completion) run(ctx context.Context, find func(*completion)) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completeLook)
	defer cancel()
	c.ctx = ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		find(c)
	}()
	giveUp := time.NewTimer(completeGiveUp)
	defer giveUp.Stop()
	select {
	case <-done:
		return c.found, c.directive
	case <-giveUp.C:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// add offers values that begin with the prefix, and reports whether there is
// room for more.
func (c *completion) add(description string, values ...string) bool {
	for _, v := range values {
		switch {
		case len(c.found) >= completeMost:
			return false
		case !strings.HasPrefix(v, c.prefix) || !plain(v) || c.seen[v] || c.repeat && slices.Contains(c.args, v):
			continue
		}
		c.seen[v] = true
		if description != "" {
			v = cobra.CompletionWithDesc(v, description)
		}
		c.found = append(c.found, v)
	}
	return len(c.found) < completeMost
}

// plain refuses what a shell might take for more than a word: tags and metadata
// can hold anything, and the shells' functions evaluate what is typed.
func plain(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:/@+=,%", r)
	})
}
