package template_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner/template"
)

// section writes a section of a source.
func section(name string, keys ...string) component.Section {
	s := component.Section{Name: name, Line: 1}
	for i := 0; i < len(keys); i += 2 {
		s.Entries = append(s.Entries, component.Entry{Key: keys[i], Value: keys[i+1], Line: i/2 + 2})
	}
	return s
}

func TestDecode(t *testing.T) {
	own := section("provisioner", "hook_timeout", "5s")
	src := component.Source{File: "vagoth.ini", Own: []component.Section{own}, All: []component.Section{
		own,
		section("template.debian", "cpu", "2", "memory", "1GiB", "disk", "10GiB, 20GiB", "network", "lan", "tags", "os=debian", "vnc", "yes", "forward", "2222:22"),
		section("size.small", "cpu", "1", "memory", "512MiB"),
		section("network.lan", "cidr", "192.0.2.0/24", "range", "192.0.2.10-192.0.2.20, 192.0.2.30-192.0.2.40", "reserved", "192.0.2.12", "gateway", "192.0.2.1"),
	}}
	cfg, problems := component.Decode(src, template.Defaults())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if cfg.Templates["debian"].Disks[1] != 20<<30 || cfg.Sizes["small"].CPU != 1 || len(cfg.Networks["lan"].Range) != 2 {
		t.Errorf("%+v", cfg)
	}
	if _, problems := template.Kind().Decode(src); len(problems) > 0 {
		t.Error(problems)
	}
}

func TestConfigProblems(t *testing.T) {
	for _, c := range []struct {
		sections []component.Section
		want     string
	}{
		{[]component.Section{section("network.lan")}, `required key "cidr" is missing`},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0")}, "[network.lan] cidr: "},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.7/24")}, "write the network"},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "range", "192.0.3.1-192.0.3.9")}, "range: \"192.0.3.1-192.0.3.9\" is not inside of 192.0.2.0/24"},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "range", "192.0.2.9-192.0.2.1")}, "lower to a higher"},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "range", "192.0.2.1-192.0.2.9, 192.0.2.9-192.0.2.12")}, "overlaps"},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "range", "192.0.2.1", "gateway", "192.0.2.1")}, "nothing is left"},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "gateway", "198.51.100.1")}, "gateway: "},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "reserved", "2001:db8::1")}, "reserved: "},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24", "vlan", "4095")}, "vlan: "},
		{[]component.Section{section("network.lan", "cidr", "192.0.2.0/24"), section("network.old", "cidr", "192.0.2.128/25")}, "[network.old] 192.0.2.128/25 overlaps 192.0.2.0/24 of [network.lan]"},
		{[]component.Section{section("size.small", "memory", "1500KiB")}, "memory: 1500KiB is not a whole number of MiB"},
		{[]component.Section{section("template.a", "forward", "22")}, "forward: "},
		{[]component.Section{section("template.a", "tags", "a b=c")}, "tags: "},
		{[]component.Section{section("template.a", "cpus", "2")}, `did you mean "cpu"?`},
		{[]component.Section{section("provisioner", "mac_prefix", "01:00")}, "multicast"},
		{[]component.Section{section("provisioner", "mac_prefix", "00:16:3e")}, "locally administered"},
		{[]component.Section{section("provisioner", "mac_prefix", "52:54:00:00:00")}, "octets"},
		{[]component.Section{section("provisioner", "before", "rm -rf")}, "before: "},
	} {
		own := section("provisioner")
		if c.sections[0].Name == "provisioner" {
			own = c.sections[0]
		}
		_, problems := component.Decode(component.Source{Own: []component.Section{own}, All: c.sections}, template.Defaults())
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.sections, problems, c.want)
		}
	}
}

// Whatever stands in a network's keys, it is refused or makes a pool that hands
// out nothing from outside of it.
func FuzzNetwork(f *testing.F) {
	f.Add("192.0.2.0/24", "192.0.2.10-192.0.2.20", "192.0.2.1", "192.0.2.12")
	f.Add("2001:db8::/64", "2001:db8::ff-2001:db8::1:0", "", "2001:db8::100/120")
	f.Add("0.0.0.0/0", "", "", "")
	f.Add("::/0", "", "::1", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
	f.Add("10.0.0.0/31", "", "10.0.0.0", "")
	f.Add("::ffff:10.0.0.0/120", "fe80::1%eth0", "x", "-")
	f.Fuzz(func(t *testing.T, cidr, span, gateway, reserved string) {
		n := template.Network{CIDR: cidr, Gateway: gateway}
		if span != "" {
			n.Range = []string{span}
		}
		if reserved != "" {
			n.Reserved = []string{reserved}
		}
		if n.Validate() != nil {
			return
		}
		size, at := template.PoolOf(t, n)
		if size == 0 {
			t.Fatal("an empty pool was accepted")
		}
		p := netip.MustParsePrefix(cidr)
		for _, i := range []uint64{0, 1, size / 3, size / 2, size - 1} {
			if i >= size {
				continue
			}
			a, back := at(i)
			if !p.Contains(a) || fmt.Sprint(a) == gateway || fmt.Sprint(a) == reserved {
				t.Fatalf("address %d of %+v is %s", i, n, a)
			}
			if back != i {
				t.Fatalf("address %d of %+v is %s, which is the %dth", i, n, a, back)
			}
		}
	})
}
