package zfs

import (
	"context"
	"io"
	"strconv"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// PutImage makes an image of what is read from content, a stream of zfs send, raw or
// qcow2, and returns when it is there. One that is there already is a
// virt.ErrConflict, before anything is read.
func (s *Store) PutImage(ctx context.Context, r *mistify.ImageRequest, content io.ReadCloser) (*mistify.ImageResponse, error) {
	defer func() { _ = content.Close() }()
	err := store.CheckPut(r)
	if err == nil {
		err = s.checkImage(r.ID)
	}
	if err != nil {
		return nil, err
	}
	free := func(ctx context.Context) error {
		_, err := s.image(ctx, r.ID)
		return store.ImageFree(r.ID, err)
	}
	if err := free(ctx); err != nil {
		return nil, err
	}
	item := fetch.Item{Name: r.ID, Size: int64(r.Size), SHA256: r.SHA256} //nolint:gosec // CheckPut saw that it fits
	err = s.fetcher.Put(ctx, item, content, func(ctx context.Context, got fetch.Got) error {
		if err := free(ctx); err != nil { // a download can have ended between
			return err
		}
		return s.makeImage(ctx, item, got)
	})
	if err != nil {
		return nil, err
	}
	made, err := s.image(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return oneImage(store.Image(r.ID, true, made.size)), nil
}

// unused refuses an image that something is a clone of.
func (s *Store) unused(ctx context.Context, id string) error {
	clones, err := s.clones(ctx, id)
	if err == nil && len(clones) > 0 {
		err = store.HasClones(id, clones)
	}
	return err
}

// takeImage makes a disk of an image's own volume, in half, and returns its bytes.
// The image is no image any more before anything is done to it, so that nobody
// clones what is being changed, and whoever is killed leaves one of the two or
// none. An image whose disk cannot be made then is lost: whoever takes one must
// still have what he sent.
func (s *Store) takeImage(ctx context.Context, name string, spec store.DiskSpec, job string) (size int64, err error) {
	done, err := s.uses.Remove(spec.Image)
	if err != nil {
		return 0, err
	}
	defer done()
	image, err := s.imageFor(ctx, spec.Image)
	if err == nil {
		err = s.unused(ctx, spec.Image)
	}
	if err != nil {
		return 0, err
	}
	if err := s.rename(ctx, imageName(spec.Image), name); err != nil {
		return 0, err
	}
	s.unlink(imageName(spec.Image))
	// Its snapshot goes before room is kept for it, as that would be for both.
	if err := s.destroy(ctx, name+"@"+spec.Image, false); err != nil {
		return 0, err
	}
	for _, property := range [...]string{propSource, propSHA256, propSent} {
		if _, err := s.run(ctx, "inherit", property, "--", s.full(name)); err != nil {
			return 0, err
		}
	}
	size = max(spec.Size, image.size)
	var about []string
	if size > image.size {
		about = append(about, "volsize="+strconv.FormatInt(size, 10))
	}
	if s.o.Reserve {
		about = append(about, "refreservation="+strconv.FormatInt(size, 10))
	}
	if job != "" {
		about = append(about, propJob+"="+job)
	}
	for _, value := range about { // in this order: no more can be kept than the size
		if _, err := s.run(ctx, "set", value, "--", s.full(name)); err != nil {
			return 0, err
		}
	}
	return size, nil
}
