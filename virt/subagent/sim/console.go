package sim

import (
	"context"
	"fmt"
	"io"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Console attaches to a guest's console, which says who it is and repeats what is
// typed.
func (a *Agent) Console(ctx context.Context, r *mistify.ConsoleRequest) (io.ReadWriteCloser, error) {
	v, err := a.read(r.Guest)
	if err != nil {
		return nil, err
	}
	c, ok := a.driver.(virt.Consoler)
	if !ok {
		return nil, fmt.Errorf("%w: the driver has no consoles", virt.ErrUnsupported)
	}
	return c.Console(ctx, a.host, v)
}
