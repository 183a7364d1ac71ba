package mistify

import (
	"fmt"
	"strings"
)

// Snapshot is the content of a guest's disks, or of one, at one time.
type Snapshot struct {
	ID   string `json:"id"`
	Size uint64 `json:"size"` // MB
}

// SnapshotRequest asks for snapshots. ID is a SnapshotID as text.
type SnapshotRequest struct {
	ID                string `json:"id"`
	Dest              string `json:"dest"`              // the name of a snapshot to create
	Recursive         bool   `json:"recursive"`         // of all disks
	DestroyMoreRecent bool   `json:"destroyMoreRecent"` // when rolling back

	// Additions, of a download.
	Offset int64  `json:"offset,omitempty"` // so many bytes were received before: only the rest
	From   string `json:"from,omitempty"`   // the name of an older snapshot: only what changed since
	Resume string `json:"resume,omitempty"` // a token of who received a part: only the rest
}

// SnapshotResponse has no snapshot where none was found.
type SnapshotResponse struct {
	Snapshots []Snapshot `json:"snapshots"`
}

// SnapshotID names a guest's snapshots: guests/GUEST[/disk-DISK][@NAME]. Without
// a disk it is about all of them, without a name about all snapshots.
type SnapshotID struct {
	Guest string
	Disk  string
	Name  string
}

func (s SnapshotID) String() string {
	text := "guests/" + s.Guest
	if s.Disk != "" {
		text += "/disk-" + s.Disk
	}
	if s.Name != "" {
		text += "@" + s.Name
	}
	return text
}

// Request returns a request about s. It is recursive if s names no disk.
func (s SnapshotID) Request() SnapshotRequest {
	return SnapshotRequest{ID: s.String(), Recursive: s.Disk == ""}
}

// ParseSnapshotID reads what String wrote and checks every part of it.
func ParseSnapshotID(text string) (SnapshotID, error) {
	rest, ok := strings.CutPrefix(text, "guests/")
	if !ok {
		return SnapshotID{}, &NameError{What: "snapshot's id", Given: text, Want: "guests/GUEST[/disk-DISK][@NAME]"}
	}
	rest, name, named := strings.Cut(rest, "@")
	guest, disk, onDisk := strings.Cut(rest, "/disk-")
	guest, err := ParseGuestID(guest)
	if err == nil && onDisk {
		err = CheckDiskID(disk)
	}
	if err == nil && named {
		err = CheckSnapshotName(name)
	}
	if err != nil {
		return SnapshotID{}, fmt.Errorf("the snapshot's id %.200q: %w", text, err)
	}
	return SnapshotID{Guest: guest, Disk: disk, Name: name}, nil
}
