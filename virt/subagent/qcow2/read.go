package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// File is what a disk is read from.
type File interface {
	io.ReaderAt
	// Size is its bytes now.
	Size() (int64, error)
}

// Options say which content of a file is meant.
type Options struct {
	Snapshot string // the name of a snapshot inside; "" is what the disk holds now
	Backing  *Disk  // the content below; nil if there is none
	Raw      bool   // it is no qcow2: the file is what the disk holds
}

// Sparse is a File that knows its holes.
type Sparse interface {
	// Data finds the next bytes from a place on that are no hole. Both are the end
	// of the file if there are none.
	Data(from int64) (begin, end int64, err error)
}

// Disk is the content of a qcow2 file. Its methods are safe for concurrent use.
type Disk struct {
	file    File
	end     int64 // of the file when it was opened
	bits    uint  // a cluster has 1<<bits bytes
	size    int64
	l1      []uint64
	backing *Disk
	raw     bool
}

// The bounds of what is read.
const (
	maxSize     = 1 << 44 // of a disk: 16 TiB
	maxL1       = 4 << 20 // entries, as in QEMU
	maxListed   = 65536   // snapshots, as in QEMU
	maxSnapshot = 64 << 10
	headerSize  = 104

	dirty   = 1 << 0 // an incompatible feature that is of no matter to a reader
	copied  = 1 << 63
	packed  = 1 << 62
	zero    = 1 << 0
	offsets = 0x00fffffffffffe00
)

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: the qcow2 file is damaged: %s", virt.ErrInvalid, fmt.Sprintf(format, a...))
}

func refused(what string) error {
	return fmt.Errorf("%w: the qcow2 file has %s, which are not read here: make it again with qemu-img convert", virt.ErrUnsupported, what)
}

// Open reads the head of a file.
func Open(f File, o Options) (*Disk, error) {
	d := &Disk{file: f, backing: o.Backing, raw: o.Raw}
	var err error
	if d.end, err = f.Size(); err != nil {
		return nil, err
	}
	if o.Raw {
		if d.size = d.end; d.size > maxSize {
			return nil, damaged("the disk has %d bytes", d.size)
		}
		return d, nil
	}
	h := make([]byte, headerSize)
	if err := d.read(h[:72], 0); err != nil {
		return nil, err
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(h[at:]) }
	version := u32(4)
	if string(h[:4]) != "QFI\xfb" || version != 2 && version != 3 {
		return nil, damaged("its beginning is not that of one")
	}
	if version == 3 {
		if err := d.read(h[72:], 72); err != nil {
			return nil, err
		}
		if u64(72)&^dirty != 0 {
			return nil, refused(fmt.Sprintf("the features %#x", u64(72)))
		}
	}
	switch bits := u32(20); {
	case bits < 9 || bits > 21:
		return nil, damaged("a cluster has 1<<%d bytes", bits)
	default:
		d.bits = uint(bits)
	}
	if u32(32) != 0 {
		return nil, refused("encrypted clusters")
	}
	size, l1at, l1len := u64(24), u64(40), u32(36)
	if o.Snapshot != "" {
		if size, l1at, l1len, err = d.snapshot(o.Snapshot, size, u64(64), u32(60)); err != nil {
			return nil, err
		}
	}
	if size > maxSize {
		return nil, damaged("the disk has %d bytes", size)
	}
	d.size = int64(size)
	return d, d.readL1(l1at, l1len)
}

// snapshot finds a snapshot in the table of them.
func (d *Disk) snapshot(name string, size, at uint64, many uint32) (of, l1at uint64, l1len uint32, err error) {
	if many > maxListed {
		return 0, 0, 0, damaged("it has %d snapshots", many)
	}
	head := make([]byte, 40)
	for range many {
		if at > uint64(d.end) {
			return 0, 0, 0, damaged("a snapshot stands at %d", at)
		}
		if err := d.read(head, int64(at)); err != nil {
			return 0, 0, 0, err
		}
		ids, names := int(binary.BigEndian.Uint16(head[12:])), int(binary.BigEndian.Uint16(head[14:]))
		extra := binary.BigEndian.Uint32(head[36:])
		if extra > maxSnapshot {
			return 0, 0, 0, damaged("a snapshot has %d bytes more", extra)
		}
		rest := make([]byte, int(extra)+ids+names)
		if err := d.read(rest, int64(at)+40); err != nil {
			return 0, 0, 0, err
		}
		if string(rest[int(extra)+ids:]) == name {
			if extra >= 16 {
				size = binary.BigEndian.Uint64(rest[8:])
			}
			return size, binary.BigEndian.Uint64(head), binary.BigEndian.Uint32(head[8:]), nil
		}
		at += (40 + uint64(len(rest)) + 7) &^ 7
	}
	return 0, 0, 0, fmt.Errorf("%w: the disk has no snapshot %s", virt.ErrNotFound, strings.TrimPrefix(name, "snap-"))
}

func (d *Disk) readL1(at uint64, length uint32) error {
	need := (d.size + d.span() - 1) / d.span()
	if need > maxL1 || int64(length) < need {
		return damaged("its first table has %d entries, and %d are needed", length, need)
	}
	if need > 0 {
		if err := d.aligned(at); err != nil {
			return err
		}
	}
	raw := make([]byte, need*8)
	if err := d.read(raw, int64(at)); err != nil {
		return err
	}
	d.l1 = make([]uint64, need)
	for i := range d.l1 {
		d.l1[i] = binary.BigEndian.Uint64(raw[i*8:]) & offsets
		if err := d.aligned(d.l1[i]); err != nil {
			return err
		}
	}
	return nil
}

