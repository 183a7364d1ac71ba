package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// put sends an image.
func (b *bench) put(r *mistify.ImageRequest, content io.Reader) error {
	b.Helper()
	in := &closing{Reader: content}
	out, err := b.s.PutImage(b.Context(), r, in)
	if !in.closed {
		b.Errorf("what was sent was left open (%v)", err)
	}
	if err == nil && (len(out.Images) != 1 || out.Images[0].ID != r.ID || out.Images[0].Status != "complete") {
		b.Errorf("the image that was sent is %+v", out)
	}
	return err
}

// closing is closed when its user has returned.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func (b *bench) images(want ...string) {
	b.Helper()
	out, err := b.s.ListImages(b.Context(), &mistify.ImageRequest{})
	b.do(err)
	var ids []string
	for _, i := range out.Images {
		ids = append(ids, i.ID)
	}
	if !slices.Equal(ids, want) {
		b.Errorf("the images are %q, want %q", ids, want)
	}
}

func put(b *bench) {
	ctx := b.Context()
	data := raw(2, 'p')
	of := sha256.Sum256(data)
	sum, size := hex.EncodeToString(of[:]), uint64(len(data))
	nothing := func(what string, r *mistify.ImageRequest, content io.Reader, want error) {
		b.Helper()
		r.ID = "i"
		b.refused(what, b.put(r, content), want)
		b.images()
		b.left(what)
	}
	nothing("a wrong sum", &mistify.ImageRequest{SHA256: strings.Repeat("0", 64)}, bytes.NewReader(data), virt.ErrInvalid)
	nothing("less than it should have", &mistify.ImageRequest{Size: size + 1}, bytes.NewReader(data), virt.ErrInvalid)
	nothing("more than it should have", &mistify.ImageRequest{Size: size - 1}, bytes.NewReader(data), virt.ErrInvalid)
	nothing("nothing", &mistify.ImageRequest{}, strings.NewReader(""), virt.ErrInvalid)
	nothing("another format", &mistify.ImageRequest{}, strings.NewReader("KDMV and so on"), virt.ErrInvalid)
	nothing("one of containers", &mistify.ImageRequest{Type: mistify.TypeContainer}, bytes.NewReader(data), virt.ErrUnsupported)
	nothing("one with a source", &mistify.ImageRequest{Source: b.url + "/i"}, bytes.NewReader(data), virt.ErrInvalid)
	for _, at := range []int{0, 1000, len(data) / 2, len(data)} {
		for _, cut := range []error{io.ErrUnexpectedEOF, errors.New("connection reset")} {
			nothing("what was cut", &mistify.ImageRequest{}, io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(cut)), cut)
		}
	}

	b.do(b.put(&mistify.ImageRequest{ID: "i", SHA256: strings.ToUpper(sum), Size: size}, bytes.NewReader(data)))
	before := b.All(b.T)
	unread := iotest.ErrReader(errors.New("it was read"))
	b.refused("one that is there", b.put(&mistify.ImageRequest{ID: "i", SHA256: sum}, unread), virt.ErrConflict)
	b.file("i", raw(2, 'q'))
	b.refused("a download of that name", b.fetch("i", "i"), virt.ErrConflict)
	b.images("i")
	if now := b.All(b.T); !slices.Equal(now, before) {
		b.Errorf("what was refused left %q, before was %q", now, before)
	}
	g := b.create(guest(mistify.Disk{Image: "i"})) // as one that was fetched
	b.Holds(b.T, g.Disks[0], 'p')
	b.remove(g)
	_, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"})
	b.do(err)
	b.left("all of it was removed")
}

