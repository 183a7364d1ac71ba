package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/provisioner"
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
image, kernel, initrd, cmdline, network (may be repeated), or what the
provisioner takes, such as template and size. --definition reads a whole
definition from a file (JSON or YAML; - is standard input); the pairs win over
it.`,
		Example: `  vagoth new web1 template=debian size=small
  vagoth new db1 cpu=4 memory=8G disk=20G network=lan --tag role=db
  vagoth new web1 --definition web1.yaml --dry-run`,
		Args: args(1, -1, "an ID for the node, then KEY=VALUE pairs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.ID = args[0]
			doc, err := a.readDocument(definition)
			if err != nil {
				return err
			}
			if req.Definition, req.Args, err = pairs(doc, args[1:]); err != nil {
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

// readDocument reads a definition; no name is an empty one.
func (a *app) readDocument(name string) (registry.Document, error) {
	if name == "" {
		return registry.Document{}, nil
	}
	data, err := a.readInput(name)
	if err != nil {
		return registry.Document{}, err
	}
	if data, err = yaml.YAMLToJSONStrict(data); err != nil {
		return registry.Document{}, usagef("%s: it is neither JSON nor YAML: %w", name, err)
	}
	doc, err := registry.ParseDocument(data)
	if err != nil {
		return registry.Document{}, usagef("%s: %w", name, err)
	}
	return doc, nil
}

func (a *app) readInput(name string) ([]byte, error) {
	in := a.env.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usageError{err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, usagef("%s has more than %d bytes", name, maxInput)
	}
	return data, nil
}

// pairs sorts KEY=VALUE arguments into the definition and the provisioner's
// arguments.
func pairs(doc registry.Document, list []string) (registry.Document, map[string]string, error) {
	set, boot, more := map[string]any{}, map[string]any{}, map[string]string{}
	var disks, nics []any
	for _, arg := range list {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return doc, nil, usagef("%q is not KEY=VALUE", arg)
		}
		var err error
		switch k {
		case "cpu":
			set[k], err = strconv.Atoi(v)
		case "memory":
			set[k], err = megabytes(v)
		case "disk":
			var size int64
			size, err = megabytes(v)
			disks = append(disks, map[string]any{"size": size})
		case "network":
			nics = append(nics, map[string]any{"network": v})
		case "image":
			set[k] = v
		case "kernel", "initrd", "cmdline":
			boot[k] = v
		default:
			if _, twice := more[k]; twice {
				return doc, nil, usagef("%s is given twice", k)
			}
			more[k] = v
		}
		if err != nil {
			return doc, nil, usagef("%s: %q is not a number: write 2 or, for memory and disk, 512M or 10G", k, v)
		}
	}
	for k, v := range map[string][]any{"disks": disks, "nics": nics} {
		if v != nil {
			set[k] = v
		}
	}
	if len(boot) > 0 {
		var old struct {
			Boot map[string]any `json:"boot"`
		}
		if err := doc.Decode(&old); err != nil {
			return doc, nil, usageError{err}
		}
		for k, v := range old.Boot {
			if _, given := boot[k]; !given {
				boot[k] = v
			}
		}
		set["boot"] = boot
	}
	doc, err := doc.Merge(set)
	return doc, more, err
}

// megabytes reads 512, 512M, 10G or 1T.
func megabytes(s string) (int64, error) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] {
		case 'M', 'm':
			s = s[:len(s)-1]
		case 'G', 'g':
			s, shift = s[:len(s)-1], 10
		case 'T', 't':
			s, shift = s[:len(s)-1], 20
		}
	}
	n, err := strconv.ParseInt(s, 10, 40)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	return n << shift, nil
}

func tagMap(tags []string) (map[string]string, error) {
	m := map[string]string{}
	for _, t := range tags {
		k, v, _ := strings.Cut(t, "=")
		if err := registry.CheckTag(k, v); err != nil {
			return nil, usagef("--tag: %w", err)
		}
		m[k] = v
	}
	return m, nil
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
			doc, more, err := pairs(doc, args[1:])
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

func blobCmd(a *app) *cobra.Command {
	const what = "a node and a blob's name"
	get := &cobra.Command{
		Use: "get NODE BLOB", Short: "write a blob to standard output", Args: args(2, 2, what),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				data, err := client.Blob(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				_, err = a.env.Out.Write(data)
				return err
			})
		},
	}
	put := &cobra.Command{
		Use: "put NODE BLOB [FILE]", Short: "store a file, or standard input, as a blob of at most 1 MiB", Args: args(2, 3, what+", and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.readInput(append(slices.Clone(args), "-")[2])
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.PutBlob(ctx, args[0], args[1], data)
				if err != nil {
					return err
				}
				return a.done(n, fmt.Sprintf("has blob %s (%d bytes)", args[1], len(data)))
			})
		},
	}
	list := &cobra.Command{
		Use: "list NODE", Short: "list a node's blobs", Args: args(1, 1, "a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				it, err := client.Node(ctx, args[0])
				if err != nil {
					return err
				}
				t := &table{head: []string{"BLOB", "BYTES", "SHA256"}}
				names := []string{}
				for _, b := range it.Node.Blobs() {
					names = append(names, b.Key)
					t.add(b.Key, strconv.Itoa(b.Size), b.SHA256)
				}
				return a.print(it.Node.Blobs(), names, func(w io.Writer) error { return t.write(w, a.paint) })
			})
		},
	}
	del := &cobra.Command{
		Use: "delete NODE BLOB", Short: "remove a blob", Args: args(2, 2, what),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.DeleteBlob(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.done(n, "has no blob "+args[1]+" any more")
			})
		},
	}
	return parent("blob", "get, put, list and delete blobs of nodes", get, put, list, del)
}

// hostSpec is the provisioner's spec of a hypervisor.
func hostSpec(id string, def virt.HostDefinition, tags map[string]string) (provisioner.Spec, error) {
	doc, err := registry.NewDocument(def)
	return provisioner.Spec{ID: id, Type: virt.TypeHypervisor, Definition: doc, Tags: tags}, err
}
