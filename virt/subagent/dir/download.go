package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	qfile "github.com/vagoth/vagoth/virt/subagent/qcow2"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// DownloadSnapshot opens the content of a disk's snapshot as a qcow2 file that
// needs no other, an image again, which is made as it is read. A guest with one
// disk need not name it. The same snapshot gives the same bytes every time, so a
// download that broke off goes on with Offset. While it is read the snapshot is
// not removed.
func (s *Store) DownloadSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.Download, error) {
	if r.From != "" || r.Resume != "" {
		return nil, fmt.Errorf("%w: a part of a snapshot: only where disks are in a ZFS pool there are streams of what changed, and tokens to go on with", virt.ErrUnsupported)
	}
	var d *mistify.Download
	_, err := s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		if len(disks) != 1 {
			return nil, fmt.Errorf("%w: the snapshot %s is of %d disks: name one, as in guests/%s/disk-0@%s", virt.ErrInvalid, at, len(disks), at.Guest, at.Name)
		}
		d, err = s.stream(disks[0].disk, at.Name, r.Offset)
		return nil, err
	})
	return d, err
}

// stream opens a snapshot of a disk.
func (s *Store) stream(d disk, name string, offset int64) (_ *mistify.Download, err error) {
	out := &streaming{}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	below, err := s.backing(d, out)
	if err != nil {
		return nil, err
	}
	content, err := s.content(d.name, qfile.Options{Snapshot: prefix + name, Backing: below}, out)
	if err != nil {
		return nil, err
	}
	image, err := qfile.NewImage(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read the snapshot %s of %s: %w", name, d.name, err)
	}
	if offset < 0 || offset > image.Length() {
		return nil, fmt.Errorf("%w: offset %d: the stream has %d bytes", virt.ErrInvalid, offset, image.Length())
	}
	out.Reader = io.NewSectionReader(image, offset, image.Length()-offset)
	out.done = append(out.done, s.reading.add(snapshotOf(d, name)))
	return &mistify.Download{ReadCloser: out, ContentType: "application/octet-stream", Length: image.Length() - offset}, nil
}

// backing opens the image that a disk is a clone of; nil if it is of none.
func (s *Store) backing(d disk, out *streaming) (*qfile.Disk, error) {
	h, err := s.header(d.name)
	if err != nil || h == nil || h.Backing == "" {
		return nil, err
	}
	id, ok := strings.CutPrefix(h.Backing, s.path(images)+"/")
	id, file, _ := strings.Cut(id, "/")
	format := strings.TrimPrefix(file, "image.")
	if !ok || store.CheckImage(id) != nil || !s.cloneOf(h, id) {
		return nil, fmt.Errorf("%w: the disk %s is backed by a file that is no image here", virt.ErrConflict, d.name)
	}
	// Even when the disk is gone meanwhile, the image becomes no other disk.
	done, err := s.uses.Clone(id)
	if err != nil {
		return nil, err
	}
	out.done = append(out.done, done)
	return s.content(imageFile(id, format), qfile.Options{Raw: format == raw}, out)
}

// content opens a file, which is closed with the stream.
func (s *Store) content(name string, o qfile.Options, out *streaming) (*qfile.Disk, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	out.files = append(out.files, f)
	content, err := qfile.Open(sized{f}, o)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return content, nil
}

// sized is a file as package qcow2 reads it.
type sized struct{ *os.File }

func (f sized) Size() (int64, error) {
	stat, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// Data finds the next bytes that are no hole. An image is never written again, so
// its holes stay where they are.
func (f sized) Data(from int64) (begin, end int64, err error) {
	if begin, err = f.Seek(from, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
		end, err = f.Seek(0, io.SeekEnd)
		return end, end, err
	}
	if err == nil {
		end, err = f.Seek(begin, unix.SEEK_HOLE)
	}
	return begin, end, err
}

// streaming is a snapshot that is being read.
type streaming struct {
	io.Reader
	files []*os.File
	done  []func()
	once  sync.Once
	err   error
}

// Close implements io.Closer.
func (d *streaming) Close() error {
	d.once.Do(func() {
		for _, f := range d.files {
			d.err = errors.Join(d.err, f.Close())
		}
		for _, done := range d.done {
			done()
		}
	})
	return d.err
}

// readings counts who reads what. The zero readings are fine.
type readings struct {
	mu   sync.Mutex
	many map[string]int
}

func (r *readings) add(what string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.many == nil {
		r.many = map[string]int{}
	}
	r.many[what]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.many[what]--; r.many[what] == 0 {
			delete(r.many, what)
		}
	}
}

func (r *readings) any(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.many[what] > 0
}

func snapshotOf(d disk, name string) string { return d.name + "@" + name }

// unread refuses a change that removes a snapshot which is being read: its
// clusters would be written anew under the reader.
func (s *Store) unread(guest string, c pendingChange, disks []shelved) error {
	gone := c.Newer
	if c.Do == doDelete {
		gone = []string{c.Name}
	}
	for _, d := range disks {
		for _, name := range gone {
			if s.reading.any(snapshotOf(d.disk, name)) {
				return fmt.Errorf("%w: the snapshot %s of disk %d of guest %s is being downloaded: wait for that, or end it", virt.ErrConflict, name, d.n, guest)
			}
		}
	}
	return nil
}
