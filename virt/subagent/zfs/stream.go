package zfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/vagoth/vagoth/virt"
)

// What is read of the first record of a stream. Numbers are of the machine that
// wrote it, which the magic tells.
const (
	recordBytes = 312
	streamMagic = 0x2F5bacbac

	atMagic   = 8
	atVersion = 16
	atType    = 32
	atFrom    = 48

	substream  = 1 // the kind of header that a plain zfs send writes
	typeVolume = 3
)

// The features of a stream that are not taken: what is encrypted has no key here,
// what is redacted is not whole, what goes on with another begins in the middle.
var refused = map[uint64]string{
	1 << 0:  "deduplicated (zfs send -D)",
	1 << 20: "the rest of another (zfs send -t)",
	1 << 21: "redacted",
	1 << 24: "raw, as it is encrypted (zfs send -w)",
}

// readStream reports whether a file is a stream of zfs send, and why it is not
// taken if it is not. The kernel sees nothing else.
func readStream(f io.ReaderAt) (is bool, err error) {
	b := make([]byte, recordBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if n < atMagic+8 {
		return false, nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint64(b[atMagic:]) != streamMagic {
		order = binary.BigEndian
	}
	if order.Uint64(b[atMagic:]) != streamMagic || order.Uint32(b) != 0 {
		return false, nil
	}
	version := order.Uint64(b[atVersion:])
	bad := func(what string) (bool, error) {
		return true, fmt.Errorf("%w: it is a zfs stream %s: make it with a plain zfs send of a volume's snapshot", virt.ErrInvalid, what)
	}
	switch {
	case n < recordBytes:
		return bad("that is cut")
	case version&3 != substream:
		return bad("of several snapshots, or with properties (zfs send -R, -p or -I)")
	case order.Uint32(b[atType:]) != typeVolume:
		return bad("of a filesystem")
	case order.Uint64(b[atFrom:]) != 0:
		return bad("that is incremental")
	}
	for bit, what := range refused {
		if (version>>2)&bit != 0 {
			return bad("that is " + what)
		}
	}
	return true, nil
}
