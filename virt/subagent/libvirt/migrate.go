package libvirt

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Migrate moves a guest to another host's libvirtd, of those that it may go to. One
// that is not here has gone before: whoever asks looks at both hosts afterwards.
func (a *Agent) Migrate(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return a.do(ctx, "migrate", r, gone(func(ctx context.Context, v virt.Guest) error {
		m, ok := a.driver.(virt.Migrator)
		switch {
		case !ok:
			return fmt.Errorf("%w: this driver moves no guests", virt.ErrUnsupported)
		case !a.peer(r.To):
			return fmt.Errorf("%w: guests are not moved to %.200q: name it under peers of the sub-agent libvirt on this host", virt.ErrUnsupported, r.To)
		}
		return m.Migrate(ctx, a.host, virt.Host{ID: "peer", Address: r.To}, v, true)
	}))
}

// peer reports whether guests may be moved to a libvirtd: a URI names who is given
// their memory.
func (a *Agent) peer(uri string) bool {
	return uri != "" && slices.ContainsFunc(a.peers, func(p string) bool {
		ok, err := path.Match(p, uri)
		return err == nil && ok
	})
}
