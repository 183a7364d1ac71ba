package drivertest

import (
	"context"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// images are the calls of an Imager about one host.
type images struct {
	*bench
	i virt.Imager
}

func (b *bench) gallery() *images {
	b.Helper()
	i, ok := b.d.(virt.Imager)
	if !ok || b.Image == nil {
		b.Skip("the driver is no Imager, or the fixture has no images")
	}
	return &images{bench: b, i: i}
}

func (i *images) fetch(r virt.ImageRequest, progress func(int64, int64)) (got virt.Image, err error) {
	err = i.call(func(ctx context.Context) error { got, err = i.i.FetchImage(ctx, i.h, r, progress); return err })
	return got, err
}

func (i *images) remove(id string) error {
	return i.call(func(ctx context.Context) error { return i.i.DeleteImage(ctx, i.h, id) })
}

func (i *images) get(id string) (got virt.Image, err error) {
	err = i.call(func(ctx context.Context) error { got, err = i.i.Image(ctx, i.h, id); return err })
	return got, err
}

// ids are those of the listing, which is in order.
func (i *images) ids() (ids []string) {
	i.Helper()
	var list []virt.Image
	i.must("list the images", i.call(func(ctx context.Context) (err error) { list, err = i.i.Images(ctx, i.h); return err }))
	for _, one := range list {
		ids = append(ids, one.ID)
	}
	if !slices.IsSorted(ids) {
		i.Errorf("the images are listed as %q", ids)
	}
	return ids
}

func imageFetch(b *bench) {
	i := b.gallery()
	r := i.Image(i.T)
	_, err := i.get(r.ID)
	i.is("an image that is not there", err, virt.ErrNotFound)
	last, backwards := int64(0), false
	got, err := i.fetch(r, func(done, _ int64) { backwards, last = backwards || done < last, done })
	i.must("fetch", err)
	i.Cleanup(func() { _ = i.remove(r.ID) })
	if got.ID != r.ID || got.Status != virt.ImageComplete || got.Size <= 0 || backwards {
		i.Errorf("fetched %+v (progress went backwards: %v), want %s, complete, with a size", got, backwards, r.ID)
	}
	one, err := i.get(r.ID)
	i.must("look at it", err)
	if one != got {
		i.Errorf("it is %+v, fetched was %+v", one, got)
	}
	if !slices.Contains(i.ids(), r.ID) {
		i.Error("it is not listed")
	}
	_, err = i.fetch(r, nil)
	i.must("fetch it again", err)
	other := i.Image(i.T)
	other.ID = r.ID
	if other.Source != r.Source {
		_, err = i.fetch(other, nil)
		i.is("fetch another under its ID", err, virt.ErrConflict)
	}
}

func imageDelete(b *bench) {
	i := b.gallery()
	r := i.Image(i.T)
	i.is("delete what is not there", i.remove(r.ID), virt.ErrNotFound)
	_, err := i.fetch(r, nil)
	i.must("fetch", err)
	i.must("delete", i.remove(r.ID))
	if slices.Contains(i.ids(), r.ID) {
		i.Error("a deleted image is listed")
	}
	_, err = i.get(r.ID)
	i.is("look at a deleted image", err, virt.ErrNotFound)
	_, err = i.fetch(r, nil)
	i.must("fetch it anew", err)
	i.must("delete it again", i.remove(r.ID))
}

func imageRefused(b *bench) {
	i := b.gallery()
	before := i.ids()
	for _, id := range append(HostileNames(), "a..b", "a//b", "/a") {
		if id == "a/b" {
			continue // of a container
		}
		r := i.Image(i.T)
		r.ID = id
		_, err := i.fetch(r, nil)
		i.is("fetch an image of a hostile name", err, virt.ErrInvalid)
		_, err = i.get(id)
		i.is("look at an image of a hostile name", err, virt.ErrInvalid)
		i.is("delete an image of a hostile name", i.remove(id), virt.ErrInvalid)
	}
	for _, change := range []func(*virt.ImageRequest){
		func(r *virt.ImageRequest) { r.Source = "file:///etc/passwd" },
		func(r *virt.ImageRequest) { r.Source = "http://user:secret@127.0.0.1/x" },
		func(r *virt.ImageRequest) { r.SHA256 = "12" },
		func(r *virt.ImageRequest) { r.Size = -1 },
		func(r *virt.ImageRequest) { r.Type = "-o" },
	} {
		r := i.Image(i.T)
		change(&r)
		_, err := i.fetch(r, nil)
		i.is("fetch of a bad request", err, virt.ErrInvalid)
		if err != nil && strings.Contains(err.Error(), "secret") {
			i.Errorf("the error tells a password: %v", err)
		}
	}
	if after := i.ids(); !slices.Equal(before, after) {
		i.Errorf("the images were %q and are %q after refused calls", before, after)
	}
}
