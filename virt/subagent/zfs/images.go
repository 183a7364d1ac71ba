package zfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

func imageName(id string) string { return images + "/" + id }

// imageSnapshot is what clones are made of.
func imageSnapshot(id string) string { return images + "/" + id + "@" + id }

// checkImage refuses an image's id that cannot be, or is too long for ZFS, which
// has it twice in the name of the snapshot.
func (s *Store) checkImage(id string) error {
	if err := store.CheckImage(id); err != nil {
		return err
	}
	if n := len(s.full(imageSnapshot(id))); n > maxName {
		return fmt.Errorf("%w: the image's id %.50s... is %d bytes too long for the pool", virt.ErrInvalid, id, (n-maxName+1)/2)
	}
	return nil
}

// image reads one image. It is there when its snapshot is.
func (s *Store) image(ctx context.Context, id string) (*dataset, error) {
	snap, err := s.get(ctx, imageSnapshot(id))
	if err != nil {
		return nil, err
	}
	if snap == nil {
		return nil, store.NoImage(id)
	}
	return snap, nil
}

// ListImages lists the images, those that are being fetched too.
func (s *Store) ListImages(ctx context.Context, _ *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	list, err := s.list(ctx, images, 0, snapshot)
	if err != nil {
		return nil, err
	}
	found := map[string]mistify.Image{}
	for id := range s.fetcher.Under() {
		found[id] = store.Image(id, false, 0)
	}
	for _, d := range list {
		if id, name, _ := strings.Cut(strings.TrimPrefix(d.name, images+"/"), "@"); id == name {
			found[id] = store.Image(id, true, d.size)
		}
	}
	out := &mistify.ImageResponse{Images: []mistify.Image{}}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out.Images = append(out.Images, found[id])
	}
	return out, nil
}

// GetImage looks at one image.
func (s *Store) GetImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if err := s.checkImage(r.ID); err != nil {
		return nil, err
	}
	d, err := s.image(ctx, r.ID)
	if _, under := s.fetcher.Under()[r.ID]; under && errors.Is(err, virt.ErrNotFound) {
		return oneImage(store.Image(r.ID, false, 0)), nil
	}
	if err != nil {
		return nil, err
	}
	return oneImage(store.Image(r.ID, true, d.size)), nil
}

func oneImage(i mistify.Image) *mistify.ImageResponse {
	return &mistify.ImageResponse{Images: []mistify.Image{i}}
}

// FetchImage gets an image, a stream of zfs send, raw or qcow2, and returns when
// it is there. One that is there from the same source, or with the same sum,
// stays. Without an id the last word of the source is it.
func (s *Store) FetchImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	id, err := store.CheckFetch(r)
	if err != nil {
		return nil, err
	}
	if err := s.checkImage(id); err != nil {
		return nil, err
	}
	item := fetch.Item{Name: id, URL: r.Source, Size: int64(r.Size), SHA256: strings.ToLower(r.SHA256)} //nolint:gosec // CheckFetch saw that it fits
	for _, look := range [...]bool{true, false} {
		old, err := s.image(ctx, id)
		if err == nil {
			if old.source != store.Hashed(r.Source) && (item.SHA256 == "" || item.SHA256 != old.sha256) {
				return nil, store.OtherImage(id)
			}
			return oneImage(store.Image(id, true, old.size)), nil
		}
		if !errors.Is(err, virt.ErrNotFound) || !look {
			return nil, err
		}
		if err := s.fetcher.Fetch(ctx, item, func(ctx context.Context, got fetch.Got) error { return s.makeImage(ctx, item, got) }); err != nil {
			return nil, err
		}
	}
	return nil, store.NoImage(id)
}

