package libvirt

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// problem is one thing that is wrong with a guest.
func problem(g virt.Guest, kind error, format string, args ...any) error {
	return fmt.Errorf("%w: guest %.64q: %s", kind, g.ID, fmt.Sprintf(format, args...))
}

// checkIdentity refuses a guest whose UUID is none. Every call begins with it.
func checkIdentity(g virt.Guest) (golibvirtUUID, error) {
	u, err := uuid.Parse(g.UUID)
	if err != nil || len(g.UUID) != 36 || u == uuid.Nil {
		return golibvirtUUID{}, problem(g, virt.ErrInvalid, "%.64q is no UUID", g.UUID)
	}
	return golibvirtUUID(u), nil
}

// Check refuses a guest that no libvirt can be asked for.
func (d *Driver) Check(g virt.Guest) error { return checkGuest(g) }

// checkGuest refuses what no libvirt can be asked for. It looks at all that
// goes to the host, whatever was checked before.
func checkGuest(g virt.Guest) error {
	if _, err := checkIdentity(g); err != nil {
		return err
	}
	for _, f := range []struct {
		field, text string
		optional    bool
	}{{"ID", g.ID, false}, {"name", g.Name, false}, {"tenant", g.Tenant, true}} {
		if f.text == "" && f.optional {
			continue
		}
		if err := registry.CheckName(f.text); err != nil {
			return problem(g, virt.ErrInvalid, "its %s is refused: %v", f.field, err)
		}
	}
	d := g.Definition
	switch {
	case d.UUID != "" && !strings.EqualFold(d.UUID, g.UUID):
		return problem(g, virt.ErrInvalid, "its definition has the UUID %.64q, not %s", d.UUID, g.UUID)
	case d.Type != "" && d.Type != "vm":
		return problem(g, virt.ErrUnsupported, "libvirt runs virtual machines here, not a %.32q", d.Type)
	case d.Image != "":
		return problem(g, virt.ErrUnsupported, `"image" needs an agent on the host: libvirt alone has no images`)
	case d.CloudInit.Wanted() && d.CloudInit.Disk == "":
		return problem(g, virt.ErrUnsupported, `"cloud_init" needs an agent on the host, which makes its disk; or make it yourself, and give its path as "cloud_init": {"disk": …}`)
	case d.CPU < 1 || d.CPU > 4096:
		return problem(g, virt.ErrInvalid, "%d CPUs are not between 1 and 4096", d.CPU)
	case d.Memory < 1 || d.Memory > 1<<26:
		return problem(g, virt.ErrInvalid, "%d MB of memory are not between 1 and %d", d.Memory, 1<<26)
	case len(d.Disks) > 256 || len(d.NICs) > 64:
		return problem(g, virt.ErrInvalid, "it has %d disks and %d NICs, at most 256 and 64 are allowed", len(d.Disks), len(d.NICs))
	}
	for _, check := range []func(virt.Guest) error{checkDisks, checkNICs, checkBoot} {
		if err := check(g); err != nil {
			return err
		}
	}
	return nil
}

