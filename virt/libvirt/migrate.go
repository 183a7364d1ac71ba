package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// Migrate moves a guest, by the source's libvirtd speaking to the
// destination's. Its memory travels inside that connection, which is TLS or
// ssh, and needs no port of its own. A guest that is off moves its definition, which is all that
// libvirt can move of it: one with disks that Provision made is ErrUnsupported.
func (d *Driver) Migrate(ctx context.Context, from, to virt.Host, g virt.Guest, live bool) error {
	source, err := d.pool(from)
	if err != nil {
		return err
	}
	destination, err := d.pool(to)
	if err != nil {
		return err
	}
	uri, err := peerAddress(source.endpoint, destination.endpoint)
	if err != nil {
		return err
	}
	return d.withDomain(ctx, from, g, moves, "migrate", func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
		state, err := stateOf(c, dom)
		if err != nil {
			return err
		}
		flags := golibvirt.MigratePeer2peer | golibvirt.MigrateTunnelled | golibvirt.MigratePersistDest | golibvirt.MigrateUndefineSource | golibvirt.MigrateAbortOnError
		switch running := state == virt.Running || state == virt.Paused; {
		case len(ownDisks(g)) > 0:
			return fmt.Errorf("%w: its disks are on the host that it leaves, and libvirt alone does not move them", virt.ErrUnsupported)
		case running && live:
			flags |= golibvirt.MigrateLive
		case !running:
			flags = flags&^golibvirt.MigrateTunnelled | golibvirt.MigrateOffline
		}
		_, err = c.DomainMigratePerform3Params(dom, golibvirt.OptString{uri}, nil, nil, flags)
		return translate(err)
	})
}

// peerAddress is the destination as the source's libvirtd has to call it.
func peerAddress(from, to endpoint) (string, error) {
	switch {
	case from == to:
		return "", fmt.Errorf("%w: both hosts are the libvirtd %s", virt.ErrInvalid, to)
	case to.transport == overUnix && to.socket == "":
		return "", fmt.Errorf("%w: the source's libvirtd cannot reach %s, which every host calls itself: give the destination an address such as qemu+tls://HOST/system",
			virt.ErrUnsupported, to)
	}
	return to.String(), nil
}
