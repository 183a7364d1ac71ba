package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Subject is a store that is tried. It may fetch from loopback addresses.
type Subject struct {
	// Open opens it, empty, or again with what it has: it was closed before.
	Open func(t *testing.T) Opened
	// Write fills the first 64 KiB of a disk with a letter, Holds checks that.
	Write func(t *testing.T, d mistify.Disk, letter byte)
	Holds func(t *testing.T, d mistify.Disk, letter byte)
	// All lists all that the store has, which half done things are too.
	All func(t *testing.T) []string
}

// Opened is a Store that can be closed.
type Opened interface {
	store.Store
	Register(*mistify.Server)
	Close() error
}

// bench is a store with a server of images.
type bench struct {
	*testing.T
	Subject
	s     Opened
	empty []string // what it has before anything was made
	web   string
	url   string
	mu    sync.Mutex
	asked []string
}

func newBench(t *testing.T, subject Subject) *bench {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		testlong.Missing(t, "qemu-img is not installed: apt-get install qemu-utils")
	}
	b := &bench{T: t, Subject: subject, web: t.TempDir()}
	files := http.FileServer(http.Dir(b.web))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.asked = append(b.asked, r.URL.Path)
		b.mu.Unlock()
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	b.open()
	b.empty = b.All(t)
	return b
}

func (b *bench) open() {
	b.Helper()
	s := b.Subject.Open(b.T)
	b.s = s
	b.Cleanup(func() {
		if b.s == s {
			b.close()
		}
	})
}

func (b *bench) close() {
	b.Helper()
	s := b.s
	b.s = nil
	if err := s.Close(); err != nil {
		b.Error(err)
	}
}

// left checks that nothing is there but what was before.
func (b *bench) left(what string) {
	b.Helper()
	if now := b.All(b.T); !slices.Equal(now, b.empty) {
		b.Errorf("%s: left is %q, before was %q", what, now, b.empty)
	}
}

func (b *bench) do(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) refused(what string, err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

// file puts a file onto the web.
func (b *bench) file(name string, data []byte) (sum string) {
	b.Helper()
	b.do(os.WriteFile(filepath.Join(b.web, name), data, 0o600))
	of := sha256.Sum256(data)
	return hex.EncodeToString(of[:])
}

// raw is a raw disk of so many MB, which begins with a letter.
func raw(mb int, letter byte) []byte {
	data := make([]byte, mb<<20)
	copy(data, bytes.Repeat([]byte{letter}, 64<<10))
	return data
}

// qemuImg runs it on the files of the web.
func (b *bench) qemuImg(args ...string) {
	b.Helper()
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir = b.web
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("qemu-img %q: %v: %s", args, err, out)
	}
}

// qcow2 puts such an image onto the web.
func (b *bench) qcow2(name string, mb int, letter byte) {
	b.Helper()
	b.file(name+".raw", raw(mb, letter))
	b.qemuImg("convert", "-f", "raw", "-O", "qcow2", name+".raw", name)
	b.do(os.Remove(filepath.Join(b.web, name+".raw")))
}

func (b *bench) fetch(id, name string) error {
	_, err := b.s.FetchImage(b.Context(), &mistify.ImageRequest{ID: id, Source: b.url + "/" + name})
	return err
}

func guest(disks ...mistify.Disk) *mistify.Guest {
	return &mistify.Guest{ID: uuid.NewString(), Disks: disks}
}

func (b *bench) create(g *mistify.Guest) *mistify.Guest {
	b.Helper()
	out, err := b.s.CreateGuestDisks(b.Context(), &mistify.GuestRequest{Guest: g})
	b.do(err)
	return out.Guest
}

func (b *bench) remove(g *mistify.Guest) *mistify.Guest {
	b.Helper()
	out, err := b.s.DeleteGuestDisks(b.Context(), &mistify.GuestRequest{Guest: g})
	b.do(err)
	return out.Guest
}

// At is the request about a snapshot of a guest.
func At(g *mistify.Guest, disk, name string) *mistify.SnapshotRequest {
	r := mistify.SnapshotID{Guest: g.ID, Disk: disk, Name: name}.Request()
	return &r
}

func (b *bench) take(g *mistify.Guest, disk, name string) error {
	r := At(g, disk, "")
	r.Dest = name
	_, err := b.s.CreateSnapshot(b.Context(), r)
	return err
}

// IDs are the snapshots of an answer in short: @NAME, N@NAME.
func IDs(r *mistify.SnapshotResponse) (list []string) {
	for _, s := range r.Snapshots {
		_, name, _ := strings.Cut(s.ID, "/disk-")
		if name == "" {
			_, name, _ = strings.Cut(s.ID, "@")
			name = "@" + name
		}
		list = append(list, name)
	}
	return list
}

func (b *bench) snapshots(g *mistify.Guest, want ...string) {
	b.Helper()
	out, err := b.s.ListSnapshots(b.Context(), At(g, "", ""))
	if err != nil || !slices.Equal(IDs(out), want) {
		b.Errorf("the snapshots are %+v (%v), want %q", out, err, want)
	}
}

// ReadAll reads a download to its end.
func ReadAll(d *mistify.Download) ([]byte, error) {
	var buf bytes.Buffer
	_, err := buf.ReadFrom(d)
	return buf.Bytes(), errors.Join(err, d.Close())
}
