package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// File is a disk of a guest that somebody else names, makes and removes: a file
// in the store's own directory.
type File struct {
	Name   string `json:"name"`
	Format string `json:"format"`
}

// adoption is adopted.json: the disks of a guest that are not called as the store
// calls its own.
type adoption struct {
	Files []adoptedFile `json:"files"`
}

// adoptedFile is one of them. One that the guest has not now keeps its number for
// as long as the file is there: a snapshot of all disks goes by it.
type adoptedFile struct {
	File
	N    int  `json:"n"`
	Away bool `json:"away,omitempty"`
}

func adoptedName(guest string) string { return store.GuestFolder(guest) + "/adopted.json" }

// FolderOf is where in the store it says what is known of a guest.
func FolderOf(guest string) string { return store.GuestFolder(guest) }

// Adopt says which files are the disks of a guest, instead of any that were said
// before. It returns the numbers that the snapshots know them by, in their order.
// None of them need be there yet.
func (s *Store) Adopt(ctx context.Context, guest string, files []File) (numbers []int, err error) {
	for _, f := range files {
		if err := s.checkFile(f); err != nil {
			return nil, err
		}
	}
	release, err := s.locks.Hold(ctx, guest)
	if err != nil {
		return nil, err
	}
	defer release()
	old, err := s.adopted(guest)
	if err != nil {
		return nil, err
	}
	next := adoption{}
	taken := 0
	for _, f := range old.Files {
		taken = max(taken, f.N+1)
		if there, err := s.there(f.Name); err != nil {
			return nil, err
		} else if there && !slices.Contains(files, f.File) {
			f.Away = true
			next.Files = append(next.Files, f)
		}
	}
	for _, f := range files {
		i := slices.IndexFunc(old.Files, func(o adoptedFile) bool { return o.File == f })
		n := taken
		if i >= 0 {
			n = old.Files[i].N
		} else {
			taken++
		}
		numbers = append(numbers, n)
		next.Files = append(next.Files, adoptedFile{File: f, N: n})
	}
	slices.SortFunc(next.Files, func(a, b adoptedFile) int { return a.N - b.N })
	if slices.Equal(old.Files, next.Files) {
		return numbers, nil
	}
	if err := s.mkdir(store.GuestFolder(guest)); err != nil {
		return nil, err
	}
	return numbers, s.write(adoptedName(guest), next)
}

func (s *Store) checkFile(f File) error {
	reserved := slices.Contains([]string{images, guests, volumes, incoming, half, lockName}, f.Name)
	if !fs.ValidPath(f.Name) || strings.ContainsAny(f.Name, "/,") || f.Name == "." || reserved || len(f.Name) > 255 || f.Format != qcow2 && f.Format != raw {
		return fmt.Errorf("%w: %.100q of the format %.20q can be no disk in %s: call it otherwise, qcow2 or raw", virt.ErrInvalid, f.Name, f.Format, s.dir)
	}
	return nil
}

// adopted reads which files are the disks of a guest.
func (s *Store) adopted(guest string) (a adoption, err error) {
	err = s.read(adoptedName(guest), &a)
	if errors.Is(err, fs.ErrNotExist) {
		return adoption{}, nil
	}
	for _, f := range a.Files {
		err = errors.Join(err, s.checkFile(f.File))
	}
	return a, err
}

// Release forgets the disks of a guest that are gone, with all that is known of
// the guest once no disk of it is left.
func (s *Store) Release(ctx context.Context, guest string) error {
	release, err := s.locks.Hold(ctx, guest)
	if err != nil {
		return err
	}
	defer release()
	old, err := s.adopted(guest)
	if err != nil || len(old.Files) == 0 {
		return err
	}
	left := slices.Clone(old.Files)
	for _, f := range old.Files {
		there, err := s.there(f.Name)
		if err != nil {
			return err
		}
		if !there {
			left = slices.DeleteFunc(left, func(o adoptedFile) bool { return o == f })
		}
	}
	switch {
	case len(left) == 0:
		return s.remove(store.GuestFolder(guest))
	case len(left) == len(old.Files):
		return nil
	}
	return s.write(adoptedName(guest), adoption{Files: left})
}

// MakeFile makes a disk that was adopted, of an image, if it is not there. What is
// there is never overwritten: anything but a clone of that image is a
// virt.ErrConflict.
func (s *Store) MakeFile(ctx context.Context, guest string, f File, image string, size uint64) error {
	err := s.checkFile(f)
	if err == nil {
		err = store.CheckImage(image)
	}
	if err == nil && size > s.o.MaxSize {
		err = fmt.Errorf("%w: the disk %s would have %d MB, at most %d are made", virt.ErrInvalid, f.Name, size, s.o.MaxSize)
	}
	if err != nil {
		return err
	}
	release, err := s.locks.Hold(ctx, guest)
	if err != nil {
		return err
	}
	defer release()
	there, err := s.there(f.Name)
	if err != nil {
		return err
	}
	if !there {
		_, err := s.makeDisk(ctx, f.Name, store.DiskSpec{Image: image, Format: f.Format, Size: int64(size) << 20})
		return err
	}
	if f.Format == raw {
		return nil // it does not say what it began as
	}
	h, err := s.header(f.Name)
	if err == nil && !s.cloneOf(h, image) {
		err = fmt.Errorf("%w: the disk %s is there already, and no clone of the image %s", virt.ErrConflict, f.Name, image)
	}
	return err
}

// adoptedDisks are those that are there.
func (s *Store) adoptedDisks(guest string) (found []disk, err error) {
	a, err := s.adopted(guest)
	if err != nil {
		return nil, err
	}
	for _, f := range a.Files {
		there, err := s.there(f.Name)
		if err != nil {
			return nil, err
		}
		if there && !f.Away {
			found = append(found, disk{n: f.N, name: f.Name, format: f.Format})
		}
	}
	return found, nil
}

// adoptedFiles are the qcow2 files of all guests, also those that are away.
func (s *Store) adoptedFiles() (names []string, err error) {
	ids, err := s.list(guests)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := mistify.ParseGuestID(id); err != nil {
			continue
		}
		a, err := s.adopted(id)
		if err != nil {
			return nil, err
		}
		for _, f := range a.Files {
			if f.Format == qcow2 {
				names = append(names, f.Name)
			}
		}
	}
	return names, nil
}
