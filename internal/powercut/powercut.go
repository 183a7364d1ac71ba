// Package powercut gives tests a disk whose power can be cut: an ext4 file system on a
// file, which is told to stop at once, without writing anything more.
//
//	disk := powercut.New(t, 64)
//	… write below disk.Dir(), noting what was acknowledged …
//	disk.Cut()     // from now on every write fails
//	… end the writers, close their files …
//	disk.Remount() // what had been synced is there, what had not may be gone
//
// # Why
//
// SIGKILL leaves the kernel's page cache, so that a forgotten sync goes unnoticed. ext4 can be
// shut down without flushing its own journal (EXT4_IOC_SHUTDOWN); unmounting then drops
// the cache, and mounting replays that journal as after a loss of power.
package powercut

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vagoth/vagoth/internal/testlong"
)

const (
	ext4Shutdown    = 0x8004587d
	withoutLogFlush = 2

	unmountWait = 10 * time.Second
)

// Disk is a mounted file system of a test.
type Disk struct {
	t       testing.TB
	image   string
	dir     string
	mounted bool
	copies  int
}

// New makes a disk of so many MiB and mounts it until the test ends. Without root, or
// where loop devices or mkfs.ext4 are missing, it skips the test.
func New(t testing.TB, mib int64) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		testlong.Missing(t, "cutting the power of a disk needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			testlong.Missing(t, "cutting the power of a disk needs %s", tool)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		testlong.Missing(t, "cutting the power of a disk needs loop devices")
	}
	base := t.TempDir()
	d := &Disk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "disk")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", d.image)
	t.Cleanup(d.cleanup)
	d.mount()
	return d
}

// Dir is where the disk is mounted.
func (d *Disk) Dir() string { return d.dir }

func (d *Disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (d *Disk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "loop", d.image, d.dir)
	d.mounted = true
}

// Cut cuts the power. It may be called while others write.
func (d *Disk) Cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	how := uint32(withoutLogFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how)))
	runtime.KeepAlive(&how)
	if errno != 0 {
		d.t.Fatalf("cannot cut the power of %s: %v", d.dir, errno)
	}
}

// Remount brings the power back. All files below Dir must have been closed, in processes
// that died too; it waits a while for that.
func (d *Disk) Remount() {
	d.t.Helper()
	if err := d.unmount(0); err != nil {
		d.t.Fatalf("cannot unmount %s, is a file below it still open? %v", d.dir, err)
	}
	d.image = d.copied()
	d.mount()
}

// copied copies what is on the disk and removes the original. The old file system lives on
// in a mount namespace that another process made meanwhile, and mounting the same file
// again would give that one, which has no power.
func (d *Disk) copied() string {
	d.t.Helper()
	next := filepath.Join(filepath.Dir(d.image), "image."+strconv.Itoa(d.copies))
	d.copies++
	d.run("cp", "--sparse=always", d.image, next)
	if err := os.Remove(d.image); err != nil {
		d.t.Fatal(err)
	}
	return next
}

func (d *Disk) unmount(flags int) error {
	if !d.mounted {
		return nil
	}
	deadline := time.NewTimer(unmountWait)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Unmount(d.dir, flags)
		if err == nil {
			d.mounted = false
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		select {
		case <-deadline.C:
			return err
		case <-tick.C:
		}
	}
}

// cleanup always unmounts; if somebody still has a file open, as soon as it is closed.
func (d *Disk) cleanup() {
	if !d.mounted {
		return
	}
	if err := syscall.Unmount(d.dir, 0); err == nil {
		d.mounted = false
		return
	}
	if err := d.unmount(syscall.MNT_DETACH); err != nil {
		d.t.Errorf("cannot unmount %s: %v", d.dir, err)
	}
}
