package dir_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a store over the real qemu-img, and a server of images.
type bench struct {
	*testing.T
	dir   string
	s     *dir.Store
	web   string // folder that is served
	url   string
	mu    sync.Mutex
	argvs [][]string
	fail  func(argv []string) error // before a run
	asked []string
}

func real(t *testing.T) {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			testlong.Missing(t, "%s is not installed: apt-get install qemu-utils", program)
		}
	}
}

func newBench(t *testing.T) *bench { return newBenchIn(t, t.TempDir()) }

func newBenchIn(t *testing.T, folder string) *bench {
	real(t)
	b := &bench{T: t, dir: folder, web: t.TempDir()}
	files := http.FileServer(http.Dir(b.web))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.asked = append(b.asked, r.URL.Path)
		b.mu.Unlock()
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	b.open(dir.Options{})
	return b
}

func (b *bench) run(ctx context.Context, argv []string) ([]byte, error) {
	b.mu.Lock()
	b.argvs = append(b.argvs, slices.Clone(argv))
	fail := b.fail
	b.mu.Unlock()
	if fail != nil {
		if err := fail(argv); err != nil {
			return nil, err
		}
	}
	return qemuimg.Run(ctx, argv)
}

// open opens the store, again if it was.
func (b *bench) open(o dir.Options) {
	b.Helper()
	b.close()
	o.Dir, o.Run, o.Fetch = b.dir, b.run, fetch.Options{Private: true}
	s, err := dir.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.s = s
	b.Cleanup(b.close)
}

func (b *bench) close() {
	if b.s != nil {
		if err := b.s.Close(); err != nil {
			b.Error(err)
		}
		b.s = nil
	}
}

func (b *bench) refused(what string, err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

// tool runs a program of QEMU for the test itself.
func (b *bench) tool(argv ...string) string {
	b.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = b.web
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

// write fills the first 64 KiB of a disk with a letter.
func (b *bench) write(file, format string, letter byte) {
	b.Helper()
	b.tool("qemu-io", "-f", format, "-c", fmt.Sprintf("write -q -P %d 0 64k", letter), file)
}

// holds checks the first 64 KiB.
func (b *bench) holds(file, format string, letter byte) {
	b.Helper()
	if out := b.tool("qemu-io", "-r", "-U", "-f", format, "-c", fmt.Sprintf("read -P %d 0 64k", letter), file); strings.Contains(out, "failed") {
		b.Errorf("%s does not begin with %q: %s", file, letter, out)
	}
}

// image puts an image of so many MB, which begins with a letter, onto the web.
func (b *bench) image(name, format string, mb int, letter byte) (sum string, size uint64) {
	b.Helper()
	file := filepath.Join(b.web, name)
	b.tool("qemu-img", "create", "-q", "-f", format, file, fmt.Sprintf("%dM", mb))
	b.write(file, format, letter)
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	of := sha256.Sum256(data)
	return hex.EncodeToString(of[:]), uint64(len(data))
}

func (b *bench) fetch(id, name string) error {
	_, err := b.s.FetchImage(b.Context(), &mistify.ImageRequest{ID: id, Source: b.url + "/" + name})
	return err
}

func (b *bench) guest(disks ...mistify.Disk) *mistify.Guest {
	return &mistify.Guest{ID: uuid.NewString(), Disks: disks}
}

func (b *bench) create(g *mistify.Guest) *mistify.Guest {
	b.Helper()
	out, err := b.s.CreateGuestDisks(b.Context(), &mistify.GuestRequest{Guest: g})
	if err != nil {
		b.Fatal(err)
	}
	return out.Guest
}

// tidy checks that nothing is half done and every disk is whole.
func (b *bench) tidy() {
	b.Helper()
	for _, folder := range []string{"half", "incoming"} {
		left, err := os.ReadDir(filepath.Join(b.dir, folder))
		if err != nil || len(left) > 0 {
			b.Errorf("%s has %v (%v)", folder, left, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(b.dir, "guests/*/pending.json"))
	if err != nil || len(found) > 0 {
		b.Errorf("there is %q (%v)", found, err)
	}
	disks, err := filepath.Glob(filepath.Join(b.dir, "guests/*/*.qcow2"))
	if err != nil {
		b.Error(err)
	}
	for _, disk := range disks {
		b.tool("qemu-img", "check", "-q", "-f", "qcow2", disk)
	}
}

// whole checks that an image holds what a qcow2 of the web does.
func (b *bench) whole(id, name string) {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(b.dir, "images", id, "image.[qr]*"))
	if err != nil || len(found) != 1 {
		b.Fatalf("the image %s has the files %q (%v)", id, found, err)
	}
	format := strings.TrimPrefix(filepath.Ext(found[0]), ".")
	if format == "qcow2" {
		b.tool("qemu-img", "check", "-q", "-f", format, found[0])
	}
	b.tool("qemu-img", "compare", "-q", "-f", format, "-F", "qcow2", found[0], name)
}

// all lists every file and folder of the store.
func (b *bench) all() (names []string) {
	b.Helper()
	if err := filepath.WalkDir(b.dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, b.dir))
		return err
	}); err != nil {
		b.Error(err)
	}
	return names
}

func at(g *mistify.Guest, disk, name string) *mistify.SnapshotRequest {
	r := mistify.SnapshotID{Guest: g.ID, Disk: disk, Name: name}.Request()
	return &r
}

func ids(r *mistify.SnapshotResponse) (list []string) {
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
	out, err := b.s.ListSnapshots(b.Context(), at(g, "", ""))
	if err != nil || !slices.Equal(ids(out), want) {
		b.Errorf("the snapshots are %+v (%v), want %q", out, err, want)
	}
}
