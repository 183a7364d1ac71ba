package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Run tries a store. Each subtest begins with one that fresh gives, empty.
func Run(t *testing.T, fresh func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		do   func(b *bench)
	}{
		{"Life", life}, {"Undo", undo}, {"Snapshots", snapshots}, {"Download", download}, {"Put", put}, {"Take", take}, {"Volumes", volumes}, {"Names", names},
		{"Races", races}, {"NotTaken", notTaken}, {"Wire", wire}, {"Reopened", reopened},
	} {
		t.Run(test.name, func(t *testing.T) { test.do(newBench(t, fresh(t))) })
	}
}

func life(b *bench) {
	ctx := b.Context()
	data := raw(3, 'd')
	sum := b.file("debian.img", data)
	for range 2 {
		out, err := b.s.FetchImage(ctx, &mistify.ImageRequest{Source: b.url + "/debian.img", SHA256: sum, Size: uint64(len(data))})
		if err != nil || len(out.Images) != 1 || out.Images[0].ID != "debian.img" || out.Images[0].Status != "complete" || out.Images[0].Size != 3 {
			b.Fatalf("%+v, %v", out, err)
		}
	}
	if len(b.asked) != 1 {
		b.Errorf("%d downloads", len(b.asked))
	}
	g := guest(mistify.Disk{Image: "debian.img"}, mistify.Disk{Size: 5}, mistify.Disk{Source: "/dev/sdz"}, mistify.Disk{Image: "debian.img", Size: 9})
	planned, err := b.s.VerifyDisks(ctx, &mistify.GuestRequest{Guest: g})
	b.do(err)
	g = b.create(g)
	if !slices.Equal(planned.Guest.Disks, g.Disks) {
		b.Errorf("the disks were to be %+v and are %+v", planned.Guest.Disks, g.Disks)
	}
	for i, size := range []uint64{3, 5, 0, 9} {
		d := g.Disks[i]
		if i == 2 {
			if d.Source != "/dev/sdz" || d.Volume != "" {
				b.Errorf("somebody else's disk is %+v", d)
			}
			continue
		}
		if d.Size != size || d.Format == "" || d.Volume == "" {
			b.Errorf("disk %d is %+v", i, d)
		}
		b.Holds(b.T, d, map[bool]byte{true: 'd', false: 0}[d.Image != ""])
	}
	b.Write(b.T, g.Disks[0], 'x')
	again := b.create(g) // as after a crash
	if !slices.Equal(again.Disks, g.Disks) {
		b.Errorf("again: %+v, first %+v", again.Disks, g.Disks)
	}
	b.Holds(b.T, g.Disks[0], 'x')
	b.Holds(b.T, g.Disks[3], 'd')
	g.Disks = append(g.Disks, mistify.Disk{Size: 2}) // one more, for a guest that has some
	g = b.create(g)
	b.Holds(b.T, g.Disks[0], 'x')
	b.Holds(b.T, g.Disks[4], 0)

	out, err := b.s.ListVolumes(ctx, &mistify.VolumeRequest{})
	if err != nil || len(out.Volumes) != 4 || out.Volumes[0].ID != g.Disks[0].Volume || out.Volumes[0].Size != 3 {
		b.Errorf("the volumes are %+v (%v)", out, err)
	}
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.refused("removing an image with clones", err, virt.ErrConflict)
	_, err = b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: guest(mistify.Disk{Size: 1}, mistify.Disk{Image: "none"})})
	b.refused("an image that is not here", err, virt.ErrConflict)
	if gone := b.remove(g); gone.Disks[0].Source != "" || gone.Disks[2].Source != "/dev/sdz" {
		b.Errorf("the guest without disks is %+v", gone)
	}
	b.remove(g)
	_, err = b.s.ListSnapshots(ctx, At(g, "", ""))
	b.refused("snapshots of a guest without disks", err, virt.ErrNotFound)
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.do(err)
	_, err = b.s.GetImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.refused("an image that was removed", err, virt.ErrNotFound)
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "debian.img"})
	b.refused("removing it again", err, virt.ErrNotFound)
	b.left("all of it was removed")
}

func undo(b *bench) {
	ctx := b.Context()
	first, second := uuid.NewString(), uuid.NewString()
	made := func(g *mistify.Guest, job string) *mistify.Guest {
		b.Helper()
		out, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: job})
		b.do(err)
		return out.Guest
	}
	back := func(g *mistify.Guest, job string) *mistify.Guest {
		b.Helper()
		out, err := b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: job})
		b.do(err)
		return out.Guest
	}
	g := made(guest(mistify.Disk{Size: 1}), first)
	b.Write(b.T, g.Disks[0], 'a')
	more := g.Clone()
	more.Disks = append(more.Disks, mistify.Disk{Size: 2})
	more = made(more, second)
	if more = back(more, second); more.Disks[1].Source != "" || more.Disks[0] != g.Disks[0] {
		b.Errorf("the disks are %+v", more.Disks)
	}
	b.Holds(b.T, g.Disks[0], 'a')
	back(g, second) // nothing is left of it
	b.Holds(b.T, g.Disks[0], 'a')
	if out, err := b.s.ListVolumes(ctx, &mistify.VolumeRequest{}); err != nil || len(out.Volumes) != 1 {
		b.Errorf("the volumes are %+v (%v)", out, err)
	}
	back(back(made(guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}), first), first), first)
	_, err := b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	b.refused("an undo of no job", err, virt.ErrInvalid)
	b.remove(g)
	b.left("all of it was taken back")
}

