package virt

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vagoth/vagoth/registry"
)

// findings collects problems under a path.
type findings struct{ list []string }

func (f *findings) add(at, format string, args ...any) {
	f.list = append(f.list, at+": "+fmt.Sprintf(format, args...))
}

func (f *findings) name(at, s string) {
	if s == "" {
		return
	}
	if err := registry.CheckName(s); err != nil {
		f.add(at, "%v", err)
	}
}

func (f *findings) text(at, s string) {
	if r, bad := hidden(s); bad {
		f.add(at, "it holds %U: use printable characters", r)
	}
}

// file wants an absolute, clean path.
func (f *findings) file(at, s string) {
	if s == "" {
		return
	}
	switch r, bad := hidden(s); {
	case bad:
		f.add(at, "it holds %U: use printable characters", r)
	case !path.IsAbs(s):
		f.add(at, "%.64q is not an absolute path", s)
	case path.Clean(s) != s || s == "/":
		f.add(at, "%.64q is not a plain path: write %.64q", s, path.Clean(s))
	}
}

// hidden finds a character that is not printed or reorders what is.
func hidden(s string) (rune, bool) {
	if !utf8.ValidString(s) {
		return utf8.RuneError, true
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029 {
			return r, true
		}
	}
	return 0, false
}

// unique reports a second use of a value.
func (f *findings) unique(seen map[string]string, at, what, value string) {
	if first, ok := seen[value]; ok {
		f.add(at, "%s %s is used by %s too", what, value, first)
		return
	}
	seen[value] = at
}

// problems lists what the schema cannot say.
func (d Definition) problems() []string {
	f := &findings{}
	f.text("image", d.Image)
	f.file("cdrom", d.CDROM)
	f.file("cloud_init.disk", d.CloudInit.Disk)
	if d.CloudInit != (CloudInit{}) && d.Type == TypeContainer {
		f.add("cloud_init", "a container has none")
	}
	d.checkDisks(f)
	d.checkNICs(f)
	d.checkBoot(f)
	f.file("console.log", d.Console.Log)
	if d.Console.Serial == "file" && d.Console.Log == "" {
		f.add("console.log", `a "file" console needs the file's path here`)
	}
	if d.Console.Serial != "file" && d.Console.Log != "" {
		f.add("console.log", `it is used only with "serial": "file"`)
	}
	if d.Console.Terminal && d.Type != TypeContainer {
		f.add("console.terminal", `only a container has one; a virtual machine has "serial": "pty"`)
	}
	for _, l := range []struct {
		at   string
		tags []string
	}{
		{"placement.require", d.Placement.Require}, {"placement.forbid", d.Placement.Forbid}, {"placement.prefer", d.Placement.Prefer},
		{"placement.apart", d.Placement.Apart}, {"placement.prefer_apart", d.Placement.PreferApart},
	} {
		seen := map[string]string{}
		for i, t := range l.tags {
			at := fmt.Sprintf("%s[%d]", l.at, i)
			k, v, _ := strings.Cut(t, "=")
			if err := registry.CheckTag(k, v); err != nil {
				f.add(at, "%v", err)
			}
			f.unique(seen, at, "tag", k)
		}
	}
	return f.list
}

func (d Definition) checkDisks(f *findings) {
	devices, volumes, sources := map[string]string{}, map[string]string{}, map[string]string{}
	for i, disk := range d.Disks {
		at := fmt.Sprintf("disks[%d]", i)
		f.name(at+".volume", disk.Volume)
		f.text(at+".image", disk.Image)
		f.file(at+".source", disk.Source)
		switch {
		case disk.Source != "" && (disk.Image != "" || disk.Volume != ""):
			f.add(at+".source", "a disk that exists already has neither volume nor image")
		case disk.Source == "" && disk.Image == "" && disk.Size == 0:
			f.add(at+".size", "a new disk needs a size in MB")
		}
		if want := devicePrefix(disk.Bus); disk.Device != "" && !strings.HasPrefix(disk.Device, want) {
			f.add(at+".device", "%.16q does not fit the bus: its name begins with %s", disk.Device, want)
		}
		if disk.Device != "" {
			f.unique(devices, at+".device", "device", disk.Device)
		}
		if disk.Volume != "" {
			f.unique(volumes, at+".volume", "volume", disk.Volume)
		}
		if disk.Source != "" {
			f.unique(sources, at+".source", "path", disk.Source)
		}
	}
}

