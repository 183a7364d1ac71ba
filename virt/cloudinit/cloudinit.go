package cloudinit

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/vagoth/vagoth/virt"
)

// Label is that of the disk.
const Label = "cidata"

// MaxDisk bounds the disk, in bytes: its files are bounded by the definition.
const MaxDisk = 256 << 10

// Disk is the NoCloud disk of a guest whose definition is filled in; nil if it
// asks for none, or brings its own.
func Disk(g virt.Guest) ([]byte, error) {
	c := g.Definition.CloudInit
	if !c.Wanted() {
		return nil, nil
	}
	meta, err := metaData(g)
	if err != nil {
		return nil, err
	}
	network, err := networkConfig(g.Definition)
	if err != nil {
		return nil, err
	}
	files := []file{{"meta-data", meta}, {"user-data", []byte(c.UserData)}}
	if network != nil {
		files = []file{{"meta-data", meta}, {"network-config", network}, {"user-data", []byte(c.UserData)}}
	}
	iso := image(files)
	if len(iso) > MaxDisk {
		return nil, fmt.Errorf("%w guest %.64q: its cloud-init disk has %d bytes, at most %d are made", virt.ErrInvalid, g.ID, len(iso), MaxDisk)
	}
	return iso, nil
}

func metaData(g virt.Guest) ([]byte, error) {
	if text := g.Definition.CloudInit.MetaData; text != "" {
		return []byte(text), nil
	}
	name := g.Name
	if name == "" {
		name = g.ID
	}
	return encode(struct {
		ID   string `json:"instance-id"`
		Host string `json:"local-hostname"`
	}{g.UUID, name})
}

// ethernet is a NIC as version 2 of the network configuration has it.
type ethernet struct {
	Match     match    `json:"match"`
	DHCP4     bool     `json:"dhcp4,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Routes    []route  `json:"routes,omitempty"`
}

type match struct {
	MAC string `json:"macaddress"`
}

type route struct {
	To     string `json:"to"`
	Via    string `json:"via"`
	OnLink bool   `json:"on-link,omitempty"`
}

// networkConfig is what is given, or what follows from the NICs; nil if none has
// an address, as cloud-init asks by DHCP then.
func networkConfig(d virt.Definition) ([]byte, error) {
	if text := d.CloudInit.NetworkConfig; text != "" {
		return []byte(text), nil
	}
	config := struct {
		Version   int                 `json:"version"`
		Ethernets map[string]ethernet `json:"ethernets"`
	}{2, map[string]ethernet{}}
	static := false
	for i, n := range d.NICs {
		e := ethernet{Match: match{MAC: n.MAC}, DHCP4: n.Address == ""}
		if n.Address != "" {
			static = true
			if err := e.assign(n); err != nil {
				return nil, fmt.Errorf("%w: nics[%d]: %w", virt.ErrInvalid, i, err)
			}
		}
		config.Ethernets[fmt.Sprintf("nic%d", i)] = e
	}
	if !static {
		return nil, nil
	}
	return encode(config)
}

// assign gives a NIC its address. One without a netmask is alone on its net, and
// reaches the gateway all the same.
func (e *ethernet) assign(n virt.NIC) error {
	a, err := netip.ParseAddr(n.Address)
	if err != nil {
		return fmt.Errorf("%.64q is no address", n.Address)
	}
	ones := a.BitLen()
	if n.Netmask != "" {
		m, err := netip.ParseAddr(n.Netmask)
		if err != nil || m.BitLen() != a.BitLen() {
			return fmt.Errorf("%.64q is no netmask of %s", n.Netmask, a)
		}
		if ones, _ = net.IPMask(m.AsSlice()).Size(); ones == 0 {
			return fmt.Errorf("%.64q is no netmask", n.Netmask)
		}
	}
	e.Addresses = []string{netip.PrefixFrom(a, ones).String()}
	if n.Gateway == "" {
		return nil
	}
	g, err := netip.ParseAddr(n.Gateway)
	if err != nil || g.BitLen() != a.BitLen() {
		return fmt.Errorf("%.64q is no gateway of %s", n.Gateway, a)
	}
	all := "0.0.0.0/0"
	if a.Is6() {
		all = "::/0"
	}
	e.Routes = []route{{To: all, Via: g.String(), OnLink: !netip.PrefixFrom(a, ones).Contains(g)}}
	return nil
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be encoded: %w", virt.ErrInvalid, err)
	}
	return append(data, '\n'), nil
}
