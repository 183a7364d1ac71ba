package template_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/provisionertest"
	"github.com/vagoth/vagoth/provisioner/template"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
)

func memory(t testing.TB) registry.Registry {
	r, err := memdb.Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func open(t testing.TB, cfg template.Config, deps provisioner.Deps) provisioner.Provisioner {
	t.Helper()
	p, err := template.Open(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	provisionertest.Run(t, provisionertest.Subject{
		Registry: memory,
		Open: func(t testing.TB, deps provisioner.Deps) provisioner.Provisioner {
			return open(t, template.Defaults(), deps)
		},
	})
}

// with is a configuration with the network lan.
func with(n template.Network) template.Config {
	cfg := template.Defaults()
	cfg.Networks = map[string]template.Network{"lan": n}
	return cfg
}

func vmTypes() map[string]provisioner.Class {
	return map[string]provisioner.Class{virt.TypeVM: virt.VMClass(), virt.TypeHypervisor: virt.HypervisorClass()}
}

func vm(t testing.TB, id, definition string) provisioner.Spec {
	t.Helper()
	doc, err := registry.ParseDocument([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	return provisioner.Spec{ID: id, Type: virt.TypeVM, Definition: doc}
}

func nicsOf(t testing.TB, n *registry.Node) []virt.NIC {
	t.Helper()
	d, err := virt.ParseDefinition(n.Definition())
	if err != nil {
		t.Fatal(err)
	}
	return d.NICs
}

func TestPools(t *testing.T) {
	for name, network := range map[string]func(size int) template.Network{
		"IPv4, range across octets": func(size int) template.Network {
			first := netip.MustParseAddr("10.0.0.200")
			last := first
			for range size - 1 {
				last = last.Next()
			}
			return template.Network{CIDR: "10.0.0.0/16", Range: []string{first.String() + "-" + last.String()}}
		},
		"IPv4, several ranges with reserved addresses": func(size int) template.Network {
			return template.Network{CIDR: "10.0.0.0/16", Range: []string{
				fmt.Sprintf("10.0.9.1-10.0.9.%d", 1+size/100), offset("10.0.1.1", size-size/100),
			}, Reserved: []string{"10.0.9.1", "10.0.200.0/24"}}
		},
		"IPv6": func(size int) template.Network {
			return template.Network{CIDR: "2001:db8:0:0:5::/80", Range: []string{offset("2001:db8:0:0:5::fff0", size)}, Gateway: "2001:db8:0:0:5::1"}
		},
		"IPv6 across a zero run": func(size int) template.Network {
			return template.Network{CIDR: "2001:db8::/32", Range: []string{offset("2001:db8:0:1:ffff:ffff:ffff:ff00", size)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			provisionertest.RunPools(t, provisionertest.Pools{
				Registry: memory,
				Types:    vmTypes(),
				Open: func(t testing.TB, deps provisioner.Deps, size int) provisioner.Provisioner {
					return open(t, with(network(size)), deps)
				},
				Spec: func(id string, addresses int) provisioner.Spec {
					nics := strings.TrimSuffix(strings.Repeat(`{"network":"lan"},`, addresses), ",")
					return vm(t, id, `{"cpu":1,"memory":64,"nics":[`+nics+`]}`)
				},
				Addresses: func(n *registry.Node) []string {
					var list []string
					for _, nic := range nicsOf(t, n) {
						list = append(list, nic.Address)
					}
					return list
				},
			})
		})
	}
}

// offset is the range of n addresses from first on.
func offset(first string, n int) string {
	a := netip.MustParseAddr(first)
	b := a.AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(b), big.NewInt(int64(n-1)))
	last, _ := netip.AddrFromSlice(sum.FillBytes(b))
	return first + "-" + last.String()
}

func TestAddresses(t *testing.T) {
	r := memory(t)
	cfg := with(template.Network{CIDR: "192.0.2.0/28", Gateway: "192.0.2.1", Reserved: []string{"192.0.2.2-192.0.2.4", "192.0.2.8/30"}, VLAN: 7})
	cfg.Networks["v6"] = template.Network{CIDR: "2001:db8::/64", Bridge: "br6", Gateway: "2001:db8::ffff"}
	p := open(t, cfg, provisioner.Deps{Registry: r, Types: vmTypes()})
	n, err := p.Provision(t.Context(), vm(t, "web1", `{"cpu":1,"memory":64,"nics":[{"network":"lan"},{"network":"v6"},{"network":"elsewhere"},{"type":"user"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	nics := nicsOf(t, n)
	lan, v6 := nics[0], nics[1]
	if a := netip.MustParseAddr(lan.Address); !slices.Contains([]string{"192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.12", "192.0.2.13", "192.0.2.14"}, a.String()) {
		t.Errorf("handed out %s", a)
	}
	if lan.Netmask != "255.255.255.240" || lan.Gateway != "192.0.2.1" || !slices.Equal(lan.VLANs, []int{7}) || lan.Network != "lan" || !strings.HasPrefix(lan.MAC, "52:54:00:") {
		t.Errorf("the NIC on lan: %+v", lan)
	}
	if !netip.MustParsePrefix("2001:db8::/64").Contains(netip.MustParseAddr(v6.Address)) || v6.Netmask != "ffff:ffff:ffff:ffff::" ||
		v6.Gateway != "2001:db8::ffff" || v6.Type != "bridge" || v6.Network != "br6" {
		t.Errorf("the NIC on v6: %+v", v6)
	}
	if nics[2].Address != "" || nics[3].Address != "" {
		t.Errorf("NICs on no network of ours: %+v", nics[2:])
	}
	for _, key := range []string{"ip-" + lan.Address, "mac-" + lan.MAC, "ip-" + v6.Address, "mac-" + v6.MAC} {
		if !n.HasKey(key) {
			t.Errorf("the node does not hold %s: %v", key, n.Keys())
		}
	}

	// What a NIC had it keeps, unless it moves to another network.
	again, err := p.Redefine(t.Context(), "web1", vm(t, "", `{"cpu":2,"memory":64,"nics":[{"network":"lan"},{"network":"lan"}]}`).Definition, false)
	if err != nil {
		t.Fatal(err)
	}
	moved := nicsOf(t, again)
	if moved[0].Address != lan.Address || moved[0].MAC != lan.MAC {
		t.Errorf("the NIC that stayed has %+v, it had %+v", moved[0], lan)
	}
	if moved[1].Address == v6.Address || moved[1].Address == lan.Address || moved[1].Address == "" {
		t.Errorf("the NIC that moved has %+v", moved[1])
	}
	if _, err := registry.Find(view(t, r), "ip-"+v6.Address); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the address that it had is not free: %v", err)
	}
}

// What somebody asked for once he keeps as well.
func TestRedefineKeepsWhatWasAsked(t *testing.T) {
	p := open(t, with(template.Network{CIDR: "192.0.2.0/24"}), provisioner.Deps{Registry: memory(t), Types: vmTypes()})
	if _, err := p.Provision(t.Context(), vm(t, "web1", `{"cpu":1,"memory":64,"nics":[{"network":"lan","address":"192.0.2.200","mac":"02:00:00:00:00:09"}]}`)); err != nil {
		t.Fatal(err)
	}
	n, err := p.Redefine(t.Context(), "web1", vm(t, "", `{"cpu":2,"memory":64,"nics":[{"network":"lan"},{"network":"lan","address":"192.0.2.201"}]}`).Definition, false)
	if err != nil {
		t.Fatal(err)
	}
	if nic := nicsOf(t, n)[0]; nic.Address != "192.0.2.200" || nic.MAC != "02:00:00:00:00:09" {
		t.Errorf("the NIC became %+v", nic)
	}
	// Unless another NIC of the same node takes it.
	n, err = p.Redefine(t.Context(), "web1", vm(t, "", `{"cpu":2,"memory":64,"nics":[{"network":"lan"},{"network":"lan","address":"192.0.2.200"}]}`).Definition, false)
	if err != nil {
		t.Fatal(err)
	}
	if nics := nicsOf(t, n); nics[0].Address == "192.0.2.200" || nics[1].Address != "192.0.2.200" || n.HasKey("ip-192.0.2.201") {
		t.Errorf("the NICs became %+v, the keys %v", nics, n.Keys())
	}
}

// asking records which addresses are asked about.
type asking struct {
	registry.Registry
	keys []string
}

type askingReader struct {
	registry.Reader
	to *asking
}

func (a *asking) View(ctx context.Context, opts ...registry.ReadOption) (registry.Reader, error) {
	v, err := a.Registry.View(ctx, opts...)
	return askingReader{v, a}, err
}

func (r askingReader) ByKey(key string) (*registry.Node, error) {
	if strings.HasPrefix(key, "ip-") {
		r.to.keys = append(r.to.keys, key)
	}
	return r.Reader.ByKey(key)
}

// Nodes that come at once ask about different addresses, and guard no other
// than the one that they claim; in a nearly full pool too they go to different
// gaps.
func TestNoRaceForTheFirst(t *testing.T) {
	r := &asking{Registry: memory(t)}
	p := open(t, with(template.Network{CIDR: "10.0.0.0/16"}), provisioner.Deps{Registry: r, Types: vmTypes()})
	plan := func(id string) string {
		d, err := p.Plan(t.Context(), vm(t, id, oneNIC))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range d.Keys {
			if strings.HasPrefix(k, "ip-") {
				return k
			}
		}
		return ""
	}
	const nodes = 300
	for i := range nodes {
		plan(fmt.Sprint("n", i))
	}
	asked := len(r.keys)
	slices.Sort(r.keys)
	if distinct := len(slices.Compact(r.keys)); asked != nodes || distinct < nodes*97/100 {
		t.Errorf("%d nodes asked %d times about %d addresses", nodes, asked, distinct)
	}

	p = open(t, with(template.Network{CIDR: "198.18.0.0/16", Range: []string{"198.18.0.1-198.18.1.144"}}), provisioner.Deps{Registry: r, Types: vmTypes()})
	for part := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
		for i := range 400 {
			if i%100 != 0 && !yield(i) {
				return
			}
		}
	}), 30) {
		d := registry.Draft{ID: fmt.Sprint("full", part[0]), Name: fmt.Sprint("full", part[0]), Type: "vm"}
		for _, i := range part {
			d.Keys = append(d.Keys, fmt.Sprintf("ip-198.18.%d.%d", (i+1)>>8, (i+1)&255))
		}
		if _, err := registry.Create(t.Context(), r, d); err != nil {
			t.Fatal(err)
		}
	}
	gaps := map[string]int{}
	for i := range 80 {
		gaps[plan(fmt.Sprint("late", i))]++
	}
	for gap, n := range gaps {
		if n > 40 || len(gaps) != 4 {
			t.Errorf("%d of 80 nodes went to %s, one of %d gaps", n, gap, len(gaps))
		}
	}
}

func view(t testing.TB, r registry.Registry) registry.Reader {
	t.Helper()
	v, err := r.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestExplicitAddresses(t *testing.T) {
	r := memory(t)
	p := open(t, with(template.Network{CIDR: "192.0.2.0/24", Range: []string{"192.0.2.100-192.0.2.199"}, Gateway: "192.0.2.1", Reserved: []string{"192.0.2.10"}, Bridge: "br0"}),
		provisioner.Deps{Registry: r, Types: vmTypes()})
	for address, want := range map[string]string{
		"192.0.2.20": "", "192.0.2.150": "", "198.51.100.7": "not in the network lan", "192.0.2.1": "the gateway", "192.0.2.10": "reserved",
		"192.0.2.0": "reserved", "192.0.2.255": "reserved", "2001:db8::1": "not in the network lan", "1.2.3": "not an IP address",
	} {
		id := "vm-" + strings.NewReplacer(".", "-", ":", "-").Replace(address)
		n, err := p.Provision(t.Context(), vm(t, id, `{"cpu":1,"memory":64,"nics":[{"network":"lan","address":"`+address+`","mac":"02:00:00:00:00:`+fmt.Sprintf("%02x", len(id)+len(want))+`"}]}`))
		if want == "" && (err != nil || !n.HasKey("ip-"+address) || nicsOf(t, n)[0].Gateway != "192.0.2.1") {
			t.Errorf("%s: %v", address, err)
		}
		if want != "" && (!errors.Is(err, provisioner.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nics[0].address")) {
			t.Errorf("%s: %v does not say %q", address, err, want)
		}
	}
	// A NIC on the bridge belongs to the network that joins it there.
	if _, err := p.Provision(t.Context(), vm(t, "b1", `{"cpu":1,"memory":64,"nics":[{"type":"bridge","network":"br0","address":"192.0.2.10"}]}`)); err == nil {
		t.Error("a reserved address is to be had through the bridge")
	}
	_, err := p.Provision(t.Context(), vm(t, "b1", `{"cpu":1,"memory":64,"nics":[{"network":"lan","address":"192.0.2.20"}]}`))
	if !errors.Is(err, registry.ErrConflict) || !strings.Contains(err.Error(), "vm-192-0-2-20") {
		t.Errorf("an address in use: %v", err)
	}
}

// An address whose key is taken by a name is passed over, in a pool that is
// full otherwise too.
func TestNamesLikeKeys(t *testing.T) {
	r := memory(t)
	p := open(t, with(template.Network{CIDR: "192.0.2.0/29", Range: []string{"192.0.2.1-192.0.2.2"}}), provisioner.Deps{Registry: r, Types: vmTypes()})
	if _, err := p.Provision(t.Context(), vm(t, "ip-192.0.2.1", `{"cpu":1,"memory":64}`)); err != nil {
		t.Fatal(err)
	}
	n, err := p.Provision(t.Context(), vm(t, "a", `{"cpu":1,"memory":64,"nics":[{"network":"lan"}]}`))
	if err != nil || nicsOf(t, n)[0].Address != "192.0.2.2" {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := p.Provision(t.Context(), vm(t, "b", `{"cpu":1,"memory":64,"nics":[{"network":"lan"}]}`)); !errors.Is(err, provisioner.ErrExhausted) {
		t.Errorf("nothing is left: %v", err)
	}
}

func TestTemplates(t *testing.T) {
	cfg := with(template.Network{CIDR: "192.0.2.0/24"})
	cfg.Templates = map[string]template.Template{"debian": {
		CPU: 1, Memory: 512 << 20, Disks: []component.Size{8 << 30}, Bus: "scsi", Format: "raw", Nets: []string{"lan"}, Model: "e1000",
		Forward: []string{"2222:22", "5353:53/udp"}, Tags: map[string]string{"os": "debian", "tier": "low"},
		Kernel: "/boot/vmlinuz", Cmdline: "console=ttyS0", Console: "pty", VNC: true, Require: []string{"ssd"}, Apart: []string{"group=web"},
	}}
	cfg.Sizes = map[string]template.Size{"big": {CPU: 8, Memory: 16 << 30, Disks: []component.Size{10 << 30, 20 << 30}}}
	p := open(t, cfg, provisioner.Deps{Registry: memory(t), Types: vmTypes()})

	spec := vm(t, "web1", `{"memory":1024,"boot":{"cmdline":"quiet"}}`)
	spec.Args = map[string]string{"template": "debian", "size": "big"}
	spec.Tags = map[string]string{"tier": "high"}
	d, err := p.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := virt.ParseDefinition(d.Definition)
	if err != nil {
		t.Fatal(err)
	}
	if got.CPU != 8 || got.Memory != 1024 {
		t.Errorf("the size wins over the template, the spec over both: %d CPUs, %d MB", got.CPU, got.Memory)
	}
	if len(got.Disks) != 2 || got.Disks[1] != (virt.Disk{Size: 20 << 10, Bus: "scsi", Format: "raw"}) {
		t.Errorf("the disks: %+v", got.Disks)
	}
	if got.Boot.Kernel != "/boot/vmlinuz" || got.Boot.Cmdline != "quiet" || !got.Console.VNC || got.Placement.Require[0] != "ssd" || got.Placement.Apart[0] != "group=web" {
		t.Errorf("merged: %+v", got)
	}
	if len(got.NICs) != 2 || got.NICs[0].Address == "" || got.NICs[0].Model != "e1000" || got.NICs[1].Type != "user" || got.NICs[1].Forward[1] != (virt.Forward{Protocol: "udp", Port: 5353, To: 53}) {
		t.Errorf("the NICs: %+v", got.NICs)
	}
	if d.Tags["os"] != "debian" || d.Tags["tier"] != "high" {
		t.Errorf("the tags: %v", d.Tags)
	}

	spec.Definition = registry.TrustedDocument(`{"nics":[],"disks":[{"size":5}]}`)
	if d, err = p.Plan(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if got, _ := virt.ParseDefinition(d.Definition); len(got.NICs) != 0 || len(got.Disks) != 1 || got.Disks[0].Bus != "" {
		t.Errorf("lists are replaced: %+v", got)
	}

	spec.Args = map[string]string{"template": "debain", "size": "bigg", "tmplate": "x"}
	_, err = p.Plan(t.Context(), spec)
	for _, want := range []string{`no template "debain" (did you mean "debian"?)`, `no size "bigg" (did you mean "big"?)`, `no argument "tmplate" (did you mean "template"?)`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
}

// A class that derives no keys still holds its addresses, and gives them back.
func TestOwnClass(t *testing.T) {
	r := memory(t)
	p := open(t, with(template.Network{CIDR: "192.0.2.0/30", Range: []string{"192.0.2.1"}}), provisioner.Deps{Registry: r, Types: map[string]provisioner.Class{"phone": {}}})
	doc := registry.TrustedDocument(`{"nics":[{"network":"lan"}]}`)
	n, err := p.Provision(t.Context(), provisioner.Spec{ID: "a", Type: "phone", Definition: doc})
	if err != nil || !n.HasKey("ip-192.0.2.1") {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, err := p.Redefine(t.Context(), "a", registry.TrustedDocument(`{"nics":[]}`), false); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Provision(t.Context(), provisioner.Spec{ID: "b", Type: "phone", Definition: doc}); err != nil {
		t.Errorf("the address is not free: %v", err)
	}
}
