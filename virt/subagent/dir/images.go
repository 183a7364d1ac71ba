package dir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// The words of an image's status.
const (
	pending  = "pending"
	complete = "complete"
)

// record is image.json.
type record struct {
	Source string `json:"source"` // sha256 of the URL, which can hold secrets
	SHA256 string `json:"sha256"` // of what was sent
	Sent   int64  `json:"sent"`   // bytes
	Size   int64  `json:"size"`   // bytes of the disk
}

// checkName refuses what is no single word. It is stricter than the wire, which
// has references of containers too.
func checkName(what, id string) error {
	if err := mistify.CheckImageID("", id); err != nil || strings.Contains(id, "@") || len(id) > 200 {
		return &mistify.NameError{What: what, Given: id, Want: "1 to 200 letters, digits, -, _, : and single dots, a letter or digit first"}
	}
	return nil
}

func imageFile(id string) string { return images + "/" + id + "/image.qcow2" }

// image reads one image.
func (s *Store) image(id string) (*record, error) {
	r := &record{}
	err := s.read(images+"/"+id+"/image.json", r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no such image: %s", virt.ErrNotFound, id)
	}
	return r, err
}

// wire is an image as the wire has it.
func wire(id string, r *record) mistify.Image {
	i := mistify.Image{ID: id, Type: "vm", Status: pending}
	if r != nil {
		i.Volume, i.Snapshot, i.Size, i.Status = images+"/"+id, images+"/"+id+"@"+id, megabytes(r.Size), complete
	}
	return i
}

func megabytes(size int64) uint64 { return uint64(max(0, size)+1<<20-1) >> 20 }

// ListImages lists the images, those that are being fetched too.
func (s *Store) ListImages(_ context.Context, _ *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	names, err := s.list(images)
	if err != nil {
		return nil, err
	}
	found := map[string]mistify.Image{}
	for id := range s.fetcher.Under() {
		found[id] = wire(id, nil)
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
	if err := checkName("image's id", r.ID); err != nil {
		return nil, err
	}
	found, err := s.image(r.ID)
	if _, under := s.fetcher.Under()[r.ID]; under && errors.Is(err, virt.ErrNotFound) {
		found, err = nil, nil
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
	id := r.ID
	if id == "" {
		id = nameOf(r.Source)
	}
	if err := checkName("image's id", id); err != nil {
		return nil, err
	}
	if r.Type == mistify.TypeContainer {
		return nil, fmt.Errorf("%w: images of containers are not kept here", virt.ErrUnsupported)
	}
	if r.Size > 1<<62 {
		return nil, fmt.Errorf("%w: the image %s would have %d bytes", virt.ErrInvalid, id, r.Size)
	}
	item := fetch.Item{Name: id, URL: r.Source, Size: int64(r.Size), SHA256: strings.ToLower(r.SHA256)}
	for _, look := range [...]bool{true, false} {
		old, err := s.image(id)
		if err == nil {
			if old.Source != hashed(r.Source) && (item.SHA256 == "" || item.SHA256 != old.SHA256) {
				return nil, fmt.Errorf("%w: the image %s is there already, from another source: delete it first", virt.ErrConflict, id)
			}
			return &mistify.ImageResponse{Images: []mistify.Image{wire(id, old)}}, nil
		}
		if !errors.Is(err, virt.ErrNotFound) || !look {
			return nil, err
		}
		if err := s.fetcher.Fetch(ctx, item, func(ctx context.Context, got fetch.Got) error { return s.take(ctx, item, got) }); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: no such image: %s", virt.ErrNotFound, id)
}

// take makes an image of a download: a new file, with nothing of the old one
// but its content.
func (s *Store) take(ctx context.Context, item fetch.Item, got fetch.Got) error {
	from := incoming + "/" + got.Name
	format, size, err := s.vet(ctx, from)
	if err != nil {
		return err
	}
	name := images + "/" + item.Name
	if there, err := s.there(name); err != nil || there {
		return err // by another that was faster
	}
	return s.make(name, 0o711, func(tmp string) error {
		if err := s.root.Mkdir(tmp, 0o700); err != nil {
			return err
		}
		file := tmp + "/image.qcow2"
		if err := s.convert(ctx, from, format, "", file, qcow2); err != nil {
			return err
		}
		if err := errors.Join(s.root.Chmod(file, 0o444), s.sync(file)); err != nil {
			return err
		}
		return s.write(tmp+"/image.json", record{Source: hashed(item.URL), SHA256: got.SHA256, Sent: got.Sent, Size: (size + 511) &^ 511})
	})
}

func hashed(source string) string {
	sum := sha256.Sum256([]byte(source))
	return hex.EncodeToString(sum[:])
}

// nameOf is what an image is called after its source.
func nameOf(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	name := path.Base(u.Path)
	for _, suffix := range [...]string{".gz", ".xz"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// DeleteImage removes an image that no disk is a clone of.
func (s *Store) DeleteImage(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	if err := checkName("image's id", r.ID); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if n := s.using[r.ID]; n != 0 {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: the image %s is being cloned or removed: try again", virt.ErrConflict, r.ID)
	}
	s.using[r.ID] = -1
	s.mu.Unlock()
	defer s.use(r.ID, 1)
	old, err := s.image(r.ID)
	if err != nil {
		return nil, err
	}
	clones, err := s.clones(r.ID)
	if err != nil {
		return nil, err
	}
	if len(clones) > 0 {
		return nil, fmt.Errorf("%w: the image %s has %d clones, %s is one: delete them first", virt.ErrConflict, r.ID, len(clones), clones[0])
	}
	if err := s.remove(images + "/" + r.ID); err != nil {
		return nil, err
	}
	return &mistify.ImageResponse{Images: []mistify.Image{wire(r.ID, old)}}, nil
}

// use counts n more or fewer uses of an image.
func (s *Store) use(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.using[id] += n; s.using[id] == 0 {
		delete(s.using, id)
	}
}

// cloning keeps an image from being removed until done is called.
func (s *Store) cloning(id string) (r *record, done func(), err error) {
	s.mu.Lock()
	if s.using[id] < 0 {
		s.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: the image %s is being removed", virt.ErrConflict, id)
	}
	s.using[id]++
	s.mu.Unlock()
	done = func() { s.use(id, -1) }
	if r, err = s.image(id); err != nil {
		done()
		if errors.Is(err, virt.ErrNotFound) {
			err = fmt.Errorf("%w: the image %s is not here: fetch it first", virt.ErrConflict, id)
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
		if h != nil && h.backing == s.path(imageFile(id)) {
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
	return names, nil
}

// header reads that of a file, nil if it is gone or no qcow2.
func (s *Store) header(name string) (*header, error) {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // it was just removed
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := readHeader(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the header of %s: %w", s.path(name), err)
	}
	return h, nil
}

// CloneImage makes a volume, called Dest, that begins as an image.
func (s *Store) CloneImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.VolumeResponse, error) {
	if err := errors.Join(checkName("image's id", r.ID), checkName("volume's id", r.Dest)); err != nil {
		return nil, err
	}
	return s.volumeOf(ctx, r.Dest, diskSpec{image: r.ID, format: qcow2})
}
