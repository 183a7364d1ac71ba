package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	gozfs "github.com/mistifyio/go-zfs/v4"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// diskOf reads the number of a guest's disk out of its name.
func diskOf(guest, name string) (n int, ok bool) {
	text, ok := strings.CutPrefix(name, store.GuestFolder(guest)+"/disk-")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && store.DiskName(guest, n) == name
}

// VerifyDisks says whether the disks of a guest can be made: their images are here
// and there is room. It makes nothing.
func (s *Store) VerifyDisks(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	p, err := s.rules.Plan(r.Guest)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.verify(ctx, p); err != nil {
		return nil, err
	}
	if _, err := s.seed(p.Guest); err != nil {
		return nil, err
	}
	return &mistify.GuestResponse{Guest: p.Guest}, nil
}

// verify fills in the sizes of a plan, and returns what is there of the guest and
// the images of the disks that are not.
func (s *Store) verify(ctx context.Context, p *store.Plan) (have []dataset, of map[string]*dataset, err error) {
	if have, err = s.list(ctx, store.GuestFolder(p.Guest.ID), 1, filesystem, volume); err != nil {
		return nil, nil, err
	}
	of = map[string]*dataset{}
	var more int64
	for i, spec := range p.Specs {
		d := &p.Guest.Disks[i]
		if p.Names[i] == "" {
			continue
		}
		if old := named(have, p.Names[i]); old != nil {
			d.Size = store.Megabytes(old.size)
			continue
		}
		if spec.Image != "" {
			if of[spec.Image] == nil {
				if of[spec.Image], err = s.imageFor(ctx, spec.Image); err != nil {
					return nil, nil, err
				}
			}
			d.Size = max(d.Size, store.Megabytes(of[spec.Image].size))
			if spec.Take {
				if err := s.unused(ctx, spec.Image); err != nil {
					return nil, nil, err
				}
				more -= int64(store.Megabytes(of[spec.Image].size)) << 20 //nolint:gosec // which it has already
			}
		}
		more += int64(d.Size) << 20 //nolint:gosec // at most MaxSize, or that of an image
	}
	return have, of, s.room(more)
}

// imageFor looks at an image that is to be cloned.
func (s *Store) imageFor(ctx context.Context, id string) (*dataset, error) {
	d, err := s.image(ctx, id)
	if errors.Is(err, virt.ErrNotFound) {
		err = store.NoImageYet(id)
	}
	return d, err
}

// room refuses to promise more than the config lets.
func (s *Store) room(size int64) error {
	if size == 0 || s.o.Overcommit <= 0 {
		return nil
	}
	d, err := gozfs.GetDataset(s.parent)
	if err != nil {
		return fmt.Errorf("cannot ask for the free space of %s: %w", s.parent, err)
	}
	if float64(size) > float64(d.Avail)*s.o.Overcommit {
		return fmt.Errorf("%w: there is no room for %d MB more in %s: %d MB are free", virt.ErrConflict, size>>20, s.parent, d.Avail>>20)
	}
	return nil
}

// CreateGuestDisks makes the disks of a guest that are not there yet, and answers
// where all of them are. If one cannot be made, those that this call made are
// removed, and with them an image that became one of them; a guest that had none has
// all or none, whatever is killed.
func (s *Store) CreateGuestDisks(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	p, err := s.rules.Plan(r.Guest)
	if err == nil && r.Job != "" {
		err = store.CheckName("job", r.Job)
	}
	if err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, p.Guest.ID)
	if err != nil {
		return nil, err
	}
	defer release()
	have, of, err := s.verify(ctx, p)
	if err != nil {
		return nil, err
	}
	seed, err := s.seed(p.Guest)
	if err != nil {
		return nil, err
	}
	if p.Ours() {
		if err := s.makeDisks(ctx, p, r.Job, have, of); err != nil {
			return nil, err
		}
	}
	if err := s.putSeed(p.Guest.ID, seed); err != nil {
		return nil, err
	}
	for i, name := range p.Names {
		if name == "" {
			continue
		}
		if p.Guest.Disks[i].Source, err = s.device(ctx, name); err != nil {
			return nil, err
		}
	}
	return &mistify.GuestResponse{Guest: p.Made()}, nil
}

