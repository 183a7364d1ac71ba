package virt

import (
	"context"
	"fmt"
	"io"

	"github.com/vagoth/vagoth/scheduler"
)

// able returns what the VM's driver can do beside the methods of Driver.
func able[T any](l located, what string) (T, error) {
	c, ok := l.driver.(T)
	if !ok {
		return c, &UnableError{Driver: l.name, Host: l.host.ID, What: what}
	}
	return c, nil
}

// UnableError is what the driver of a host cannot do. It is an ErrUnsupported.
type UnableError struct {
	Driver, Host string
	What         string // such as "snapshots"
}

func (e *UnableError) Error() string {
	return fmt.Sprintf("%v: the driver %q of host %s has no %s", ErrUnsupported, e.Driver, e.Host, e.What)
}

func (e *UnableError) Unwrap() error { return ErrUnsupported }

// Snapshots asks the host for the VM's snapshots, at once.
func (m *VirtualMachine) Snapshots(ctx context.Context) ([]Snapshot, error) {
	l, err := m.located(ctx)
	if err != nil {
		return nil, err
	}
	s, err := able[Snapshotter](l, "snapshots")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	list, err := s.Snapshots(ctx, l.host, l.guest)
	if err != nil {
		return nil, fmt.Errorf("cannot ask host %s for the snapshots of %s: %w", l.host.ID, m.name, err)
	}
	return list, nil
}

// DownloadSnapshot opens what one of the VM's disks held: that with this device
// name, or the first. ctx lives as long as the stream.
func (m *VirtualMachine) DownloadSnapshot(ctx context.Context, name, device string) (*Stream, error) {
	l, err := m.located(ctx)
	if err != nil {
		return nil, err
	}
	s, err := able[Snapshotter](l, "snapshots")
	if err != nil {
		return nil, err
	}
	if device == "" {
		for _, d := range l.guest.Definition.Disks {
			if d.Source == "" {
				device = d.Device
				break
			}
		}
	}
	stream, err := s.DownloadSnapshot(ctx, l.host, l.guest, name, device)
	if err != nil {
		return nil, fmt.Errorf("cannot get snapshot %.128q of %s from host %s: %w", name, m.name, l.host.ID, err)
	}
	return stream, nil
}

// Metrics asks the host for the VM's counters, at once.
func (m *VirtualMachine) Metrics(ctx context.Context) (Metrics, error) {
	l, err := m.located(ctx)
	if err != nil {
		return Metrics{}, err
	}
	meter, err := able[Meter](l, "metrics")
	if err != nil {
		return Metrics{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	all, err := meter.Metrics(ctx, l.host, l.guest)
	if err != nil {
		return all, fmt.Errorf("cannot measure %s on host %s: %w", m.name, l.host.ID, err)
	}
	return all, nil
}

// Console attaches to the VM's serial console. ctx lives as long as that.
func (m *VirtualMachine) Console(ctx context.Context) (io.ReadWriteCloser, error) {
	l, err := m.located(ctx)
	if err != nil {
		return nil, err
	}
	c, err := able[Consoler](l, "console that it can attach to: reach it on the host itself, where `vagoth info --live` says it is")
	if err != nil {
		return nil, err
	}
	rw, err := c.Console(ctx, l.host, l.guest)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to the console of %s on host %s: %w", m.name, l.host.ID, err)
	}
	return rw, nil
}

// Snapshot keeps what its disks hold, under a name.
func (m *VirtualMachine) Snapshot(ctx context.Context, name string) (scheduler.Status, error) {
	return m.submit(ctx, ActionSnapshot, Params{Snapshot: name})
}

// Rollback puts its disks back to a snapshot, while it is off. Newer snapshots are
// in the way unless they may be lost.
func (m *VirtualMachine) Rollback(ctx context.Context, name string, destroyMoreRecent bool) (scheduler.Status, error) {
	return m.submit(ctx, ActionRollback, Params{Snapshot: name, DestroyMoreRecent: destroyMoreRecent})
}

// DeleteSnapshot removes a snapshot.
func (m *VirtualMachine) DeleteSnapshot(ctx context.Context, name string) (scheduler.Status, error) {
	return m.submit(ctx, ActionSnapshotDelete, Params{Snapshot: name})
}

// AttachDisk gives it one disk more, which is made if it is not there.
func (m *VirtualMachine) AttachDisk(ctx context.Context, disk Disk) (scheduler.Status, error) {
	return m.submit(ctx, ActionAttachDisk, Params{Disk: &disk})
}

// DetachDisk takes a disk away, named by its device, volume, source or number.
// What it holds stays on the host unless it is wiped.
func (m *VirtualMachine) DetachDisk(ctx context.Context, device string, wipe bool) (scheduler.Status, error) {
	return m.submit(ctx, ActionDetachDisk, Params{Device: device, Wipe: wipe})
}