// take moves a disk as between two hosts, here within one: it is sent as an image,
// which becomes the disk of another guest.
func take(b *bench) {
	ctx := b.Context()
	b.file("base", raw(3, 'b'))
	b.do(b.fetch("base", "base"))
	g := b.create(guest(mistify.Disk{Image: "base", Size: 4}, mistify.Disk{Size: 1}))
	b.Write(b.T, g.Disks[0], 'm')
	b.do(b.take(g, "", "move"))
	sent := b.stream(g, "move")
	b.remove(g)
	_, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "base"})
	b.do(err)
	b.left("what was sent needs nothing of where it was")

	b.do(b.put(&mistify.ImageRequest{ID: "i"}, bytes.NewReader(sent)))
	clone := b.create(guest(mistify.Disk{Image: "i"}))
	before := b.All(b.T)
	_, err = b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: guest(mistify.Disk{Size: 1}, mistify.Disk{Image: "i", Take: true})})
	b.refused("taking an image with clones", err, virt.ErrConflict)
	if now := b.All(b.T); !slices.Equal(now, before) {
		b.Errorf("what was refused left %q, before was %q", now, before)
	}
	b.Holds(b.T, clone.Disks[0], 'm')
	b.remove(clone)

	asked := guest(mistify.Disk{Image: "i", Take: true}, mistify.Disk{Size: 1})
	planned, err := b.s.VerifyDisks(ctx, &mistify.GuestRequest{Guest: asked})
	if err != nil || !planned.Guest.Disks[0].Take {
		b.Errorf("it is to be %+v (%v)", planned, err)
	}
	b.images("i")
	g = b.create(asked)
	if d := g.Disks[0]; d.Take || d.Size != 4 || d.Volume == "" {
		b.Errorf("the disk is %+v", d)
	}
	b.images()
	_, err = b.s.GetImage(ctx, &mistify.ImageRequest{ID: "i"})
	b.refused("an image that became a disk", err, virt.ErrNotFound)
	_, err = b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: guest(mistify.Disk{Image: "i", Take: true})})
	b.refused("taking it again", err, virt.ErrConflict)
	b.Holds(b.T, g.Disks[0], 'm')
	b.snapshots(g) // not even what was cloned from
	b.do(b.take(g, "", "again"))
	b.snapshots(g, "@again", "0@again", "1@again")
	again := b.stream(g, "again")

	// The disk is there, so it takes nothing, of the old image or a new one.
	b.Write(b.T, g.Disks[0], 'n')
	b.create(asked)
	b.do(b.put(&mistify.ImageRequest{ID: "i"}, bytes.NewReader(again)))
	repeated := g.Clone()
	repeated.Disks[0].Take = true
	if made := b.create(repeated); !slices.Equal(made.Disks, g.Disks) {
		b.Errorf("again: %+v, first %+v", made.Disks, g.Disks)
	}
	b.images("i")
	b.Holds(b.T, g.Disks[0], 'n')
	b.close()
	b.open()
	b.Holds(b.T, g.Disks[0], 'n')
	_, err = b.s.RollbackSnapshot(ctx, At(g, "0", "again"))
	b.do(err)
	b.Holds(b.T, g.Disks[0], 'm')
	b.remove(g)
	b.images("i")

	// What was sent of it is the same disk, and grows.
	g = guest(mistify.Disk{Image: "i", Take: true, Size: 6})
	const job = "0f8fad5b-d9cb-469f-a165-70867728950e"
	out, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g, Job: job})
	b.do(err)
	if d := out.Guest.Disks[0]; d.Size != 6 || d.Take {
		b.Errorf("the disk is %+v", d)
	}
	b.Holds(b.T, out.Guest.Disks[0], 'm')
	_, err = b.s.UndoGuestDisks(ctx, &mistify.GuestRequest{Guest: out.Guest, Job: job})
	b.do(err)
	b.left("what was taken was taken back")
}

// stream downloads a snapshot of a guest's first disk.
func (b *bench) stream(g *mistify.Guest, name string) []byte {
	b.Helper()
	d, err := b.s.DownloadSnapshot(b.Context(), At(g, "0", name))
	b.do(err)
	data, err := ReadAll(d)
	b.do(err)
	return data
}