// makeDisks makes the disks of a plan that are not there: in half, and then each
// is given its name, or all of them with one act if the guest is new.
func (s *Store) makeDisks(ctx context.Context, p *store.Plan, job string, have []dataset, of map[string]*dataset) (err error) {
	folder := store.GuestFolder(p.Guest.ID)
	old := named(have, folder)
	if !slices.ContainsFunc(p.Names, func(name string) bool { return name != "" && named(have, name) == nil }) {
		return nil
	}
	tmp := unnamed()
	if _, err := s.run(ctx, "create", "-o", "canmount=off", "--", s.full(tmp)); err != nil {
		return err
	}
	var made []string
	defer func() {
		after := context.WithoutCancel(ctx) // the caller's time may be what is over
		if err != nil {
			for _, name := range made {
				err = errors.Join(err, s.destroy(after, name, true))
			}
		}
		if err != nil || old != nil {
			err = errors.Join(err, s.destroy(after, tmp, true))
		}
		s.unlink(tmp)
	}()
	for i, name := range p.Names {
		if name == "" || named(have, name) != nil {
			continue
		}
		size, err := s.makeDisk(ctx, tmp+strings.TrimPrefix(name, folder), p.Specs[i], of[p.Specs[i].Image], job)
		if err != nil {
			return fmt.Errorf("cannot make the disk %s: %w", name, err)
		}
		p.Guest.Disks[i].Size = store.Megabytes(size)
	}
	if old == nil {
		return s.rename(ctx, tmp, folder)
	}
	for _, name := range p.Names {
		if name == "" || named(have, name) != nil {
			continue
		}
		if err := s.rename(ctx, tmp+strings.TrimPrefix(name, folder), name); err != nil {
			return err
		}
		made = append(made, name)
	}
	return nil
}

// makeDisk makes one disk for a job, of an image if there is one, and returns its
// bytes. An image that is removed meanwhile is a virt.ErrConflict.
func (s *Store) makeDisk(ctx context.Context, name string, spec store.DiskSpec, image *dataset, job string) (size int64, err error) {
	if spec.Take {
		return s.takeImage(ctx, name, spec, job)
	}
	var about []string
	if job != "" {
		about = []string{"-o", propJob + "=" + job}
	}
	if spec.Image == "" {
		return spec.Size, s.createVolume(ctx, name, spec.Size, about)
	}
	done, err := s.uses.Clone(spec.Image)
	if err != nil {
		return 0, err
	}
	defer done()
	size = max(spec.Size, image.size)
	args := append([]string{"clone"}, about...)
	if size > image.size {
		args = append(args, "-o", "volsize="+strconv.FormatInt(size, 10))
	}
	if s.o.Reserve {
		args = append(args, "-o", "refreservation="+strconv.FormatInt(size, 10))
	}
	_, err = s.run(ctx, append(args, "--", s.full(imageSnapshot(spec.Image)), s.full(name))...)
	if errors.Is(err, virt.ErrNotFound) {
		if err = s.parentThere(ctx, name, err); err == nil {
			err = store.NoImageYet(spec.Image)
		}
	}
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
	folder := store.GuestFolder(id)
	list, err := s.list(ctx, folder, 1, filesystem, volume)
	if err != nil {
		return nil, err
	}
	if named(list, folder) != nil {
		if err := s.idle(list); err != nil {
			return nil, err
		}
		if err := s.removeWhole(ctx, folder); err != nil {
			return nil, err
		}
	}
	if err := s.dropSeed(id); err != nil {
		return nil, err
	}
	return &mistify.GuestResponse{Guest: s.forget(r.Guest, id)}, nil
}

// removeWhole removes a dataset with all that is below it: it is gone as a whole,
// or not at all.
func (s *Store) removeWhole(ctx context.Context, name string) error {
	tmp := unnamed()
	if err := s.rename(ctx, name, tmp); err != nil {
		return err
	}
	s.unlink(name)
	return s.destroy(ctx, tmp, true)
}

// idle refuses volumes that somebody has open.
func (s *Store) idle(list []dataset) error {
	for _, d := range list {
		if d.kind != volume {
			continue
		}
		by, err := s.user(d.name)
		if err != nil {
			return err
		}
		if by != "" {
			return fmt.Errorf("%w: %s is in use by %s: stop it first", virt.ErrBusy, d.name, by)
		}
	}
	return nil
}
