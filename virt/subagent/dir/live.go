package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent"
)

// apart splits disks into those that nobody has open, whose snapshots qemu-img
// makes, and those that QEMU has open, where only that can do it.
func (s *Store) apart(disks []shelved) (idle, open []shelved, err error) {
	for _, d := range disks {
		busy, err := s.busy(d.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case busy:
			open = append(open, d)
		default:
			idle = append(idle, d)
		}
	}
	return idle, open, nil
}

// changeable refuses a change of disks that are in use and cannot be changed so.
func (s *Store) changeable(guest string, c pendingChange, disks []shelved) error {
	if s.o.Live != nil && c.Do != doRollback {
		return nil
	}
	return s.idle(guest, plainDisks(disks))
}

// applyLive does the part of a change that is of disks in use.
func (s *Store) applyLive(ctx context.Context, guest string, open []shelved, c pendingChange, back bool) error {
	if len(open) == 0 {
		return nil
	}
	if err := s.changeable(guest, c, open); err != nil {
		return err
	}
	about := subagent.LiveSnapshot{Guest: guest, Name: prefix + c.Name}
	for _, d := range open {
		about.Files = append(about.Files, s.path(d.name))
	}
	var err error
	if c.Do == doCreate && !back {
		err = s.o.Live.SnapshotLive(ctx, about)
	} else {
		err = s.o.Live.DropLive(ctx, about)
	}
	if errors.Is(err, virt.ErrNotFound) {
		err = fmt.Errorf("%w: the disk %s of guest %s is in use, and not by the guest where it should run: stop it first (%w)", virt.ErrBusy, open[0].name, guest, err)
	}
	return err
}
