package zfs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// shelf is what there is of a guest's snapshots.
type shelf struct {
	guest   string
	pending string
	disks   []disk
	whole   []marker // oldest first
}

// disk is a disk with its snapshots, oldest first.
type disk struct {
	dataset
	n     int
	snaps []dataset // named by their last word only
}

// marker is a snapshot of a whole guest: the parts of its disks were made in the
// same transaction.
type marker struct {
	name  string
	txg   uint64
	disks []int
}

func (d disk) snap(name string) *dataset { return named(d.snaps, name) }

func (sh *shelf) marker(name string) *marker {
	if i := slices.IndexFunc(sh.whole, func(m marker) bool { return m.name == name }); i >= 0 {
		return &sh.whole[i]
	}
	return nil
}

// shelf reads the snapshots of a guest.
func (s *Store) shelf(ctx context.Context, guest string) (*shelf, error) {
	folder := store.GuestFolder(guest)
	list, err := s.list(ctx, folder, 2, filesystem, volume, snapshot)
	if err != nil {
		return nil, err
	}
	sh := &shelf{guest: guest}
	top := named(list, folder)
	if top == nil {
		return nil, store.NoDisks(guest)
	}
	sh.pending = top.pending
	for _, d := range list {
		if n, ok := diskOf(guest, d.name); ok && d.kind == volume {
			sh.disks = append(sh.disks, disk{dataset: d, n: n})
		}
	}
	slices.SortFunc(sh.disks, func(a, b disk) int { return a.n - b.n })
	for _, d := range list {
		of, name, _ := strings.Cut(d.name, "@")
		if d.kind != snapshot || mistify.CheckSnapshotName(name) != nil {
			continue
		}
		if of == folder {
			sh.whole = append(sh.whole, marker{name: name, txg: d.txg, disks: numbers(d.disks)})
			continue
		}
		if i := slices.IndexFunc(sh.disks, func(one disk) bool { return one.name == of }); i >= 0 {
			d.name = name
			sh.disks[i].snaps = append(sh.disks[i].snaps, d)
		}
	}
	slices.SortFunc(sh.whole, func(a, b marker) int { return cmp.Compare(a.txg, b.txg) })
	for _, d := range sh.disks {
		slices.SortFunc(d.snaps, func(a, b dataset) int { return cmp.Compare(a.txg, b.txg) })
	}
	return sh, nil
}

