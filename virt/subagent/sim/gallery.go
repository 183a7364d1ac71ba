package sim

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// ask lets the host take its time and fail, for what the driver itself is not
// asked about.
func (a *Agent) ask(ctx context.Context) error {
	if m, ok := a.driver.(virt.Measurer); ok {
		_, err := m.Capacity(ctx, a.host)
		return err
	}
	return ctx.Err()
}

// onImages runs a function on the images of one type and answers what it finds.
func (a *Agent) onImages(ctx context.Context, container bool, r *mistify.ImageRequest, named bool, do func(gallery) ([]image, error)) (*mistify.ImageResponse, error) {
	kind := r.Type
	if container {
		kind = mistify.TypeContainer
	}
	if named {
		if err := mistify.CheckImageID(kind, r.ID); err != nil {
			return nil, err
		}
	}
	if err := a.ask(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	found, err := do(a.images[container])
	if err != nil {
		return nil, err
	}
	out := &mistify.ImageResponse{Images: make([]mistify.Image, len(found))}
	now := a.opts.Now()
	for i, one := range found {
		out.Images[i] = mistify.Image{ID: one.id, Size: one.size(), Status: one.status(now)}
		if container {
			out.Images[i].Type = mistify.TypeContainer
			continue
		}
		out.Images[i].Type = "vm"
		out.Images[i].Volume, out.Images[i].Snapshot = "images/"+one.id, "images/"+one.id+"@"+one.id
	}
	return out, nil
}

// Images are the actions about images: those of disks, or those of containers.
type Images struct {
	agent     *Agent
	container bool
}

// Images returns the actions about images of disks, or of containers.
func (a *Agent) Images(container bool) *Images { return &Images{agent: a, container: container} }

// List lists the images.
func (i *Images) List(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	return i.agent.onImages(ctx, i.container, r, false, func(g gallery) ([]image, error) { return g.list(), nil })
}

// Get looks at one image.
func (i *Images) Get(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	return i.agent.onImages(ctx, i.container, r, true, func(g gallery) ([]image, error) {
		one, err := g.get(r.ID)
		return []image{one}, err
	})
}

// Fetch gets an image. It is pending until the time that the options give has
// passed.
func (i *Images) Fetch(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if len(r.Source) > 4096 {
		return nil, fmt.Errorf("%w: the source of the image has %d bytes, at most 4096 are taken", virt.ErrInvalid, len(r.Source))
	}
	return i.agent.onImages(ctx, i.container, r, true, func(g gallery) ([]image, error) {
		one, err := g.fetch(image{id: r.ID, source: r.Source, at: i.agent.opts.Now().Add(i.agent.opts.FetchTime)})
		return []image{one}, err
	})
}

// Delete removes an image. Disks that were cloned from it stay.
func (i *Images) Delete(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	return i.agent.onImages(ctx, i.container, r, true, func(g gallery) ([]image, error) {
		one, err := g.get(r.ID)
		delete(g, r.ID)
		return []image{one}, err
	})
}
