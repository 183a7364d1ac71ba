package remote

import (
	"fmt"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// checkID refuses what is no UUID before it becomes a part of a path.
func checkID(g virt.Guest) error {
	id, err := mistify.ParseGuestID(g.UUID)
	if err == nil && id != g.UUID {
		err = fmt.Errorf("%w: the guest's UUID %s must be in lower case", virt.ErrInvalid, id)
	}
	return err
}

// wire checks a guest and writes it as the agent takes it.
func wire(g virt.Guest) (*mistify.Guest, error) {
	if err := checkID(g); err != nil {
		return nil, err
	}
	if err := registry.CheckName(g.Name); err != nil {
		return nil, fmt.Errorf("%w: the guest's name: %w", virt.ErrInvalid, err)
	}
	for i, d := range g.Definition.Disks {
		if d.Source != "" {
			continue
		}
		if err := registry.CheckName(d.Volume); err != nil {
			return nil, fmt.Errorf("%w: the volume of disk %d: %w", virt.ErrInvalid, i, err)
		}
	}
	return mistify.GuestFrom(g)
}