// makeImage makes an image of what came.
func (s *Store) makeImage(ctx context.Context, item fetch.Item, got fetch.Got) (err error) {
	tmp := unnamed()
	defer func() {
		if err != nil {
			// The caller's time may be what is over.
			err = errors.Join(err, s.destroy(context.WithoutCancel(ctx), tmp, true))
		}
		s.unlink(tmp)
	}()
	f, err := s.inbox.Open(got.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	header, err := readStream(f)
	if err != nil {
		return err
	}
	about := []string{"-o", propSHA256 + "=" + got.SHA256, "-o", propSent + "=" + strconv.FormatInt(got.Sent, 10)}
	if item.URL != "" {
		about = append(about, "-o", propSource+"="+store.Hashed(item.URL))
	}
	if header {
		err = s.receive(ctx, f, tmp, item.Name, about)
	} else {
		err = s.fill(ctx, f, incoming+"/"+got.Name, tmp, item.Name, about)
	}
	if err != nil {
		return err
	}
	name := imageName(item.Name)
	err = s.rename(ctx, tmp, name)
	if !errors.Is(err, virt.ErrConflict) {
		return err
	}
	// What a removal left that did not end has no snapshot, and nobody uses it.
	if _, whole := s.image(ctx, item.Name); !errors.Is(whole, virt.ErrNotFound) {
		return errors.Join(err, whole)
	}
	if err := s.destroy(ctx, name, false); err != nil {
		return err
	}
	return s.rename(ctx, tmp, name)
}

// receive makes a volume and its snapshot of a stream.
func (s *Store) receive(ctx context.Context, f *os.File, to, name string, about []string) error {
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	if _, err := s.runFor(ctx, s.o.TransferTimeout, f, append(append([]string{"receive", "-u"}, about...), "--", s.full(to+"@"+name))...); err != nil {
		return fmt.Errorf("it is no good zfs stream: %w", err)
	}
	list, err := s.list(ctx, to, 0, filesystem, volume, snapshot)
	if err != nil {
		return err
	}
	d := named(list, to)
	if d == nil || d.kind != volume || named(list, to+"@"+name) == nil || len(list) != 2 {
		return fmt.Errorf("%w: the stream made %d datasets and not one volume with its snapshot", virt.ErrInvalid, len(list))
	}
	if store.Megabytes(d.size) > s.o.MaxSize {
		return fmt.Errorf("%w: the disk has more than %d MB, which is the limit", virt.ErrInvalid, s.o.MaxSize)
	}
	return nil
}

// fill makes a volume and its snapshot of a raw or qcow2 file.
func (s *Store) fill(ctx context.Context, f *os.File, file, to, name string, about []string) error {
	path := s.o.Dir + "/" + file
	format, size, err := s.qemu.Vet(ctx, path, f, s.o.MaxSize)
	if err != nil {
		return err
	}
	if err := s.createVolume(ctx, to, size, about); err != nil {
		return err
	}
	device, err := s.device(ctx, to)
	if err != nil {
		return err
	}
	if format == qemuimg.Raw {
		err = copyTo(device, f)
	} else if err = s.qemu.Fill(ctx, path, format, device); err == nil {
		err = syncDevice(device)
	}
	if err != nil {
		return fmt.Errorf("cannot copy it into the pool, which may be full: %w", err)
	}
	_, err = s.run(ctx, "snapshot", "--", s.full(to+"@"+name))
	return err
}

// createVolume makes a blank volume of at least so many bytes.
func (s *Store) createVolume(ctx context.Context, name string, size int64, about []string) error {
	args := []string{"create"}
	if !s.o.Reserve {
		args = append(args, "-s")
	}
	args = append(args, about...)
	_, err := s.run(ctx, append(args, "-V", strconv.FormatUint(store.Megabytes(size)<<20, 10), "--", s.full(name))...)
	return err
}

// DeleteImage removes an image that no disk is a clone of.
func (s *Store) DeleteImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if err := s.checkImage(r.ID); err != nil {
		return nil, err
	}
	done, err := s.uses.Remove(r.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	old, err := s.image(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if err := s.unused(ctx, r.ID); err != nil {
		return nil, err
	}
	// The snapshot first: without it there is no image, and while it has clones ZFS refuses.
	for _, name := range [...]string{imageSnapshot(r.ID), imageName(r.ID)} {
		if err := s.destroy(ctx, name, false); err != nil {
			return nil, err
		}
	}
	s.unlink(imageName(r.ID))
	return oneImage(store.Image(r.ID, true, old.size)), nil
}

// clones returns what was cloned from an image.
func (s *Store) clones(ctx context.Context, id string) ([]string, error) {
	out, err := s.run(ctx, "list", "-Hp", "-o", "clones", "-t", snapshot, "--", s.full(imageSnapshot(id)))
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(out))
	if text == "" || text == "-" {
		return nil, nil
	}
	found := strings.Split(text, ",")
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], s.parent+"/")
	}
	return found, nil
}

// CloneImage makes a volume, called Dest, that begins as an image.
func (s *Store) CloneImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.VolumeResponse, error) {
	if err := errors.Join(s.checkImage(r.ID), store.CheckVolume(r.Dest)); err != nil {
		return nil, err
	}
	return s.volumeOf(ctx, r.Dest, store.DiskSpec{Image: r.ID})
}
