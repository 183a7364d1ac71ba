package dir_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
)

// put sends a file of the web as an image.
func (b *bench) put(id, name string) error {
	b.Helper()
	f, err := os.Open(filepath.Join(b.web, name))
	if err != nil {
		b.Fatal(err)
	}
	_, err = b.s.PutImage(b.Context(), &mistify.ImageRequest{ID: id}, f)
	return err
}

// TestTakenFormats takes images of both formats as disks of both.
func TestTakenFormats(t *testing.T) {
	b := newBench(t)
	b.image("qcow2", "qcow2", 3, 'f')
	b.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "qcow2", "raw")
	b.tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "qcow2", "packed")
	before := b.all()
	for _, name := range []string{"qcow2", "raw", "packed"} {
		for _, d := range []mistify.Disk{{Format: "qcow2"}, {Format: "raw"}, {Format: "qcow2", Size: 5}, {Format: "raw", Size: 5}} {
			if err := b.put("i", name); err != nil {
				t.Fatal(name, err)
			}
			d.Image, d.Take = "i", true
			g := b.create(b.guest(d))
			made := g.Disks[0]
			if made.Size != max(3, d.Size) || made.Format != d.Format || made.Take {
				t.Errorf("%s as %+v is the disk %+v", name, d, made)
			}
			if stat, err := os.Stat(made.Source); err != nil || stat.Mode().Perm() != 0o600 {
				t.Errorf("%s as %+v is %v (%v)", name, d, stat.Mode(), err)
			}
			// One that is larger is zero there, which is the same to it.
			b.tool("qemu-img", "compare", "-q", "-f", d.Format, "-F", "qcow2", made.Source, "qcow2")
			b.write(made.Source, d.Format, 'w')
			b.holds(made.Source, d.Format, 'w')
			b.tidy()
			if _, err := b.s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
				t.Fatal(err)
			}
			if now := b.all(); !slices.Equal(now, before) {
				t.Errorf("%s as %+v: left is %q", name, d, now)
			}
		}
	}
}

// TestMovedBytes has a disk with a snapshot that is sent: what took it is sent as
// the same bytes.
func TestMovedBytes(t *testing.T) {
	b := newBench(t)
	b.image("base", "qcow2", 3, 'b')
	if err := b.fetch("base", "base"); err != nil {
		t.Fatal(err)
	}
	stream := func(g *mistify.Guest) []byte {
		t.Helper()
		r := at(g, "0", "")
		r.Dest = "s"
		if _, err := b.s.CreateSnapshot(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		d, err := b.s.DownloadSnapshot(t.Context(), at(g, "0", "s"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := storetest.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	g := b.create(b.guest(mistify.Disk{Image: "base", Size: 9}))
	b.write(g.Disks[0].Source, "qcow2", 'm')
	first := stream(g)
	if err := os.WriteFile(filepath.Join(b.web, "first"), first, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.put("i", "first"); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(b.dir, "images/i/image.qcow2"))
	if err != nil || !bytes.Equal(kept, first) {
		t.Errorf("a stream of a snapshot is not kept as it came (%v)", err)
	}
	moved := b.create(b.guest(mistify.Disk{Image: "i", Take: true}))
	if again := stream(moved); !bytes.Equal(again, first) {
		t.Errorf("what was moved is sent as %d other bytes, first %d", len(again), len(first))
	}
	b.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", moved.Disks[0].Source, "first")
	b.tidy()
}

// TestTakeThatFails has no room for what is made of an image: it is lost then, and
// nothing is left of it.
func TestTakeThatFails(t *testing.T) {
	b := newBench(t)
	b.image("q", "qcow2", 1, 'q')
	before := b.all()
	for word, d := range map[string]mistify.Disk{"convert": {Format: "raw"}, "resize": {Size: 2}} {
		if err := b.put("i", "q"); err != nil {
			t.Fatal(err)
		}
		d.Image, d.Take = "i", true
		b.failing(word, 1, false)
		if _, err := b.s.CreateGuestDisks(t.Context(), &mistify.GuestRequest{Guest: b.guest(d)}); err == nil {
			t.Errorf("%s failed, and it was made", word)
		}
		b.healthy()
		if now := b.all(); !slices.Equal(now, before) {
			t.Errorf("%s failed, and left is %q", word, now)
		}
	}
}

// TestTakeDuringUse has an image cloned while it is taken, and read by a download of
// a disk that is gone.
func TestTakeDuringUse(t *testing.T) {
	b := newBench(t)
	b.image("q", "qcow2", 1, 'q')
	if err := b.put("i", "q"); err != nil {
		t.Fatal(err)
	}
	g := b.create(b.guest(mistify.Disk{Image: "i"}))
	r := at(g, "0", "")
	r.Dest = "s"
	if _, err := b.s.CreateSnapshot(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	d, err := b.s.DownloadSnapshot(t.Context(), at(g, "0", "s"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
		t.Fatal(err)
	}
	take := func() error {
		_, err := b.s.CreateGuestDisks(t.Context(), &mistify.GuestRequest{Guest: b.guest(mistify.Disk{Image: "i", Take: true, Format: "raw"})})
		return err
	}
	b.refused("an image that is read", take(), virt.ErrConflict)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	var clone error
	b.mu.Lock()
	b.fail = func(argv []string) error {
		if slices.Contains(argv, "convert") { // the image is being taken
			if _, err := os.Stat(filepath.Join(b.dir, "images/i")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there are an image and a disk that is being made of it: who is killed now can leave both (%v)", err)
			}
			_, clone = b.s.CloneImage(context.WithoutCancel(t.Context()), &mistify.ImageRequest{ID: "i", Dest: "v"})
		}
		return nil
	}
	b.mu.Unlock()
	if err := take(); err != nil {
		t.Error(err)
	}
	b.refused("a clone of an image that is taken", clone, virt.ErrConflict)
	if there, err := b.s.ListVolumes(t.Context(), &mistify.VolumeRequest{}); err != nil || len(there.Volumes) != 1 {
		t.Errorf("there is %+v (%v)", there, err)
	}
	b.tidy()
}
