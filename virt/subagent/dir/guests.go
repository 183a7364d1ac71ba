package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// diskSpec is what a disk is to be.
type diskSpec struct {
	image  string // it begins as; "" for a blank one
	format string
	size   int64 // bytes, at least
}

func guestDir(id string) string { return guests + "/" + id }

// diskName is the name of a disk on the wire; with its format behind a dot, it
// is its file.
func diskName(guest string, n int) string { return guestDir(guest) + "/disk-" + strconv.Itoa(n) }

// disk is a disk of a guest that is there.
type disk struct {
	n      int
	name   string // of the file
	format string
}

// disks lists those of a guest in their order.
func (s *Store) disks(guest string) (found []disk, err error) {
	names, err := s.list(guestDir(guest))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		number, format, ok := strings.Cut(strings.TrimPrefix(name, "disk-"), ".")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || diskName(guest, n)+"."+format != guestDir(guest)+"/"+name || format != qcow2 && format != raw {
			continue
		}
		found = append(found, disk{n: n, name: guestDir(guest) + "/" + name, format: format})
	}
	slices.SortFunc(found, func(a, b disk) int { return a.n - b.n })
	return found, nil
}

// size is the bytes that a disk has.
func (s *Store) size(d disk) (int64, error) {
	if d.format == qcow2 {
		h, err := s.header(d.name)
		if err == nil && h == nil {
			err = fmt.Errorf("%w: %s is gone or no qcow2", virt.ErrConflict, s.path(d.name))
		}
		if err != nil {
			return 0, err
		}
		return int64(min(h.size, 1<<62)), nil
	}
	stat, err := s.root.Stat(d.name)
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// plan is what the disks of a guest are, or are to be.
type plan struct {
	guest *mistify.Guest // with all that is known before they are made
	specs []diskSpec
	names []string // of disks of the guest; "" for one from elsewhere
}

// plan checks the disks of a guest. One whose Volume is a disk here is that; the
// others get numbers by their order that no Volume has. One with a Source that is
// not here is somebody else's and stays as it is.
func (s *Store) plan(g *mistify.Guest) (*plan, error) {
	if g == nil {
		return nil, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	p := &plan{guest: g.Clone()}
	p.guest.ID, _ = mistify.ParseGuestID(g.ID) // Validate did
	id := p.guest.ID
	numbers, taken := make([]int, len(g.Disks)), map[int]bool{}
	for i, d := range p.guest.Disks {
		numbers[i] = -1
		if number, ours := strings.CutPrefix(d.Volume, guestDir(id)+"/disk-"); ours {
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 || n >= 10*mistify.MaxDisks || d.Volume != diskName(id, n) || taken[n] {
				return nil, fmt.Errorf("%w guest %s: disks[%d].volume: %.100q is no disk of it, or given twice", virt.ErrInvalid, id, i, d.Volume)
			}
			numbers[i], taken[n] = n, true
		}
	}
	for i := range p.guest.Disks {
		d := &p.guest.Disks[i]
		if numbers[i] < 0 && d.Source != "" && !strings.HasPrefix(d.Source, s.path(guestDir(id))+"/") {
			p.specs, p.names = append(p.specs, diskSpec{}), append(p.names, "")
			continue
		}
		for n := i; numbers[i] < 0; n++ {
			if !taken[n] {
				numbers[i], taken[n] = n, true
			}
		}
		spec := diskSpec{image: d.Image, format: qcow2, size: int64(min(d.Size, 1<<40)) << 20}
		switch {
		case d.Format == raw:
			spec.format = raw
		case d.Format != "" && d.Format != qcow2:
			return nil, fmt.Errorf("%w guest %s: disks[%d].format: %.20q must be qcow2 or raw", virt.ErrInvalid, id, i, d.Format)
		}
		if d.Size > s.o.MaxSize {
			return nil, fmt.Errorf("%w guest %s: disks[%d].size: %d MB are too many, at most %d are made", virt.ErrInvalid, id, i, d.Size, s.o.MaxSize)
		}
		if d.Image == "" && d.Size == 0 {
			return nil, fmt.Errorf("%w guest %s: disks[%d]: it has neither an image nor a size", virt.ErrInvalid, id, i)
		}
		if d.Image != "" {
			if err := checkName("image's id", d.Image); err != nil {
				return nil, err
			}
		}
		d.Volume, d.Format = diskName(id, numbers[i]), spec.format
		d.Source = s.path(d.Volume + "." + spec.format)
		p.specs, p.names = append(p.specs, spec), append(p.names, d.Volume)
	}
	return p, nil
}

// VerifyDisks says whether the disks of a guest can be made: their images are
// here and there is room. It makes nothing.
func (s *Store) VerifyDisks(_ context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	p, err := s.plan(r.Guest)
	if err != nil {
		return nil, err
	}
	if err := s.verify(p); err != nil {
		return nil, err
	}
	return &mistify.GuestResponse{Guest: p.guest}, nil
}

// verify fills in the sizes of a plan.
func (s *Store) verify(p *plan) error {
	have, err := s.disks(p.guest.ID)
	if err != nil {
		return err
	}
	var more int64
	for i := range p.specs {
		d, spec := &p.guest.Disks[i], p.specs[i]
		if p.names[i] == "" {
			continue
		}
		at := slices.IndexFunc(have, func(h disk) bool { return strings.HasPrefix(h.name, p.names[i]+".") })
		if at >= 0 {
			if have[at].format != spec.format {
				return fmt.Errorf("%w: %s is there already, as %s and not %s", virt.ErrConflict, d.Volume, have[at].format, spec.format)
			}
			size, err := s.size(have[at])
			if err != nil {
				return err
			}
			d.Size = megabytes(size)
			continue
		}
		if spec.image != "" {
			image, err := s.image(spec.image)
			if errors.Is(err, virt.ErrNotFound) {
				err = fmt.Errorf("%w: the image %s is not here: fetch it first", virt.ErrConflict, spec.image)
			}
			if err != nil {
				return err
			}
			d.Size = max(d.Size, megabytes(image.Size))
		}
		more += int64(d.Size) << 20
	}
	return s.room(more)
}

// room refuses to promise more than the config lets.
func (s *Store) room(size int64) error {
	if size == 0 || s.o.Overcommit <= 0 {
		return nil
	}
	var fsys unix.Statfs_t
	if err := unix.Statfs(s.dir, &fsys); err != nil {
		return fmt.Errorf("cannot ask for the free space of %s: %w", s.dir, err)
	}
	free := int64(fsys.Bavail) * fsys.Bsize
	if float64(size) > float64(free)*s.o.Overcommit {
		return fmt.Errorf("%w: there is no room for %d MB more in %s: %d MB are free", virt.ErrConflict, size>>20, s.dir, free>>20)
	}
	return nil
}

// CreateGuestDisks makes the disks of a guest that are not there yet, and answers
// where all of them are. If one cannot be made, those that this call made are
// removed.
func (s *Store) CreateGuestDisks(ctx context.Context, r *mistify.GuestRequest) (_ *mistify.GuestResponse, err error) {
	p, err := s.plan(r.Guest)
	if err != nil {
		return nil, err
	}
	release, err := s.hold(ctx, p.guest.ID)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.verify(p); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.names, func(name string) bool { return name != "" }) {
		return &mistify.GuestResponse{Guest: p.guest}, nil
	}
	if err := s.mkdir(guestDir(p.guest.ID)); err != nil {
		return nil, err
	}
	var made []string
	defer func() {
		if err == nil {
			return
		}
		for _, name := range made {
			err = errors.Join(err, s.remove(name))
		}
		// Only an empty folder is removed by this; it is no error that it is not.
		_ = s.root.Remove(guestDir(p.guest.ID))
	}()
	for i, name := range p.names {
		if name == "" {
			continue
		}
		file := name + "." + p.specs[i].format
		switch there, err := s.there(file); {
		case err != nil:
			return nil, err
		case there:
			continue
		}
		size, err := s.makeDisk(ctx, file, p.specs[i])
		if err != nil {
			return nil, fmt.Errorf("cannot make the disk %s: %w", name, err)
		}
		made = append(made, file)
		p.guest.Disks[i].Size = megabytes(size)
	}
	return &mistify.GuestResponse{Guest: p.guest}, nil
}

// makeDisk makes one disk and returns its bytes.
func (s *Store) makeDisk(ctx context.Context, file string, spec diskSpec) (size int64, err error) {
	size = spec.size
	var image *record
	if spec.image != "" {
		var done func()
		if image, done, err = s.cloning(spec.image); err != nil {
			return 0, err
		}
		defer done()
		size = max(size, image.Size)
	}
	err = s.make(file, 0o600, func(tmp string) error {
		switch {
		case image == nil:
			return s.create(ctx, tmp, spec.format, "", size)
		case spec.format == qcow2:
			return s.create(ctx, tmp, qcow2, imageFile(spec.image), size)
		}
		if err := s.convert(ctx, imageFile(spec.image), qcow2, "", tmp, raw); err != nil || size == image.Size {
			return err
		}
		return s.resize(ctx, tmp, raw, size)
	})
	return size, err
}

// DeleteGuestDisks removes all disks of a guest, with their snapshots. The disks
// stay in its definition, but for where they were. A guest that runs is a
// virt.ErrBusy; one that has none is fine.
func (s *Store) DeleteGuestDisks(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	if r.Guest == nil {
		return nil, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	id, err := mistify.ParseGuestID(r.Guest.ID)
	if err != nil {
		return nil, err
	}
	release, err := s.hold(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	have, err := s.disks(id)
	if err != nil {
		return nil, err
	}
	if err := s.idle(id, have); err != nil {
		return nil, err
	}
	if err := s.remove(guestDir(id)); err != nil {
		return nil, err
	}
	g := r.Guest.Clone()
	for i := range g.Disks {
		if d := &g.Disks[i]; strings.HasPrefix(d.Source, s.path(guestDir(id))+"/") || strings.HasPrefix(d.Volume, guestDir(id)+"/") {
			d.Volume, d.Source = "", ""
		}
	}
	return &mistify.GuestResponse{Guest: g}, nil
}

// idle refuses disks that QEMU has open.
func (s *Store) idle(guest string, disks []disk) error {
	for _, d := range disks {
		busy, err := s.busy(d.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if busy {
			return fmt.Errorf("%w: the disk %s of guest %s is in use: stop it first", virt.ErrBusy, d.name, guest)
		}
	}
	return nil
}
