package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/vagoth/vagoth/virt"
)

// Console attaches to a guest's serial console, through its agent: what its
// sub-agent can attach to, whatever host this is. A guest that does not run is
// refused before the agent is asked to attach.
func (d *Driver) Console(ctx context.Context, h virt.Host, g virt.Guest) (io.ReadWriteCloser, error) {
	err := d.about(ctx, h, g, "attach to the console of", func(ctx context.Context, t *task) error {
		info, err := t.look(ctx, t.c, g)
		if err == nil && info.State != virt.Running && info.State != virt.Paused {
			err = fmt.Errorf("%w: it is %s: start it first", virt.ErrConflict, info.State)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c, address, err := d.agent(h)
	if err != nil {
		return nil, err
	}
	rw, err := c[streams].Console(ctx, g.UUID)
	if err != nil {
		return nil, &Error{What: "attach to the console of " + g.ID, Address: address, Kind: as(err, false), Err: err}
	}
	return rw, nil
}
