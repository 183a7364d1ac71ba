package virt

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Snapshotter is a Driver that can keep what a guest's disks hold, all of them
// at one time, under a name. Only disks that Provision makes have snapshots; a
// guest without one is ErrUnsupported, and so is a disk whose format has none.
// Undefine keeps them; Deprovision takes them away with the disks.
type Snapshotter interface {
	// Snapshots lists those of the guest, oldest first, at most MaxSnapshots.
	Snapshots(ctx context.Context, h Host, g Guest) ([]Snapshot, error)
	// CreateSnapshot makes one: of a guest that runs, what its disks would hold
	// after a power cut. A driver that cannot do that says ErrBusy. A name that
	// is taken is ErrConflict.
	CreateSnapshot(ctx context.Context, h Host, g Guest, name string) error
	// DeleteSnapshot removes one (ErrNotFound if it is not there). The disks stay
	// as they are.
	DeleteSnapshot(ctx context.Context, h Host, g Guest, name string) error
	// RollbackSnapshot puts the disks back to one. It refuses a guest that runs
	// (ErrBusy). Newer snapshots are in the way (ErrConflict) unless
	// destroyMoreRecent says that they may be lost, and then they are gone.
	RollbackSnapshot(ctx context.Context, h Host, g Guest, name string, destroyMoreRecent bool) error
	// DownloadSnapshot opens what the disk with this device name held. ctx lives
	// as long as the stream.
	DownloadSnapshot(ctx context.Context, h Host, g Guest, name, device string) (*Stream, error)
}

// MaxSnapshots bounds the snapshots of one guest. A driver refuses to make more
// (ErrConflict) and to list more (ErrUnreachable).
const MaxSnapshots = 1000

// Snapshot is what a guest's disks held at one time.
type Snapshot struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created,omitzero"` // zero where the host does not say
	Size    int64     `json:"size"`             // MB of the disks in it
	Disks   []string  `json:"disks"`            // their device names
}

// Stream is bytes as they come. Whoever gets one closes it. One that breaks off
// ends with an error that is not io.EOF.
type Stream struct {
	io.ReadCloser
	ContentType string // application/octet-stream if it was not said
	Format      string // what the bytes are: "raw", "qcow2", "zfs"; "" where the host does not say
	Length      int64  // -1 if it was not said
}

// CheckSnapshotName checks the name of a snapshot. Its error is an ErrInvalid.
func CheckSnapshotName(name string) error {
	if wordOf(name, 128, "_-.:") && !strings.Contains(name, "..") {
		return nil
	}
	return fmt.Errorf("%w: the snapshot's name %.64q: use 1 to 128 letters, digits, -, _, : and single dots, a letter or digit first", ErrInvalid, name)
}

// wordOf reports whether s is 1 to limit letters and digits of ASCII and
// characters of more, a letter or digit first.
func wordOf(s string, limit int, more string) bool {
	if s == "" || len(s) > limit || strings.IndexByte(more, s[0]) >= 0 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && (r > '~' || !strings.ContainsRune(more, r))
	})
}
