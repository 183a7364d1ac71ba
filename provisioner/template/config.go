package template

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// Config is the section [provisioner] of the ini file, with the sections of its
// templates, sizes and networks.
type Config struct {
	Before  string           `ini:"before" help:"asked before anything changes, and can veto: exec:/path/of/program with arguments, or a URL"`
	After   string           `ini:"after" help:"told after a change; if it fails, what was provisioned is taken back"`
	Timeout time.Duration    `ini:"hook_timeout" help:"how long a hook may take" min:"100ms" max:"10m"`
	Token   component.Secret `ini:"hook_token" help:"sent to hooks that are URLs, as a bearer token"`

	MAC string `ini:"mac_prefix" help:"first one to four octets of the MAC addresses that are handed out; locally administered"`

	Templates map[string]Template `sections:"template" help:"what a node gets that is provisioned with template=NAME"`
	Sizes     map[string]Size     `sections:"size" help:"what a node gets that is provisioned with size=NAME; it wins over the template"`
	Networks  map[string]Network  `sections:"network" help:"a pool of addresses for the NICs of the network NAME"`
}

// Defaults are the values of an empty section.
func Defaults() Config { return Config{Timeout: 30 * time.Second, MAC: "52:54:00"} }

// Template is a [template.NAME].
type Template struct {
	Kind    string            `ini:"type" help:"what the guest is" oneof:"vm,container"`
	CPU     int               `ini:"cpu" help:"virtual CPUs" min:"1" max:"4096"`
	Memory  component.Size    `ini:"memory" help:"memory, in whole MiB" min:"1MiB"`
	Disks   []component.Size  `ini:"disk" help:"sizes of its disks, in whole MiB" min:"1MiB"`
	Bus     string            `ini:"disk_bus" help:"bus of these disks" oneof:"virtio,scsi,sata,ide"`
	Format  string            `ini:"disk_format" help:"format of these disks" oneof:"qcow2,raw"`
	Image   string            `ini:"image" help:"what it is installed from: its first disk begins as this image"`
	Nets    []string          `ini:"network" help:"networks, a NIC for each; those with a [network.NAME] get an address"`
	Model   string            `ini:"nic_model" help:"model of these NICs" oneof:"virtio,e1000,rtl8139"`
	Forward []string          `ini:"forward" help:"ports of the host's loopback that reach the guest by a user-mode NIC: 2222:22, 5353:53/udp"`
	Tags    map[string]string `ini:"tags" help:"tags of the node"`

	Kernel   string `ini:"kernel" help:"path on the host of a kernel to boot directly"`
	Initrd   string `ini:"initrd" help:"path on the host of its initial RAM disk"`
	Cmdline  string `ini:"cmdline" help:"its command line"`
	Firmware string `ini:"firmware" help:"firmware to boot with" oneof:"bios,uefi"`
	Order    string `ini:"boot" help:"what to boot from" oneof:"disk,cdrom,network"`
	CDROM    string `ini:"cdrom" help:"path on the host of an ISO image"`

	Console string `ini:"console" help:"serial console" oneof:"pty,file,none"`
	Log     string `ini:"console_log" help:"path on the host of a file console"`
	VNC     bool   `ini:"vnc" help:"a VNC server on the host's loopback"`

	Terminal bool `ini:"terminal" help:"a container's program has a terminal, which vagoth console attaches to"`

	Require     []string `ini:"require" help:"tags that its host must have"`
	Forbid      []string `ini:"forbid" help:"tags that its host must not have"`
	Prefer      []string `ini:"prefer" help:"tags that its host had better have"`
	Apart       []string `ini:"apart" help:"tags of guests that it never shares a host with"`
	PreferApart []string `ini:"prefer_apart" help:"the same as a wish"`
}

// Size is a [size.NAME].
type Size struct {
	CPU    int              `ini:"cpu" help:"virtual CPUs" min:"1" max:"4096"`
	Memory component.Size   `ini:"memory" help:"memory, in whole MiB" min:"1MiB"`
	Disks  []component.Size `ini:"disk" help:"sizes of its disks, in whole MiB" min:"1MiB"`
}

