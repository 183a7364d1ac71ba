package dir_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func TestLifeOfDisks(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	sum, size := b.image("debian.img", "raw", 3, 'd')
	for range 2 {
		out, err := b.s.FetchImage(ctx, &mistify.ImageRequest{Source: b.url + "/debian.img", SHA256: sum, Size: size})
		if err != nil || len(out.Images) != 1 || out.Images[0].ID != "debian.img" || out.Images[0].Status != "complete" || out.Images[0].Size != 3 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if len(b.asked) != 1 {
		t.Errorf("%d downloads", len(b.asked))
	}
	g := b.create(b.guest(
		mistify.Disk{Image: "debian.img"}, mistify.Disk{Size: 5}, mistify.Disk{Size: 2, Format: "raw"},
		mistify.Disk{Image: "debian.img", Size: 7, Format: "raw"}, mistify.Disk{Source: "/dev/sdz"}, mistify.Disk{Image: "debian.img", Size: 9}))
	for i, want := range []mistify.Disk{
		{Size: 3, Format: "qcow2"}, {Size: 5, Format: "qcow2"}, {Size: 2, Format: "raw"}, {Size: 7, Format: "raw"}, {}, {Size: 9, Format: "qcow2"},
	} {
		d := g.Disks[i]
		if i == 4 {
			if d.Source != "/dev/sdz" || d.Volume != "" {
				t.Errorf("somebody else's disk is %+v", d)
			}
			continue
		}
		if d.Size != want.Size || d.Format != want.Format || d.Volume == "" {
			t.Errorf("disk %d is %+v", i, d)
		}
		b.holds(d.Source, d.Format, map[bool]byte{true: 'd', false: 0}[d.Image != ""])
	}
	b.write(g.Disks[0].Source, "qcow2", 'x')
	again := b.create(g) // as after a crash
	if !slices.Equal(again.Disks, g.Disks) {
		t.Errorf("again: %+v, first %+v", again.Disks, g.Disks)
	}
	b.holds(g.Disks[0].Source, "qcow2", 'x')
	b.holds(g.Disks[5].Source, "qcow2", 'd')

	out, err := b.s.ListVolumes(ctx, &mistify.VolumeRequest{})
	if err != nil || len(out.Volumes) != 5 || out.Volumes[0].ID != g.Disks[0].Volume || out.Volumes[0].Size != 3 {
		t.Errorf("the volumes are %+v (%v)", out, err)
	}
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.refused("removing an image with clones", err, virt.ErrConflict)
	gone, err := b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	if err != nil || gone.Guest.Disks[0].Source != "" || gone.Guest.Disks[4].Source != "/dev/sdz" {
		t.Errorf("%+v, %v", gone, err)
	}
	if _, err := b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error("again:", err)
	}
	if _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "debian.img"}); err != nil {
		t.Error(err)
	}
	_, err = b.s.GetImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.refused("an image that was removed", err, virt.ErrNotFound)
	b.tidy()
	if left := b.all(); len(left) != 7 { // the folders and the lock
		t.Errorf("left: %q", left)
	}
}

func TestSnapshots(t *testing.T) {
	b := newBench(t)
	ctx, s := t.Context(), b.s
	b.image("i.qcow2", "qcow2", 4, 'i')
	if err := b.fetch("i", "i.qcow2"); err != nil {
		t.Fatal(err)
	}
	g := b.create(b.guest(mistify.Disk{Image: "i"}, mistify.Disk{Size: 5}))
	first, second := g.Disks[0].Source, g.Disks[1].Source
	take := func(disk, name string) error {
		r := at(g, disk, "")
		r.Dest = name
		_, err := s.CreateSnapshot(ctx, r)
		return err
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(take("", "2")) // a number, which qemu-img could take for an id: that of the next one
	b.write(first, "qcow2", 'a')
	b.write(second, "qcow2", 'b')
	do(take("", "two"))
	do(take("1", "mine"))
	b.write(first, "qcow2", 'c')
	b.write(second, "qcow2", 'd')
	b.snapshots(g, "@2", "0@2", "1@2", "@two", "0@two", "1@two", "1@mine")
	b.refused("a name that is taken", take("", "two"), virt.ErrConflict)
	b.refused("a name that a disk has", take("", "mine"), virt.ErrConflict)
	b.refused("a disk that is not there", take("9", "x"), virt.ErrNotFound)
	b.snapshots(g, "@2", "0@2", "1@2", "@two", "0@two", "1@two", "1@mine")
	got, err := s.GetSnapshot(ctx, at(g, "1", "mine"))
	if err != nil || !slices.Equal(ids(got), []string{"1@mine"}) || got.Snapshots[0].Size != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.GetSnapshot(ctx, at(g, "0", "mine"))
	b.refused("a snapshot of another disk", err, virt.ErrNotFound)
	_, err = s.GetSnapshot(ctx, at(g, "", "mine"))
	b.refused("a disk's snapshot as the guest's", err, virt.ErrNotFound)

	d, err := s.DownloadSnapshot(ctx, at(g, "0", "two"))
	do(err)
	data, err := readAll(d)
	if err != nil || int64(len(data)) != d.Length {
		t.Fatalf("%d bytes of %d (%v)", len(data), d.Length, err)
	}
	do(os.WriteFile(filepath.Join(b.web, "again.qcow2"), data, 0o600))
	do(b.fetch("again", "again.qcow2"))
	other := b.create(b.guest(mistify.Disk{Image: "again"}))
	b.holds(other.Disks[0].Source, "qcow2", 'a')
	_, err = s.DownloadSnapshot(ctx, at(g, "", "two"))
	b.refused("two disks in one stream", err, virt.ErrInvalid)

	_, err = s.RollbackSnapshot(ctx, at(g, "", "two"))
	b.refused("a rollback over a newer one", err, virt.ErrConflict)
	b.holds(first, "qcow2", 'c')
	_, err = s.RollbackSnapshot(ctx, at(g, "0", "two")) // nothing newer on this disk
	do(err)
	b.holds(first, "qcow2", 'a')
	b.holds(second, "qcow2", 'd')
	r := at(g, "", "2")
	r.DestroyMoreRecent = true
	_, err = s.RollbackSnapshot(ctx, r)
	do(err)
	b.holds(first, "qcow2", 'i')
	b.holds(second, "qcow2", 0)
	b.snapshots(g, "@2", "0@2", "1@2")
	_, err = s.DeleteSnapshot(ctx, at(g, "0", "2"))
	do(err)
	b.snapshots(g, "@2", "1@2")
	_, err = s.RollbackSnapshot(ctx, at(g, "", "2"))
	b.refused("a rollback to half a snapshot", err, virt.ErrConflict)
	_, err = s.DeleteSnapshot(ctx, at(g, "", "2"))
	do(err)
	b.snapshots(g)
	b.tidy()
}
