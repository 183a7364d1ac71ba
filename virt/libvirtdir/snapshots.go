package libvirtdir

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

// shelf is a guest with its disks in the store.
type shelf struct {
	store   *dir.Store
	info    virt.Info
	id      string   // its UUID as the store has it
	numbers []int    // of its disks in the store
	devices []string // their names in the guest
}

// shelf finds a guest that is on the host.
func (d *Driver) shelf(ctx context.Context, h virt.Host, g virt.Guest) (*shelf, error) {
	s, err := d.disks(ctx, h)
	if err != nil {
		return nil, err
	}
	info, err := d.Info(ctx, h, g)
	if err != nil {
		return nil, err
	}
	id := idOf(g)
	files, devices := own(g)
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: %.64s has no disk that was made here", virt.ErrUnsupported, g.Name)
	}
	numbers, err := s.Adopt(ctx, id, files)
	return &shelf{store: s, info: info, id: id, numbers: numbers, devices: devices}, err
}

// device is what the guest calls the disk that the store has under a number.
func (sh *shelf) device(number string) string {
	for i, n := range sh.numbers {
		if strconv.Itoa(n) == number {
			return sh.devices[i]
		}
	}
	return number
}

// Snapshots lists those of a guest, oldest first.
func (d *Driver) Snapshots(ctx context.Context, h virt.Host, g virt.Guest) ([]virt.Snapshot, error) {
	sh, err := d.shelf(ctx, h, g)
	if err != nil {
		return nil, err
	}
	out, err := sh.store.ListSnapshots(on(ctx, h), &mistify.SnapshotRequest{ID: mistify.SnapshotID{Guest: sh.id}.String()})
	if err != nil {
		return nil, err
	}
	return mistify.VirtSnapshots(sh.id, out.Snapshots, sh.device)
}

// onSnapshot finds the guest of a snapshot with a name that can be one.
func (d *Driver) onSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) (*shelf, *mistify.SnapshotRequest, error) {
	if err := virt.CheckSnapshotName(name); err != nil {
		return nil, nil, err
	}
	sh, err := d.shelf(ctx, h, g)
	if err != nil {
		return nil, nil, err
	}
	return sh, &mistify.SnapshotRequest{ID: mistify.SnapshotID{Guest: sh.id, Name: name}.String()}, nil
}

// CreateSnapshot keeps what all disks of a guest hold that were made here.
func (d *Driver) CreateSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	sh, r, err := d.onSnapshot(ctx, h, g, name)
	if err == nil {
		_, err = sh.store.CreateSnapshot(on(ctx, h), r)
	}
	return err
}

// DeleteSnapshot removes a snapshot.
func (d *Driver) DeleteSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	sh, r, err := d.onSnapshot(ctx, h, g, name)
	if err == nil {
		_, err = sh.store.DeleteSnapshot(on(ctx, h), r)
	}
	return err
}

// RollbackSnapshot puts the disks of a guest back to a snapshot.
func (d *Driver) RollbackSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string, destroyMoreRecent bool) error {
	sh, r, err := d.onSnapshot(ctx, h, g, name)
	if err != nil {
		return err
	}
	if s := sh.info.State; s != virt.Stopped && s != virt.Crashed {
		return fmt.Errorf("%w: %.64s is %s: stop it before its disks go back", virt.ErrBusy, g.Name, s)
	}
	r.DestroyMoreRecent = destroyMoreRecent
	_, err = sh.store.RollbackSnapshot(on(ctx, h), r)
	return err
}

// DownloadSnapshot opens what a disk held, as a qcow2 file that needs no other.
func (d *Driver) DownloadSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name, device string) (*virt.Stream, error) {
	sh, r, err := d.onSnapshot(ctx, h, g, name)
	if err != nil {
		return nil, err
	}
	i := slices.Index(sh.devices, device)
	if i < 0 {
		return nil, fmt.Errorf("%w: %.64s has no disk %.16q that was made here", virt.ErrNotFound, g.Name, device)
	}
	r.ID = mistify.SnapshotID{Guest: sh.id, Disk: strconv.Itoa(sh.numbers[i]), Name: name}.String()
	got, err := sh.store.DownloadSnapshot(on(ctx, h), r)
	if err != nil {
		return nil, err
	}
	return &virt.Stream{ReadCloser: got, ContentType: got.ContentType, Format: "qcow2", Length: got.Length}, nil
}
