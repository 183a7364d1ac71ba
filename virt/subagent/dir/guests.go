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
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// disk is a disk of a guest that is there.
type disk struct {
	n      int
	name   string // of the file
	format string
}

// disks lists those of a guest in their order.
func (s *Store) disks(guest string) (found []disk, err error) {
	names, err := s.list(store.GuestFolder(guest))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		number, format, ok := strings.Cut(strings.TrimPrefix(name, "disk-"), ".")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || store.DiskName(guest, n)+"."+format != store.GuestFolder(guest)+"/"+name || format != qcow2 && format != raw {
			continue
		}
		found = append(found, disk{n: n, name: store.GuestFolder(guest) + "/" + name, format: format})
	}
	adopted, err := s.adoptedDisks(guest)
	if err != nil {
		return nil, err
	}
	found = append(found, adopted...)
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
		return int64(min(h.Size, 1<<62)), nil
	}
	stat, err := s.root.Stat(d.name)
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// VerifyDisks says whether the disks of a guest can be made: their images are
// here and there is room. It makes nothing.
func (s *Store) VerifyDisks(_ context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	p, err := s.rules.Plan(r.Guest)
	if err != nil {
		return nil, err
	}
	if err := s.verify(p); err != nil {
		return nil, err
	}
	seed, err := s.seed(p.Guest)
	if err != nil {
		return nil, err
	}
	if seed != nil {
		p.Guest.CloudInit.Disk = s.path(seedFile(p.Guest.ID))
	}
	return &mistify.GuestResponse{Guest: p.Guest}, nil
}

// verify fills in the sizes of a plan.
func (s *Store) verify(p *store.Plan) error {
	have, err := s.disks(p.Guest.ID)
	if err != nil {
		return err
	}
	var more int64
	for i := range p.Specs {
		d, spec := &p.Guest.Disks[i], p.Specs[i]
		if p.Names[i] == "" {
			continue
		}
		at := slices.IndexFunc(have, func(h disk) bool { return strings.HasPrefix(h.name, p.Names[i]+".") })
		if at >= 0 {
			if have[at].format != spec.Format {
				return fmt.Errorf("%w: %s is there already, as %s and not %s", virt.ErrConflict, d.Volume, have[at].format, spec.Format)
			}
			size, err := s.size(have[at])
			if err != nil {
				return err
			}
			d.Size = store.Megabytes(size)
			continue
		}
		if spec.Image != "" {
			image, err := s.image(spec.Image)
			if errors.Is(err, virt.ErrNotFound) {
				err = store.NoImageYet(spec.Image)
			}
			if err != nil {
				return err
			}
			d.Size = max(d.Size, store.Megabytes(image.Size))
			if spec.Take {
				if err := s.unused(spec.Image); err != nil {
					return err
				}
			}
			if spec.Take && image.format() == spec.Format {
				more -= int64(store.Megabytes(image.Size)) << 20 // which it has already
			}
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
// removed, and with them an image that became one of them. The disk for cloud-init
// is one of them.
func (s *Store) CreateGuestDisks(ctx context.Context, r *mistify.GuestRequest) (_ *mistify.GuestResponse, err error) {
	p, err := s.rules.Plan(r.Guest)
	if err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, p.Guest.ID)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.verify(p); err != nil {
		return nil, err
	}
	seed, err := s.seed(p.Guest)
	if err != nil {
		return nil, err
	}
	if !p.Ours() && seed == nil {
		return &mistify.GuestResponse{Guest: p.Made()}, nil
	}
	if err := s.mkdir(store.GuestFolder(p.Guest.ID)); err != nil {
		return nil, err
	}
	missing, err := s.missing(p, seed != nil)
	if err != nil {
		return nil, err
	}
	var made []string
	defer func() {
		if err != nil {
			err = errors.Join(err, s.unmake(p.Guest.ID, r.Job, made))
		}
	}()
	if err := s.making(p.Guest.ID, r.Job, missing); err != nil {
		return nil, err
	}
	for i, name := range p.Names {
		if name == "" {
			continue
		}
		file := name + "." + p.Specs[i].Format
		if !slices.Contains(missing, file) {
			continue
		}
		size, err := s.makeDisk(ctx, file, p.Specs[i])
		if err != nil {
			return nil, fmt.Errorf("cannot make the disk %s: %w", name, err)
		}
		made = append(made, file)
		p.Guest.Disks[i].Size = store.Megabytes(size)
	}
	if seed != nil {
		if err := s.putSeed(p.Guest, seed); err != nil {
			return nil, fmt.Errorf("cannot make the disk for cloud-init: %w", err)
		}
	}
	return &mistify.GuestResponse{Guest: p.Made()}, nil
}

// missing lists the files of a plan that are not there.
func (s *Store) missing(p *store.Plan, seed bool) (files []string, err error) {
	for i, name := range p.Names {
		if name != "" {
			files = append(files, name+"."+p.Specs[i].Format)
		}
	}
	if seed {
		files = append(files, seedFile(p.Guest.ID))
	}
	return slices.DeleteFunc(files, func(name string) bool {
		there, problem := s.there(name)
		err = errors.Join(err, problem)
		return there
	}), err
}

// unmake removes files that a call made before it failed, and the guest's folder
// if nothing else is in it.
func (s *Store) unmake(guest, job string, files []string) (err error) {
	for _, name := range files {
		err = errors.Join(err, s.remove(name))
	}
	if have, problem := s.disks(guest); err == nil && problem == nil && len(have) == 0 && job != "" {
		err = s.remove(madeFile(guest))
	}
	// Only an empty folder is removed by this; it is no error that it is not.
	_ = s.root.Remove(store.GuestFolder(guest))
	return err
}

// makeDisk makes one disk and returns its bytes.
func (s *Store) makeDisk(ctx context.Context, file string, spec store.DiskSpec) (size int64, err error) {
	if spec.Take {
		return s.takeImage(ctx, file, spec)
	}
	size = spec.Size
	var image *record
	if spec.Image != "" {
		var done func()
		if image, done, err = s.cloning(spec.Image); err != nil {
			return 0, err
		}
		defer done()
		size = max(size, image.Size)
	}
	err = s.make(file, 0o600, func(tmp string) error {
		switch {
		case image == nil:
			return s.qemu.Create(ctx, s.path(tmp), spec.Format, "", "", size)
		case spec.Format == qcow2:
			return s.qemu.Create(ctx, s.path(tmp), qcow2, s.path(imageFile(spec.Image, image.format())), image.format(), size)
		}
		if err := s.qemu.Convert(ctx, s.path(imageFile(spec.Image, image.format())), image.format(), "", s.path(tmp), raw); err != nil || size == image.Size {
			return err
		}
		return s.qemu.Resize(ctx, s.path(tmp), raw, size)
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
	release, err := s.locks.Hold(ctx, id)
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
	if err := s.remove(store.GuestFolder(id)); err != nil {
		return nil, err
	}
	return &mistify.GuestResponse{Guest: s.forget(r.Guest, id)}, nil
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
