package zfs

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// UndoGuestDisks removes what CreateGuestDisks made for this job of the agent, and
// nothing that was there before. Each disk has the job in a property that it is
// made with.
func (s *Store) UndoGuestDisks(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	if r.Guest == nil || r.Job == "" {
		return nil, fmt.Errorf("%w: the request has no guest or no job", virt.ErrInvalid)
	}
	id, err := mistify.ParseGuestID(r.Guest.ID)
	if err == nil {
		err = store.CheckName("job", r.Job)
	}
	if err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	folder := store.GuestFolder(id)
	have, err := s.list(ctx, folder, 1, filesystem, volume)
	if err != nil {
		return nil, err
	}
	var made []dataset
	stay := 0
	for _, d := range have {
		switch {
		case d.kind != volume:
		case d.job == r.Job:
			made = append(made, d)
		default:
			stay++
		}
	}
	if err := s.idle(made); err != nil {
		return nil, err
	}
	if stay == 0 {
		if len(made) > 0 {
			if err := s.removeWhole(ctx, folder); err != nil {
				return nil, err
			}
		}
		if err := s.dropSeed(id); err != nil {
			return nil, err
		}
		return &mistify.GuestResponse{Guest: s.forget(r.Guest, id)}, nil
	}
	g := r.Guest.Clone()
	for _, d := range made {
		if err := s.removeWhole(ctx, d.name); err != nil {
			return nil, err
		}
		for i := range g.Disks {
			if g.Disks[i].Volume == d.name {
				g.Disks[i].Volume, g.Disks[i].Source = "", ""
			}
		}
	}
	return &mistify.GuestResponse{Guest: g}, nil
}
