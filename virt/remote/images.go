package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// onHost runs a call about a host's images.
func (d *Driver) onHost(ctx context.Context, h virt.Host, what string, do func(context.Context, *task) error) error {
	c, address, err := d.agent(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.JobTimeout)
	defer cancel()
	if err := do(ctx, &task{Driver: d, c: c}); err != nil {
		return &Error{What: what, Address: address, Kind: as(err, false), Err: err}
	}
	return nil
}

// Images lists those of a host.
func (d *Driver) Images(ctx context.Context, h virt.Host) (list []virt.Image, err error) {
	err = d.onHost(ctx, h, "list the images of "+h.ID, func(ctx context.Context, t *task) error {
		ctx, cancel := t.quick(ctx)
		defer cancel()
		wire, err := t.c[looks].Images(ctx, "")
		if err != nil {
			return err
		}
		if len(wire) > virt.MaxImages {
			return fmt.Errorf("%w: a listing of %d images, where at most %d are allowed", virt.ErrUnreachable, len(wire), virt.MaxImages)
		}
		list = make([]virt.Image, 0, len(wire))
		for _, one := range wire {
			got, err := imageOf(one)
			if err != nil {
				return err
			}
			list = append(list, got)
		}
		slices.SortStableFunc(list, func(a, b virt.Image) int { return strings.Compare(a.ID, b.ID) })
		return nil
	})
	return list, err
}

// imageOf reads an image, or an answer that is none.
func imageOf(i mistify.Image) (virt.Image, error) {
	if err := virt.CheckImageID(i.ID); err != nil {
		return virt.Image{}, fmt.Errorf("%w: the agent's answer has an image whose ID is none: %w", virt.ErrUnreachable, unmarked{err})
	}
	return virt.Image{
		ID: i.ID, Type: clean(i.Type, 32), Status: clean(i.Status, 64), Size: int64(min(i.Size, 1<<40)), Volume: clean(i.Volume, 1024),
		Fetched: max(0, i.Fetched), Total: max(0, i.Total),
	}, nil
}

// Image looks at one.
func (d *Driver) Image(ctx context.Context, h virt.Host, id string) (got virt.Image, err error) {
	if err := virt.CheckImageID(id); err != nil {
		return got, err
	}
	err = d.onHost(ctx, h, "look at the image "+id+" of "+h.ID, func(ctx context.Context, t *task) error {
		got, err = t.image(ctx, id)
		return err
	})
	return got, err
}

func (t *task) image(ctx context.Context, id string) (virt.Image, error) {
	ctx, cancel := t.quick(ctx)
	defer cancel()
	wire, err := t.c[looks].Image(ctx, id)
	if err != nil {
		return virt.Image{}, err
	}
	return imageOf(wire)
}

// fetchLook is how often an agent is asked how far it is with an image.
const fetchLook = time.Second

// FetchImage gets an image onto a host. The agent's own clock of the fetch goes on
// if this caller gives up; asked again, it goes on waiting for the same one.
func (d *Driver) FetchImage(ctx context.Context, h virt.Host, r virt.ImageRequest, progress func(done, total int64)) (got virt.Image, err error) {
	if err := r.Check(); err != nil {
		return got, err
	}
	err = d.onHost(ctx, h, "fetch the image "+r.ID+" to "+h.ID, func(ctx context.Context, t *task) error {
		stop := virt.WatchFetch(ctx, fetchLook, func(ctx context.Context) (done, total int64, under bool) {
			one, err := t.image(ctx, r.ID)
			return one.Fetched, one.Total, err == nil && one.Status != virt.ImageComplete
		}, progress)
		err := t.job(ctx, func(ctx context.Context) (string, error) {
			return t.c[changes].FetchImage(ctx, mistify.ImageRequest{ID: r.ID, Type: r.Type, Source: r.Source, Size: uint64(r.Size), SHA256: strings.ToLower(r.SHA256)})
		})
		stop()
		if err != nil {
			return err
		}
		got, err = t.image(ctx, r.ID)
		return err
	})
	return got, err
}

// DeleteImage removes one.
func (d *Driver) DeleteImage(ctx context.Context, h virt.Host, id string) error {
	if err := virt.CheckImageID(id); err != nil {
		return err
	}
	return d.onHost(ctx, h, "delete the image "+id+" of "+h.ID, func(ctx context.Context, t *task) error {
		err := t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].DeleteImage(ctx, id) })
		if errors.Is(err, virt.ErrBusy) {
			return fmt.Errorf("%w: %w", virt.ErrConflict, unmarked{err})
		}
		return err
	})
}
