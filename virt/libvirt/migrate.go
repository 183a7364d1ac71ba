package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// Migrate moves a guest, by the source's libvirtd speaking to the
// destination's. Its memory travels inside that connection, which is TLS or
// ssh, and needs no port of its own. A guest that is off moves its definition, which is all that
// libvirt can move of it: one with disks that Provision made is ErrUnsupported.
//
// libvirtd goes on with a migration whose caller has gone. So one that is given up is
// ended before Migrate returns; if that takes longer than a call may, the error is an
// ErrBusy too, and Settle tells when it has.
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
	if err := d.Settle(ctx, from, g); err != nil { // somebody's who has died
		return err
	}
	err = d.withDomain(ctx, from, g, moves, "migrate", func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
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
	if isUnreachable(err) {
		return errors.Join(err, d.Settle(context.WithoutCancel(ctx), from, g))
	}
	return err
}

// Settle ends a migration of the guest away from the host that is still under way,
// whoever asked for it, and returns when it has ended: it is over, or has failed. One
// to the host it waits for. After the time of a call it is ErrBusy; what was told to end
// will not take the guest away any more.
func (d *Driver) Settle(ctx context.Context, h virt.Host, g virt.Guest) error {
	err := d.withDomain(ctx, h, g, changes, "settle", func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
		end := time.NewTimer(d.cfg.Timeout * 3 / 4) // before the connection is given up for it
		defer end.Stop()
		for {
			job, err := jobOf(c, dom)
			if err != nil || job != golibvirt.DomainJobOperationStrMigrationOut && job != golibvirt.DomainJobOperationStrMigrationIn {
				return err
			}
			if job == golibvirt.DomainJobOperationStrMigrationOut {
				// Its answer tells nothing: it may just have ended.
				if err := translate(c.DomainAbortJob(dom)); isUnreachable(err) {
					return err
				}
			}
			again := time.NewTimer(settlePause)
			select {
			case <-again.C:
				continue
			case <-end.C:
				again.Stop()
				return fmt.Errorf("%w: a migration that somebody began is still ending: try again", virt.ErrBusy)
			case <-ctx.Done():
				again.Stop()
				return ctx.Err()
			}
		}
	})
	if errors.Is(err, virt.ErrNotFound) {
		return nil // it has gone, or was never there
	}
	return err
}

// settlePause is how long Settle waits before it looks again.
const settlePause = 50 * time.Millisecond

// jobOf is the kind of what is under way for a domain; 0 if nothing is, or that says of
// itself nothing.
func jobOf(c *conn, dom golibvirt.Domain) (golibvirt.DomainJobOperation, error) {
	kind, params, err := c.DomainGetJobStats(dom, 0)
	if answered(err, golibvirt.ErrOperationInvalid) {
		return 0, nil // it does not run
	}
	if err != nil {
		return 0, translate(err)
	}
	if golibvirt.DomainJobType(kind) == golibvirt.DomainJobNone { // one that has failed is still clearing up
		return 0, nil
	}
	for _, p := range params {
		if n, ok := p.Value.I.(int32); ok && p.Field == golibvirt.DomainJobOperationStr {
			return golibvirt.DomainJobOperation(n), nil
		}
	}
	return 0, nil
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
