package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	qfile "github.com/vagoth/vagoth/virt/subagent/qcow2"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// record is image.json.
type record struct {
	Source string `json:"source"` // sha256 of the URL, which can hold secrets; "" of one that was sent
	SHA256 string `json:"sha256"` // of what was sent
	Sent   int64  `json:"sent"`   // bytes
	Size   int64  `json:"size"`   // bytes of the disk
	Format string `json:"format,omitempty"`
}

// format is that of the image's file. One that an earlier version made says none.
func (r *record) format() string { return cmp.Or(r.Format, qcow2) }

func imageFile(id, format string) string { return images + "/" + id + "/image." + format }

// cloneOf reports whether a file says that it is backed by an image.
func (s *Store) cloneOf(h *qemuimg.Header, image string) bool {
	return h != nil && (h.Backing == s.path(imageFile(image, qcow2)) || h.Backing == s.path(imageFile(image, raw)))
}

// image reads one image.
func (s *Store) image(id string) (*record, error) {
	r := &record{}
	err := s.read(images+"/"+id+"/image.json", r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.NoImage(id)
	}
	return r, err
}

// wire is an image as the wire has it.
func wire(id string, r *record) mistify.Image {
	if r == nil {
		return store.Image(id, false, 0)
	}
	return store.Image(id, true, r.Size)
}

// underway is an image that is being fetched.
func underway(id string, p fetch.Progress) mistify.Image {
	i := wire(id, nil)
	i.Fetched, i.Total = p.Done, max(0, p.Total)
	return i
}

// ListImages lists the images, those that are being fetched too.
func (s *Store) ListImages(_ context.Context, _ *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	names, err := s.list(images)
	if err != nil {
		return nil, err
	}
	found := map[string]mistify.Image{}
	for id, p := range s.fetcher.Under() {
		found[id] = underway(id, p)
	}
	for _, id := range names {
		r, err := s.image(id)
		if errors.Is(err, virt.ErrNotFound) {
			continue // it was just removed
		}
		if err != nil {
			return nil, err
		}
		found[id] = wire(id, r)
	}
	out := &mistify.ImageResponse{Images: []mistify.Image{}}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out.Images = append(out.Images, found[id])
	}
	return out, nil
}

// GetImage looks at one image.
func (s *Store) GetImage(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if err := store.CheckImage(r.ID); err != nil {
		return nil, err
	}
	found, err := s.image(r.ID)
	if p, under := s.fetcher.Under()[r.ID]; under && errors.Is(err, virt.ErrNotFound) {
		return &mistify.ImageResponse{Images: []mistify.Image{underway(r.ID, p)}}, nil
	}
	if err != nil {
		return nil, err
	}
	return &mistify.ImageResponse{Images: []mistify.Image{wire(r.ID, found)}}, nil
}

// FetchImage gets an image, raw or qcow2, and returns when it is there. One that
// is there from the same source, or with the same sum, stays. Without an id the
// last word of the source is it.
func (s *Store) FetchImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	id, err := store.CheckFetch(r)
	if err != nil {
		return nil, err
	}
	item := fetch.Item{Name: id, URL: r.Source, Size: int64(r.Size), SHA256: strings.ToLower(r.SHA256)}
	for _, look := range [...]bool{true, false} {
		old, err := s.image(id)
		if err == nil {
			if old.Source != store.Hashed(r.Source) && (item.SHA256 == "" || item.SHA256 != old.SHA256) {
				return nil, store.OtherImage(id)
			}
			return &mistify.ImageResponse{Images: []mistify.Image{wire(id, old)}}, nil
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

// makeImage makes an image of what came: the very file if it is raw, or a qcow2
// that says of nothing but its content; else a new one, with nothing of the old but
// that.
func (s *Store) makeImage(ctx context.Context, item fetch.Item, got fetch.Got) error {
	from := incoming + "/" + got.Name
	f, err := s.root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	format, size, err := s.qemu.Vet(ctx, s.path(from), f, s.o.MaxSize)
	if err != nil {
		return err
	}
	keep := format == raw || qfile.Plain(sized{f}) == nil
	whole := (size + 511) &^ 511
	name := images + "/" + item.Name
	if there, err := s.there(name); err != nil || there {
		return err // by another that was faster
	}
	return s.make(name, 0o711, func(tmp string) error {
		if err := s.root.Mkdir(tmp, 0o700); err != nil {
			return err
		}
		file := tmp + "/image." + format
		if keep {
			err = s.root.Rename(from, file)
		} else {
			err = s.qemu.Convert(ctx, s.path(from), format, "", s.path(file), format)
		}
		if err == nil && format == raw && whole != size {
			err = os.Truncate(s.path(file), whole)
		}
		if err != nil {
			return err
		}
		if err := errors.Join(s.root.Chmod(file, 0o444), s.sync(file)); err != nil {
			return err
		}
		source := ""
		if item.URL != "" {
			source = store.Hashed(item.URL)
		}
		return s.write(tmp+"/image.json", record{Source: source, SHA256: got.SHA256, Sent: got.Sent, Size: whole, Format: format})
	})
}

// DeleteImage removes an image that no disk is a clone of.
func (s *Store) DeleteImage(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if err := store.CheckImage(r.ID); err != nil {
		return nil, err
	}
	done, err := s.uses.Remove(r.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	old, err := s.image(r.ID)
	if err != nil {
		return nil, err
	}
	if err := s.unused(r.ID); err != nil {
		return nil, err
	}
	if err := s.remove(images + "/" + r.ID); err != nil {
		return nil, err
	}
	return &mistify.ImageResponse{Images: []mistify.Image{wire(r.ID, old)}}, nil
}

// cloning keeps an image from being removed until done is called.
func (s *Store) cloning(id string) (r *record, done func(), err error) {
	if done, err = s.uses.Clone(id); err != nil {
		return nil, nil, err
	}
	if r, err = s.image(id); err != nil {
		done()
		if errors.Is(err, virt.ErrNotFound) {
			err = store.NoImageYet(id)
		}
		return nil, nil, err
	}
	return r, done, nil
}

// clones returns the disks that are backed by an image.
func (s *Store) clones(id string) (found []string, err error) {
	names, err := s.files()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		h, err := s.header(name)
		if err != nil {
			return nil, err
		}
		if s.cloneOf(h, id) {
			found = append(found, strings.TrimSuffix(name, ".qcow2"))
		}
	}
	return found, nil
}

// files returns the qcow2 files of all guests and volumes.
func (s *Store) files() (names []string, err error) {
	for _, pattern := range [...]string{guests + "/*/disk-*.qcow2", volumes + "/*.qcow2"} {
		found, err := fs.Glob(s.root.FS(), pattern)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	adopted, err := s.adoptedFiles()
	return append(names, adopted...), err
}

// header reads that of a file, nil if it is gone or no qcow2.
func (s *Store) header(name string) (*qemuimg.Header, error) {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // it was just removed
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := qemuimg.ReadHeader(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the header of %s: %w", s.path(name), err)
	}
	return h, nil
}

// CloneImage makes a volume, called Dest, that begins as an image.
func (s *Store) CloneImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.VolumeResponse, error) {
	if err := errors.Join(store.CheckImage(r.ID), store.CheckVolume(r.Dest)); err != nil {
		return nil, err
	}
	return s.volumeOf(ctx, r.Dest, store.DiskSpec{Image: r.ID, Format: qcow2})
}