func checkDisks(g virt.Guest) error {
	devices, files := map[string]bool{}, map[string]bool{}
	for i, d := range g.Definition.Disks {
		refuse := func(format string, args ...any) error {
			return problem(g, virt.ErrInvalid, "disk %d: %s", i, fmt.Sprintf(format, args...))
		}
		prefix := map[string]string{"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}[d.Bus]
		letters := strings.TrimPrefix(d.Device, prefix)
		switch {
		case prefix == "":
			return refuse("the bus %.32q is none of virtio, scsi, sata and ide", d.Bus)
		case letters == d.Device || letters == "" || len(letters) > 3 || strings.Trim(letters, "abcdefghijklmnopqrstuvwxyz") != "":
			return refuse("the device %.32q is no name such as %sa", d.Device, prefix)
		case devices[d.Device]:
			return refuse("there are two disks %s", d.Device)
		case d.Format != "qcow2" && d.Format != "raw":
			return refuse("the format %.32q is neither qcow2 nor raw", d.Format)
		case d.Image != "":
			return problem(g, virt.ErrUnsupported, `disk %d: "image" needs an agent on the host: libvirt alone has no images`, i)
		}
		devices[d.Device] = true
		id := "source " + d.Source
		if d.Source != "" {
			if err := plainPath(d.Source); err != nil {
				return refuse("the source %v", err)
			}
		} else {
			if err := checkVolume(d); err != nil {
				return refuse("%v", err)
			}
			id = "volume " + d.Volume
		}
		if files[id] {
			return refuse("two disks have the %.100q", id)
		}
		files[id] = true
	}
	return nil
}

// checkVolume is for a disk that Provision makes.
func checkVolume(d virt.Disk) error {
	if err := registry.CheckName(d.Volume); err != nil {
		return fmt.Errorf("the volume is refused: %w", err)
	}
	if d.Size < 1 || d.Size > 1<<40 {
		return fmt.Errorf("a size of %d MB is not between 1 and %d", d.Size, int64(1)<<40)
	}
	return nil
}

func checkNICs(g virt.Guest) error {
	for i, n := range g.Definition.NICs {
		refuse := func(format string, args ...any) error {
			return problem(g, virt.ErrInvalid, "NIC %d: %s", i, fmt.Sprintf(format, args...))
		}
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return refuse("%.32q is no MAC address of one NIC", n.MAC)
		}
		if !slices.Contains([]string{"virtio", "e1000", "rtl8139"}, n.Model) {
			return refuse("the model %.32q is none of virtio, e1000 and rtl8139", n.Model)
		}
		switch n.Type {
		case "network":
			if err := registry.CheckName(n.Network); err != nil {
				return refuse("the network is refused: %v", err)
			}
		case "bridge":
			if !word(n.Network, "._-", 15) {
				return refuse("%.32q is no bridge's name", n.Network)
			}
		case "user":
			if len(n.VLANs) > 0 {
				return problem(g, virt.ErrUnsupported, "NIC %d: a user-mode NIC has no VLANs", i)
			}
		default:
			return refuse("the type %.32q is none of network, bridge and user", n.Type)
		}
		if n.Device != "" && !word(n.Device, "._-", 15) {
			return refuse("%.32q is no name of an interface on the host", n.Device)
		}
		if len(n.VLANs) > 4094 {
			return refuse("it has %d VLANs", len(n.VLANs))
		}
		for _, v := range n.VLANs {
			if v < 1 || v > 4094 {
				return refuse("VLAN %d is not between 1 and 4094", v)
			}
		}
		if n.Type != "user" && len(n.Forward) > 0 {
			return refuse("only a user-mode NIC forwards ports")
		}
		for _, f := range n.Forward {
			if err := checkForward(f); err != nil {
				return problem(g, err, "NIC %d: the port forward %.16s %.64q:%d to %d needs tcp or udp, an IPv4 address and ports of 1 to 65535", i,
					f.Protocol, f.Address, f.Port, f.To)
			}
		}
	}
	return nil
}

// checkForward returns the kind of error that a forward is.
func checkForward(f virt.Forward) error {
	a, err := netip.ParseAddr(f.Address)
	switch {
	case err != nil, f.Protocol != "tcp" && f.Protocol != "udp", f.Port < 1, f.Port > 65535, f.To < 1, f.To > 65535:
		return virt.ErrInvalid
	case !a.Is4():
		return virt.ErrUnsupported
	}
	return nil
}

func checkBoot(g virt.Guest) error {
	d := g.Definition
	for _, f := range []struct{ field, path string }{
		{"boot.kernel", d.Boot.Kernel}, {"boot.initrd", d.Boot.Initrd}, {"cdrom", d.CDROM}, {"cloud_init.disk", d.CloudInit.Disk}, {"console.log", d.Console.Log},
	} {
		if f.path == "" {
			continue
		}
		if err := plainPath(f.path); err != nil {
			return problem(g, virt.ErrInvalid, "%s: the path %v", f.field, err)
		}
	}
	oneOf := func(field, value string, values ...string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return problem(g, virt.ErrInvalid, "%s: %.32q is none of %s", field, value, strings.Join(values, ", "))
	}
	if err := oneOf("boot.firmware", d.Boot.Firmware, "bios", "uefi"); err != nil {
		return err
	}
	if err := oneOf("boot.order", d.Boot.Order, "disk", "cdrom", "network"); err != nil {
		return err
	}
	if err := oneOf("console.serial", d.Console.Serial, "pty", "file", "none"); err != nil {
		return err
	}
	switch {
	case !printable(d.Boot.Cmdline) || len(d.Boot.Cmdline) > 4096:
		return problem(g, virt.ErrInvalid, "boot.cmdline holds characters that are not printable, or more than 4096 bytes")
	case d.Boot.Kernel == "" && (d.Boot.Initrd != "" || d.Boot.Cmdline != ""):
		return problem(g, virt.ErrInvalid, "boot: initrd and cmdline need a kernel")
	case (d.Console.Serial == "file") != (d.Console.Log != ""):
		return problem(g, virt.ErrInvalid, `console: "serial": "file" and "log" go together`)
	}
	return nil
}

func plainPath(s string) error {
	switch {
	case len(s) > 1024 || !printable(s):
		return fmt.Errorf("%.64q holds characters that are not printable, or more than 1024 bytes", s)
	case !path.IsAbs(s) || path.Clean(s) != s || s == "/":
		return fmt.Errorf("%.64q is not a plain absolute path", s)
	}
	return nil
}

// printable reports whether s holds nothing that XML cannot carry or that reads
// other than it is.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}
