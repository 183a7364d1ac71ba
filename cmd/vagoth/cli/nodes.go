package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// maxInput bounds what is read from files and standard input, in bytes.
const maxInput = 4 << 20

func newCmd(a *app) *cobra.Command {
	var req api.CreateRequest
	var definition string
	var tags []string
	c := &cobra.Command{
		Use: "new ID [KEY=VALUE...]", Short: "create a node; a virtual machine unless --type says otherwise",
		Long: `Create a node, all of it or nothing.

KEY=VALUE pairs are cpu, memory (512 is MB; 2G), disk (10G; may be repeated),
image, type (vm or container), terminal (yes: for a container), kernel, initrd, cmdline, network (may be repeated),
user_data, meta_data and network_config for cloud-init (or @FILE with it; no answer shows user_data),
or what the provisioner takes, such as template and size. --definition reads a whole
definition from a file (JSON or YAML; - is standard input); the pairs win over
it.`,
		Example: `  vagoth new web1 template=debian size=small
  vagoth new db1 cpu=4 memory=8G disk=20G network=lan --tag role=db
  vagoth new web1 cpu=1 memory=1G image=debian user_data=@web1.yaml
  vagoth new c1 type=container image=busybox:1.36 cpu=1 memory=64M terminal=yes
  vagoth new web1 --definition web1.yaml --dry-run`,
		Args: args(1, -1, "an ID for the node, then KEY=VALUE pairs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.ID = args[0]
			doc, err := a.readDocument(definition)
			if err != nil {
				return err
			}
			if req.Definition, req.Args, err = a.pairs(doc, args[1:]); err != nil {
				return err
			}
			if req.Tags, err = tagMap(tags); err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				out, err := client.Create(ctx, req)
				if err != nil {
					return err
				}
				return a.printCreated(out)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Name, "name", "", "the name, if it is not the ID")
	f.StringVar(&req.Type, "type", virt.TypeVM, "the node's type, one of [node_types]")
	f.StringVar(&req.Tenant, "tenant", "", "whom it belongs to")
	f.StringArrayVar(&tags, "tag", nil, "a tag, KEY or KEY=VALUE; may be repeated")
	f.StringArrayVar(&req.Keys, "key", nil, "a unique key, beside those derived; may be repeated")
	f.StringVarP(&definition, "definition", "d", "", "file with the definition, JSON or YAML; - is standard input")
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would be created, and create nothing")
	return c
}

func (a *app) printCreated(out api.Created) error {
	if out.Draft != nil {
		return a.print(out.Draft, []string{out.Draft.Name}, func(w io.Writer) error {
			data, err := yaml.Marshal(out.Draft)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "would create:\n%s", data)
			return err
		})
	}
	n := out.Node
	return a.print(n, []string{n.Name()}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s created\n", n.Name())
		return err
	})
}

func setCmd(a *app) *cobra.Command {
	var p api.Patch
	var tenant, definition string
	var tags, untag, meta, unmeta []string
	c := &cobra.Command{
		Use: "set NODE [KEY=VALUE...]", Short: "change a node's definition, tags, metadata or unique keys",
		Long: `Change a node. KEY=VALUE pairs change the definition as those of vagoth new
do; a definition cannot be changed while its node is on a host, unless --force.
Everything else is changed by flags, in a command of its own.`,
		Example: `  vagoth set web1 memory=2G
  vagoth set web1 --tag role=web --untag old --meta owner=ops
  vagoth set hv1 --definition hv1.yaml --force`,
		Args: args(1, -1, "a node, then KEY=VALUE pairs"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if cmd.Flags().Changed("tenant") {
				p.Tenant = &tenant
			}
			if p.Tags, err = tagPatch(tags, untag); err != nil {
				return err
			}
			p.Metadata = metaPatch(meta, unmeta)
			doc, err := a.readDocument(definition)
			if err != nil {
				return err
			}
			doc, more, err := a.pairs(doc, args[1:])
			if err != nil {
				return err
			}
			for k := range more {
				return usagef("%s cannot be changed with KEY=VALUE: use --definition, or --meta for metadata", k)
			}
			if !doc.IsEmpty() {
				if p.Definition, err = doc.Map(); err != nil {
					return err
				}
			}
			if p.Definition == nil && p.Tenant == nil && len(p.Tags)+len(p.Metadata)+len(p.Claim)+len(p.Release) == 0 {
				return usagef("nothing to change: give KEY=VALUE pairs or flags")
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.Patch(ctx, args[0], p)
				if err != nil {
					return err
				}
				return a.done(n, "changed")
			})
		},
	}
	f := c.Flags()
	f.StringVar(&tenant, "tenant", "", "whom it belongs to")
	f.StringArrayVar(&tags, "tag", nil, "set a tag, KEY or KEY=VALUE")
	f.StringArrayVar(&untag, "untag", nil, "remove a tag")
	f.StringArrayVar(&meta, "meta", nil, "set a member of the metadata, KEY=VALUE; VALUE is JSON or text")
	f.StringArrayVar(&unmeta, "unmeta", nil, "remove a member of the metadata")
	f.StringArrayVar(&p.Claim, "claim", nil, "claim a unique key")
	f.StringArrayVar(&p.Release, "release", nil, "release a unique key")
	f.StringVarP(&definition, "definition", "d", "", "file whose members replace those of the definition; null removes one")
	f.BoolVar(&p.Force, "force", false, "change the definition although the node is on a host")
	return c
}

func tagPatch(set, remove []string) (map[string]*string, error) {
	m, err := tagMap(set)
	if err != nil {
		return nil, err
	}
	out := map[string]*string{}
	for k, v := range m {
		out[k] = &v
	}
	for _, k := range remove {
		if _, both := out[k]; both {
			return nil, usagef("the tag %s is both set and removed", k)
		}
		out[k] = nil
	}
	return out, nil
}

func metaPatch(set, remove []string) map[string]any {
	out := map[string]any{}
	for _, s := range set {
		k, text, _ := strings.Cut(s, "=")
		var v any
		if json.Unmarshal([]byte(text), &v) != nil || v == nil {
			v = text
		}
		out[k] = v
	}
	for _, k := range remove {
		out[k] = nil
	}
	return out
}

func renameCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rename NODE NAME", Short: "give a node another name; its ID stays",
		Args: args(2, 2, "a node and its new name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.Patch(ctx, args[0], api.Patch{Name: &args[1]})
				if err != nil {
					return err
				}
				return a.done(n, "renamed, was "+args[0])
			})
		},
	}
}

// done says what was done to a node.
func (a *app) done(n *registry.Node, what string) error {
	return a.print(n, []string{n.Name()}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", n.Name(), what)
		return err
	})
}

func deleteCmd(a *app) *cobra.Command {
	b := bulk{app: a, destroys: "delete", how: "deleted"}
	c := &cobra.Command{
		Use: "delete NODE...", Aliases: []string{"rm"}, Short: "delete nodes that stand nowhere and have no disks",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd, args, func(ctx context.Context, client *api.Client, it api.Item) (any, string, error) {
				n, err := client.Delete(ctx, it.Node.ID())
				return n, "", err
			})
		},
	}
	b.flags(c.Flags())
	return c
}
