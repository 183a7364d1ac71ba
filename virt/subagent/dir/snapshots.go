package dir

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// prefix begins the names of our snapshots inside of files.
const prefix = "snap-"

// shelf is what there is of a guest's snapshots.
type shelf struct {
	guest string
	disks []shelved
	all   map[string][]int // by name, the snapshots of the whole guest: the numbers of its disks then
}

// shelved is a disk with its snapshots, oldest first.
type shelved struct {
	disk
	size  int64
	names []string
}

func markers(guest string) string { return store.GuestFolder(guest) + "/snapshots" }

// marker is a snapshot of a whole guest.
type marker struct {
	Disks []int `json:"disks"`
}

// shelf reads the snapshots of a guest.
func (s *Store) shelf(ctx context.Context, guest string) (*shelf, error) {
	there, err := s.there(store.GuestFolder(guest))
	if err == nil && !there {
		err = store.NoDisks(guest)
	}
	if err != nil {
		return nil, err
	}
	disks, err := s.disks(guest)
	if err != nil {
		return nil, err
	}
	sh := &shelf{guest: guest, all: map[string][]int{}}
	for _, d := range disks {
		one := shelved{disk: d}
		if d.format == qcow2 {
			i, err := s.qemu.Info(ctx, s.path(d.name), qcow2)
			if err != nil {
				return nil, err
			}
			one.size = i.Size
			for _, x := range i.Snapshots {
				if name, ours := strings.CutPrefix(x.Name, prefix); ours && mistify.CheckSnapshotName(name) == nil {
					one.names = append(one.names, name)
				}
			}
		}
		sh.disks = append(sh.disks, one)
	}
	names, err := s.list(markers(guest))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		m := marker{}
		if err := s.read(markers(guest)+"/"+name, &m); err != nil {
			return nil, err
		}
		sh.all[name] = m.Disks
	}
	return sh, nil
}

// of returns the disks that an id is about: one, or all.
func (sh *shelf) of(at mistify.SnapshotID) ([]shelved, error) {
	if at.Disk == "" {
		return sh.disks, nil
	}
	for _, d := range sh.disks {
		if strconv.Itoa(d.n) == at.Disk {
			return []shelved{d}, nil
		}
	}
	return nil, fmt.Errorf("%w: disk %.32q of guest %s", virt.ErrNotFound, at.Disk, sh.guest)
}

// having returns the disks that have the snapshot, all that it is of.
func (sh *shelf) having(at mistify.SnapshotID) ([]shelved, error) {
	disks, err := sh.of(at)
	if err != nil {
		return nil, err
	}
	numbers, known := sh.all[at.Name]
	if at.Disk == "" && !known {
		return nil, store.NoSnapshot(at)
	}
	var found []shelved
	for _, d := range disks {
		if slices.Contains(d.names, at.Name) && (at.Disk != "" || slices.Contains(numbers, d.n)) {
			found = append(found, d)
		}
	}
	if at.Disk != "" && len(found) == 0 {
		return nil, store.NoSnapshot(at)
	}
	return found, nil
}

// wire lists snapshots of disks, and of the guest if whole, as the wire has it;
// of one name if there is one.
func (sh *shelf) wire(whole bool, disks []shelved, name string) *mistify.SnapshotResponse {
	out := &mistify.SnapshotResponse{Snapshots: []mistify.Snapshot{}}
	add := func(disk, name string, size int64) {
		id := mistify.SnapshotID{Guest: sh.guest, Disk: disk, Name: name}
		out.Snapshots = append(out.Snapshots, mistify.Snapshot{ID: id.String(), Size: store.Megabytes(size)})
	}
	var names []string
	for _, d := range disks {
		for _, n := range d.names {
			if (name == "" || n == name) && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	for _, n := range names {
		if _, known := sh.all[n]; known && whole {
			add("", n, 0)
		}
		for _, d := range disks {
			if slices.Contains(d.names, n) {
				add(strconv.Itoa(d.n), n, d.size)
			}
		}
	}
	return out
}

// onShelf reads an id and runs do with the guest's snapshots, alone and with
// nothing half done.
func (s *Store) onShelf(ctx context.Context, id string, named bool, do func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error)) (*mistify.SnapshotResponse, error) {
	at, err := mistify.ParseSnapshotID(id)
	if err != nil {
		return nil, err
	}
	if named && at.Name == "" {
		return nil, fmt.Errorf("%w: %.200q names no snapshot: it must end in @NAME", virt.ErrInvalid, id)
	}
	release, err := s.locks.Hold(ctx, at.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.recover(ctx, at.Guest); err != nil {
		return nil, err
	}
	sh, err := s.shelf(ctx, at.Guest)
	if err != nil {
		return nil, err
	}
	return do(sh, at)
}

// ListSnapshots lists the snapshots of a guest with those of its disks, or of
// one disk.
func (s *Store) ListSnapshots(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, false, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.of(at)
		if err != nil {
			return nil, err
		}
		return sh.wire(at.Disk == "", disks, at.Name), nil
	})
}

