package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// image is one that was fetched, or is being fetched.
type image struct {
	ID     string    `json:"id"`
	Type   string    `json:"type,omitempty"`
	Source string    `json:"source"`
	Began  time.Time `json:"began"`
	Done   bool      `json:"done,omitempty"`
}

// size is made up from the ID, and the same for ever: 64 MB to 1 GB.
func (i image) size() int64 { return 64 + int64(nameHash(i.ID)%961) }

// seen is the image as it is now, of a host where a fetch takes this long.
func (i image) seen(now time.Time, takes time.Duration) virt.Image {
	v := virt.Image{ID: i.ID, Type: i.Type, Status: virt.ImageComplete, Size: i.size()}
	if !i.Done {
		v.Status, v.Total = virt.ImagePending, i.size()<<20
		if takes > 0 {
			v.Fetched = int64(float64(v.Total) * min(1, max(0, float64(now.Sub(i.Began))/float64(takes))))
		}
	}
	return v
}

func (s *state) image(id string) (int, bool) {
	return slices.BinarySearchFunc(s.Images, id, func(i image, id string) int { return strings.Compare(i.ID, id) })
}

// Images lists those of a host.
func (d *Driver) Images(ctx context.Context, h virt.Host) (list []virt.Image, err error) {
	err = d.call(ctx, h, "images", "", func(s *state, now time.Time) (bool, error) {
		list = make([]virt.Image, len(s.Images))
		for i, one := range s.Images {
			list[i] = one.seen(now, d.cfg.Fetch)
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Image looks at one.
func (d *Driver) Image(ctx context.Context, h virt.Host, id string) (got virt.Image, err error) {
	if err := virt.CheckImageID(id); err != nil {
		return got, err
	}
	err = d.call(ctx, h, "image", "", func(s *state, now time.Time) (bool, error) {
		i, ok := s.image(id)
		if !ok {
			return false, fmt.Errorf("%w: image %s", virt.ErrNotFound, id)
		}
		got = s.Images[i].seen(now, d.cfg.Fetch)
		return false, nil
	})
	return got, err
}

// fetchLooks is how often a fetch that takes its time says how far it is.
const fetchLooks = 50

// FetchImage makes an image up, in the time that the config gives.
func (d *Driver) FetchImage(ctx context.Context, h virt.Host, r virt.ImageRequest, progress func(done, total int64)) (got virt.Image, err error) {
	if err := r.Check(); err != nil {
		return got, err
	}
	err = d.call(ctx, h, "fetch image", "", func(s *state, now time.Time) (bool, error) {
		i, ok := s.image(r.ID)
		switch {
		case ok && s.Images[i].Source != r.Source:
			return false, fmt.Errorf("%w: the image %s is there already, from another source: delete it first", virt.ErrConflict, r.ID)
		case ok && s.Images[i].Done:
			got = s.Images[i].seen(now, 0)
			return false, nil
		case ok:
			return false, nil // somebody fetches it, or did until he was killed
		case len(s.Images) >= virt.MaxImages:
			return false, fmt.Errorf("%w: there are %d images, which is the limit: delete some", virt.ErrConflict, len(s.Images))
		}
		s.Images = slices.Insert(slices.Clone(s.Images), i, image{ID: r.ID, Type: r.Type, Source: r.Source, Began: now})
		return true, nil
	})
	if err != nil || got.Status != "" {
		return got, err
	}
	if err := d.fetching(ctx, h, r.ID, progress); err != nil {
		// Of a fetch that failed nothing is left.
		if gone := d.dropImage(h, r.ID); gone != nil {
			return got, fmt.Errorf("%w (%w)", err, gone)
		}
		return got, err
	}
	err = d.call(ctx, h, "image fetched", "", func(s *state, now time.Time) (bool, error) {
		i, ok := s.image(r.ID)
		if !ok {
			return false, fmt.Errorf("%w: the image %s was deleted while it was fetched", virt.ErrConflict, r.ID)
		}
		s.Images = slices.Clone(s.Images)
		s.Images[i].Done = true
		got = s.Images[i].seen(now, 0)
		return true, nil
	})
	return got, err
}

// fetching takes the time of a fetch.
func (d *Driver) fetching(ctx context.Context, h virt.Host, id string, progress func(done, total int64)) error {
	if d.cfg.Fetch <= 0 {
		return nil
	}
	look := time.NewTicker(max(time.Millisecond, d.cfg.Fetch/fetchLooks))
	defer look.Stop()
	over := time.NewTimer(d.cfg.Fetch)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case <-look.C:
		case <-ctx.Done():
			return late(ctx, nameOf(h))
		}
		one, err := d.Image(ctx, h, id)
		if err != nil {
			return err
		}
		if progress != nil {
			progress(one.Fetched, one.Total)
		}
	}
}

// dropImage forgets a fetch that failed, past all faults.
func (d *Driver) dropImage(h virt.Host, id string) error {
	return d.alter(nameOf(h), func(s *state, _ time.Time) (bool, error) {
		i, ok := s.image(id)
		if !ok || s.Images[i].Done {
			return false, nil
		}
		s.Images = slices.Delete(slices.Clone(s.Images), i, i+1)
		return true, nil
	})
}

// DeleteImage removes one that no volume was made of.
func (d *Driver) DeleteImage(ctx context.Context, h virt.Host, id string) error {
	if err := virt.CheckImageID(id); err != nil {
		return err
	}
	return d.call(ctx, h, "delete image", "", func(s *state, _ time.Time) (bool, error) {
		i, ok := s.image(id)
		if !ok {
			return false, fmt.Errorf("%w: image %s", virt.ErrNotFound, id)
		}
		for volume, one := range s.Disks {
			if one.Image == id {
				return false, fmt.Errorf("%w: the image %s has clones, the volume %s is one: deprovision them first", virt.ErrConflict, id, volume)
			}
		}
		s.Images = slices.Delete(slices.Clone(s.Images), i, i+1)
		return true, nil
	})
}