func (d Definition) checkNICs(f *findings) {
	names, macs, addresses, forwards := map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	for i, n := range d.NICs {
		at := fmt.Sprintf("nics[%d]", i)
		f.name(at+".name", n.Name)
		f.name(at+".network", n.Network)
		f.name(at+".device", n.Device)
		if n.Name != "" {
			f.unique(names, at+".name", "name", n.Name)
		}
		if n.MAC != "" {
			if mac, err := cleanMAC(n.MAC); err != nil {
				f.add(at+".mac", "%v", err)
			} else {
				f.unique(macs, at+".mac", "MAC address", mac)
			}
		}
		n.checkAddress(f, at, addresses)
		switch {
		case n.Type == "user" && n.Network != "":
			f.add(at+".network", "a user-mode NIC has no network")
		case n.Type == "bridge" && n.Network == "":
			f.add(at+".network", "the name of the bridge is missing")
		case n.Type != "user" && len(n.Forward) > 0:
			f.add(at+".forward", `ports are forwarded only by a NIC of "type": "user"`)
		}
		vlans := map[string]string{}
		for j, v := range n.VLANs {
			f.unique(vlans, fmt.Sprintf("%s.vlans[%d]", at, j), "VLAN", fmt.Sprint(v))
		}
		for j, w := range n.Forward {
			here := fmt.Sprintf("%s.forward[%d]", at, j)
			if w.Address != "" {
				if a, err := netip.ParseAddr(w.Address); err != nil || a.Zone() != "" {
					f.add(here+".address", "%.64q is not an IP address", w.Address)
				}
			}
			f.unique(forwards, here, "host port", fmt.Sprintf("%s %d/%s", w.Address, w.Port, orElse(w.Protocol, "tcp")))
		}
	}
}

func (n NIC) checkAddress(f *findings, at string, seen map[string]string) {
	if n.Address == "" {
		if n.Netmask != "" || n.Gateway != "" {
			f.add(at+".address", "netmask and gateway are of no use without an address")
		}
		return
	}
	a, err := netip.ParseAddr(n.Address)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		f.add(at+".address", "%.64q is not an IP address (without a prefix length)", n.Address)
		return
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		f.add(at+".address", "%s is no address of a guest", a)
	}
	f.unique(seen, at+".address", "address", a.String())
	if n.Netmask != "" {
		m, err := netip.ParseAddr(n.Netmask)
		if err != nil || m.BitLen() != a.BitLen() || !contiguous(m.AsSlice()) {
			f.add(at+".netmask", "%.64q is not a netmask such as 255.255.255.0", n.Netmask)
		}
	}
	if n.Gateway != "" {
		g, err := netip.ParseAddr(n.Gateway)
		if err != nil || g.Is4() != a.Is4() {
			f.add(at+".gateway", "%.64q is not an IP address of the same kind as %s", n.Gateway, a)
		}
	}
}

func contiguous(mask []byte) bool {
	ones, bits := net.IPMask(mask).Size()
	return bits > 0 && ones > 0
}

func (d Definition) checkBoot(f *findings) {
	f.file("boot.kernel", d.Boot.Kernel)
	f.file("boot.initrd", d.Boot.Initrd)
	f.text("boot.cmdline", d.Boot.Cmdline)
	if d.Boot.Kernel == "" && d.Boot.Initrd != "" {
		f.add("boot.initrd", "it needs a kernel")
	}
	if d.Boot.Kernel == "" && d.Boot.Cmdline != "" {
		f.add("boot.cmdline", "it needs a kernel")
	}
	if d.Boot.Order == "cdrom" && d.CDROM == "" {
		f.add("boot.order", "there is no cdrom to boot from")
	}
	if d.Boot.Order == "network" && len(d.NICs) == 0 {
		f.add("boot.order", "there is no NIC to boot from")
	}
}

// problems lists what the schema cannot say.
func (d HostDefinition) problems() []string {
	f := &findings{}
	f.name("driver", d.Driver)
	if d.Driver == "" {
		f.add("driver", "name one of the [drivers.NAME] sections")
	}
	f.text("address", d.Address)
	f.text("peer", d.Peer)
	seen := map[string]string{}
	for i, t := range d.Types {
		at := fmt.Sprintf("types[%d]", i)
		f.name(at, t)
		if t == "" {
			f.add(at, "it is empty")
		}
		f.unique(seen, at, "type", t)
	}
	return f.list
}

// cleanMAC returns the lower-case, colon-separated form of a unicast MAC
// address.
func cleanMAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%.32q is not a MAC address such as 52:54:00:12:34:56", s)
	}
	if mac[0]&1 != 0 {
		return "", fmt.Errorf("%s is a multicast address: its first byte must be even", mac)
	}
	if [6]byte(mac) == [6]byte{} {
		return "", fmt.Errorf("%s is no address", mac)
	}
	return mac.String(), nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
