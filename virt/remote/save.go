package remote

import (
	"context"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// SaveImage makes an image of what a container has written, as a job of its agent.
func (d *Driver) SaveImage(ctx context.Context, h virt.Host, g virt.Guest, id string) (got virt.Image, err error) {
	if err := virt.CheckImageID(id); err != nil {
		return got, err
	}
	if g.Definition.Type != mistify.TypeContainer {
		return got, virt.NotContainer(g.Name)
	}
	err = d.about(ctx, h, g, "save as image "+id, func(ctx context.Context, t *task) error {
		if err := t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].SaveGuest(ctx, g.UUID, id) }); err != nil {
			return err
		}
		got, err = t.image(ctx, id)
		return err
	})
	return got, err
}