func snapshots(b *bench) {
	ctx, s := b.Context(), b.s
	b.qcow2("i.qcow2", 4, 'i')
	b.do(b.fetch("i", "i.qcow2"))
	g := b.create(guest(mistify.Disk{Image: "i"}, mistify.Disk{Size: 5}))
	first, second := g.Disks[0], g.Disks[1]
	b.snapshots(g)
	b.do(b.take(g, "", "2")) // a number, which a program could take for an id: that of the next one
	b.Write(b.T, first, 'a')
	b.Write(b.T, second, 'b')
	b.do(b.take(g, "", "two"))
	b.do(b.take(g, "1", "mine"))
	b.Write(b.T, first, 'c')
	b.Write(b.T, second, 'd')
	b.snapshots(g, "@2", "0@2", "1@2", "@two", "0@two", "1@two", "1@mine")
	b.refused("a name that is taken", b.take(g, "", "two"), virt.ErrConflict)
	b.refused("a name that a disk has", b.take(g, "", "mine"), virt.ErrConflict)
	b.refused("a disk that is not there", b.take(g, "9", "x"), virt.ErrNotFound)
	b.snapshots(g, "@2", "0@2", "1@2", "@two", "0@two", "1@two", "1@mine")
	got, err := s.GetSnapshot(ctx, At(g, "1", "mine"))
	if err != nil || !slices.Equal(IDs(got), []string{"1@mine"}) || got.Snapshots[0].Size != 5 {
		b.Errorf("%+v, %v", got, err)
	}
	_, err = s.GetSnapshot(ctx, At(g, "0", "mine"))
	b.refused("a snapshot of another disk", err, virt.ErrNotFound)
	_, err = s.GetSnapshot(ctx, At(g, "", "mine"))
	b.refused("a disk's snapshot as the guest's", err, virt.ErrNotFound)
	_, err = s.DownloadSnapshot(ctx, At(g, "", "two"))
	b.refused("two disks in one stream", err, virt.ErrInvalid)

	_, err = s.RollbackSnapshot(ctx, At(g, "", "two"))
	b.refused("a rollback over a newer one", err, virt.ErrConflict)
	b.Holds(b.T, first, 'c')
	_, err = s.RollbackSnapshot(ctx, At(g, "0", "two")) // nothing newer on this disk
	b.do(err)
	b.Holds(b.T, first, 'a')
	b.Holds(b.T, second, 'd')
	r := At(g, "", "2")
	r.DestroyMoreRecent = true
	_, err = s.RollbackSnapshot(ctx, r)
	b.do(err)
	b.Holds(b.T, first, 'i')
	b.Holds(b.T, second, 0)
	b.snapshots(g, "@2", "0@2", "1@2")
	_, err = s.DeleteSnapshot(ctx, At(g, "0", "2"))
	b.do(err)
	b.snapshots(g, "@2", "1@2")
	_, err = s.RollbackSnapshot(ctx, At(g, "", "2"))
	b.refused("a rollback to half a snapshot", err, virt.ErrConflict)
	_, err = s.DeleteSnapshot(ctx, At(g, "", "2"))
	b.do(err)
	b.snapshots(g)
	_, err = s.DeleteSnapshot(ctx, At(g, "", "2"))
	b.refused("a snapshot that was removed", err, virt.ErrNotFound)
	b.Holds(b.T, first, 'i')
}

func download(b *bench) {
	ctx := b.Context()
	g := b.create(guest(mistify.Disk{Size: 4}))
	b.Write(b.T, g.Disks[0], 'a')
	b.do(b.take(g, "", "s"))
	b.Write(b.T, g.Disks[0], 'b')
	d, err := b.s.DownloadSnapshot(ctx, At(g, "", "s")) // it has one disk only
	b.do(err)
	data, err := ReadAll(d)
	if err != nil || len(data) == 0 || d.Length >= 0 && int64(len(data)) != d.Length {
		b.Fatalf("%d bytes of %d (%v)", len(data), d.Length, err)
	}
	b.file("again", data)
	b.do(b.fetch("again", "again"))
	other := b.create(guest(mistify.Disk{Image: "again"}))
	b.Holds(b.T, other.Disks[0], 'a')
	_, err = b.s.DownloadSnapshot(ctx, At(g, "0", "none"))
	b.refused("a snapshot that is not there", err, virt.ErrNotFound)

	d, err = b.s.DownloadSnapshot(ctx, At(g, "0", "s")) // given up
	b.do(err)
	b.do(d.Close())
	b.remove(g)
	b.remove(other)
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "again"})
	b.do(err)
	b.left("a download that was given up, and all that was made")
}

