package serve

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/registry"
)

// answering is a registry that answers so.
type answering struct {
	registry.Registry
	err error
}

func (a answering) View(context.Context, ...registry.ReadOption) (registry.Reader, error) {
	return nil, a.err
}

// A store that managers share and that is gone is no reason to have each of them started
// again.
func TestHealthy(t *testing.T) {
	for _, c := range []struct {
		err     error
		healthy bool
	}{
		{nil, true},
		{fmt.Errorf("%w: etcd has no leader", registry.ErrUnavailable), true},
		{context.DeadlineExceeded, false},
		{errors.New("broken"), false},
	} {
		d := &daemon{m: &manager.Manager{Registry: answering{err: c.err}}}
		if err := d.healthy(t.Context()); (err == nil) != c.healthy {
			t.Errorf("a registry that answers %v is taken for healthy: %t", c.err, err == nil)
		}
	}
}
