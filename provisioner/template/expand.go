package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// The arguments that the provisioner knows.
const (
	ArgTemplate = "template"
	ArgSize     = "size"
)

// expand fills a spec from its template and size. What the spec says wins over
// the size, and the size over the template: objects are merged, everything
// else, lists too, is replaced. It returns the spec without arguments.
func (c *Config) expand(spec provisioner.Spec) (provisioner.Spec, []string) {
	var problems []string
	var layers []virt.Definition
	tags := map[string]string{}
	for _, arg := range slices.Sorted(maps.Keys(spec.Args)) {
		if arg != ArgTemplate && arg != ArgSize {
			problems = append(problems, "args: there is no argument "+strconv.Quote(short(arg))+hint(arg, slices.Values([]string{ArgTemplate, ArgSize})))
		}
	}
	if name, ok := spec.Args[ArgTemplate]; ok {
		t, ok := c.Templates[name]
		if !ok {
			problems = append(problems, fmt.Sprintf("args: there is no template %q%s: add a section [template.NAME]", short(name), hint(name, maps.Keys(c.Templates))))
		}
		layers = append(layers, t.definition())
		maps.Copy(tags, t.Tags)
	}
	if name, ok := spec.Args[ArgSize]; ok {
		s, ok := c.Sizes[name]
		if !ok {
			problems = append(problems, fmt.Sprintf("args: there is no size %q%s: add a section [size.NAME]", short(name), hint(name, maps.Keys(c.Sizes))))
		}
		layers = append(layers, s.definition(layers))
	}
	maps.Copy(tags, spec.Tags)
	spec.Args, spec.Tags = nil, tags
	if len(layers) == 0 {
		return spec, problems
	}
	merged := map[string]any{}
	for _, l := range layers {
		doc, err := registry.NewDocument(l)
		if err != nil {
			return spec, append(problems, err.Error())
		}
		m, err := doc.Map()
		if err != nil {
			return spec, append(problems, err.Error())
		}
		for _, number := range []string{"cpu", "memory"} { // these are written even where they are not set
			if m[number] == json.Number("0") {
				delete(m, number)
			}
		}
		merge(merged, m)
	}
	own, err := spec.Definition.Map()
	if err != nil {
		return spec, append(problems, err.Error())
	}
	merge(merged, own)
	spec.Definition, err = registry.NewDocument(merged)
	if err != nil {
		problems = append(problems, err.Error())
	}
	return spec, problems
}

// merge puts over into base, object by object.
func merge(base, over map[string]any) {
	for k, v := range over {
		a, ok := base[k].(map[string]any)
		b, both := v.(map[string]any)
		if ok && both {
			merge(a, b)
			continue
		}
		base[k] = v
	}
}

func (t *Template) definition() virt.Definition {
	d := virt.Definition{
		Type: t.Kind, CPU: t.CPU, Memory: megabytes(t.Memory), Image: t.Image, CDROM: t.CDROM,
		Boot:      virt.Boot{Kernel: t.Kernel, Initrd: t.Initrd, Cmdline: t.Cmdline, Firmware: t.Firmware, Order: t.Order},
		Console:   virt.Console{Serial: t.Console, Log: t.Log, VNC: t.VNC, Terminal: t.Terminal},
		Placement: virt.Placement{Require: t.Require, Forbid: t.Forbid, Prefer: t.Prefer, Apart: t.Apart, PreferApart: t.PreferApart},
		Disks:     disks(t.Disks, virt.Disk{Bus: t.Bus, Format: t.Format}),
	}
	for _, name := range t.Nets {
		d.NICs = append(d.NICs, virt.NIC{Network: name, Model: t.Model})
	}
	if len(t.Forward) > 0 {
		nic := virt.NIC{Type: "user", Model: t.Model}
		for _, f := range t.Forward {
			forward, _ := parseForward(f) // checked when the config was read
			nic.Forward = append(nic.Forward, forward)
		}
		d.NICs = append(d.NICs, nic)
	}
	return d
}

// definition gives the size; its disks are as those of the template below it.
func (s *Size) definition(below []virt.Definition) virt.Definition {
	var like virt.Disk
	if len(below) > 0 && len(below[0].Disks) > 0 {
		like = virt.Disk{Bus: below[0].Disks[0].Bus, Format: below[0].Disks[0].Format}
	}
	return virt.Definition{CPU: s.CPU, Memory: megabytes(s.Memory), Disks: disks(s.Disks, like)}
}

func disks(sizes []component.Size, like virt.Disk) []virt.Disk {
	var list []virt.Disk
	for _, s := range sizes {
		like.Size = int64(megabytes(s))
		list = append(list, like)
	}
	return list
}

func megabytes(s component.Size) int { return int(s >> 20) }

// parseForward reads HOSTPORT:PORT with /udp or /tcp behind it.
func parseForward(s string) (virt.Forward, error) {
	ports, protocol, _ := strings.Cut(s, "/")
	host, guest, ok := strings.Cut(ports, ":")
	port := func(s string) int {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return 0
		}
		return int(n)
	}
	f := virt.Forward{Protocol: protocol, Port: port(host), To: port(guest)}
	if !ok || f.Port == 0 || f.To == 0 || protocol != "" && protocol != "tcp" && protocol != "udp" {
		return f, fmt.Errorf("%.64q is not of the form 2222:22 or 5353:53/udp", s)
	}
	return f, nil
}