// Network is a [network.NAME].
type Network struct {
	CIDR     string   `ini:"cidr" help:"the network, such as 192.0.2.0/24 or 2001:db8::/64" required:"true"`
	Range    []string `ini:"range" help:"what is handed out, as FIRST-LAST; all of the network if there is none"`
	Gateway  string   `ini:"gateway" help:"address of the gateway; never handed out"`
	Reserved []string `ini:"reserved" help:"addresses, FIRST-LAST or networks that are never handed out"`
	VLAN     int      `ini:"vlan" help:"VLAN of its NICs" min:"1" max:"4094"`
	Bridge   string   `ini:"bridge" help:"bridge on the hosts that its NICs join; without it they join the host's network of the same name"`
}

// Validate implements what package component asks.
func (t *Template) Validate() error {
	errs := []error{wholeMB("memory", t.Memory), wholeMB("disk", t.Disks...)}
	for _, f := range t.Forward {
		if _, err := parseForward(f); err != nil {
			errs = append(errs, &component.KeyError{Key: "forward", Reason: err.Error()})
		}
	}
	for k, v := range t.Tags {
		if err := registry.CheckTag(k, v); err != nil {
			errs = append(errs, &component.KeyError{Key: "tags", Reason: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// Validate implements what package component asks.
func (s *Size) Validate() error {
	return errors.Join(wholeMB("memory", s.Memory), wholeMB("disk", s.Disks...))
}

func wholeMB(key string, sizes ...component.Size) error {
	for _, s := range sizes {
		if s%(1<<20) != 0 {
			return &component.KeyError{Key: key, Reason: fmt.Sprintf("%s is not a whole number of MiB", s)}
		}
	}
	return nil
}

// Validate implements what package component asks.
func (n *Network) Validate() error {
	_, err := newPool("", *n)
	return err
}

// Validate implements what package component asks: what concerns several
// sections.
func (c *Config) Validate() error {
	var errs []error
	for _, h := range []struct{ key, hook string }{{"before", c.Before}, {"after", c.After}} {
		if _, err := parseHook(h.hook, 0, component.Secret{}); err != nil {
			errs = append(errs, &component.KeyError{Key: h.key, Reason: err.Error()})
		}
	}
	if _, err := parsePrefix(c.MAC); err != nil {
		errs = append(errs, &component.KeyError{Key: "mac_prefix", Reason: err.Error()})
	}
	names := slices.Sorted(maps.Keys(c.Networks))
	pools := map[string]*pool{}
	for _, name := range names {
		p, err := newPool(name, c.Networks[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("[network.%s] %w", name, err))
			continue
		}
		for _, other := range names {
			if o := pools[other]; o != nil && o.cidr.Overlaps(p.cidr) {
				errs = append(errs, fmt.Errorf("[network.%s] %s overlaps %s of [network.%s]: an address can belong to one network only", name, p.cidr, o.cidr, other))
			}
		}
		pools[name] = p
	}
	return errors.Join(errs...)
}

// parsePrefix reads the first octets of MAC addresses.
func parsePrefix(s string) ([]byte, error) {
	n := len(strings.Split(s, ":"))
	if n < 1 || n > 4 {
		return nil, fmt.Errorf("%.32q has %d octets: give one to four", s, n)
	}
	mac, err := net.ParseMAC(s + strings.Repeat(":00", 6-n))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.32q is no beginning of a MAC address such as 52:54:00", s)
	case mac[0]&1 != 0:
		return nil, fmt.Errorf("%.32q is for multicast: make its first octet even", s)
	case mac[0]&2 == 0:
		return nil, fmt.Errorf("%.32q belongs to a maker of hardware: use one that is locally administered, such as 52:54:00", s)
	}
	return mac[:n], nil
}

// span is the addresses from first to last.
type span struct{ first, last netip.Addr }

// parseSpan reads an address, FIRST-LAST or a network.
func parseSpan(s string) (span, error) {
	if a, b, ok := strings.Cut(s, "-"); ok {
		first, err := parseAddr(strings.TrimSpace(a))
		if err != nil {
			return span{}, err
		}
		last, err := parseAddr(strings.TrimSpace(b))
		if err != nil {
			return span{}, err
		}
		if first.Is4() != last.Is4() || last.Less(first) {
			return span{}, fmt.Errorf("%.80q does not go from a lower to a higher address", s)
		}
		return span{first, last}, nil
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return span{}, fmt.Errorf("%.64q is not a network such as 192.0.2.0/28", s)
		}
		return span{p.Masked().Addr(), lastOf(p)}, nil
	}
	a, err := parseAddr(s)
	return span{a, a}, err
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%.64q is not an IP address", s)
	}
	return a, nil
}

// lastOf is the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
