package sim

import (
	"context"
	"fmt"
	"maps"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// provision makes disks of images that are there. An image that becomes a disk is
// gone then; the disks that are there already need none.
func (a *Agent) provision(g *mistify.Guest) deed {
	return func(ctx context.Context, h virt.Host, v virt.Guest) error {
		taken, err := a.takeImages(g, v)
		if err != nil {
			return err
		}
		err = a.driver.Provision(ctx, h, v)
		for volume, one := range taken {
			if err == nil && a.disks != nil {
				err = a.disks.WriteDisk(a.name(), volume, one.text)
			}
		}
		if err != nil {
			a.giveBack(taken)
		}
		return err
	}
}

// takeImages checks that the images are here of the disks that are not, and takes
// out of the gallery those that become disks, which it returns by their volumes.
func (a *Agent) takeImages(g *mistify.Guest, v virt.Guest) (taken map[string]image, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.opts.Now()
	if image := v.Definition.Image; image != "" {
		if err := a.images[v.Definition.Type == mistify.TypeContainer].usable(image, now); err != nil {
			return nil, err
		}
	}
	gallery := a.images[false]
	used, taken := map[string]int{}, map[string]image{}
	for i, d := range v.Definition.Disks {
		take := g.Disks[i].Take
		if take && d.Image == "" {
			return nil, fmt.Errorf("%w guest %s: disks[%d]: it takes an image and names none", virt.ErrInvalid, v.UUID, i)
		}
		if d.Image == "" {
			continue
		}
		used[d.Image]++
		there, err := a.there(d)
		if err != nil {
			return nil, err
		}
		if there {
			continue
		}
		if err := gallery.usable(d.Image, now); err != nil {
			return nil, err
		}
		if take {
			taken[d.Volume] = gallery[d.Image]
		}
	}
	for _, one := range taken {
		if used[one.id] > 1 {
			return nil, fmt.Errorf("%w guest %s: %d disks have the image %s, and one takes it", virt.ErrInvalid, v.UUID, used[one.id], one.id)
		}
	}
	for _, one := range taken {
		delete(gallery, one.id)
	}
	return taken, nil
}

// there reports whether a disk is, as far as one can look.
func (a *Agent) there(d virt.Disk) (ok bool, err error) {
	if a.disks == nil || d.Source != "" {
		return false, nil
	}
	_, ok, err = a.disks.Disk(a.name(), d.Volume)
	return ok, err
}

// giveBack makes images again of what became no disk.
func (a *Agent) giveBack(taken map[string]image) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for one := range maps.Values(taken) {
		if _, other := a.images[false][one.id]; !other {
			a.images[false][one.id] = one
		}
	}
}

// made takes out of an answer what was to be done and is.
func made(r *mistify.GuestResponse, err error) (*mistify.GuestResponse, error) {
	if err == nil {
		for i := range r.Guest.Disks {
			r.Guest.Disks[i].Take = false
		}
	}
	return r, err
}
