package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// SaveImage makes an image up of what a container has written.
func (d *Driver) SaveImage(ctx context.Context, h virt.Host, vg virt.Guest, id string) (got virt.Image, err error) {
	if err := virt.CheckImageID(id); err != nil {
		return got, err
	}
	if vg.Definition.Type != virt.TypeContainer {
		return got, virt.NotContainer(vg.Name)
	}
	job := trail.From(ctx).Job
	source := "saved of " + vg.UUID + " for " + job
	err = d.onGuest(ctx, h, vg, "save image", func(s *state, _ *guest, now time.Time) (bool, error) {
		i, ok := s.image(id)
		switch {
		case ok && job != "" && s.Images[i].Source == source:
			got = s.Images[i].seen(now, 0)
			return false, nil
		case ok:
			return false, fmt.Errorf("%w: the image %s is there already: delete it first, or choose another name", virt.ErrConflict, id)
		case len(s.Images) >= virt.MaxImages:
			return false, fmt.Errorf("%w: there are %d images, which is the limit: delete some", virt.ErrConflict, len(s.Images))
		}
		one := image{ID: id, Type: virt.TypeContainer, Source: source, Began: now, Done: true}
		s.Images = slices.Insert(slices.Clone(s.Images), i, one)
		got = one.seen(now, 0)
		return true, nil
	})
	return got, err
}
