package etcd

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/registry"
)

// unread is an error of a request that only reads.
func (r *Registry) unread(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r.rep.Closed() {
		return registry.ErrClosed
	}
	if known := etcdclient.Refused(err); known != nil {
		return known
	}
	return fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
}
