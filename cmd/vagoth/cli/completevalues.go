package cli

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// ask runs fn with a client that knows nodes, if there is a cluster and nobody
// else has it. Without a daemon the registry alone is opened.
func (c *completion) ask(fn func(client *api.Client)) {
	c.reach(fn, func(s *manager.Settings, o manager.Options) (*manager.Manager, error) {
		return manager.OpenRegistry(c.ctx, s, o)
	})
}

// askJobs is ask with a client that knows jobs too. Without a daemon that takes
// a scheduler that has kept some.
func (c *completion) askJobs(fn func(client *api.Client)) {
	c.reach(fn, func(s *manager.Settings, o manager.Options) (*manager.Manager, error) {
		kind := s.Choices[slices.IndexFunc(s.Choices, func(c manager.Chosen) bool { return c.Section == "scheduler" })].Kind
		if !fileExists(filepath.Join(s.Data, kind)) {
			return nil, fs.ErrNotExist
		}
		return manager.Open(c.ctx, s, o)
	})
}

// reach asks the daemon or, where there is none, what open opens.
func (c *completion) reach(fn func(client *api.Client), open func(*manager.Settings, manager.Options) (*manager.Manager, error)) {
	if c.ctx.Err() != nil || c.app.server == "" && !c.storeThere() {
		return
	}
	r, err := c.app.reachDaemon(c.ctx)
	if err != nil {
		return
	}
	if r != nil {
		fn(r.client)
		_ = r.close()
		return
	}
	s, err := c.app.settings()
	if err != nil {
		return
	}
	m, err := open(s, manager.Options{Log: c.app.log(), Now: c.app.env.Now, LockWait: c.app.lockWait})
	if err != nil {
		return
	}
	inside := api.InProcess(api.Handler(m, api.Options{Version: version(), Log: c.app.log(), Now: c.app.env.Now}))
	fn(api.NewClient("http://vagoth", inside))
	_ = inside.Close()
	_ = m.Close()
}

// storeThere reports whether opening would make nothing new. A registry that
// keeps files has a path, which is `registry` in the data directory where the
// file is silent.
func (c *completion) storeThere() bool {
	f := c.file()
	if f == nil {
		return false
	}
	s, err := manager.Read(f, c.app.menu)
	if err != nil || !fileExists(s.Data) {
		return false
	}
	kind := s.Choices[slices.IndexFunc(s.Choices, func(c manager.Chosen) bool { return c.Section == "registry" })].Kind
	if !slices.ContainsFunc(c.app.menu.Registry[kind].Fields(), func(f component.Field) bool { return f.Key == "path" }) {
		return true
	}
	dir := ""
	for _, e := range slices.Concat(f.Entries("registry"), f.Entries("registry."+kind)) {
		if e.Key == "path" {
			dir = e.Value
		}
	}
	switch {
	case dir == "":
		dir = filepath.Join(s.Data, "registry")
	case !filepath.IsAbs(dir):
		dir = filepath.Join(f.Dir(), dir)
	}
	list, err := os.ReadDir(dir)
	return err == nil && len(list) > 0
}

// file is the configuration, or nil. That it is wrong elsewhere does not matter.
func (c *completion) file() *config.File {
	if info, err := os.Stat(c.app.config); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := config.Load(c.app.config)
	if err != nil {
		return nil
	}
	return f
}

// each goes through the nodes that match q until fn has enough.
func (c *completion) each(q registry.Query, fn func(it api.Item) bool) {
	c.ask(func(client *api.Client) {
		for it, err := range client.Nodes(c.ctx, q) {
			if err != nil || !fn(it) {
				return
			}
		}
	})
}

// own looks at the node that is named first.
func (c *completion) own(fn func(n *registry.Node)) {
	if len(c.args) == 0 {
		return
	}
	c.ask(func(client *api.Client) {
		if it, err := client.Node(c.ctx, c.args[0]); err == nil {
			fn(it.Node)
		}
	})
}

func (c *completion) nodes() {
	q := registry.Query{Type: c.typ}
	if c.prefix != "" {
		q.Name = c.prefix + "*" // a pattern in the prefix finds nothing that add takes
	}
	c.each(q, func(it api.Item) bool {
		description := stateText(it)
		if c.typ == "" {
			description = it.Node.Type() + ", " + description
		}
		return c.add(description, it.Node.Name())
	})
}

// actedOn are the nodes that the action before them takes.
func (c *completion) actedOn() {
	if c.typ == "" && strings.HasPrefix(c.args[0], "vm_") {
		c.typ = vmOnly
	}
	c.nodes()
}

func (c *completion) tenants() {
	c.each(registry.Query{Type: c.typ}, func(it api.Item) bool { return c.add("", it.Node.Tenant()) })
}

func (c *completion) keys() {
	c.each(registry.Query{Type: c.typ}, func(it api.Item) bool { return c.add(it.Node.Name(), it.Node.Keys()...) })
}

// tags are KEY where it stands bare and KEY= where it has a value; after that,
// the values.
func (c *completion) tags() {
	key, _, valued := strings.Cut(c.prefix, "=")
	q := registry.Query{Type: c.typ}
	if valued {
		q.Tags = map[string]*string{key: nil}
	} else {
		c.directive |= cobra.ShellCompDirectiveNoSpace
	}
	c.each(q, func(it api.Item) bool {
		for k, v := range it.Node.Tags() {
			switch {
			case valued && v != "":
				k += "=" + v
			case v != "":
				k += "="
			}
			if !c.add("", k) {
				return false
			}
		}
		return true
	})
}

