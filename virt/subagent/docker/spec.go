package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// The labels of a container.
const (
	labelGuest  = "vagoth.guest"
	labelName   = "vagoth.name"
	labelNode   = "vagoth.node"
	labelTenant = "vagoth.tenant"
	labelMade   = "vagoth.made"
	labelJob    = "vagoth.job"
)

// ourLabels are all of them.
func ourLabels() []string {
	return []string{labelGuest, labelName, labelNode, labelTenant, labelMade, labelJob}
}

// plan is what a container is to be.
type plan struct {
	guest    virt.Guest
	image    reference
	networks []link // the first is given when it is created
	ports    network.PortMap
	made     string
}

// link is a network with how the container is on it.
type link struct {
	network  string
	settings *network.EndpointSettings
}

// bridge is the network that dockerd makes itself.
const bridge = "bridge"

// read takes the guest out of a request.
func read(g *mistify.Guest) (virt.Guest, error) {
	if g == nil {
		return virt.Guest{}, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	if !g.Container() {
		return virt.Guest{}, fmt.Errorf("%w: guest %.64q is of type %.32q: this sub-agent has containers only", virt.ErrUnsupported, g.ID, g.Type)
	}
	return g.Virt()
}

// planned checks a guest as a container is made of it.
func planned(v virt.Guest) (*plan, error) {
	d := v.Definition
	refused := func(what string) error {
		return fmt.Errorf("%w: guest %s has %s, which a container cannot have: leave it out", virt.ErrUnsupported, v.UUID, what)
	}
	switch {
	case len(d.Disks) > 0:
		return nil, refused("disks")
	case d.CDROM != "":
		return nil, refused("a cdrom")
	case d.Boot.Kernel != "" || d.Boot.Initrd != "" || d.Boot.Cmdline != "":
		return nil, refused("a kernel of its own")
	case d.CloudInit.Wanted() || d.CloudInit.Disk != "":
		return nil, refused("something for cloud-init")
	case d.Console.VNC || d.Console.Log != "":
		return nil, refused("a console")
	case d.Image == "":
		return nil, fmt.Errorf("%w guest %s: image: a container is made of one, such as busybox:1.36", virt.ErrInvalid, v.UUID)
	}
	p := &plan{guest: v, ports: network.PortMap{}}
	var err error
	if p.image, err = parseReference(d.Image); err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for i, n := range d.NICs {
		l, err := p.link(n)
		if err == nil && taken[l.network] {
			err = fmt.Errorf("%w: a NIC before it is on the network %s already", virt.ErrInvalid, l.network)
		}
		if err != nil {
			return nil, fmt.Errorf("guest %s: nics[%d]: %w", v.UUID, i, err)
		}
		taken[l.network] = true
		p.networks = append(p.networks, l)
	}
	p.made, err = digest(p.image, d)
	return p, err
}

// digest tells one container from another, as far as it cannot be changed.
func digest(image reference, d virt.Definition) (string, error) {
	type nic struct {
		Type, Network, Address string
		Forward                []virt.Forward
	}
	same := struct {
		Image    string
		NICs     []nic
		Terminal bool `json:",omitempty"`
	}{Image: image.String(), Terminal: d.Console.Terminal}
	for _, n := range d.NICs {
		same.NICs = append(same.NICs, nic{n.Type, n.Network, n.Address, n.Forward})
	}
	data, err := json.Marshal(same)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), err
}

