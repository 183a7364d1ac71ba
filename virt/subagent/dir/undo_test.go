package dir_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

func TestUndoGuestDisks(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	before := b.all()
	undo := func(g *mistify.Guest, job string) *mistify.Guest {
		t.Helper()
		out, err := b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: job})
		if err != nil {
			t.Fatal(err)
		}
		return out.Guest
	}
	create := func(g *mistify.Guest, job string) *mistify.Guest {
		t.Helper()
		out, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: job})
		if err != nil {
			t.Fatal(err)
		}
		return out.Guest
	}
	seeded := func(disks ...mistify.Disk) *mistify.Guest {
		g := b.guest(disks...)
		g.CloudInit.UserData = "#cloud-config\n"
		return g
	}

	// All of a new guest goes, by the job that made it alone.
	asked := seeded(mistify.Disk{Size: 1}, mistify.Disk{Size: 1, Format: "raw"})
	g := create(asked, "one")
	there := b.all()
	undo(g, "two")
	if now := b.all(); !slices.Equal(now, there) {
		t.Errorf("another job removed: %q, was %q", now, there)
	}
	for range 2 {
		g = undo(g, "one")
		if now := b.all(); !slices.Equal(now, before) {
			t.Errorf("left: %q", now)
		}
		if g.Disks[0].Source != "" || g.Disks[1].Volume != "" || g.CloudInit.Disk != "" {
			t.Errorf("it answers %+v", g)
		}
	}

	// Of a guest whose disk was there before only the new ones go.
	g = create(b.guest(mistify.Disk{Size: 1}), "one")
	b.write(g.Disks[0].Source, "qcow2", 'k')
	g.Disks = append(g.Disks, mistify.Disk{Size: 1})
	g.CloudInit.UserData = "#cloud-config\n"
	there = slices.DeleteFunc(b.all(), func(name string) bool { return strings.HasSuffix(name, "made.json") })
	g = create(g, "two")
	g = create(g, "two") // again, as after a crash
	undo(g, "one")       // a late one
	b.holds(g.Disks[1].Source, "qcow2", 0)
	g = undo(g, "two")
	if now := b.all(); !slices.Equal(now, there) {
		t.Errorf("left: %q, want %q", now, there)
	}
	b.holds(g.Disks[0].Source, "qcow2", 'k')
	if g.Disks[0].Volume == "" || g.Disks[1].Volume != "" || g.CloudInit.Disk != "" {
		t.Errorf("it answers %+v", g)
	}
	g.Disks, g.CloudInit = g.Disks[:1], virt.CloudInit{}
	if _, err := b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error(err)
	}

	// A call that fails leaves nothing, and there is nothing to undo.
	fresh := seeded(mistify.Disk{Size: 1}, mistify.Disk{Size: 1})
	b.failing("create", 2, false)
	if _, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: fresh, Job: "three"}); err == nil {
		t.Error("it was made")
	}
	b.healthy()
	undo(fresh, "three")
	undo(b.guest(), "never begun")
	if now := b.all(); !slices.Equal(now, before) {
		t.Errorf("left: %q", now)
	}

	// A disk that is in use stays, and so does what it stands beside.
	g = create(seeded(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}), "four")
	there = b.all()
	m := boot(t, g.Disks[1].Source)
	_, err := b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: "four"})
	b.refused("the disks of a guest that runs", err, virt.ErrBusy)
	if now := b.all(); !slices.Equal(now, there) {
		t.Errorf("left: %q, want %q", now, there)
	}
	m.halt()
	undo(g, "four")
	if now := b.all(); !slices.Equal(now, before) {
		t.Errorf("left: %q", now)
	}
	_, err = b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	b.refused("an undo of no job", err, virt.ErrInvalid)
}

