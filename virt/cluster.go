package virt

import (
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Cluster is what the views of this package need. The manager is one.
type Cluster interface{ Parts() Parts }

// Parts are the open components of a cluster.
type Parts struct {
	Registry    registry.Registry
	Scheduler   scheduler.Scheduler
	Provisioner provisioner.Provisioner
	Allocator   allocator.Allocator
	Drivers     map[string]Driver // by [drivers.NAME]
	Log         *slog.Logger
	Now         func() time.Time
}

// Driver returns the driver that a hypervisor's definition names.
func (p Parts) Driver(name string) (Driver, error) {
	if d, ok := p.Drivers[name]; ok {
		return d, nil
	}
	hint := ""
	if s := component.Choices(name, maps.Keys(p.Drivers)); s != "" {
		hint = " (" + s + ")"
	}
	return nil, fmt.Errorf("%w: there is no driver %q%s: add a section [drivers.%s] to the configuration", ErrInvalid, name, hint, name)
}

func (p Parts) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}
