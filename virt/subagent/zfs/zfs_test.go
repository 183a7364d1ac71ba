package zfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
	"github.com/vagoth/vagoth/virt/subagent/zfs"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// TestReal is all that is tried on the real OpenZFS. It boots a small guest that
// has it, and is run once more in there.
func TestReal(t *testing.T) {
	if !testbed.InZFS() {
		testbed.ZFS(t)
		return
	}
	t.Run("Suite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Subject { return newPool(t, 512).subject() })
	})
	t.Run("Send", send)
	t.Run("Streams", streams)
	t.Run("Atomic", atomically)
	t.Run("InUse", inUse)
	t.Run("Devices", devices)
	t.Run("Promised", promised)
	t.Run("Missing", missing)
	t.Run("Pending", pending)
	t.Run("Cut", cutStreams)
	t.Run("Stream", throughput)
	if testlong.Long() { // in emulation they take their time: ZFS waits for a full pool with each block
		t.Run("Full", full)
		t.Run("Killed", killed)
	}
}

// pool is a pool of this test's own, on a file in memory.
type pool struct {
	*testing.T
	name string
	file string
	dir  string
	s    *zfs.Store
}

func newPool(t *testing.T, mb int) *pool {
	t.Helper()
	p := &pool{T: t, name: "t" + strings.ToLower(rands()), dir: t.TempDir()}
	p.file = filepath.Join(t.TempDir(), "vdev")
	f, err := os.Create(p.file)
	if err == nil {
		err = errors.Join(f.Truncate(int64(mb)<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	p.zpool("create", "-O", "compression=lz4", "-m", "none", p.name, p.file)
	t.Cleanup(func() {
		p.close()
		if out, err := exec.Command("zpool", "destroy", "-f", p.name).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("no such pool")) {
			t.Errorf("zpool destroy: %v: %s", err, out)
		}
	})
	return p
}

func (p *pool) options() zfs.Options {
	return zfs.Options{Dir: p.dir, Pool: p.name, Patience: 3 * time.Second, Fetch: fetch.Options{Private: true}}
}

func (p *pool) open() *zfs.Store {
	p.Helper()
	p.close()
	s, err := zfs.Open(p.Context(), p.options())
	if err != nil {
		p.Fatal(err)
	}
	p.s = s
	return s
}

func (p *pool) close() {
	if p.s != nil {
		if err := p.s.Close(); err != nil {
			p.Error(err)
		}
		p.s = nil
	}
}

func (p *pool) tool(program string, args ...string) string {
	p.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		p.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
	return string(out)
}

func (p *pool) zpool(args ...string) string { p.Helper(); return p.tool("zpool", args...) }
func (p *pool) zfs(args ...string) string   { p.Helper(); return p.tool("zfs", args...) }

// all lists every dataset of the store, and what is in its folder.
func (p *pool) all() []string {
	p.Helper()
	list := strings.Fields(p.zfs("list", "-H", "-o", "name", "-t", "all", "-r", p.name))
	files, err := os.ReadDir(filepath.Join(p.dir, "incoming"))
	if err != nil {
		p.Fatal(err)
	}
	for _, f := range files {
		list = append(list, f.Name())
	}
	return list
}

func (p *pool) subject() storetest.Subject {
	return storetest.Subject{
		Open: func(t *testing.T) storetest.Opened {
			s, err := zfs.Open(t.Context(), p.options())
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Write: func(t *testing.T, d mistify.Disk, letter byte) { write(t, d, letter) },
		Holds: func(t *testing.T, d mistify.Disk, letter byte) { holds(t, d, letter) },
		All:   func(*testing.T) []string { return p.all() },
	}
}

const letters = 64 << 10

// write fills the first 64 KiB of a disk with a letter, on disk.
func write(t *testing.T, d mistify.Disk, letter byte) {
	t.Helper()
	f, err := os.OpenFile(d.Source, os.O_WRONLY|os.O_SYNC, 0)
	if err == nil {
		_, err = f.WriteAt(bytes.Repeat([]byte{letter}, letters), 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// holds checks the first 64 KiB, and that there is as much as there should be.
func holds(t *testing.T, d mistify.Disk, letter byte) {
	t.Helper()
	f, err := os.Open(d.Source)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	data := make([]byte, letters)
	if _, err := io.ReadFull(f, data); err != nil || !bytes.Equal(data, bytes.Repeat([]byte{letter}, letters)) {
		t.Errorf("%s does not begin with %q but with %q (%v)", d.Source, letter, data[:4], err)
	}
	if end, err := f.Seek(0, io.SeekEnd); err != nil || d.Size != 0 && end != int64(d.Size)<<20 {
		t.Errorf("%s has %d bytes (%v), want %d MB", d.Source, end, err, d.Size)
	}
}

func (p *pool) refused(what string, err, want error) {
	p.Helper()
	if !errors.Is(err, want) {
		p.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

func (p *pool) do(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *pool) create(g *mistify.Guest) *mistify.Guest {
	p.Helper()
	out, err := p.s.CreateGuestDisks(p.Context(), &mistify.GuestRequest{Guest: g})
	p.do(err)
	return out.Guest
}

func (p *pool) take(g *mistify.Guest, disk, name string) error {
	r := storetest.At(g, disk, "")
	r.Dest = name
	_, err := p.s.CreateSnapshot(p.Context(), r)
	return err
}

func (p *pool) snapshots(g *mistify.Guest, want ...string) {
	p.Helper()
	out, err := p.s.ListSnapshots(p.Context(), storetest.At(g, "", ""))
	if err != nil || !slices.Equal(storetest.IDs(out), want) {
		p.Errorf("the snapshots are %+v (%v), want %q", out, err, want)
	}
}

func (p *pool) dataset(format string, args ...any) string {
	return p.name + "/vagoth/" + fmt.Sprintf(format, args...)
}
