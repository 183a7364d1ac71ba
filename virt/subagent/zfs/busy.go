package zfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// user tells who has a volume open, "" if nobody has: ZFS refuses to remove such a
// volume, but not to rename it or to put other content below its user.
func (s *Store) user(name string) (string, error) {
	full := s.full(name)
	link := zvolLinks + full
	if is, err := volumeOf(link); err != nil || is != full {
		return "", nil //nolint:nilerr // without a device nobody can have opened it by our name
	}
	var stat unix.Stat_t
	if err := unix.Stat(link, &stat); err != nil {
		return "", fmt.Errorf("cannot ask who uses %s: %w", link, err)
	}
	if by := holder(stat.Rdev); by != "" {
		return by, nil
	}
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return "the kernel, which has it mounted or claimed", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask who uses %s: %w", link, err)
	}
	_ = unix.Close(fd)
	return opener(stat.Rdev)
}

// holder names a device that stands on this one.
func holder(dev uint64) string {
	found, err := filepath.Glob(fmt.Sprintf("/sys/dev/block/%d:%d/holders/*", unix.Major(dev), unix.Minor(dev)))
	if err != nil || len(found) == 0 {
		return ""
	}
	return "the device " + filepath.Base(found[0])
}

// opener names a process, other than this one, that has a device open.
func opener(dev uint64) (string, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	self := fmt.Sprint(os.Getpid())
	for _, process := range processes {
		pid := filepath.Base(process)
		files, err := os.ReadDir(process + "/fd")
		if pid == self || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot ask what process %s has open: %w", pid, err)
		}
		for _, file := range files {
			var stat unix.Stat_t
			if unix.Stat(process+"/fd/"+file.Name(), &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFBLK || stat.Rdev != dev {
				continue
			}
			command, _ := os.ReadFile(process + "/comm") // it is only for the message
			return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(command))), nil
		}
	}
	return "", nil
}
