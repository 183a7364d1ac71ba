package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

type golibvirtUUID = golibvirt.UUID

// Define makes a guest known to a host. A domain that is defined that way
// already stays as it is, and so does one that was not defined here: what
// somebody else wrote is not ours to replace. One that runs is not redefined
// (ErrBusy).
func (d *Driver) Define(ctx context.Context, h virt.Host, g virt.Guest) error {
	if err := checkGuest(g); err != nil {
		return err
	}
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	return p.do(ctx, changes, "define "+g.ID, func(ctx context.Context, c *conn) error {
		there, err := p.hostOf(c, g)
		if err != nil {
			return err
		}
		there.job = trail.From(ctx).Job
		name, done, err := d.current(ctx, c, g, &there)
		if done || err != nil {
			return err
		}
		text, err := domainXML(g, name, there)
		if err != nil {
			return err
		}
		_, err = c.DomainDefineXMLFlags(text, 0)
		if err != nil {
			if taken := nameTaken(c, g, name); taken != nil {
				return taken
			}
		}
		return translate(err)
	})
}

// current looks at the domain that is there already. It returns the name to
// define g under, or that there is nothing to do. The job that made a domain
// known stays the one.
func (d *Driver) current(ctx context.Context, c *conn, g virt.Guest, there *host) (name string, done bool, err error) {
	dom, err := lookup(c, g)
	if errors.Is(err, virt.ErrNotFound) {
		return g.Name, false, nameTaken(c, g, g.Name)
	}
	if err != nil {
		return "", false, err
	}
	text, err := c.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive)
	if err != nil {
		return "", false, translate(err)
	}
	is, err := parseDomain(text)
	if err != nil {
		return "", false, err
	}
	m := is.Metadata.Mark
	if m == nil {
		d.log.InfoContext(ctx, "a domain that somebody else defined is left as it is", "node", g.ID, "uuid", g.UUID,
			"domain", clean(dom.Name, 128), "trail", trail.From(ctx))
		return "", true, nil
	}
	if m.Node != g.ID {
		return "", false, fmt.Errorf("%w: the domain with UUID %s belongs to the node %q", virt.ErrConflict, g.UUID, clean(m.Node, 128))
	}
	sum, err := hash(g)
	if err != nil {
		return "", false, err
	}
	if m.Hash == sum && m.Filter == there.filter {
		return "", true, nil
	}
	there.job = m.Job
	state, err := stateOf(c, dom)
	if err != nil {
		return "", false, err
	}
	if state == virt.Running || state == virt.Paused {
		return "", false, fmt.Errorf("%w: its definition changes only while it is off: stop it first", virt.ErrBusy)
	}
	return dom.Name, false, nil
}

// nameTaken returns an ErrConflict if another domain has the name.
func nameTaken(c *conn, g virt.Guest, name string) error {
	other, err := c.DomainLookupByName(name)
	if err != nil {
		if answered(err, golibvirt.ErrNoDomain) {
			return nil
		}
		return translate(err)
	}
	want, err := checkIdentity(g)
	if err != nil || other.UUID == want {
		return err
	}
	return fmt.Errorf("%w: the host has another domain named %s: rename or undefine one of them", virt.ErrConflict, name)
}

// Undefine makes a host forget a guest. Its disks stay, and so does the NVRAM of
// its firmware: defined again, it boots as before.
func (d *Driver) Undefine(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.undefine(ctx, h, g, golibvirt.DomainUndefineKeepNvram)
}

// Erase is Undefine of a guest that does not come back: nothing but its disks
// stays.
func (d *Driver) Erase(ctx context.Context, h virt.Host, g virt.Guest) error {
	return d.undefine(ctx, h, g, golibvirt.DomainUndefineNvram)
}

func (d *Driver) undefine(ctx context.Context, h virt.Host, g virt.Guest, nvram golibvirt.DomainUndefineFlagsValues) error {
	return d.withDomain(ctx, h, g, changes, "undefine", func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
		state, err := stateOf(c, dom)
		if err != nil {
			return err
		}
		if state == virt.Running || state == virt.Paused {
			return fmt.Errorf("%w: stop it first", virt.ErrBusy)
		}
		flags := golibvirt.DomainUndefineManagedSave | golibvirt.DomainUndefineSnapshotsMetadata
		if !strings.HasPrefix(c.driver, "test:") {
			flags |= golibvirt.DomainUndefineCheckpointsMetadata | nvram
		}
		return translate(c.DomainUndefineFlags(dom, flags))
	})
}

