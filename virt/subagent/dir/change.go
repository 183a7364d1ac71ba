package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// What a change does.
const (
	doCreate   = "create"
	doDelete   = "delete"
	doRollback = "rollback"
)

// pendingChange is pending.json: a change of several files that was begun.
type pendingChange struct {
	Do    string   `json:"do"`
	Name  string   `json:"name"`
	Whole bool     `json:"whole"` // it is of the guest, and not of one disk
	Disks []int    `json:"disks"`
	Newer []string `json:"newer,omitempty"` // what a rollback destroys
}

func pendingFile(guest string) string { return store.GuestFolder(guest) + "/pending.json" }

// change does a change of a guest's snapshots, which is written down first. The
// caller holds the guest. It answers the snapshots that the change is about.
func (s *Store) change(ctx context.Context, sh *shelf, c pendingChange) (*mistify.SnapshotResponse, error) {
	disks := sh.numbered(c.Disks)
	if err := errors.Join(s.changeable(sh.guest, c, disks), s.unread(sh.guest, c, disks)); err != nil {
		return nil, err
	}
	if err := s.write(pendingFile(sh.guest), c); err != nil {
		return nil, err
	}
	about := sh.wire(c.Whole, disks, c.Name)
	err := s.apply(ctx, sh, c, false)
	if err == nil {
		err = s.remove(pendingFile(sh.guest))
	} else if c.Do == doCreate {
		// The caller's time may be what is over.
		err = errors.Join(err, s.recover(context.WithoutCancel(ctx), sh.guest))
	}
	if err != nil && c.Do != doCreate {
		return nil, fmt.Errorf("the %s of the snapshot %s did not end, and is gone on with by the next call: %w", c.Do, c.Name, err)
	}
	if err != nil {
		return nil, err
	}
	if c.Do == doCreate {
		if sh, err = s.shelf(ctx, sh.guest); err != nil {
			return nil, err
		}
		about = sh.wire(c.Whole, sh.numbered(c.Disks), c.Name)
	}
	return about, nil
}

// apply does a change, or takes it back. It can be called again from any point at
// which an earlier call ended.
func (s *Store) apply(ctx context.Context, sh *shelf, c pendingChange, back bool) error {
	file := markers(sh.guest) + "/" + c.Name
	if c.Whole && (c.Do == doDelete || back) {
		if err := s.remove(file); err != nil {
			return err
		}
	}
	idle, open, err := s.apart(sh.numbered(c.Disks))
	if err == nil {
		err = s.applyLive(ctx, sh.guest, open, c, back)
	}
	if err != nil {
		return err
	}
	for _, d := range idle {
		if err := s.applyTo(ctx, d, c, back); err != nil {
			return err
		}
	}
	if c.Whole && c.Do == doCreate && !back {
		if err := s.mkdir(markers(sh.guest)); err != nil {
			return err
		}
		if err := s.write(file, marker{Disks: c.Disks}); err != nil {
			return err
		}
	}
	if c.Whole && c.Do == doRollback {
		for _, name := range c.Newer {
			if err := s.remove(markers(sh.guest) + "/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyTo does the part of a change that is one disk's.
func (s *Store) applyTo(ctx context.Context, d shelved, c pendingChange, back bool) error {
	switch {
	case c.Do == doCreate && !back:
		return s.qemu.Snapshot(ctx, s.path(d.name), "-c", prefix+c.Name)
	case c.Do == doCreate || c.Do == doDelete:
		return s.drop(ctx, d, c.Name)
	case !slices.Contains(d.names, c.Name):
		return fmt.Errorf("%w: disk %d has no snapshot %s any more", virt.ErrConflict, d.n, c.Name)
	}
	if err := s.qemu.Snapshot(ctx, s.path(d.name), "-a", prefix+c.Name); err != nil {
		return err
	}
	for _, name := range c.Newer {
		if err := s.drop(ctx, d, name); err != nil {
			return err
		}
	}
	return nil
}

// drop removes the snapshot of a disk if it is there now.
func (s *Store) drop(ctx context.Context, d shelved, name string) error {
	i, err := s.qemu.Info(ctx, s.path(d.name), qcow2)
	if err != nil {
		return err
	}
	for _, x := range i.Snapshots {
		if x.Name == prefix+name {
			return s.qemu.Snapshot(ctx, s.path(d.name), "-d", prefix+name)
		}
	}
	return nil
}

func (sh *shelf) numbered(numbers []int) (found []shelved) {
	for _, d := range sh.disks {
		if slices.Contains(numbers, d.n) {
			found = append(found, d)
		}
	}
	return found
}

func plainDisks(disks []shelved) (plain []disk) {
	for _, d := range disks {
		plain = append(plain, d.disk)
	}
	return plain
}

// recover brings a change of a guest that did not end to an end. The caller holds
// the guest, or is alone.
func (s *Store) recover(ctx context.Context, guest string) error {
	c := pendingChange{}
	err := s.read(pendingFile(guest), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sh, err := s.shelf(ctx, guest)
	if err != nil {
		return err
	}
	if err := s.changeable(guest, c, sh.numbered(c.Disks)); err != nil {
		return fmt.Errorf("the %s of the snapshot %s must be gone on with first: %w", c.Do, c.Name, err)
	}
	if err := s.apply(ctx, sh, c, c.Do == doCreate); err != nil {
		return fmt.Errorf("the %s of the snapshot %s did not end, and cannot: %w", c.Do, c.Name, err)
	}
	idle, _, err := s.apart(sh.numbered(c.Disks))
	if err != nil {
		return err
	}
	for _, d := range idle {
		// A qemu-img that is killed loses room in the file, which nothing else finds.
		if err := s.qemu.FindLost(ctx, s.path(d.name)); err != nil {
			return fmt.Errorf("the disk %s is damaged: %w", s.path(d.name), err)
		}
	}
	if err := s.remove(pendingFile(guest)); err != nil {
		return err
	}
	s.o.Log.Info("what did not end was brought to an end", "guest", guest, "do", c.Do, "snapshot", c.Name)
	return nil
}

// recoverAll does it for all guests, as far as it can be done.
func (s *Store) recoverAll(ctx context.Context) error {
	ids, err := s.list(guests)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.recover(ctx, id); err != nil {
			s.o.Log.Error("what did not end is still there", "guest", id, "error", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
