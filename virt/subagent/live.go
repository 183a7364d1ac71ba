package subagent

import "context"

// LiveSnapshotter makes and removes snapshots inside the disks of guests that
// run, which only the program can do that has them open. A sub-agent that keeps
// disks is given one by whoever knows the host's hypervisor.
//
// Of a guest that does not run there, or has not these disks open, both methods
// answer virt.ErrNotFound and do nothing; where it cannot be done,
// virt.ErrUnsupported.
type LiveSnapshotter interface {
	// SnapshotLive makes a snapshot in all of the files, of one moment: in all of
	// them or in none. One of that name that is there already is a
	// virt.ErrConflict. What was asked for longer ago than ctx lives may still
	// happen; DropLive takes it back.
	SnapshotLive(ctx context.Context, s LiveSnapshot) error
	// DropLive removes the snapshot from those files that have it.
	DropLive(ctx context.Context, s LiveSnapshot) error
}

// LiveSnapshot is a snapshot inside of the disks of a guest.
type LiveSnapshot struct {
	Guest string   // its UUID
	Name  string   // as it is inside of the files
	Files []string // absolute paths of qcow2 files, each a disk of the guest
}