// withDomain runs f with the guest's domain.
func (d *Driver) withDomain(ctx context.Context, h virt.Host, g virt.Guest, u use, what string, f func(context.Context, *conn, golibvirt.Domain) error) error {
	if _, err := checkIdentity(g); err != nil {
		return err
	}
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	return p.do(ctx, u, what+" "+clean(g.ID, 128), func(ctx context.Context, c *conn) error {
		dom, err := lookup(c, g)
		if err != nil {
			return err
		}
		return f(ctx, c, dom)
	})
}

// lookup finds the guest's domain, by its UUID alone.
func lookup(c *conn, g virt.Guest) (golibvirt.Domain, error) {
	u, err := checkIdentity(g)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	dom, err := c.DomainLookupByUUID(u)
	if err == nil && dom.UUID != u {
		return golibvirt.Domain{}, unreachable(malformed("another domain than the one it was asked for"))
	}
	return dom, translate(err)
}

// known is what a host can do, and when it said so.
type known struct {
	at   time.Time
	caps libvirtxml.DomainCaps
	err  error // it cannot run such domains at all
}

const knownFor = 5 * time.Minute

// capabilities asks what the host can do with a type of domain.
func (p *pool) capabilities(c *conn, hypervisor string) (libvirtxml.DomainCaps, error) {
	p.mu.Lock()
	k, ok := p.caps[hypervisor]
	p.mu.Unlock()
	if ok && p.now().Sub(k.at) < knownFor {
		return k.caps, k.err
	}
	k = known{at: p.now()}
	text, err := c.ConnectGetDomainCapabilities(nil, nil, nil, golibvirt.OptString{hypervisor}, 0)
	if err != nil {
		refused := (*HostError)(nil)
		if err = translate(err); isUnreachable(err) || !errors.As(err, &refused) {
			return libvirtxml.DomainCaps{}, err
		}
		k.err = fmt.Errorf("%w: the host runs no %s domains: %s", virt.ErrUnsupported, hypervisor, refused.Message)
	} else if err := xml.Unmarshal([]byte(text), &k.caps); err != nil {
		return libvirtxml.DomainCaps{}, unreachable(malformed("capabilities that cannot be read: %s", clean(err.Error(), maxMessage)))
	} else if hypervisor == "kvm" && !runsPlainCPU(k.caps) {
		k.err = fmt.Errorf("%w: the host has a KVM that cannot run even QEMU's plainest 64-bit CPU", virt.ErrUnsupported)
	}
	p.mu.Lock()
	p.caps[hypervisor] = k
	p.mu.Unlock()
	return k.caps, k.err
}

// runsPlainCPU is false on a host whose /dev/kvm is there and of no use, as in
// some virtual machines: libvirt lists such a KVM, and no guest boots on it.
func runsPlainCPU(caps libvirtxml.DomainCaps) bool {
	if caps.CPU == nil {
		return true
	}
	listed := false
	for _, mode := range caps.CPU.Modes {
		for _, m := range mode.Models {
			if mode.Name == "custom" && (m.Name == "qemu64" || m.Name == "kvm64") {
				if m.Usable != "no" {
					return true
				}
				listed = true
			}
		}
	}
	return !listed
}

// hostOf finds out how a guest has to be written for this host, and refuses
// what the host cannot do.
func (p *pool) hostOf(c *conn, g virt.Guest) (host, error) {
	h := host{disks: p.cfg.Disks, arch: "x86_64", cdromBus: "ide", pciBus: "pci.0", filter: p.cfg.filter()}
	if p.endpoint.isTest() {
		h.hypervisor = "test"
		if slices.ContainsFunc(g.Definition.NICs, hasForward) {
			return host{}, problem(g, virt.ErrUnsupported, "libvirt's test hypervisor forwards no ports")
		}
		return h, nil
	}
	var caps libvirtxml.DomainCaps
	var err error
	h.hypervisor = p.cfg.Emulator
	if p.cfg.Emulator == "auto" {
		h.hypervisor = "kvm"
		caps, err = p.capabilities(c, "kvm")
		if errors.Is(err, virt.ErrUnsupported) {
			h.hypervisor = "qemu"
			caps, err = p.capabilities(c, "qemu")
		}
	} else {
		caps, err = p.capabilities(c, h.hypervisor)
	}
	if err != nil {
		return host{}, err
	}
	if caps.Arch != "" {
		h.arch = caps.Arch
	}
	if !strings.HasPrefix(caps.Machine, "pc-i440fx") {
		h.pciBus = "pcie.0"
	}
	if err := h.fits(caps, g); err != nil {
		return host{}, err
	}
	return h, checkVLANs(c, g)
}

