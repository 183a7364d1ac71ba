package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func notTaken(b *bench) {
	b.file("secret", raw(1, 's'))
	b.qcow2("good", 1, 'g')
	secret := filepath.Join(b.web, "secret")
	b.qemuImg("create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, "backing")
	b.qemuImg("create", "-q", "-f", "qcow2", "-o", "data_file="+secret, "datafile", "1M")
	b.qemuImg("create", "-q", "-f", "qcow2", "huge", "17T")
	b.qemuImg("create", "-q", "-f", "vmdk", "vmdk", "1M")
	good, err := os.ReadFile(filepath.Join(b.web, "good"))
	b.do(err)
	for name, change := range map[string]func([]byte) []byte{
		"crypt":    func(d []byte) []byte { binary.BigEndian.PutUint32(d[32:], 1); return d },
		"header":   func(d []byte) []byte { return d[:60] },
		"dataflag": func(d []byte) []byte { d[79] |= 4; return d },
		"cut":      func(d []byte) []byte { return d[:len(d)/3] },
		"stream":   func([]byte) []byte { return append(make([]byte, 8), 0xac, 0xcb, 0xba, 0xf5, 2, 0, 0, 0, 0) },
	} {
		b.file(name, change(slices.Clone(good)))
	}
	for _, name := range []string{"backing", "datafile", "huge", "vmdk", "crypt", "header", "dataflag", "cut", "stream"} {
		if err := b.fetch("bad", name); !errors.Is(err, virt.ErrInvalid) {
			b.Errorf("%s: %v", name, err)
		}
		out, err := b.s.ListImages(b.Context(), &mistify.ImageRequest{})
		if err != nil || len(out.Images) != 0 {
			b.Errorf("%s: the images are %+v (%v)", name, out, err)
		}
		b.left(name)
	}
	_, err = b.s.FetchImage(b.Context(), &mistify.ImageRequest{ID: "good", Source: b.url + "/good", SHA256: strings.Repeat("0", 64)})
	b.refused("a wrong sum", err, virt.ErrInvalid)
	_, err = b.s.FetchImage(b.Context(), &mistify.ImageRequest{ID: "good", Source: b.url + "/good", Type: mistify.TypeContainer})
	b.refused("an image of containers", err, virt.ErrUnsupported)
	b.refused("what is not there", b.fetch("none", "none"), virt.ErrNotFound)
	b.left("what was not taken")
	b.do(b.fetch("good", "good"))
	b.refused("another source of the same name", b.fetch("good", "huge"), virt.ErrConflict)
	_, err = b.s.DeleteImage(b.Context(), &mistify.ImageRequest{ID: "good"})
	b.do(err)
	b.left("the good one was removed")
}

// BadNames are no single words.
func BadNames() []string {
	return []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a..b", "a@b", "@", "-rf", "--", "a\nb", "a b", "a,b", "a\tb", "a\x00b", "ä", "a'b", "a%b", "a#b", "$(id)", "json:{}", strings.Repeat("a", 256)}
}

// Calls are all that a name can be given to, each with one that is bad. What they
// answer must be a virt.ErrInvalid.
func Calls(ctx context.Context, s Opened, g *mistify.Guest, bad, url string) map[string]func() error {
	with := func(d mistify.Disk) *mistify.GuestRequest {
		return &mistify.GuestRequest{Guest: &mistify.Guest{ID: g.ID, Disks: []mistify.Disk{d}}}
	}
	calls := map[string]func() error{
		"GetImage":    func() error { _, err := s.GetImage(ctx, &mistify.ImageRequest{ID: bad}); return err },
		"DeleteImage": func() error { _, err := s.DeleteImage(ctx, &mistify.ImageRequest{ID: bad}); return err },
		"FetchImage": func() error {
			_, err := s.FetchImage(ctx, &mistify.ImageRequest{ID: bad, Source: url + "/.."})
			return err
		},
		"PutImage": func() error {
			_, err := s.PutImage(ctx, &mistify.ImageRequest{ID: bad}, io.NopCloser(strings.NewReader("x")))
			return err
		},
		"CloneImage":      func() error { _, err := s.CloneImage(ctx, &mistify.ImageRequest{ID: bad, Dest: "x"}); return err },
		"CloneImage to":   func() error { _, err := s.CloneImage(ctx, &mistify.ImageRequest{ID: "x", Dest: bad}); return err },
		"GetVolume":       func() error { _, err := s.GetVolume(ctx, &mistify.VolumeRequest{ID: bad}); return err },
		"GetVolume below": func() error { _, err := s.GetVolume(ctx, &mistify.VolumeRequest{ID: "guests/" + bad}); return err },
		"CreateVolume":    func() error { _, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: bad, Size: 1}); return err },
		"DeleteVolume":    func() error { _, err := s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: bad}); return err },
		"a guest": func() error {
			_, err := s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: &mistify.Guest{ID: bad}})
			return err
		},
		"removing a guest": func() error {
			_, err := s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: &mistify.Guest{ID: bad}})
			return err
		},
		"a disk's volume": func() error {
			_, err := s.CreateGuestDisks(ctx, with(mistify.Disk{Size: 1, Volume: "guests/" + g.ID + "/disk-" + bad}))
			return err
		},
		"a disk's format": func() error {
			_, err := s.CreateGuestDisks(ctx, with(mistify.Disk{Size: 1, Format: "x" + bad}))
			return err
		},
		"a snapshot": func() error {
			_, err := s.CreateSnapshot(ctx, &mistify.SnapshotRequest{ID: "guests/" + g.ID + "@" + bad, Dest: "x"})
			return err
		},
		"a snapshot's guest": func() error {
			_, err := s.ListSnapshots(ctx, &mistify.SnapshotRequest{ID: "guests/" + bad})
			return err
		},
		"a snapshot's disk": func() error {
			_, err := s.ListSnapshots(ctx, &mistify.SnapshotRequest{ID: "guests/" + g.ID + "/disk-" + bad})
			return err
		},
	}
	if bad != "" {
		calls["a disk's image"] = func() error { _, err := s.CreateGuestDisks(ctx, with(mistify.Disk{Image: bad})); return err }
	}
	if bad == "a@b" { // the disk a, and its snapshot b
		delete(calls, "a snapshot's disk")
	}
	return calls
}

func names(b *bench) {
	g := guest(mistify.Disk{Size: 1})
	for _, bad := range BadNames() {
		for what, call := range Calls(b.Context(), b.s, g, bad, b.url) {
			if err := call(); !errors.Is(err, virt.ErrInvalid) {
				b.Errorf("%s %.20q: %v", what, bad, err)
			}
		}
	}
	for name, g := range map[string]*mistify.Guest{
		"neither image nor size": guest(mistify.Disk{}), "no image to take": guest(mistify.Disk{Take: true, Size: 1}),
		"an image to take and to clone": guest(mistify.Disk{Take: true, Image: "i"}, mistify.Disk{Image: "i"}), "too large": guest(mistify.Disk{Size: 17 << 20}), "no guest": nil,
	} {
		_, err := b.s.VerifyDisks(b.Context(), &mistify.GuestRequest{Guest: g})
		b.refused(name, err, virt.ErrInvalid)
	}
	b.left("bad names")
}
