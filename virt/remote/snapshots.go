package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Snapshots lists those of a guest, in the order of the agent.
func (d *Driver) Snapshots(ctx context.Context, h virt.Host, g virt.Guest) (list []virt.Snapshot, err error) {
	err = d.about(ctx, h, g, "list the snapshots of", func(ctx context.Context, t *task) error {
		ctx, cancel := t.quick(ctx)
		defer cancel()
		wire, err := t.c[looks].Snapshots(ctx, mistify.SnapshotID{Guest: g.UUID})
		if err != nil {
			return t.shelved(ctx, err)
		}
		list, err = mistify.VirtSnapshots(g.UUID, wire, func(disk string) string { return deviceOf(g, disk) })
		if err != nil {
			err = fmt.Errorf("%w: %w", virt.ErrUnreachable, unmarked{err})
		}
		return err
	})
	return list, err
}

// shelved finds out what it means that an agent has no snapshots of a guest: it
// may have no disks of it either.
func (t *task) shelved(ctx context.Context, err error) error {
	if !errors.Is(err, virt.ErrNotFound) {
		return err
	}
	if _, there := t.look(ctx, t.c, t.g); there != nil {
		return there
	}
	return nil // it has no disks there, and so no snapshots
}

// deviceOf is what we call the disk that an agent names by its number.
func deviceOf(g virt.Guest, disk string) string {
	if n, err := strconv.Atoi(disk); err == nil && n >= 0 && n < len(g.Definition.Disks) {
		return g.Definition.Disks[n].Device
	}
	return disk
}

// onSnapshot runs a call about a snapshot with a name that can be one.
func (d *Driver) onSnapshot(ctx context.Context, h virt.Host, g virt.Guest, what, name string, do func(context.Context, *task, mistify.SnapshotID) error) error {
	if err := virt.CheckSnapshotName(name); err != nil {
		return err
	}
	return d.about(ctx, h, g, what+" snapshot "+name+" of", func(ctx context.Context, t *task) error {
		return do(ctx, t, mistify.SnapshotID{Guest: g.UUID, Name: name})
	})
}

// CreateSnapshot keeps what all disks of a guest hold.
func (d *Driver) CreateSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	return d.onSnapshot(ctx, h, g, "make", name, func(ctx context.Context, t *task, id mistify.SnapshotID) error {
		return t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].CreateSnapshot(ctx, id) })
	})
}

// DeleteSnapshot removes a snapshot.
func (d *Driver) DeleteSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	return d.onSnapshot(ctx, h, g, "delete", name, func(ctx context.Context, t *task, id mistify.SnapshotID) error {
		return t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].DeleteSnapshot(ctx, id) })
	})
}

// RollbackSnapshot puts the disks of a guest back to a snapshot. It refuses a
// guest that runs before the agent is asked for anything.
func (d *Driver) RollbackSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string, destroyMoreRecent bool) error {
	return d.onSnapshot(ctx, h, g, "roll back to", name, func(ctx context.Context, t *task, id mistify.SnapshotID) error {
		info, err := t.look(ctx, t.c, g)
		if err != nil {
			return err
		}
		if info.State != virt.Stopped && info.State != virt.Crashed {
			return fmt.Errorf("%w: it is %s: stop it before its disks go back", virt.ErrBusy, info.State)
		}
		return t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].Rollback(ctx, id, destroyMoreRecent) })
	})
}

// DownloadSnapshot opens what a disk held: the stream of the agent, as it comes.
func (d *Driver) DownloadSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name, device string) (*virt.Stream, error) {
	number := slices.IndexFunc(g.Definition.Disks, func(disk virt.Disk) bool { return disk.Device == device })
	if number < 0 {
		return nil, fmt.Errorf("%w: guest %.64q has no disk %.16q", virt.ErrNotFound, g.ID, device)
	}
	err := virt.CheckSnapshotName(name)
	if err == nil {
		err = checkID(g)
	}
	if err != nil {
		return nil, err
	}
	c, address, err := d.agent(h)
	if err != nil {
		return nil, err
	}
	got, err := c[streams].DownloadSnapshot(ctx, mistify.SnapshotID{Guest: g.UUID, Disk: strconv.Itoa(number), Name: name})
	if err != nil {
		return nil, &Error{What: "download snapshot " + name + " of " + g.ID, Address: address, Kind: as(err, false), Err: err}
	}
	return &virt.Stream{ReadCloser: got, ContentType: clean(got.ContentType, 128), Length: got.Length}, nil
}
