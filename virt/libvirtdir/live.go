package libvirtdir

import (
	"context"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirt"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Live makes snapshots of guests that run through their libvirtd: the driver's
// own, or that of the host in the context.
type Live struct{ Driver *libvirt.Driver }

var _ subagent.LiveSnapshotter = Live{}

// SnapshotLive implements subagent.LiveSnapshotter.
func (l Live) SnapshotLive(ctx context.Context, s subagent.LiveSnapshot) error {
	return l.Driver.SnapshotLive(ctx, hostIn(ctx), guestOf(s), s.Name, s.Files)
}

// DropLive implements subagent.LiveSnapshotter.
func (l Live) DropLive(ctx context.Context, s subagent.LiveSnapshot) error {
	return l.Driver.DropLive(ctx, hostIn(ctx), guestOf(s), s.Name, s.Files)
}

func guestOf(s subagent.LiveSnapshot) virt.Guest {
	return virt.Guest{ID: s.Guest, UUID: s.Guest, Name: s.Guest}
}

type hostKey struct{}

// on makes h the host whose guests are meant.
func on(ctx context.Context, h virt.Host) context.Context {
	return context.WithValue(ctx, hostKey{}, h)
}

func hostIn(ctx context.Context) virt.Host {
	if h, ok := ctx.Value(hostKey{}).(virt.Host); ok {
		return h
	}
	return Here()
}

// Here is the host of the driver's own libvirtd.
func Here() virt.Host { return virt.Host{ID: "localhost"} }
