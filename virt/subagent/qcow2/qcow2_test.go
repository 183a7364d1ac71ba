package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent/qcow2"
)

type file struct{ *os.File }

func (f file) Size() (int64, error) {
	stat, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

type bytesFile struct{ *bytes.Reader }

func (f bytesFile) Size() (int64, error) { return f.Reader.Size(), nil }

// disks is a folder of disks that the real programs make.
type disks struct {
	*testing.T
	dir string
}

func newDisks(t *testing.T) *disks {
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			testlong.Missing(t, "%s is not installed: apt-get install qemu-utils", program)
		}
	}
	return &disks{t, t.TempDir()}
}

func (d *disks) run(argv ...string) {
	d.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = d.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		d.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// open opens a disk; backing is the name of one that is below, or "".
func (d *disks) open(name, snapshot, backing string) *qcow2.Disk {
	d.Helper()
	o := qcow2.Options{Snapshot: snapshot}
	if backing != "" {
		o.Backing = d.open(backing, "", "")
	}
	f, err := os.Open(filepath.Join(d.dir, name))
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = f.Close() })
	disk, err := qcow2.Open(file{f}, o)
	if err != nil {
		d.Fatal(err)
	}
	return disk
}

// same checks the image of a disk against what qemu-img says that it holds.
func (d *disks) same(name, snapshot, backing string, rnd *rand.Rand) {
	d.Helper()
	image, err := qcow2.NewImage(d.open(name, snapshot, backing))
	if err != nil {
		d.Fatal(err)
	}
	whole, err := io.ReadAll(io.NewSectionReader(image, 0, image.Length()))
	if err != nil || int64(len(whole)) != image.Length() {
		d.Fatalf("%d bytes of %d: %v", len(whole), image.Length(), err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "got.qcow2"), whole, 0o600); err != nil {
		d.Fatal(err)
	}
	args := []string{"qemu-img", "convert", "-f", "qcow2", "-O", "raw"}
	if snapshot != "" {
		args = append(args, "-l", "snapshot.name="+snapshot)
	}
	d.run(append(args, name, "want.raw")...)
	d.run("qemu-img", "check", "-q", "-f", "qcow2", "got.qcow2") // no leak, no error
	d.run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", "got.qcow2", "want.raw")
	stat, err := os.Stat(filepath.Join(d.dir, "want.raw"))
	if size := binary.BigEndian.Uint64(whole[24:]); err != nil || size != uint64(stat.Size()) {
		d.Fatalf("the disk has %d bytes, want %d (%v)", size, stat.Size(), err)
	}
	for range 20 { // from anywhere, as a download that goes on
		from := rnd.Int64N(image.Length())
		part := make([]byte, 1+rnd.Int64N(300<<10))
		n, err := image.ReadAt(part, from)
		if !bytes.Equal(part[:n], whole[from:from+int64(n)]) || n < len(part) && !errors.Is(err, io.EOF) || n == len(part) && err != nil {
			d.Fatalf("%d bytes from %d of %d are others (%v)", len(part), from, len(whole), err)
		}
	}
}

// Whatever was written, discarded, snapshotted and put back: the image has the
// content that qemu-img reads.
func TestImage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 1))
	for round := range testlong.Count(t, 30) {
		d := newDisks(t)
		cluster := []string{"512", "4k", "64k", "64k", "2M"}[rnd.IntN(5)]
		size := 512 * (1 + rnd.Int64N(24<<11)) // up to 24 MiB
		backing := ""
		if rnd.IntN(2) == 0 {
			backing = "base"
			below := 512 * (1 + rnd.Int64N(24<<11))
			d.run("qemu-img", "create", "-q", "-f", "qcow2", "base", fmt.Sprint(below))
			d.scribble("base", rnd, min(below, 1<<20))
			d.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size="+cluster, "-F", "qcow2", "-b", "base", "disk", fmt.Sprint(size))
		} else {
			d.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size="+cluster, "disk", fmt.Sprint(size))
		}
		snapshots := []string{""}
		for s := range 1 + rnd.IntN(3) {
			d.scribble("disk", rnd, size)
			name := fmt.Sprintf("snap-%d", s)
			d.run("qemu-img", "snapshot", "-q", "-c", name, "disk")
			snapshots = append(snapshots, name)
		}
		d.scribble("disk", rnd, size)
		for _, s := range snapshots {
			d.same("disk", s, backing, rnd)
		}
		if t.Failed() {
			t.Fatalf("round %d: clusters of %s, %d bytes, backing %q", round, cluster, size, backing)
		}
	}
}

// scribble writes, zeroes and discards.
func (d *disks) scribble(name string, rnd *rand.Rand, size int64) {
	d.Helper()
	args := []string{"qemu-io", "-f", "qcow2", "-d", "unmap"}
	for range 1 + rnd.IntN(12) {
		from := rnd.Int64N(size) &^ 511
		length := min(512*(1+rnd.Int64N(400)), size-from) &^ 511
		if length == 0 {
			continue
		}
		do := []string{fmt.Sprintf("write -q -P %d", 1+rnd.IntN(250)), "write -q -z", "write -q -z -u", "discard -q"}[rnd.IntN(4)]
		args = append(args, "-c", fmt.Sprintf("%s %d %d", do, from, length))
	}
	d.run(append(args, name)...)
}