// link is how a NIC is joined.
func (p *plan) link(n virt.NIC) (link, error) {
	if len(n.VLANs) > 0 {
		return link{}, fmt.Errorf("%w: VLAN tags are not for containers: make a network of dockerd with them, and name it", virt.ErrUnsupported)
	}
	l := link{settings: &network.EndpointSettings{}}
	switch n.Type {
	case "user":
		l.network = bridge
		if err := p.publish(n.Forward); err != nil {
			return link{}, err
		}
	case "network":
		if l.network = n.Network; l.network == "default" {
			l.network = bridge
		}
		if len(n.Forward) > 0 {
			return link{}, fmt.Errorf("%w: ports are forwarded to a NIC of type user only", virt.ErrInvalid)
		}
	default:
		return link{}, fmt.Errorf("%w: its type is %.32q: a container joins a network of dockerd (type network); make one over the bridge with docker network create", virt.ErrUnsupported, n.Type)
	}
	if err := checkNetwork(l.network); err != nil {
		return link{}, err
	}
	a, err := address(n.Address)
	switch {
	case err != nil:
		return link{}, err
	case a.IsValid() && l.network == bridge:
		return link{}, fmt.Errorf("%w: dockerd gives the addresses of its own network %s: take another network", virt.ErrInvalid, bridge)
	case a.Is4():
		l.settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: a}
	case a.Is6():
		l.settings.IPAMConfig = &network.EndpointIPAMConfig{IPv6Address: a}
	}
	if mac, err := net.ParseMAC(n.MAC); err == nil {
		l.settings.MacAddress = network.HardwareAddr(mac) // versions before 25 choose one themselves
	}
	return l, nil
}

func (p *plan) publish(all []virt.Forward) error {
	for _, f := range all {
		protocol := f.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		if protocol != "tcp" && protocol != "udp" || f.To < 1 || f.To > 65535 || f.Port < 1 || f.Port > 65535 {
			return fmt.Errorf("%w: the port %.16s %d cannot be forwarded to %d", virt.ErrInvalid, f.Protocol, f.Port, f.To)
		}
		to, ok := network.PortFrom(uint16(f.To), network.IPProtocol(protocol))
		host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if f.Address != "" {
			var err error
			if host, err = address(f.Address); err != nil {
				return err
			}
		}
		if !ok {
			return fmt.Errorf("%w: the port %d cannot be forwarded to", virt.ErrInvalid, f.To)
		}
		p.ports[to] = append(p.ports[to], network.PortBinding{HostIP: host, HostPort: strconv.Itoa(f.Port)})
	}
	return nil
}

// resources are the limits of a guest; 0 is none.
func (d *Docker) resources(v virt.Guest) container.Resources {
	r := container.Resources{Memory: int64(v.Definition.Memory) << 20, NanoCPUs: int64(v.Definition.CPU) * 1e9}
	r.MemorySwap = r.Memory // what a guest has is memory, and not as much of the swap again
	if d.o.MaxPIDs > 0 {
		r.PidsLimit = &d.o.MaxPIDs
	}
	return r
}

// creation is what dockerd is told.
func (d *Docker) creation(p *plan, job string) moby.ContainerCreateOptions {
	v := p.guest
	labels := map[string]string{labelGuest: v.UUID, labelName: v.Name, labelNode: v.ID, labelTenant: v.Tenant, labelMade: p.made, labelJob: job}
	c := &container.Config{Image: p.image.String(), Labels: labels, Tty: v.Definition.Console.Terminal, OpenStdin: v.Definition.Console.Terminal}
	if hostnames.MatchString(v.Name) {
		c.Hostname = v.Name
	}
	h := &container.HostConfig{
		Resources: d.resources(v), PortBindings: p.ports, NetworkMode: "none", RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": strconv.FormatInt(max(d.o.MaxLog/2, 1<<10), 10), "max-file": "2"}},
	}
	o := moby.ContainerCreateOptions{Config: c, HostConfig: h, Name: v.UUID}
	if len(p.ports) > 0 {
		c.ExposedPorts = network.PortSet{}
		for port := range p.ports {
			c.ExposedPorts[port] = struct{}{}
		}
	}
	if len(p.networks) > 0 {
		first := p.networks[0]
		h.NetworkMode = container.NetworkMode(first.network)
		o.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{first.network: first.settings}}
	}
	return o
}
