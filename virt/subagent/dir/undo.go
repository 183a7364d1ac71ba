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

// madeFor is made.json: the files that were made for a job, or were to be.
type madeFor struct {
	Job   string   `json:"job"`
	Files []string `json:"files"` // in the guest's folder
}

func madeFile(guest string) string { return store.GuestFolder(guest) + "/made.json" }

// making writes down for which job files are made that are not there yet. The
// caller holds the guest.
func (s *Store) making(guest, job string, files []string) error {
	if job == "" || len(files) == 0 {
		return nil
	}
	m, err := s.made(guest, job)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f = strings.TrimPrefix(f, store.GuestFolder(guest)+"/"); !slices.Contains(m.Files, f) {
			m.Files = append(m.Files, f)
		}
	}
	return s.write(madeFile(guest), m)
}

// made reads what was made for a job; nothing if the last one was another.
func (s *Store) made(guest, job string) (madeFor, error) {
	m := madeFor{}
	err := s.read(madeFile(guest), &m)
	if errors.Is(err, fs.ErrNotExist) || err == nil && m.Job != job {
		return madeFor{Job: job}, nil
	}
	return m, err
}

// UndoGuestDisks removes what CreateGuestDisks made for this job of the agent, and
// nothing that was there before.
func (s *Store) UndoGuestDisks(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	if r.Guest == nil || r.Job == "" {
		return nil, fmt.Errorf("%w: the request has no guest or no job", virt.ErrInvalid)
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
	m, err := s.made(id, r.Job)
	if err != nil {
		return nil, err
	}
	have, err := s.disks(id)
	if err != nil {
		return nil, err
	}
	made := func(d disk) bool {
		return slices.Contains(m.Files, strings.TrimPrefix(d.name, store.GuestFolder(id)+"/"))
	}
	stay := slices.DeleteFunc(slices.Clone(have), made)
	if err := s.idle(id, slices.DeleteFunc(have, func(d disk) bool { return !made(d) })); err != nil {
		return nil, err
	}
	if len(stay) == 0 && len(m.Files) > 0 {
		if err := s.remove(store.GuestFolder(id)); err != nil {
			return nil, err
		}
		return &mistify.GuestResponse{Guest: s.forget(r.Guest, id)}, nil
	}
	g := r.Guest.Clone()
	for _, f := range m.Files {
		if !validMade(f) {
			return nil, fmt.Errorf("%w: %s names %.100q, which is no file of a guest", virt.ErrConflict, s.path(madeFile(id)), f)
		}
		name := store.GuestFolder(id) + "/" + f
		if err := s.remove(name); err != nil {
			return nil, err
		}
		for i := range g.Disks {
			if g.Disks[i].Source == s.path(name) {
				g.Disks[i].Volume, g.Disks[i].Source = "", ""
			}
		}
		if g.CloudInit.Disk == s.path(name) {
			g.CloudInit.Disk = ""
		}
	}
	if len(m.Files) > 0 {
		err = s.remove(madeFile(id))
	}
	// An empty folder is what a process leaves that was killed before anything else.
	_ = s.root.Remove(store.GuestFolder(id))
	return &mistify.GuestResponse{Guest: g}, err
}

func validMade(file string) bool {
	return fs.ValidPath(file) && !strings.Contains(file, "/") && (strings.HasPrefix(file, "disk-") || file == seedName)
}
