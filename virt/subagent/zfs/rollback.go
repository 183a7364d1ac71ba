package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Words before the name of a snapshot in vagoth:pending: whether snapshots that
// are newer may be destroyed.
const (
	backOver = "over:"
	backOnly = "only:"
)

// RollbackSnapshot puts a disk, or all disks of a guest, back to what they held.
// The guest does not run. Newer snapshots are in its way unless they may be
// destroyed.
func (s *Store) RollbackSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		m := sh.marker(at.Name)
		if at.Disk == "" && len(disks) != len(m.disks) {
			return nil, fmt.Errorf("%w: a disk of the snapshot %s is gone, or its part of it: roll back the others one by one", virt.ErrConflict, at)
		}
		newer := sh.newer(at, disks)
		if len(newer) > 0 && !r.DestroyMoreRecent {
			return nil, store.NewerSnapshots(at, newer)
		}
		if err := s.idleDisks(disks); err != nil {
			return nil, err
		}
		about := sh.wire(at.Disk == "", disks, at.Name)
		if at.Disk != "" {
			return about, s.rollback(ctx, disks[0].name, at.Name, r.DestroyMoreRecent)
		}
		word := backOnly
		if r.DestroyMoreRecent {
			word = backOver
		}
		folder := store.GuestFolder(at.Guest)
		if _, err := s.run(ctx, "set", propPending+"="+word+at.Name, "--", s.full(folder)); err != nil {
			return nil, err
		}
		if err := s.rollbackAll(ctx, folder, disks, at.Name, r.DestroyMoreRecent); err != nil {
			return nil, fmt.Errorf("the rollback to %s did not end, and is gone on with by the next call: %w", at, err)
		}
		return about, nil
	})
}

// newer returns the names of snapshots that are newer than one.
func (sh *shelf) newer(at mistify.SnapshotID, disks []disk) (names []string) {
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if at.Disk == "" {
		since := sh.marker(at.Name).txg
		for _, m := range sh.whole {
			if m.txg > since {
				add(m.name)
			}
		}
	}
	for _, d := range disks {
		since := d.snap(at.Name).txg
		for _, snap := range d.snaps {
			if snap.txg > since {
				add(snap.name)
			}
		}
	}
	return names
}

func (s *Store) idleDisks(disks []disk) error {
	list := make([]dataset, len(disks))
	for i, d := range disks {
		list[i] = d.dataset
	}
	return s.idle(list)
}

// rollbackAll puts all disks of a guest back. It can be called again from any
// point at which an earlier call ended.
func (s *Store) rollbackAll(ctx context.Context, folder string, disks []disk, name string, over bool) error {
	for _, d := range disks {
		if err := s.rollback(ctx, d.name, name, over); err != nil {
			return err
		}
	}
	// The dataset of the guest holds nothing; its newer snapshots go.
	if err := s.rollback(ctx, folder, name, over); err != nil {
		return err
	}
	_, err := s.run(ctx, "inherit", propPending, "--", s.full(folder))
	return err
}

// rollback puts one dataset back. Who looks at a device for a moment is waited
// for.
func (s *Store) rollback(ctx context.Context, of, name string, over bool) error {
	args := []string{"rollback"}
	if over {
		args = append(args, "-r")
	}
	args = append(args, "--", s.full(of+"@"+name))
	var err error
	if late := s.patient(ctx, func() bool {
		_, err = s.run(ctx, args...)
		return !errors.Is(err, virt.ErrBusy)
	}); late != nil && err == nil {
		err = late
	}
	return err
}

// recover brings a rollback of a guest that did not end to its end. The caller
// holds the guest, or is alone.
func (s *Store) recover(ctx context.Context, sh *shelf) error {
	over := strings.HasPrefix(sh.pending, backOver)
	name := strings.TrimPrefix(strings.TrimPrefix(sh.pending, backOver), backOnly)
	at := mistify.SnapshotID{Guest: sh.guest, Name: name}
	if err := mistify.CheckSnapshotName(name); err != nil {
		return fmt.Errorf("guest %s has a rollback begun that cannot be understood: zfs inherit %s %s: %w", sh.guest, propPending, s.full(store.GuestFolder(sh.guest)), err)
	}
	disks, err := sh.having(at)
	if err == nil {
		err = s.idleDisks(disks)
	}
	if err == nil {
		err = s.rollbackAll(ctx, store.GuestFolder(sh.guest), disks, name, over)
	}
	if err != nil {
		return fmt.Errorf("the rollback to %s did not end, and cannot: %w", at, err)
	}
	s.o.Log.Info("a rollback that did not end was brought to its end", "guest", sh.guest, "snapshot", name)
	return nil
}

// recoverAll does it for all guests, as far as it can be done.
func (s *Store) recoverAll(ctx context.Context, have []dataset) error {
	for _, d := range have {
		guest, below := strings.CutPrefix(d.name, guests+"/")
		if !below || d.kind != filesystem || d.pending == "" {
			continue
		}
		sh, err := s.shelf(ctx, guest)
		if err == nil {
			err = s.recover(ctx, sh)
		}
		if err != nil {
			s.o.Log.Error("what did not end is still there", "dataset", s.full(d.name), "error", err)
		}
	}
	return ctx.Err()
}
