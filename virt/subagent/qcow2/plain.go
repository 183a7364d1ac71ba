package qcow2

import (
	"encoding/binary"
	"fmt"
)

// featureNames is the one extension of a header that says nothing of the content.
const featureNames = 0x6803f857

// Plain says why a file is more than the content of one disk in clusters of its
// own: it has snapshots, another file below or beside it, bitmaps, compressed or
// encrypted clusters, or what nobody here knows. nil means that whoever opens it
// by QEMU gets its content and nothing else, if qemu-img finds it consistent too.
func Plain(f File) error {
	d, err := Open(f, Options{})
	if err != nil {
		return err
	}
	h := make([]byte, headerSize)
	if err := d.read(h[:72], 0); err != nil {
		return err
	}
	at := int64(72)
	switch {
	case binary.BigEndian.Uint64(h[8:]) != 0:
		return refused("another file below it")
	case binary.BigEndian.Uint32(h[60:]) != 0:
		return refused("snapshots")
	case d.size == 0 || d.size&511 != 0:
		return refused(fmt.Sprintf("%d bytes", d.size))
	}
	if binary.BigEndian.Uint32(h[4:]) == 3 {
		if err := d.read(h, 0); err != nil {
			return err
		}
		const lazy = 1 // counts of references, which nobody changes in an image
		incompatible, compatible, autoclear := binary.BigEndian.Uint64(h[72:]), binary.BigEndian.Uint64(h[80:]), binary.BigEndian.Uint64(h[88:])
		if incompatible != 0 || compatible&^lazy != 0 || autoclear != 0 {
			return refused(fmt.Sprintf("the features %#x, %#x and %#x", incompatible, compatible, autoclear))
		}
		at = int64(binary.BigEndian.Uint32(h[100:]))
		if at < headerSize || at > 512 {
			return refused(fmt.Sprintf("a header of %d bytes", at))
		}
	}
	if err := d.onlyNames(at); err != nil {
		return err
	}
	return d.data(func(int64, int64) {})
}

// onlyNames refuses extensions of the header that say more than what features are
// called.
func (d *Disk) onlyNames(at int64) error {
	for at+8 <= d.cluster() {
		b := make([]byte, 8)
		if err := d.read(b, at); err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint32(b[4:]))
		switch {
		case kind == 0:
			return nil
		case kind != featureNames:
			return refused(fmt.Sprintf("the extension %#x", kind))
		case length > d.cluster():
			return damaged("an extension of its header has %d bytes", length)
		}
		at += 8 + (length+7)&^7
	}
	return nil
}
