package dir

import (
	"context"
	"errors"
	"io"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// PutImage makes an image, raw or qcow2, of what is read from content, and returns
// when it is there. One that is there already is a virt.ErrConflict, before anything
// is read.
func (s *Store) PutImage(ctx context.Context, r *mistify.ImageRequest, content io.ReadCloser) (*mistify.ImageResponse, error) {
	defer func() { _ = content.Close() }()
	if err := store.CheckPut(r); err != nil {
		return nil, err
	}
	free := func() error {
		_, err := s.image(r.ID)
		return store.ImageFree(r.ID, err)
	}
	if err := free(); err != nil {
		return nil, err
	}
	item := fetch.Item{Name: r.ID, Size: int64(r.Size), SHA256: r.SHA256}
	err := s.fetcher.Put(ctx, item, content, func(ctx context.Context, got fetch.Got) error {
		if err := free(); err != nil { // a download can have ended between
			return err
		}
		return s.makeImage(ctx, item, got)
	})
	if err != nil {
		return nil, err
	}
	made, err := s.image(r.ID)
	if err != nil {
		return nil, err
	}
	return &mistify.ImageResponse{Images: []mistify.Image{wire(r.ID, made)}}, nil
}

// unused refuses an image that a disk is a clone of.
func (s *Store) unused(id string) error {
	clones, err := s.clones(id)
	if err == nil && len(clones) > 0 {
		err = store.HasClones(id, clones)
	}
	return err
}

// takeImage makes a disk of an image's own file and returns its bytes. The image is
// no image any more before anything is done to it, so that nobody clones what is
// being changed, and whoever is killed leaves one of the two or none. An image
// whose disk cannot be made then is lost: whoever takes one must still have what he
// sent.
func (s *Store) takeImage(ctx context.Context, file string, spec store.DiskSpec) (size int64, err error) {
	done, err := s.uses.Remove(spec.Image)
	if err != nil {
		return 0, err
	}
	defer done()
	image, err := s.image(spec.Image)
	if errors.Is(err, virt.ErrNotFound) {
		err = store.NoImageYet(spec.Image)
	}
	if err == nil {
		err = s.unused(spec.Image)
	}
	if err != nil {
		return 0, err
	}
	away := unnamed()
	if err := s.root.Rename(images+"/"+spec.Image, away); err != nil {
		return 0, err
	}
	defer func() {
		if left := s.root.RemoveAll(away); left != nil { // a disk that was made is worth more than the rest of its image
			s.o.Log.Warn("what is left of an image stays until the store is opened again", "image", spec.Image, "file", s.path(away), "error", left)
		}
	}()
	if err := s.sync(images); err != nil {
		return 0, err
	}
	from := away + "/image." + image.format()
	size = max(spec.Size, image.Size)
	return size, s.make(file, 0o600, func(tmp string) error {
		var err error
		if image.format() == spec.Format {
			err = errors.Join(s.root.Chmod(from, 0o600), s.root.Rename(from, tmp))
		} else {
			err = s.qemu.Convert(ctx, s.path(from), image.format(), "", s.path(tmp), spec.Format)
		}
		if err != nil || size == image.Size {
			return err
		}
		return s.qemu.Resize(ctx, s.path(tmp), spec.Format, size)
	})
}