// GetSnapshot looks at one snapshot.
func (s *Store) GetSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		out := sh.wire(at.Disk == "", disks, at.Name)
		out.Snapshots = out.Snapshots[:min(1, len(out.Snapshots))]
		return out, nil
	})
}

// CreateSnapshot makes a snapshot of a disk, or of all disks of a guest together:
// of all of them or of none. A guest that runs needs Options.Live for that.
func (s *Store) CreateSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, false, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		if at.Name == "" {
			at.Name = r.Dest
		}
		if err := mistify.CheckSnapshotName(at.Name); err != nil {
			return nil, err
		}
		disks, err := sh.of(at)
		if err != nil {
			return nil, err
		}
		if _, taken := sh.all[at.Name]; taken && at.Disk == "" {
			return nil, store.SnapshotTaken(at)
		}
		if len(disks) == 0 {
			return nil, store.NoDisks(at.Guest)
		}
		for _, d := range disks {
			switch {
			case d.format != qcow2:
				return nil, fmt.Errorf("%w: disk %d of guest %s is raw, of which there are no snapshots", virt.ErrUnsupported, d.n, at.Guest)
			case slices.Contains(d.names, at.Name):
				return nil, store.SnapshotTaken(mistify.SnapshotID{Guest: at.Guest, Disk: strconv.Itoa(d.n), Name: at.Name})
			case len(d.names) >= store.MaxSnapshots:
				return nil, fmt.Errorf("%w: disk %d of guest %s has %d snapshots, which is the limit: delete some", virt.ErrConflict, d.n, at.Guest, store.MaxSnapshots)
			}
		}
		return s.change(ctx, sh, pendingChange{Do: doCreate, Name: at.Name, Whole: at.Disk == "", Disks: numbersOf(disks)})
	})
}

// DeleteSnapshot removes a snapshot of a disk, or of a guest with those of its
// disks.
func (s *Store) DeleteSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		return s.change(ctx, sh, pendingChange{Do: doDelete, Name: at.Name, Whole: at.Disk == "", Disks: numbersOf(disks)})
	})
}

// RollbackSnapshot puts a disk, or all disks of a guest, back to what they held.
// The guest does not run. Newer snapshots are in its way unless they may be
// destroyed.
func (s *Store) RollbackSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		if at.Disk == "" && len(disks) != len(sh.all[at.Name]) {
			return nil, fmt.Errorf("%w: a disk of the snapshot %s is gone, or its part of it: roll back the others one by one", virt.ErrConflict, at)
		}
		var newer []string
		for _, d := range disks {
			for _, name := range d.names[slices.Index(d.names, at.Name)+1:] {
				if !slices.Contains(newer, name) {
					newer = append(newer, name)
				}
			}
		}
		if len(newer) > 0 && !r.DestroyMoreRecent {
			return nil, store.NewerSnapshots(at, newer)
		}
		return s.change(ctx, sh, pendingChange{Do: doRollback, Name: at.Name, Whole: at.Disk == "", Disks: numbersOf(disks), Newer: newer})
	})
}

func numbersOf(disks []shelved) (numbers []int) {
	for _, d := range disks {
		numbers = append(numbers, d.n)
	}
	return numbers
}
