package dir_test

import (
	"slices"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func TestFormats(t *testing.T) {
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
