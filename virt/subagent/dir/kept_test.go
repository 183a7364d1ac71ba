package dir_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
)

// TestKept fetches images: what is raw, or a qcow2 of nothing but content, is the
// image as it came; what says more is made anew.
func TestKept(t *testing.T) {
	b := newBench(t)
	b.image("plain", "qcow2", 3, 'p')
	made := func(name string, options ...string) {
		b.tool(append(append([]string{"qemu-img", "convert", "-f", "qcow2", "-O", "qcow2"}, options...), "plain", name)...)
	}
	made("old", "-o", "compat=0.10")
	made("lazy", "-o", "lazy_refcounts=on")
	made("small", "-o", "cluster_size=4k")
	made("metadata", "-o", "preallocation=metadata")
	made("packed", "-c")
	made("zstd", "-c", "-o", "compression_type=zstd")
	made("wide", "-o", "extended_l2=on")
	made("shelf")
	b.tool("qemu-img", "snapshot", "-c", "secret", "shelf")
	b.write("shelf", "qcow2", 'q')
	made("bitmap")
	b.tool("qemu-img", "bitmap", "--add", "bitmap", "b")
	for name, kept := range map[string]bool{
		"plain": true, "old": true, "lazy": true, "small": true, "metadata": true,
		"packed": false, "zstd": false, "wide": false, "shelf": false, "bitmap": false,
	} {
		if err := b.fetch(name, name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.whole(name, name)
		got, err := os.ReadFile(filepath.Join(b.dir, "images", name, "image.qcow2"))
		if err != nil {
			t.Fatal(err)
		}
		sent, err := os.ReadFile(filepath.Join(b.web, name))
		if err != nil || bytes.Equal(got, sent) != kept {
			t.Errorf("%s: the image is what was sent: %v, want %v (%v)", name, !kept, kept, err)
		}
		if left := b.tool("qemu-img", "snapshot", "-l", filepath.Join(b.dir, "images", name, "image.qcow2")); left != "" {
			t.Errorf("%s: the image has snapshots: %s", name, left)
		}
	}
	b.tidy()
}

// TestRawImage has an image that is raw, with holes, and ends within a sector.
func TestRawImage(t *testing.T) {
	b := newBench(t)
	const size = 8<<20 + 100
	data := make([]byte, size)
	copy(data, bytes.Repeat([]byte{'r'}, 64<<10))
	copy(data[5<<20+130<<10:], "QFI\xfb in the middle is no header")
	copy(data[size-100:], bytes.Repeat([]byte{'e'}, 100))
	if err := os.WriteFile(filepath.Join(b.web, "r"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.fetch("r", "r"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "images/r/image.raw")
	stat, err := os.Stat(file)
	if err != nil || stat.Size() != 8<<20+512 || stat.Mode().Perm() != 0o444 {
		t.Fatalf("the image is %+v (%v)", stat, err)
	}
	if sys, ok := stat.Sys().(*syscall.Stat_t); !ok || sys.Blocks*512 > 512<<10 {
		t.Errorf("the image has %d KB on disk, and mostly holes", sys.Blocks/2)
	}
	before, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(before[:size], data) {
		t.Errorf("it is not what was sent (%v)", err)
	}

	g := b.create(b.guest(mistify.Disk{Image: "r"}, mistify.Disk{Image: "r", Format: "raw", Size: 10}))
	var info struct {
		Format string `json:"backing-filename-format"`
	}
	if err := json.Unmarshal([]byte(b.tool("qemu-img", "info", "--output=json", g.Disks[0].Source)), &info); err != nil || info.Format != "raw" {
		t.Errorf("QEMU would guess the format below %s: %+v (%v)", g.Disks[0].Source, info, err)
	}
	b.holds(g.Disks[0].Source, "qcow2", 'r')
	b.holds(g.Disks[1].Source, "raw", 'r')
	b.write(g.Disks[0].Source, "qcow2", 'w')

	r := at(g, "0", "")
	r.Dest = "s"
	if _, err := b.s.CreateSnapshot(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	b.write(g.Disks[0].Source, "qcow2", 'x')
	d, err := b.s.DownloadSnapshot(t.Context(), at(g, "0", "s"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := storetest.ReadAll(d)
	if err != nil || len(got) > 1<<20 {
		t.Fatalf("the snapshot has %d bytes, and is mostly holes (%v)", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(b.web, "got"), got, 0o600); err != nil {
		t.Fatal(err)
	}
	copy(data, bytes.Repeat([]byte{'w'}, 64<<10))
	if err := os.WriteFile(filepath.Join(b.web, "want"), append(data, make([]byte, 1<<20-100)...), 0o600); err != nil {
		t.Fatal(err)
	}
	b.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", "got", "want")
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the image was written to (%v)", err)
	}
	if _, err := b.s.DeleteImage(t.Context(), &mistify.ImageRequest{ID: "r"}); err == nil {
		t.Error("an image with a clone was removed")
	}
	if _, err := b.s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error(err)
	}
	if _, err := b.s.DeleteImage(t.Context(), &mistify.ImageRequest{ID: "r"}); err != nil {
		t.Error(err)
	}
	b.tidy()
}

// TestImageOfEarlierVersion has an image whose record names no format: a qcow2.
func TestImageOfEarlierVersion(t *testing.T) {
	b := newBench(t)
	b.image("i", "qcow2", 1, 'i')
	if err := b.fetch("i", "i"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "images/i/image.json")
	var record map[string]any
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil || record["format"] != "qcow2" {
		t.Fatalf("%s (%v)", data, err)
	}
	delete(record, "format")
	if data, err = json.Marshal(record); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := b.create(b.guest(mistify.Disk{Image: "i"}))
	b.holds(g.Disks[0].Source, "qcow2", 'i')
	if err := b.fetch("i", "i"); err != nil || len(b.asked) != 1 {
		t.Errorf("%d downloads, %v", len(b.asked), err)
	}
}

// TestFetchWithoutRoom fetches an image that has no room, onto a small disk.
func TestFetchWithoutRoom(t *testing.T) {
	real(t)
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	b := newBenchIn(t, folder)
	f, err := os.Create(filepath.Join(b.web, "large"))
	if err == nil {
		_, err = io.Copy(f, bytes.NewReader(bytes.Repeat([]byte("full"), 10<<20)))
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(b.all())
	if err := b.fetch("large", "large"); err == nil {
		t.Error("an image is there that has no room")
	}
	if now := fmt.Sprint(b.all()); now != before {
		t.Errorf("left is %s, before was %s", now, before)
	}
}
