package sim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

func (b *bench) put(r *mistify.ImageRequest, content io.Reader) error {
	_, err := b.a.Images(false).Put(b.Context(), r, io.NopCloser(content))
	return err
}

func (b *bench) images() (ids []string) {
	b.Helper()
	out, err := b.a.Images(false).List(b.Context(), &mistify.ImageRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, i := range out.Images {
		ids = append(ids, i.ID)
	}
	return ids
}

// snapshotOf takes a snapshot of a guest's first disk and downloads it.
func (b *bench) snapshotOf(g *mistify.Guest, name string) []byte {
	b.Helper()
	r := mistify.SnapshotID{Guest: g.ID, Disk: "0"}.Request()
	r.Dest = name
	if _, err := b.a.CreateSnapshot(b.Context(), &r); err != nil {
		b.Fatal(err)
	}
	r = mistify.SnapshotID{Guest: g.ID, Disk: "0", Name: name}.Request()
	content, _, err := b.a.DownloadSnapshot(b.Context(), &r)
	if err != nil {
		b.Fatal(err)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// TestMoved sends the disk of a guest from one host to another, where it is the
// same disk, and a download of it the same bytes.
func TestMoved(t *testing.T) {
	from, to := newBench(t, sim.Options{}), newBench(t, sim.Options{})
	for name, text := range map[string]string{"text": "what it holds", "nothing": "", "zeros": "a\x00b\x00", "long": strings.Repeat("long", 1<<18)} {
		g := from.do(from.guest(), from.a.Provision, "")
		from.do(g, from.a.Define, virt.Stopped)
		from.write(g, 0, text)
		sent := from.snapshotOf(g, "move")
		if len(sent) != 1<<20 {
			t.Errorf("%s: %d bytes are sent", name, len(sent))
		}
		sum := sha256.Sum256(sent)
		if err := to.put(&mistify.ImageRequest{ID: "i", Size: 1 << 20, SHA256: hex.EncodeToString(sum[:])}, bytes.NewReader(sent)); err != nil {
			t.Fatal(name, err)
		}
		to.refused("an image that is there", to.put(&mistify.ImageRequest{ID: "i"}, iotest.ErrReader(errors.New("it was read"))), virt.ErrConflict)
		moved := &mistify.Guest{ID: g.ID, CPU: 1, Memory: 64, Disks: []mistify.Disk{{Image: "i", Take: true, Size: 2}}}
		moved = to.do(moved, to.a.Provision, "")
		if moved.Disks[0].Take || len(to.images()) > 0 {
			t.Errorf("%s: the disk is %+v, the images are %q", name, moved.Disks[0], to.images())
		}
		to.holds(moved, 0, text)
		to.do(moved, to.a.Define, virt.Stopped)
		if again := to.snapshotOf(moved, "again"); !bytes.Equal(again, sent) {
			t.Errorf("%s: the disk that was moved is sent as other bytes", name)
		}

		// What is there takes nothing, whether the image is there or not.
		to.write(moved, 0, "changed")
		moved.Disks[0].Take = true
		to.do(moved, to.a.Provision, virt.Stopped)
		if err := to.put(&mistify.ImageRequest{ID: "i"}, strings.NewReader("other")); err != nil {
			t.Fatal(name, err)
		}
		to.do(moved, to.a.Provision, virt.Stopped)
		to.holds(moved, 0, "changed")
		if left := to.images(); len(left) != 1 {
			t.Errorf("%s: the images are %q", name, left)
		}
		if _, err := to.a.Images(false).Delete(t.Context(), &mistify.ImageRequest{ID: "i"}); err != nil {
			t.Error(err)
		}
		to.do(moved, to.a.Delete, "")
	}
}

func TestSentAndNotTaken(t *testing.T) {
	b := newBench(t, sim.Options{FetchTime: time.Minute})
	cut := io.MultiReader(strings.NewReader("some"), iotest.ErrReader(io.ErrUnexpectedEOF))
	b.refused("what was cut", b.put(&mistify.ImageRequest{ID: "i"}, cut), io.ErrUnexpectedEOF)
	b.refused("a wrong sum", b.put(&mistify.ImageRequest{ID: "i", SHA256: strings.Repeat("0", 64)}, strings.NewReader("x")), virt.ErrInvalid)
	b.refused("a wrong size", b.put(&mistify.ImageRequest{ID: "i", Size: 2}, strings.NewReader("x")), virt.ErrInvalid)
	b.refused("nothing", b.put(&mistify.ImageRequest{ID: "i"}, strings.NewReader("")), virt.ErrInvalid)
	b.refused("a bad name", b.put(&mistify.ImageRequest{ID: "../i"}, strings.NewReader("x")), virt.ErrInvalid)
	b.refused("a source", b.put(&mistify.ImageRequest{ID: "i", Source: "http://x/y"}, strings.NewReader("x")), virt.ErrInvalid)
	b.refused("one of containers", b.put(&mistify.ImageRequest{ID: "i", Type: mistify.TypeContainer}, strings.NewReader("x")), virt.ErrUnsupported)
	in, _ := io.Pipe() // nothing comes
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.a.Images(false).Put(ctx, &mistify.ImageRequest{ID: "i"}, in)
	b.refused("what never came", err, context.DeadlineExceeded)
	if left := b.images(); len(left) > 0 {
		t.Errorf("the images are %q", left)
	}

	if err := b.put(&mistify.ImageRequest{ID: "i"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	provision := func(disks ...mistify.Disk) error {
		g := b.guest()
		g.Disks = disks
		_, err := b.a.Provision(t.Context(), &mistify.GuestRequest{Guest: g})
		return err
	}
	b.refused("no image", provision(mistify.Disk{Take: true, Size: 1}), virt.ErrInvalid)
	b.refused("one for two", provision(mistify.Disk{Image: "i", Take: true}, mistify.Disk{Image: "i"}), virt.ErrInvalid)
	b.refused("one that is not here", provision(mistify.Disk{Image: "i", Take: true}, mistify.Disk{Image: "none"}), virt.ErrConflict)
	if left := b.images(); len(left) != 1 {
		t.Errorf("the images are %q", left)
	}
}