// numbers reads vagoth:disks. A snapshot that somebody else made has none.
func numbers(text string) (list []int) {
	for word := range strings.SplitSeq(text, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// of returns the disks that an id is about: one, or all.
func (sh *shelf) of(at mistify.SnapshotID) ([]disk, error) {
	if at.Disk == "" {
		return sh.disks, nil
	}
	for _, d := range sh.disks {
		if strconv.Itoa(d.n) == at.Disk {
			return []disk{d}, nil
		}
	}
	return nil, fmt.Errorf("%w: disk %.32q of guest %s", virt.ErrNotFound, at.Disk, sh.guest)
}

// having returns the disks that have the snapshot, all that it is of.
func (sh *shelf) having(at mistify.SnapshotID) (found []disk, err error) {
	disks, err := sh.of(at)
	if err != nil {
		return nil, err
	}
	m := sh.marker(at.Name)
	if at.Disk == "" && m == nil {
		return nil, store.NoSnapshot(at)
	}
	for _, d := range disks {
		if snap := d.snap(at.Name); snap != nil && (at.Disk != "" || snap.txg == m.txg) {
			found = append(found, d)
		}
	}
	if at.Disk != "" && len(found) == 0 {
		return nil, store.NoSnapshot(at)
	}
	return found, nil
}

// wire lists snapshots of disks, and of the guest if whole, as the wire has it,
// oldest first; of one name if there is one.
func (sh *shelf) wire(whole bool, disks []disk, name string) *mistify.SnapshotResponse {
	type row struct {
		txg  uint64
		disk int
		snap mistify.Snapshot
	}
	var rows []row
	add := func(txg uint64, n int, disk, name string, size int64) {
		id := mistify.SnapshotID{Guest: sh.guest, Disk: disk, Name: name}
		rows = append(rows, row{txg, n, mistify.Snapshot{ID: id.String(), Size: store.Megabytes(size)}})
	}
	if whole {
		for _, m := range sh.whole {
			if name == "" || m.name == name {
				add(m.txg, -1, "", m.name, 0)
			}
		}
	}
	for _, d := range disks {
		for _, snap := range d.snaps {
			if name == "" || snap.name == name {
				add(snap.txg, d.n, strconv.Itoa(d.n), snap.name, snap.size)
			}
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.txg, b.txg), a.disk-b.disk) })
	out := &mistify.SnapshotResponse{Snapshots: []mistify.Snapshot{}}
	for _, r := range rows {
		out.Snapshots = append(out.Snapshots, r.snap)
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
	sh, err := s.shelf(ctx, at.Guest)
	if err != nil {
		return nil, err
	}
	if sh.pending != "" {
		if err := s.recover(ctx, sh); err != nil {
			return nil, err
		}
		if sh, err = s.shelf(ctx, at.Guest); err != nil {
			return nil, err
		}
	}
	return do(sh, at)
}

// ListSnapshots lists the snapshots of a guest with those of its disks, or of one
// disk.
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

// CreateSnapshot makes a snapshot of a disk, or of all disks of a guest together,
// with one act of ZFS. The guest may run: a disk holds what it would after a power
// cut then.
func (s *Store) CreateSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, false, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		if at.Name == "" {
			at.Name = r.Dest
		}
		disks, err := sh.mayTake(at)
		if err != nil {
			return nil, err
		}
		args := []string{"snapshot"}
		of := disks[0].name
		if at.Disk == "" {
			of = store.GuestFolder(at.Guest)
			args = append(args, "-r", "-o", propDisks+"="+listed(disks))
		}
		if _, err := s.run(ctx, append(args, "--", s.full(of+"@"+at.Name))...); err != nil {
			return nil, err
		}
		if sh, err = s.shelf(ctx, at.Guest); err != nil {
			return nil, err
		}
		if disks, err = sh.having(at); err != nil {
			return nil, err
		}
		return sh.wire(at.Disk == "", disks, at.Name), nil
	})
}

// mayTake refuses a snapshot that cannot be made. A name is of one snapshot of the
// guest: the parts of one that is gone in part are not made up by others.
func (sh *shelf) mayTake(at mistify.SnapshotID) ([]disk, error) {
	if err := mistify.CheckSnapshotName(at.Name); err != nil {
		return nil, err
	}
	disks, err := sh.of(at)
	if err != nil {
		return nil, err
	}
	if sh.marker(at.Name) != nil {
		return nil, store.SnapshotTaken(mistify.SnapshotID{Guest: at.Guest, Name: at.Name})
	}
	if len(disks) == 0 {
		return nil, store.NoDisks(at.Guest)
	}
	for _, d := range disks {
		switch {
		case d.snap(at.Name) != nil:
			return nil, store.SnapshotTaken(mistify.SnapshotID{Guest: at.Guest, Disk: strconv.Itoa(d.n), Name: at.Name})
		case len(d.snaps) >= store.MaxSnapshots:
			return nil, fmt.Errorf("%w: disk %d of guest %s has %d snapshots, which is the limit: delete some", virt.ErrConflict, d.n, at.Guest, len(d.snaps))
		}
	}
	return disks, nil
}

func listed(disks []disk) string {
	words := make([]string, len(disks))
	for i, d := range disks {
		words[i] = strconv.Itoa(d.n)
	}
	return strings.Join(words, ",")
}

// DeleteSnapshot removes a snapshot of a disk, or of a guest with those of its
// disks, with one act of ZFS.
func (s *Store) DeleteSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	return s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		disks, err := sh.having(at)
		if err != nil {
			return nil, err
		}
		of := store.GuestFolder(at.Guest)
		if at.Disk != "" {
			of = disks[0].name
		}
		if err := s.destroy(ctx, of+"@"+at.Name, at.Disk == ""); err != nil {
			return nil, err
		}
		return sh.wire(at.Disk == "", disks, at.Name), nil
	})
}
