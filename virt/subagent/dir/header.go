package dir

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/virt"
)

// header is what we need of the header of a qcow2 file.
type header struct {
	size     uint64 // bytes that the disk has
	backing  string
	features uint64 // incompatible ones
	crypt    uint32
}

const (
	qcow2Magic   = "QFI\xfb"
	dataFileBit  = 1 << 2
	maxBacking   = 1023 // as the format has it
	headerLength = 104
)

// readHeader reads the header of a file, nil if it is no qcow2.
func readHeader(r io.ReaderAt) (*header, error) {
	b := make([]byte, headerLength)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.HasPrefix(b[:n], []byte(qcow2Magic)) {
		return nil, nil //nolint:nilnil // neither an error nor a qcow2
	}
	version := binary.BigEndian.Uint32(b[4:])
	if n < 72 || version < 2 || version > 3 || version == 3 && n < headerLength {
		return nil, fmt.Errorf("%w: it is a qcow2 of version %d, or cut: make it again with qemu-img convert", virt.ErrInvalid, version)
	}
	h := &header{size: binary.BigEndian.Uint64(b[24:]), crypt: binary.BigEndian.Uint32(b[32:])}
	if version == 3 {
		h.features = binary.BigEndian.Uint64(b[72:])
	}
	at, length := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])
	if at == 0 {
		return h, nil
	}
	if length == 0 || length > maxBacking || at > 1<<31 {
		return nil, fmt.Errorf("%w: the name of its backing file has %d bytes at %d", virt.ErrInvalid, length, at)
	}
	name := make([]byte, length)
	if _, err := r.ReadAt(name, int64(at)); err != nil {
		return nil, fmt.Errorf("%w: the name of its backing file is cut: %w", virt.ErrInvalid, err)
	}
	h.backing = string(name)
	return h, nil
}

// others are the beginnings of formats that nobody should take for a raw disk.
var others = map[string]string{
	"KDMV": "vmdk", "COWD": "vmdk", "# Disk Desc": "vmdk", "conectix": "vpc", "vhdxfile": "vhdx", "QED\x00": "qed",
	"<<< ": "vdi", "WithoutFree": "parallels", "WithouFreSp": "parallels", "LUKS\xba\xbe": "luks", "PK\x03\x04": "zip", "OFI\xfb": "qcow",
	"\x00\x00\x00\x00\x00\x00\x00\x00\xac\xcb\xba\xf5": "zfs stream",
}

// vet says which format a file from outside has, or why it is not taken. No
// program of QEMU opens it before its header was seen.
func (s *Store) vet(ctx context.Context, name string) (format string, size int64, err error) {
	f, err := s.root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h, err := readHeader(f)
	if err != nil {
		return "", 0, err
	}
	most := int64(min(s.o.MaxSize, 1<<40)) << 20
	if h == nil {
		begin := make([]byte, 16)
		if _, err := f.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
			return "", 0, err
		}
		for magic, what := range others {
			if bytes.HasPrefix(begin, []byte(magic)) {
				return "", 0, fmt.Errorf("%w: it is a %s, and only raw and qcow2 are taken: convert it with qemu-img convert -O qcow2", virt.ErrInvalid, what)
			}
		}
		stat, err := f.Stat()
		if err != nil {
			return "", 0, err
		}
		if stat.Size() > most {
			return "", 0, tooLarge(s.o.MaxSize)
		}
		return raw, stat.Size(), nil
	}
	switch {
	case h.backing != "":
		return "", 0, fmt.Errorf("%w: it is a qcow2 with the backing file %.100q: make it whole with qemu-img convert", virt.ErrInvalid, h.backing)
	case h.features&dataFileBit != 0:
		return "", 0, fmt.Errorf("%w: it is a qcow2 whose data is in another file: make it whole with qemu-img convert", virt.ErrInvalid)
	case h.crypt != 0:
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is encrypted", virt.ErrInvalid)
	case h.size > uint64(most):
		return "", 0, tooLarge(s.o.MaxSize)
	}
	i, err := s.info(ctx, name, qcow2)
	if err != nil {
		return "", 0, fmt.Errorf("%w: it is no good qcow2: %w", virt.ErrInvalid, err)
	}
	if i.Backing != "" || i.Specific.Data.DataFile != "" || i.Encrypted || i.Specific.Data.Corrupt || i.Size < 0 || i.Size > most {
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is corrupt, encrypted, too large or names other files", virt.ErrInvalid)
	}
	if err := s.checkWhole(ctx, name); err != nil {
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is damaged or cut: %w", virt.ErrInvalid, err)
	}
	return qcow2, i.Size, nil
}

func tooLarge(most uint64) error {
	return fmt.Errorf("%w: the disk has more than %d MB, which is the limit", virt.ErrInvalid, most)
}

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