// fits holds a guest against what the host said it can do.
func (h *host) fits(caps libvirtxml.DomainCaps, g virt.Guest) error {
	d := g.Definition
	buses := []string{"virtio", "scsi", "sata", "ide"}
	if caps.Devices != nil {
		buses = values(caps.Devices.Disk, "bus", buses)
	}
	if caps.VCPU != nil && caps.VCPU.Max > 0 && uint(d.CPU) > caps.VCPU.Max {
		return problem(g, virt.ErrUnsupported, "%d CPUs are more than the %d that a guest can have there", d.CPU, caps.VCPU.Max)
	}
	for i, disk := range d.Disks {
		if !slices.Contains(buses, disk.Bus) {
			return problem(g, virt.ErrUnsupported, "disk %d: the host has no %s disks, only %s", i, disk.Bus, clean(strings.Join(buses, ", "), 128))
		}
	}
	for _, bus := range []string{"ide", "sata", "scsi"} {
		if slices.Contains(buses, bus) {
			h.cdromBus = bus
			break
		}
	}
	if slices.ContainsFunc(d.NICs, hasForward) && (len(d.NICs) > maxNICs || len(d.Disks) > maxDisks) {
		return problem(g, virt.ErrUnsupported, "a guest with port forwards has at most %d NICs and %d disks", maxNICs, maxDisks)
	}
	if d.Console.VNC && caps.Devices != nil && !slices.Contains(values(caps.Devices.Graphics, "type", []string{"vnc"}), "vnc") {
		return problem(g, virt.ErrUnsupported, "console.vnc: the host's QEMU has no VNC")
	}
	if d.Boot.Firmware == "uefi" {
		firmware := []string(nil)
		if caps.OS != nil {
			firmware = enum(caps.OS.Enums, "firmware")
		}
		if !slices.Contains(firmware, "efi") {
			return problem(g, virt.ErrUnsupported, `boot.firmware: the host has no UEFI firmware (Debian's package ovmf): use "bios"`)
		}
	}
	return nil
}

func values(dev *libvirtxml.DomainCapsDevice, name string, otherwise []string) []string {
	if dev == nil {
		return otherwise
	}
	if dev.Supported == "no" {
		return nil
	}
	if v := enum(dev.Enums, name); v != nil {
		return v
	}
	return otherwise
}

func enum(enums []libvirtxml.DomainCapsEnum, name string) []string {
	for _, e := range enums {
		if e.Name == name {
			return append([]string{}, e.Values...)
		}
	}
	return nil
}

// vlanBridges is the libvirt that tags VLANs on the kernel's own bridges.
const vlanBridges = 11_000_000

// checkVLANs refuses VLANs where libvirt would refuse them only when the guest
// starts: before 11.0 it tags them on Open vSwitch alone.
func checkVLANs(c *conn, g virt.Guest) error {
	for i, n := range g.Definition.NICs {
		if len(n.VLANs) == 0 {
			continue
		}
		version, err := c.ConnectGetLibVersion()
		if err != nil {
			return translate(err)
		}
		if version >= vlanBridges {
			return nil
		}
		if n.Type == "network" {
			network, err := c.NetworkLookupByName(n.Network)
			if err != nil {
				return translate(err)
			}
			text, err := c.NetworkGetXMLDesc(network, 0)
			if err != nil {
				return translate(err)
			}
			var is libvirtxml.Network
			if err := xml.Unmarshal([]byte(text), &is); err != nil {
				return unreachable(malformed("a network whose XML cannot be read: %s", clean(err.Error(), maxMessage)))
			}
			if is.VirtualPort != nil && is.VirtualPort.Params != nil && is.VirtualPort.Params.OpenVSwitch != nil {
				continue
			}
		}
		return problem(g, virt.ErrUnsupported, "NIC %d: libvirt %d.%d tags VLANs only on networks over Open vSwitch, which %.64q is not", i,
			version/1_000_000, version/1_000%1_000, n.Network)
	}
	return nil
}
