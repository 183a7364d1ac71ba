package virt

import "context"

// DiskAttacher is a Driver that can give a guest a disk, and take one away,
// without defining all of it anew: also while it runs, where its host can. A
// driver that is none defines a guest anew while it is off, and that is all.
type DiskAttacher interface {
	// AttachDisk gives the guest the disk, one of g.Definition.Disks, whose
	// volume or source is there: g's definition is as it is afterwards. A disk
	// that the guest has already succeeds. Where the host cannot do it while the
	// guest runs it is ErrBusy.
	AttachDisk(ctx context.Context, h Host, g Guest, disk Disk) error
	// DetachDisk takes the disk away, which is none of g.Definition.Disks any
	// more. What it holds stays. A disk that the guest has not succeeds. A guest
	// that runs may have to let go of it first: when it has not in time, that is
	// ErrBusy, and the guest still has it.
	DetachDisk(ctx context.Context, h Host, g Guest, disk Disk) error
}