// span is how many bytes of the disk one second table is about.
func (d *Disk) span() int64 { return 1 << (2*d.bits - 3) }

func (d *Disk) cluster() int64 { return 1 << d.bits }

func (d *Disk) aligned(at uint64) error {
	if at&uint64(d.cluster()-1) != 0 || at > uint64(d.end) {
		return damaged("something stands at %d, where no cluster begins", at)
	}
	return nil
}

// read reads all of p from the file.
func (d *Disk) read(p []byte, at int64) error {
	if at < 0 || at > d.end-int64(len(p)) {
		return damaged("something stands behind its end, at %d", at)
	}
	n, err := d.file.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return damaged("it was cut while it was read")
	}
	return err
}

// Size is the bytes that the disk has.
func (d *Disk) Size() int64 { return d.size }

// table is one second table of a disk.
type table struct {
	of      *Disk
	index   int64 // in the first; -1 before any was read
	entries []uint64
}

func (d *Disk) table() *table { return &table{of: d, index: -1} }

// at finds the cluster at a place of the disk: where it is in the file, 0 if it
// is zero, or below if the content is that of the backing file.
func (t *table) at(place int64) (host int64, below bool, err error) {
	d := t.of
	if i := place / d.span(); i != t.index {
		if err := t.load(i); err != nil {
			return 0, false, err
		}
	}
	if t.entries == nil {
		return 0, true, nil
	}
	e := t.entries[place%d.span()>>d.bits]
	switch {
	case e&packed != 0:
		return 0, false, refused("compressed clusters")
	case e&zero != 0:
		return 0, false, nil
	case e&offsets == 0:
		return 0, true, nil
	}
	return int64(e & offsets), false, d.aligned(e & offsets)
}

func (t *table) load(i int64) error {
	d := t.of
	t.index = -1
	t.entries = nil
	if d.l1[i] != 0 {
		raw := make([]byte, d.cluster())
		if err := d.read(raw, int64(d.l1[i])); err != nil {
			return err
		}
		t.entries = make([]uint64, len(raw)/8)
		for k := range t.entries {
			t.entries[k] = binary.BigEndian.Uint64(raw[k*8:])
		}
	}
	t.index = i
	return nil
}

// data calls do for every cluster of the disk that holds something of this file's
// own, or of those below it, in any order.
func (d *Disk) data(do func(from, length int64)) error {
	if d.raw {
		return d.rawData(do)
	}
	t := d.table()
	for i := range d.l1 {
		from, end := int64(i)*d.span(), min(int64(i+1)*d.span(), d.size)
		if d.l1[i] == 0 {
			continue // what is below is gone through apart
		}
		for at := from; at < end; at += d.cluster() {
			host, _, err := t.at(at)
			if err != nil {
				return err
			}
			if host != 0 {
				do(at, min(d.cluster(), end-at))
			}
		}
	}
	if d.backing == nil {
		return nil
	}
	return d.backing.data(func(from, length int64) {
		if length = min(length, d.size-from); length > 0 {
			do(from, length)
		}
	})
}

// rawData is data of a file that is the disk.
func (d *Disk) rawData(do func(from, length int64)) error {
	sparse, ok := d.file.(Sparse)
	if !ok {
		do(0, d.size)
		return nil
	}
	for at := int64(0); at < d.size; {
		begin, end, err := sparse.Data(at)
		if err != nil {
			return err
		}
		if begin < at || end < begin || end == at {
			return damaged("after byte %d its holes make no sense", at)
		}
		if length := min(end, d.size) - begin; length > 0 {
			do(begin, length)
		}
		at = end
	}
	return nil
}

// reader reads the content of a disk, for one caller at a time.
type reader struct {
	top   *table
	below *reader
}

func (d *Disk) reader() *reader {
	r := &reader{top: d.table()}
	if d.backing != nil {
		r.below = d.backing.reader()
	}
	return r
}

// read fills p from a place of the disk. What is behind its end is zero.
func (r *reader) read(p []byte, place int64) error {
	d := r.top.of
	if room := d.size - place; room < int64(len(p)) {
		room = max(room, 0)
		clear(p[room:])
		p = p[:room]
	}
	if d.raw {
		return d.tail(p, place)
	}
	for len(p) > 0 {
		host, below, err := r.top.at(place)
		if err != nil {
			return err
		}
		n := min(int64(len(p)), d.cluster()-place&(d.cluster()-1))
		from := host + place&(d.cluster()-1)
		for host != 0 && n < int64(len(p)) { // as many as stand beside each other in the file
			next, _, err := r.top.at(place + n)
			if err != nil {
				return err
			}
			if next != from+n {
				break
			}
			n = min(int64(len(p)), n+d.cluster())
		}
		switch {
		case host != 0:
			err = d.tail(p[:n], from)
		case below && r.below != nil:
			err = r.below.read(p[:n], place)
		default:
			clear(p[:n])
		}
		if err != nil {
			return err
		}
		p, place = p[n:], place+n
	}
	return nil
}

// tail reads content, which may end in the middle of the last cluster of a file.
func (d *Disk) tail(p []byte, at int64) error {
	room := max(0, min(int64(len(p)), d.end-at))
	clear(p[room:])
	return d.read(p[:room], at)
}