// A download of a snapshot is a whole image, of the same bytes from any offset on,
// and while it is read nobody can remove the snapshot.
func TestStream(t *testing.T) {
	b := newBench(t)
	ctx, s := t.Context(), b.s
	b.image("i", "qcow2", 4, 'i')
	if err := b.fetch("i", "i"); err != nil {
		t.Fatal(err)
	}
	g := b.create(b.guest(mistify.Disk{Image: "i", Size: 9}))
	disk := g.Disks[0].Source
	take := func(name string) {
		t.Helper()
		r := at(g, "", "")
		r.Dest = name
		if _, err := s.CreateSnapshot(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	take("old")
	b.tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 99 1M 3M", disk)
	take("mine")
	b.write(disk, "qcow2", 'x')
	take("new")
	open := func(offset int64) *mistify.Download {
		t.Helper()
		r := at(g, "0", "mine")
		r.Offset = offset
		d, err := s.DownloadSnapshot(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	runs := len(b.argvs)
	d := open(0)
	for _, argv := range b.argvs[runs:] {
		if slices.Contains(argv, "convert") {
			t.Errorf("qemu-img converts: %q", argv)
		}
	}
	_, err := s.DeleteSnapshot(ctx, at(g, "0", "mine"))
	b.refused("removing what is being downloaded", err, virt.ErrConflict)
	back := at(g, "0", "old")
	back.DestroyMoreRecent = true
	_, err = s.RollbackSnapshot(ctx, back)
	b.refused("a rollback over what is being downloaded", err, virt.ErrConflict)
	half := make([]byte, d.Length/3)
	if _, err := io.ReadFull(d, half); err != nil {
		t.Fatal(err)
	}
	b.write(disk, "qcow2", 'y') // while it is read
	rest, err := readAll(d)
	if err != nil || int64(len(half)+len(rest)) != d.Length {
		t.Fatalf("%d bytes of %d (%v)", len(half)+len(rest), d.Length, err)
	}
	again, err := readAll(open(int64(len(half))))
	if err != nil || !bytes.Equal(again, rest) {
		t.Errorf("it goes on with others (%v)", err)
	}
	got := filepath.Join(b.web, "got.qcow2")
	if err := os.WriteFile(got, append(half, rest...), 0o600); err != nil {
		t.Fatal(err)
	}
	b.tool("qemu-img", "check", "-q", "-f", "qcow2", got)
	b.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l", "snapshot.name=snap-mine", disk, "want")
	b.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", got, "want")
	for _, offset := range []int64{-1, d.Length + 1} {
		r := at(g, "0", "mine")
		r.Offset = offset
		_, err := s.DownloadSnapshot(ctx, r)
		b.refused("an offset outside", err, virt.ErrInvalid)
	}
	m := boot(t, disk) // it can be downloaded while the guest runs
	if again, err := readAll(open(0)); err != nil || !bytes.Equal(again, append(half, rest...)) {
		t.Errorf("of a guest that runs it is another (%v)", err)
	}
	m.halt()
	if _, err := s.DeleteSnapshot(ctx, at(g, "0", "mine")); err != nil {
		t.Error(err)
	}
	b.tidy()
	b.open(dir.Options{})
}

// The disk for cloud-init is made with the others and goes with them, and nothing
// that it holds is told.
func TestSeed(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	g := b.guest(mistify.Disk{Size: 1})
	g.Name, g.CloudInit.UserData = "web1", "#cloud-config\npassword: hush\n"
	g = b.create(g)
	data, err := os.ReadFile(g.CloudInit.Disk)
	if err != nil || !bytes.Contains(data, []byte("hush")) || !bytes.Contains(data, []byte(`"local-hostname": "web1"`)) {
		t.Errorf("%d bytes in %s (%v)", len(data), g.CloudInit.Disk, err)
	}
	if stat, err := os.Stat(g.CloudInit.Disk); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", stat, err)
	}
	g.CloudInit.UserData = "#cloud-config\npassword: other\n" // defined anew
	g = b.create(g)
	if data, err := os.ReadFile(g.CloudInit.Disk); err != nil || !bytes.Contains(data, []byte("other")) || bytes.Contains(data, []byte("hush")) {
		t.Errorf("it was not made anew (%v)", err)
	}
	out, err := b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	if err != nil || out.Guest.CloudInit.Disk != "" {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := os.Stat(g.CloudInit.Disk); err == nil {
		t.Error("it is still there")
	}
	own := b.guest()
	own.CloudInit = virt.CloudInit{UserData: "hush", Disk: "/elsewhere/seed.iso"}
	if own = b.create(own); own.CloudInit.Disk != "/elsewhere/seed.iso" {
		t.Errorf("%+v", own.CloudInit)
	}
	own.CloudInit = virt.CloudInit{UserData: strings.Repeat("hush", 1<<16)}
	_, err = b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: own})
	b.refused("too much", err, virt.ErrInvalid)
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("it tells %.200v", err)
	}
	b.tidy()
}