// Large and full disks have more than one of each table, and an empty one has none.
func TestShapes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	d := newDisks(t)
	d.run("qemu-img", "create", "-q", "-f", "qcow2", "disk", "3T")
	d.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 2T 1M", "-c", "write -q -P 8 0 64k", "-c", "write -q -P 9 3298534817792 64k", "disk")
	image, err := qcow2.NewImage(d.open("disk", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(d.dir, "got.qcow2"))
	if err == nil {
		_, err = io.Copy(out, io.NewSectionReader(image, 0, image.Length()))
	}
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	if image.Length() > 4<<20 {
		t.Errorf("%d bytes for 1.1 MB of content", image.Length())
	}
	d.run("qemu-img", "check", "-q", "-f", "qcow2", "got.qcow2")
	d.run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", "got.qcow2", "disk")
	for _, size := range []string{"0", "512", "65536", "66048"} {
		d.run("qemu-img", "create", "-q", "-f", "qcow2", "small", size)
		d.same("small", "", "", rnd)
	}
	d.run("qemu-img", "create", "-q", "-f", "raw", "full.raw", "200M")
	d.run("qemu-io", "-f", "raw", "-c", "write -q -P 5 0 200M", "full.raw")
	d.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "full.raw", "full")
	d.same("full", "", "", rnd)
}

// What qemu-img does not make here is refused, and a damaged file is an error.
func TestRefused(t *testing.T) {
	d := newDisks(t)
	d.run("qemu-img", "create", "-q", "-f", "qcow2", "good", "1M")
	d.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 256k", "good")
	d.run("qemu-img", "snapshot", "-q", "-c", "snap-a", "good")
	d.run("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "good", "packed")
	d.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "extended", "1M")
	d.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=other", "outside", "1M")
	good, err := os.ReadFile(filepath.Join(d.dir, "good"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(place int, v uint64, bytes int) func([]byte) {
		return func(b []byte) {
			full := binary.BigEndian.AppendUint64(nil, v)
			copy(b[place:], full[8-bytes:])
		}
	}
	l1 := int(binary.BigEndian.Uint64(good[40:]))
	for name, c := range map[string]struct {
		do   func([]byte)
		snap string
		want error
	}{
		"magic": {at(0, 0, 4), "", virt.ErrInvalid}, "version": {at(4, 9, 4), "", virt.ErrInvalid}, "cluster": {at(20, 63, 4), "", virt.ErrInvalid},
		"small clusters": {at(20, 8, 4), "", virt.ErrInvalid}, "size": {at(24, 1<<62, 8), "", virt.ErrInvalid}, "short table": {at(36, 0, 4), "", virt.ErrInvalid},
		"table behind the end": {at(40, 1<<40, 8), "", virt.ErrInvalid}, "table that is not aligned": {at(40, uint64(l1)+8, 8), "", virt.ErrInvalid},
		"second table behind the end": {at(l1, 1<<50, 8), "", virt.ErrInvalid}, "crypt": {at(32, 1, 4), "", virt.ErrUnsupported},
		"feature": {at(72, 1<<60, 8), "", virt.ErrUnsupported}, "many snapshots": {at(60, 1<<31, 4), "snap-a", virt.ErrInvalid},
		"snapshots behind the end": {at(64, 1<<60, 8), "snap-a", virt.ErrInvalid}, "no such": {func([]byte) {}, "snap-b", virt.ErrNotFound},
	} {
		bad := bytes.Clone(good)
		c.do(bad)
		disk, err := qcow2.Open(bytesFile{bytes.NewReader(bad)}, qcow2.Options{Snapshot: c.snap})
		if err == nil {
			_, err = qcow2.NewImage(disk)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want one that is %v", name, err, c.want)
		}
	}
	for _, name := range []string{"packed", "extended", "outside"} {
		f, err := os.Open(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		disk, err := qcow2.Open(file{f}, qcow2.Options{})
		if err == nil {
			_, err = qcow2.NewImage(disk)
		}
		if !errors.Is(err, virt.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		_ = f.Close()
	}
}

// FuzzOpen gives whatever: it is an error or an image, and never a panic, nor
// more memory or time than its size deserves.
func FuzzOpen(f *testing.F) {
	head := make([]byte, 3<<16)
	copy(head, "QFI\xfb\x00\x00\x00\x03")
	head[23] = 9
	head[30] = 4
	head[39], head[46] = 1, 2
	head[1<<9+6] = 4
	f.Add(head[:4096], "")
	head[63], head[70] = 1, 8
	copy(head[2048+40:], "snap")
	head[2048+15] = 4
	f.Add(head[:4096], "snap")
	f.Fuzz(func(t *testing.T, data []byte, snapshot string) {
		disk, err := qcow2.Open(bytesFile{bytes.NewReader(data)}, qcow2.Options{Snapshot: snapshot})
		if err != nil || disk.Size() > 1<<30 {
			return
		}
		image, err := qcow2.NewImage(disk)
		if err != nil {
			return
		}
		buf := make([]byte, 1<<16)
		for at := int64(0); at < min(image.Length(), 1<<20); at += int64(len(buf)) {
			if _, err := image.ReadAt(buf, at); err != nil && !errors.Is(err, virt.ErrInvalid) && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	})
}
