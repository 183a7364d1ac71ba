package sim_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

func TestSnapshots(t *testing.T) {
	b := newBench(t, sim.Options{Download: 4096})
	ctx, a := t.Context(), b.a
	g := b.do(b.guest(), a.Create, virt.Running)
	id := mistify.SnapshotID{Guest: g.ID}
	disk := mistify.SnapshotID{Guest: g.ID, Disk: "0"}
	at := func(s mistify.SnapshotID, name string) *mistify.SnapshotRequest {
		s.Name = name
		r := s.Request()
		return &r
	}
	take := func(s mistify.SnapshotID, name string) error {
		r := s.Request()
		r.Dest = name
		_, err := a.CreateSnapshot(ctx, &r)
		return err
	}
	count := func(s mistify.SnapshotID, want int) {
		t.Helper()
		out, err := a.ListSnapshots(ctx, at(s, ""))
		if err != nil || len(out.Snapshots) != want {
			t.Errorf("%s has the snapshots %+v (%v), want %d", s, out, err, want)
		}
	}
	b.write(g, 0, "one")
	b.write(g, 1, "other")
	for _, err := range []error{take(id, "first"), take(disk, "mine")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	count(id, 4) // the guest's and its two disks', and mine
	count(disk, 2)
	b.refused("a name that is taken", take(id, "first"), virt.ErrConflict)
	b.refused("a disk that is not there", take(mistify.SnapshotID{Guest: g.ID, Disk: "7"}, "x"), virt.ErrNotFound)
	b.refused("a guest that is not there", take(mistify.SnapshotID{Guest: uuid.NewString()}, "x"), virt.ErrNotFound)
	b.refused("a name that is a path", take(id, "../x"), virt.ErrInvalid)
	one, err := a.GetSnapshot(ctx, at(mistify.SnapshotID{Guest: g.ID, Disk: "vda"}, "mine"))
	if err != nil || len(one.Snapshots) != 1 || one.Snapshots[0].ID != "guests/"+g.ID+"/disk-0@mine" || one.Snapshots[0].Size != 2 {
		t.Errorf("the snapshot is %+v (%v)", one, err)
	}

	b.write(g, 0, "two")
	b.write(g, 1, "changed")
	_, err = a.RollbackSnapshot(ctx, at(id, "first"))
	b.refused("rollback under a guest that runs", err, virt.ErrBusy)
	b.do(g, a.Poweroff, virt.Stopped)
	_, err = a.RollbackSnapshot(ctx, at(id, "first"))
	b.refused("rollback past a newer snapshot", err, virt.ErrConflict)
	b.holds(g, 0, "two")
	back := at(id, "first")
	back.DestroyMoreRecent = true
	if _, err := a.RollbackSnapshot(ctx, back); err != nil {
		t.Fatal(err)
	}
	b.holds(g, 0, "one")
	b.holds(g, 1, "other")
	_, err = a.GetSnapshot(ctx, at(disk, "mine"))
	b.refused("a snapshot that was destroyed as more recent", err, virt.ErrNotFound)

	read := func(s mistify.SnapshotID) []byte {
		t.Helper()
		content, length, err := a.DownloadSnapshot(ctx, at(s, "first"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil || int64(len(data)) != length {
			t.Fatalf("a download of %d bytes has %d (%v)", length, len(data), err)
		}
		return data
	}
	whole := read(id)
	if len(whole) != 2*4096 || !bytes.HasPrefix(whole, []byte("one")) || !bytes.HasPrefix(whole[4096:], []byte("other")) {
		t.Errorf("a download has %d bytes and begins with %q", len(whole), whole[:min(16, len(whole))])
	}
	if part := read(disk); !bytes.Equal(part, whole[:4096]) || !bytes.Equal(part, read(disk)) {
		t.Error("a disk's download is another one than in the guest's, or than before")
	}

	if _, err := a.DeleteSnapshot(ctx, at(id, "first")); err != nil {
		t.Fatal(err)
	}
	count(id, 0)
	_, err = a.DeleteSnapshot(ctx, at(id, "first"))
	b.refused("delete of what was deleted", err, virt.ErrNotFound)

	// They end with the disks.
	if err := take(id, "last"); err != nil {
		t.Fatal(err)
	}
	b.do(g, a.Deprovision, virt.Stopped)
	count(id, 0)
}
