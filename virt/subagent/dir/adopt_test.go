package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

// Disks that somebody else names, makes and removes have images, snapshots and
// numbers that stay theirs.
func TestAdopt(t *testing.T) {
	b := newBench(t)
	ctx, id := t.Context(), uuid.NewString()
	g := &mistify.Guest{ID: id}
	adopt := func(want []int, names ...string) {
		t.Helper()
		var files []dir.File
		for _, name := range names {
			files = append(files, dir.File{Name: name, Format: "qcow2"})
		}
		if got, err := b.s.Adopt(ctx, id, files); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q have the numbers %v (%v), want %v", names, got, err, want)
		}
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	b.image("i.qcow2", "qcow2", 1, 'i')
	_, err := b.s.FetchImage(ctx, &mistify.ImageRequest{ID: "i", Source: b.url + "/i.qcow2"})
	must("fetch", err)
	adopt([]int{0, 1}, "web1-a", "web1-b")
	if _, err := b.s.CreateSnapshot(ctx, at(g, "", "s")); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("a snapshot of disks that are not there: %v", err)
	}
	for _, name := range []string{"web1-a", "web1-b"} {
		f := dir.File{Name: name, Format: "qcow2"}
		must("make", b.s.MakeFile(ctx, id, f, "i", 2))
		must("make again", b.s.MakeFile(ctx, id, f, "i", 2))
	}
	if err := b.s.MakeFile(ctx, id, dir.File{Name: "web1-a", Format: "qcow2"}, "other", 2); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("the clone of another image: %v", err)
	}
	b.holds(filepath.Join(b.dir, "web1-a"), "qcow2", 'i')
	if _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"}); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("an image with clones: %v", err)
	}
	_, err = b.s.CreateSnapshot(ctx, at(g, "", "s"))
	must("snapshot", err)
	b.write(filepath.Join(b.dir, "web1-a"), "qcow2", 'z')
	b.open(dir.Options{})
	b.snapshots(g, "@s", "0@s", "1@s")

	// One is taken away, and is what it was when it comes back; another is not it.
	adopt([]int{0}, "web1-a")
	if _, err := b.s.RollbackSnapshot(ctx, at(g, "", "s")); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("rolling half of a snapshot back: %v", err)
	}
	if _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"}); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("an image with clones: %v", err)
	}
	adopt([]int{0, 2, 1}, "web1-a", "web1-c", "web1-b")
	adopt([]int{0, 1}, "web1-a", "web1-b")
	_, err = b.s.RollbackSnapshot(ctx, at(g, "", "s"))
	must("roll back", err)
	b.holds(filepath.Join(b.dir, "web1-a"), "qcow2", 'i')

	must("remove", os.Remove(filepath.Join(b.dir, "web1-b")))
	must("release", b.s.Release(ctx, id))
	b.snapshots(g, "@s", "0@s")
	must("remove", os.Remove(filepath.Join(b.dir, "web1-a")))
	must("release", b.s.Release(ctx, id))
	must("release again", b.s.Release(ctx, id))
	if _, err := os.Stat(filepath.Join(b.dir, "guests", id)); !os.IsNotExist(err) {
		t.Errorf("of a guest without disks there is left: %v", err)
	}
	_, err = b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"})
	must("delete the image", err)

	for _, name := range []string{"", ".", "..", "../x", "a/b", "a,b", "images", "lock", "half"} {
		if _, err := b.s.Adopt(ctx, id, []dir.File{{Name: name, Format: "qcow2"}}); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("a disk called %q: %v", name, err)
		}
	}
	if _, err := b.s.Adopt(ctx, id, []dir.File{{Name: "a", Format: "vmdk"}}); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("a disk of another format: %v", err)
	}
}
