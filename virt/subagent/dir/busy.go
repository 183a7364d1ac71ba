package dir

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The bytes of a file on which QEMU holds locks, as it opens it.
const (
	lockFrom = 100
	lockMany = 200
)

// busy reports whether QEMU has a file open.
func (s *Store) busy(name string) (bool, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: lockFrom, Len: lockMany}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("cannot ask for the locks of %s: %w", name, err)
	}
	return l.Type != unix.F_UNLCK, nil
}
