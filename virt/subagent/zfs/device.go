package zfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/virt"
)

// zvolLinks is where udev links volumes by their names.
const zvolLinks = "/dev/zvol/"

// blkzname asks a device of ZFS which volume it is.
const blkzname = 0x8100127d

// device waits for the device of a volume and returns its link. What it leads to
// is asked of the device: a link can be left from a volume that had its number.
func (s *Store) device(ctx context.Context, name string) (string, error) {
	full := s.full(name)
	if s.o.Device != nil {
		return s.o.Device(ctx, full)
	}
	link := zvolLinks + full
	var problem error
	if err := s.patient(ctx, func() bool {
		if is, err := volumeOf(link); err == nil && is == full {
			return true
		}
		if udev() {
			return false
		}
		made, err := s.link(full)
		problem = err
		return made
	}); err != nil {
		return "", errors.Join(fmt.Errorf("%w: the device of %s does not appear at %s", err, full, link), problem)
	}
	return link, nil
}

// udev reports whether somebody makes and removes the links.
func udev() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

// volumeOf asks a device for the name of its volume.
func volumeOf(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return "", err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%w: %s is no block device", virt.ErrConflict, path)
	}
	var name [256]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), blkzname, uintptr(unsafe.Pointer(&name[0]))); errno != 0 { //nolint:gosec // an ioctl fills it
		return "", errno
	}
	text, _, _ := strings.Cut(string(name[:]), "\x00")
	return text, nil
}

// link makes the link of a volume as udev would, if its device is there.
func (s *Store) link(full string) (made bool, err error) {
	blocks, err := filepath.Glob("/sys/block/zd*")
	if err != nil {
		return false, err
	}
	dev, err := os.OpenRoot("/dev")
	if err != nil {
		return false, err
	}
	defer dev.Close()
	for _, block := range blocks {
		node := filepath.Base(block)
		if err := makeNode(block, node); err != nil {
			return false, err
		}
		if is, err := volumeOf("/dev/" + node); err != nil || is != full {
			continue // it is another's, or just removed
		}
		name := "zvol/" + full
		if err := dev.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return false, err
		}
		if err := dev.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		err := dev.Symlink(strings.Repeat("../", strings.Count(name, "/"))+node, name)
		return err == nil, err
	}
	return false, nil
}

// makeNode makes the node of a device where nobody else does.
func makeNode(block, node string) error {
	path := "/dev/" + node
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(block + "/dev")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was just removed
	}
	if err != nil {
		return err
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	a, errA := strconv.ParseUint(major, 10, 32)
	b, errB := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	err = unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(a), uint32(b)))) //nolint:gosec // the kernel's own numbers
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// unlink removes the links of a dataset and of what is below it, where nobody else
// does. One that stays is no harm: nobody is told of it.
func (s *Store) unlink(name string) {
	if s.o.Device != nil || udev() {
		return
	}
	dev, err := os.OpenRoot("/dev")
	if err != nil {
		return
	}
	defer dev.Close()
	if err := dev.RemoveAll("zvol/" + s.full(name)); err != nil {
		s.o.Log.Warn("a link is left", "dataset", s.full(name), "error", err)
	}
}

// linkAll mends the links of all disks and volumes, as after a boot. One that does
// not appear keeps nobody from the others.
func (s *Store) linkAll(ctx context.Context, have []dataset) error {
	if s.o.Device != nil || udev() {
		return nil
	}
	for _, d := range have {
		if d.kind != volume || !strings.HasPrefix(d.name, guests+"/") && !strings.HasPrefix(d.name, volumes+"/") {
			continue
		}
		if _, err := s.device(ctx, d.name); err != nil {
			s.o.Log.Error("a volume has no device", "volume", s.full(d.name), "error", err)
		}
	}
	return ctx.Err()
}

// copyTo copies a file to a device that holds zeros, and puts it on disk.
func copyTo(device string, from *os.File) error {
	to, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	zero := make([]byte, len(block))
	for at := int64(0); err == nil; at += int64(len(block)) {
		var n int
		n, err = from.ReadAt(block, at)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, failed := to.WriteAt(block[:n], at); failed != nil {
				err = failed
			}
		}
	}
	if errors.Is(err, io.EOF) {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}

// syncDevice puts on disk what was written to a device.
func syncDevice(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