func volumes(b *bench) {
	ctx, s := b.Context(), b.s
	b.file("i", raw(2, 'i'))
	b.do(b.fetch("i", "i"))
	for range 2 {
		_, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 3})
		b.do(err)
		out, err := s.CloneImage(ctx, &mistify.ImageRequest{ID: "i", Dest: "c"})
		if err != nil || len(out.Volumes) != 1 || out.Volumes[0].ID != "c" || out.Volumes[0].Size != 2 {
			b.Fatalf("%+v, %v", out, err)
		}
		b.Holds(b.T, mistify.Disk{Source: out.Volumes[0].Device}, 'i')
	}
	_, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 4})
	b.refused("another size", err, virt.ErrConflict)
	_, err = s.CloneImage(ctx, &mistify.ImageRequest{ID: "i", Dest: "v"})
	b.refused("a clone where something else is", err, virt.ErrConflict)
	_, err = s.CloneImage(ctx, &mistify.ImageRequest{ID: "none", Dest: "x"})
	b.refused("a clone of nothing", err, virt.ErrConflict)
	_, err = s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"})
	b.refused("removing its image", err, virt.ErrConflict)
	out, err := s.GetVolume(ctx, &mistify.VolumeRequest{ID: "v"})
	if err != nil || len(out.Volumes) != 1 || out.Volumes[0].Size != 3 || out.Volumes[0].Device == "" {
		b.Errorf("%+v, %v", out, err)
	}
	for _, id := range []string{"v", "c"} {
		_, err := s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: id})
		b.do(err)
		_, err = s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: id})
		b.refused("removing it again", err, virt.ErrNotFound)
		_, err = s.GetVolume(ctx, &mistify.VolumeRequest{ID: id})
		b.refused("a volume that was removed", err, virt.ErrNotFound)
	}
	_, err = s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"})
	b.do(err)
	b.left("volumes were removed")
}

func races(b *bench) {
	ctx := b.Context()
	b.file("i", raw(1, 'i'))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := b.fetch("i", "i"); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if len(b.asked) != 1 {
		b.Errorf("%d downloads", len(b.asked))
	}
	shared := guest(mistify.Disk{Image: "i"}, mistify.Disk{Image: "i"})
	var mu sync.Mutex
	var made []*mistify.Guest
	for i := range 6 {
		wg.Go(func() {
			g := shared
			if i > 2 {
				g = guest(mistify.Disk{Image: "i"})
			}
			out, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
			if err != nil && !errors.Is(err, virt.ErrConflict) {
				b.Error(err)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				made = append(made, out.Guest)
			}
		})
		wg.Go(func() {
			if _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"}); err != nil && !errors.Is(err, virt.ErrConflict) && !errors.Is(err, virt.ErrNotFound) {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range made {
		for _, d := range g.Disks {
			b.Holds(b.T, d, 'i') // every disk still has its image
		}
	}
	for _, g := range made {
		b.remove(g)
	}
	if _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"}); err != nil && !errors.Is(err, virt.ErrNotFound) {
		b.Error(err)
	}
	b.left("after races")
}

func reopened(b *bench) {
	ctx := b.Context()
	b.file("i", raw(1, 'i'))
	b.do(b.fetch("i", "i"))
	g := b.create(guest(mistify.Disk{Image: "i"}, mistify.Disk{Size: 2}))
	b.Write(b.T, g.Disks[1], 'w')
	b.do(b.take(g, "", "s"))
	_, err := b.s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 1})
	b.do(err)
	before := b.All(b.T)
	b.close()
	b.open()
	if now := b.All(b.T); !slices.Equal(now, before) {
		b.Errorf("it has %q, before %q", now, before)
	}
	if again := b.create(g); !slices.Equal(again.Disks, g.Disks) {
		b.Errorf("the disks are %+v, before %+v", again.Disks, g.Disks)
	}
	b.Holds(b.T, g.Disks[0], 'i')
	b.Holds(b.T, g.Disks[1], 'w')
	b.snapshots(g, "@s", "0@s", "1@s")
	if err := b.fetch("i", "i"); err != nil || len(b.asked) != 1 {
		b.Errorf("%d downloads, %v", len(b.asked), err)
	}
	b.refused("another source of the same name", b.fetch("i", "j"), virt.ErrConflict)
	// So that whoever shares a pool with it finds it empty.
	b.remove(g)
	_, err = b.s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: "v"})
	b.do(err)
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"})
	b.do(err)
	b.left("all of it was removed")
}
