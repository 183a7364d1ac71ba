package sim

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Save makes an image of what a container has written.
func (a *Agent) Save(ctx context.Context, r *mistify.SaveRequest) (*mistify.ImageResponse, error) {
	id, err := mistify.ParseGuestID(r.ID)
	if err != nil {
		return nil, err
	}
	if _, err := a.driver.Info(ctx, a.host, virt.Guest{ID: id, UUID: id, Name: id}); err != nil {
		return nil, err
	}
	return a.onImages(ctx, true, &mistify.ImageRequest{ID: r.Dest}, true, func(g gallery) ([]image, error) {
		one, err := g.save(image{id: r.Dest, source: "saved of " + id + " for " + r.Job, at: a.opts.Now()}, r.Job != "")
		return []image{one}, err
	})
}

// save keeps an image under a name that is not taken, unless it is the same one and
// that can be known.
func (g gallery) save(one image, known bool) (image, error) {
	if old, ok := g[one.id]; ok && !(known && old.source == one.source) {
		return image{}, fmt.Errorf("%w: the image %s is there already: delete it first, or choose another name", virt.ErrConflict, one.id)
	}
	return g.fetch(one)
}
