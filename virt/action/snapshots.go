package action

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// snapshotter is the driver as one, if the VM is on a host that can be asked.
func (r *run) snapshotter(ctx context.Context, what string) (virt.Snapshotter, error) {
	if err := virt.CheckSnapshotName(r.params.Snapshot); err != nil {
		return nil, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
	}
	if !r.there() {
		return nil, r.nowhere(what)
	}
	s, ok := r.driver.(virt.Snapshotter)
	if !ok {
		return nil, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), &virt.UnableError{Driver: r.driverName, Host: r.host.ID, What: "snapshots"})
	}
	return s, r.reach(ctx, r.place, what)
}

// again reports whether this is not the job's first attempt.
func (r *run) again(ctx context.Context) bool {
	return max(r.task.Job().Trail.Attempt, trail.From(ctx).Attempt) > 1
}

// snapshot keeps what the VM's disks hold. Before the driver is told, the name is
// noted with the job, so that an attempt after one without an answer knows a
// snapshot that is there for its own. The note stays until another is made.
func (r *run) snapshot(ctx context.Context) (Result, error) {
	const what = "make a snapshot of"
	s, err := r.snapshotter(ctx, what)
	if err != nil {
		return Result{}, err
	}
	name, job := r.params.Snapshot, r.task.Job().ID
	var list []virt.Snapshot
	if err := r.call(ctx, r.place, r.cfg.Call, "list the snapshots of", func(ctx context.Context) (err error) {
		list, err = s.Snapshots(ctx, r.host, r.guest)
		return err
	}); err != nil {
		return Result{}, err
	}
	there := slices.ContainsFunc(list, func(o virt.Snapshot) bool { return o.Name == name })
	begun, _ := virt.SnapshotBegunOf(r.node)
	ours := begun == virt.SnapshotBegun{Name: name, Job: job}
	switch {
	case there && ours:
		r.task.Log("an earlier attempt has made it")
		return r.outcomeText(ctx, "snapshot "+name)
	case there:
		return Result{}, fmt.Errorf("cannot %s %s: %w: there is a snapshot %s already: choose another name, or `vagoth snapshot delete %s %s`",
			what, r.node.Name(), virt.ErrConflict, name, r.node.Name(), name)
	case !ours:
		if err := r.noteSnapshot(ctx, &virt.SnapshotBegun{Name: name, Job: job}); err != nil {
			return Result{}, err
		}
	}
	r.step(50, "making snapshot %s on %s", name, r.host.ID)
	err = r.call(ctx, r.place, r.cfg.Disks, what, func(ctx context.Context) error { return s.CreateSnapshot(ctx, r.host, r.guest, name) })
	if err != nil {
		if refused(err) {
			err = errors.Join(err, r.noteSnapshot(ctx, nil))
		}
		return Result{}, err
	}
	return r.outcomeText(ctx, "snapshot "+name)
}

// refused reports whether a driver said no, so that nothing was done.
func refused(err error) bool {
	for _, no := range []error{virt.ErrBusy, virt.ErrConflict, virt.ErrInvalid, virt.ErrUnsupported, virt.ErrNotFound} {
		if errors.Is(err, no) && !errors.Is(err, virt.ErrUnreachable) {
			return true
		}
	}
	return false
}

// noteSnapshot writes down what the job makes; nil is nothing.
func (r *run) noteSnapshot(ctx context.Context, s *virt.SnapshotBegun) error {
	return r.change(ctx, func(d *registry.Draft, _ *registry.Node) (err error) {
		if s == nil {
			d.Metadata, err = d.Metadata.Merge(nil, virt.MetaSnapshotting)
			return err
		}
		d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaSnapshotting: s})
		return err
	})
}

// outcomeText is outcome with words of its own.
func (r *run) outcomeText(ctx context.Context, text string) (Result, error) {
	res, err := r.outcome(ctx)
	res.Text = text
	return res, err
}

// rollback puts the disks of a VM that is off back to a snapshot.
func (r *run) rollback(ctx context.Context) (Result, error) {
	const what = "roll back"
	s, err := r.snapshotter(ctx, what)
	if err != nil {
		return Result{}, err
	}
	if err := r.notRunning(ctx, what); err != nil {
		return Result{}, err
	}
	r.step(50, "putting its disks on %s back to %s", r.host.ID, r.params.Snapshot)
	err = r.call(ctx, r.place, r.cfg.Disks, what, func(ctx context.Context) error {
		return s.RollbackSnapshot(ctx, r.host, r.guest, r.params.Snapshot, r.params.DestroyMoreRecent)
	})
	if err != nil {
		return Result{}, err
	}
	return r.outcomeText(ctx, "its disks are as of snapshot "+r.params.Snapshot)
}

// snapshotDelete removes a snapshot. That it is gone already is no surprise after
// an attempt without an answer.
func (r *run) snapshotDelete(ctx context.Context) (Result, error) {
	s, err := r.snapshotter(ctx, "delete a snapshot of")
	if err != nil {
		return Result{}, err
	}
	r.step(50, "deleting snapshot %s on %s", r.params.Snapshot, r.host.ID)
	err = r.call(ctx, r.place, r.cfg.Disks, "delete snapshot "+r.params.Snapshot+" of", func(ctx context.Context) error {
		return s.DeleteSnapshot(ctx, r.host, r.guest, r.params.Snapshot)
	})
	if errors.Is(err, virt.ErrNotFound) && r.again(ctx) {
		r.task.Log("it is gone")
		err = nil
	}
	if err != nil {
		return Result{}, err
	}
	return r.outcomeText(ctx, "snapshot "+r.params.Snapshot+" is deleted")
}