// states are those of VMs and hypervisors, or what the nodes of another type have.
func (c *completion) states() {
	vm := []virt.State{virt.Running, virt.Paused, virt.Stopped, virt.Crashed, virt.New, virt.Defined, virt.Unknown, virt.Missing}
	host := []virt.HostState{virt.Up, virt.Unreachable, virt.Down}
	for _, s := range vm {
		if c.typ == "" || c.typ == vmOnly {
			c.add("", string(s))
		}
	}
	for _, s := range host {
		if c.typ == "" || c.typ == virt.TypeHypervisor {
			c.add("", string(s))
		}
	}
	if c.typ != "" && c.typ != vmOnly && c.typ != virt.TypeHypervisor {
		c.each(registry.Query{Type: c.typ}, func(it api.Item) bool { return c.add("", it.Node.State()) })
	}
}

func (c *completion) blobs() {
	c.own(func(n *registry.Node) {
		for _, b := range n.Blobs() {
			c.add("", b.Key)
		}
	})
}

// snapshots are those of the VM that stands before. They are on its host, and so
// are offered where a daemon can ask that.
func (c *completion) snapshots() {
	c.ask(func(client *api.Client) {
		if len(c.args) == 0 {
			return
		}
		list, _ := client.Snapshots(c.ctx, c.args[0]) // nothing is offered then
		for _, s := range list {
			c.add("", s.Name)
		}
	})
}

// disks are those of the VM that stands before.
func (c *completion) disks() {
	c.ask(func(client *api.Client) {
		if len(c.args) == 0 {
			return
		}
		d, _ := client.Disks(c.ctx, c.args[0]) // nothing is offered then
		for _, o := range d.Disks {
			c.add(o.Volume, o.Device)
		}
	})
}

// images are those of all hypervisors, as far as they answer in time.
func (c *completion) images() {
	c.ask(func(client *api.Client) {
		for it, err := range client.Nodes(c.ctx, registry.Query{Type: virt.TypeHypervisor}) {
			if err != nil {
				return
			}
			list, _ := client.Images(c.ctx, it.Node.ID()) // nothing is offered then
			for _, i := range list {
				c.add(i.Type, i.ID)
			}
		}
	})
}

func (c *completion) ownTags() {
	c.own(func(n *registry.Node) { c.add("", slices.Sorted(maps.Keys(n.Tags()))...) })
}

func (c *completion) ownKeys() {
	c.own(func(n *registry.Node) { c.add("", n.Keys()...) })
}

func (c *completion) ownMetadata() {
	c.own(func(n *registry.Node) {
		if m, err := n.Metadata().Map(); err == nil {
			c.add("", slices.Sorted(maps.Keys(m))...)
		}
	})
}

// entries are the keys of a section, beside what the menu has.
func (c *completion) entries(section string) (names []string) {
	if f := c.file(); f != nil {
		for _, e := range f.Entries(section) {
			names = append(names, e.Key)
		}
	}
	return names
}

// named are the NAMEs of the sections [prefix.NAME].
func (c *completion) named(prefix string) (names []string) {
	if f := c.file(); f != nil {
		names, _ = component.Named(f.Sections(), prefix)
	}
	return names
}

func (c *completion) types() {
	c.add("", slices.Sorted(maps.Keys(c.app.menu.Types))...)
	c.add("", c.entries("node_types")...)
}

func (c *completion) subagents() {
	c.add("", slices.Sorted(maps.Keys(c.app.menu.SubAgents))...)
}

func (c *completion) drivers() { c.add("", c.named("drivers")...) }

func (c *completion) actions() {
	if c.app.menu.Actions != nil {
		builtin := c.app.menu.Actions(nil)
		for _, name := range slices.Sorted(maps.Keys(builtin)) {
			c.add(builtin[name].Help, name)
		}
	}
	c.add("", c.entries("actions")...)
}

func (c *completion) components() {
	for _, e := range c.app.menu.Entries() {
		c.add(e.Help(), e.Name)
		c.add("", e.Contract)
	}
}

// pairs are the keys of a definition, and where it is known what they can be,
// the values.
func (c *completion) pairs() {
	c.directive |= cobra.ShellCompDirectiveNoSpace
	for _, k := range []string{"template", "size"} {
		for _, name := range c.named(k) {
			if strings.HasPrefix(c.prefix, k+"=") {
				c.directive &^= cobra.ShellCompDirectiveNoSpace
				c.add("", k+"="+name)
			} else if !c.given(k) {
				c.add("", k+"=")
			}
		}
	}
	for _, k := range []string{"cpu", "memory", "disk", "image", "type", "kernel", "initrd", "cmdline", "network", "user_data", "meta_data", "network_config"} {
		if k == "disk" || k == "network" || !c.given(k) {
			c.add("", k+"=")
		}
	}
}

// given reports whether an argument before sets the key.
func (c *completion) given(key string) bool {
	return slices.ContainsFunc(c.args, func(arg string) bool { return strings.HasPrefix(arg, key+"=") })
}
