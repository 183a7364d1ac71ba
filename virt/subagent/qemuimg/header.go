package qemuimg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vagoth/vagoth/virt"
)

// Header is what we need of the header of a qcow2 file.
type Header struct {
	Size     uint64 // bytes that the disk has
	Backing  string
	features uint64 // incompatible ones
	crypt    uint32
}

const (
	qcow2Magic   = "QFI\xfb"
	dataFileBit  = 1 << 2
	maxBacking   = 1023 // as the format has it
	headerLength = 104
)

// ReadHeader reads the header of a file, nil if it is no qcow2.
func ReadHeader(r io.ReaderAt) (*Header, error) {
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
	h := &Header{Size: binary.BigEndian.Uint64(b[24:]), crypt: binary.BigEndian.Uint32(b[32:])}
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
	h.Backing = string(name)
	return h, nil
}

// others are the beginnings of formats that nobody should take for a raw disk.
var others = map[string]string{
	"KDMV": "vmdk", "COWD": "vmdk", "# Disk Desc": "vmdk", "conectix": "vpc", "vhdxfile": "vhdx", "QED\x00": "qed",
	"<<< ": "vdi", "WithoutFree": "parallels", "WithouFreSp": "parallels", "LUKS\xba\xbe": "luks", "PK\x03\x04": "zip", "OFI\xfb": "qcow",
	"\x00\x00\x00\x00\x00\x00\x00\x00\xac\xcb\xba\xf5": "zfs stream",
}

// Vet says which format a file from outside has, or why it is not taken. No
// program of QEMU opens it before its header was seen. A disk may have so many MB.
func (t Tool) Vet(ctx context.Context, path string, f *os.File, mostMB uint64) (format string, size int64, err error) {
	h, err := ReadHeader(f)
	if err != nil {
		return "", 0, err
	}
	most := int64(min(mostMB, 1<<40)) << 20
	if h == nil {
		return vetRaw(f, most)
	}
	switch {
	case h.Backing != "":
		return "", 0, fmt.Errorf("%w: it is a qcow2 with the backing file %.100q: make it whole with qemu-img convert", virt.ErrInvalid, h.Backing)
	case h.features&dataFileBit != 0:
		return "", 0, fmt.Errorf("%w: it is a qcow2 whose data is in another file: make it whole with qemu-img convert", virt.ErrInvalid)
	case h.crypt != 0:
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is encrypted", virt.ErrInvalid)
	case h.Size > uint64(most):
		return "", 0, tooLarge(most)
	}
	i, err := t.Info(ctx, path, QCOW2)
	if err != nil {
		return "", 0, fmt.Errorf("%w: it is no good qcow2: %w", virt.ErrInvalid, err)
	}
	if i.Backing != "" || i.Specific.Data.DataFile != "" || i.Encrypted || i.Specific.Data.Corrupt || i.Size < 0 || i.Size > most {
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is corrupt, encrypted, too large or names other files", virt.ErrInvalid)
	}
	if err := t.Check(ctx, path); err != nil {
		return "", 0, fmt.Errorf("%w: it is a qcow2 that is damaged or cut: %w", virt.ErrInvalid, err)
	}
	return QCOW2, i.Size, nil
}

func vetRaw(f *os.File, most int64) (format string, size int64, err error) {
	begin := make([]byte, 16)
	if _, err := f.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	for magic, what := range others {
		if bytes.HasPrefix(begin, []byte(magic)) {
			return "", 0, fmt.Errorf("%w: it is a %s, which is not taken here: convert it with qemu-img convert -O qcow2", virt.ErrInvalid, what)
		}
	}
	stat, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if stat.Size() > most {
		return "", 0, tooLarge(most)
	}
	return Raw, stat.Size(), nil
}

func tooLarge(most int64) error {
	return fmt.Errorf("%w: the disk has more than %d MB, which is the limit", virt.ErrInvalid, most>>20)
}
