package libvirtdir

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// imageOf is an image as package virt has it.
func imageOf(i mistify.Image) virt.Image {
	return virt.Image{ID: i.ID, Status: i.Status, Size: int64(min(i.Size, 1<<40)), Volume: i.Volume, Fetched: i.Fetched, Total: i.Total}
}

// Images lists those of a host.
func (d *Driver) Images(ctx context.Context, h virt.Host) ([]virt.Image, error) {
	s, err := d.disks(ctx, h)
	if err != nil {
		return nil, err
	}
	out, err := s.ListImages(ctx, &mistify.ImageRequest{})
	if err != nil {
		return nil, err
	}
	if len(out.Images) > virt.MaxImages {
		return nil, fmt.Errorf("%w: there are %d images, at most %d are listed: delete some", virt.ErrConflict, len(out.Images), virt.MaxImages)
	}
	list := make([]virt.Image, len(out.Images))
	for i, one := range out.Images {
		list[i] = imageOf(one)
	}
	return list, nil
}

// Image looks at one.
func (d *Driver) Image(ctx context.Context, h virt.Host, id string) (virt.Image, error) {
	if err := virt.CheckImageID(id); err != nil {
		return virt.Image{}, err
	}
	s, err := d.disks(ctx, h)
	if err != nil {
		return virt.Image{}, err
	}
	return only(s.GetImage(ctx, &mistify.ImageRequest{ID: id}))
}

// only is the image of an answer that has one.
func only(out *mistify.ImageResponse, err error) (virt.Image, error) {
	if err != nil {
		return virt.Image{}, err
	}
	return imageOf(out.Images[0]), nil
}

// fetchLook is how often it is told how far a fetch is.
const fetchLook = 200 * time.Millisecond

// FetchImage gets an image onto a host.
func (d *Driver) FetchImage(ctx context.Context, h virt.Host, r virt.ImageRequest, progress func(done, total int64)) (virt.Image, error) {
	if err := r.Check(); err != nil {
		return virt.Image{}, err
	}
	s, err := d.disks(ctx, h)
	if err != nil {
		return virt.Image{}, err
	}
	stop := virt.WatchFetch(ctx, fetchLook, func(context.Context) (done, total int64, under bool) {
		p, under := s.Fetching()[r.ID]
		return p.Done, p.Total, under
	}, progress)
	out, err := s.FetchImage(ctx, &mistify.ImageRequest{ID: r.ID, Type: r.Type, Source: r.Source, Size: uint64(r.Size), SHA256: strings.ToLower(r.SHA256)})
	stop()
	return only(out, err)
}

// DeleteImage removes one.
func (d *Driver) DeleteImage(ctx context.Context, h virt.Host, id string) error {
	if err := virt.CheckImageID(id); err != nil {
		return err
	}
	s, err := d.disks(ctx, h)
	if err == nil {
		_, err = s.DeleteImage(ctx, &mistify.ImageRequest{ID: id})
	}
	return err
}
