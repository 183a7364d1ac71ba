package fetch

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"

	"github.com/vagoth/vagoth/virt"
)

const (
	xzMagic  = "\xfd7zXZ\x00"
	xzFooter = "YZ"

	// maxDictionary is that of xz -9, the largest that the program makes unasked.
	maxDictionary = 64 << 20
)

var errXZ = errors.New("it is damaged")

// xz reads the container of version 1.0.4 of the format: streams of blocks, each
// of LZMA2 alone, with their checks.
type xz struct {
	in     *counted
	block  io.Reader // nil between blocks
	size   int       // of the check
	check  hash.Hash // nil if there is none
	blocks uint64
	begun  bool // a stream
	any    bool // stream at all
}

// counted counts what is read, for the padding.
type counted struct {
	*bufio.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func newXZ(in *bufio.Reader) *xz { return &xz{in: &counted{Reader: in}} }

func (x *xz) Read(p []byte) (int, error) {
	for {
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := x.block.Read(p)
		if x.check != nil {
			x.check.Write(p[:n])
		}
		if err == io.EOF { //nolint:errorlint // a reader says io.EOF itself
			err = x.endBlock()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next goes on to the next block. It is io.EOF if there is none.
func (x *xz) next() error {
	if !x.begun {
		if err := x.header(); err != nil {
			return err
		}
		x.begun, x.any, x.blocks = true, true, 0
	}
	size, err := x.in.ReadByte()
	if err != nil {
		return early(err)
	}
	if size == 0 {
		x.begun = false
		return x.index()
	}
	x.blocks++
	return x.beginBlock(size)
}

// header reads that of a stream. After the first there can be zeros before it.
func (x *xz) header() error {
	for x.any {
		pad, err := x.in.Peek(4)
		if len(pad) == 0 && err == io.EOF { //nolint:errorlint // a reader says io.EOF itself
			return io.EOF
		}
		if err != nil {
			return early(err)
		}
		if !bytes.Equal(pad, make([]byte, 4)) {
			break
		}
		if _, err := x.in.Discard(4); err != nil {
			return err
		}
	}
	var h [12]byte
	if _, err := io.ReadFull(x.in, h[:]); err != nil {
		return early(err)
	}
	if string(h[:6]) != xzMagic || h[6] != 0 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return fmt.Errorf("%w: a header is wrong", errXZ)
	}
	switch h[7] {
	case 0:
		x.size, x.check = 0, nil
	case 1:
		x.size, x.check = 4, crc32.NewIEEE()
	case 4:
		x.size, x.check = 8, crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		x.size, x.check = 32, sha256.New()
	default:
		return fmt.Errorf("%w: its check is of type %d: make it again with xz --check=crc64", virt.ErrUnsupported, h[7])
	}
	return nil
}

// beginBlock reads the header of a block.
func (x *xz) beginBlock(size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if _, err := io.ReadFull(x.in, h[1:]); err != nil {
		return early(err)
	}
	end := len(h) - 4
	if crc32.ChecksumIEEE(h[:end]) != binary.LittleEndian.Uint32(h[end:]) {
		return fmt.Errorf("%w: the header of block %d is wrong", errXZ, x.blocks)
	}
	flags, rest := h[1], bytes.NewReader(h[2:end])
	for _, bit := range [...]byte{0x40, 0x80} { // sizes, which we do not need
		if flags&bit != 0 {
			if _, err := binary.ReadUvarint(rest); err != nil {
				return early(err)
			}
		}
	}
	var filter [3]byte
	if _, err := io.ReadFull(rest, filter[:]); err != nil {
		return early(err)
	}
	if flags&0x3f != 0 || filter[0] != 0x21 || filter[1] != 1 {
		return fmt.Errorf("%w: it uses filters other than LZMA2: make it again without", virt.ErrUnsupported)
	}
	dictionary := int64(2|filter[2]&1) << (filter[2]/2 + 11)
	if filter[2] > 40 || dictionary > maxDictionary {
		return fmt.Errorf("%w: its dictionary is larger than %d MiB: make it again with xz -9 or less", virt.ErrUnsupported, maxDictionary>>20)
	}
	x.in.n = 0
	if x.check != nil {
		x.check.Reset()
	}
	var err error
	x.block, err = lzma.Reader2Config{DictCap: int(max(dictionary, lzma.MinDictCap))}.NewReader2(x.in)
	return err
}

// endBlock reads what stands after a block.
func (x *xz) endBlock() error {
	x.block = nil
	tail := make([]byte, int(-x.in.n&3)+x.size)
	if _, err := io.ReadFull(x.in, tail); err != nil {
		return early(err)
	}
	if x.check == nil {
		return nil
	}
	sum := x.check.Sum(nil)
	if x.size < 32 { // the standard library writes CRCs the other way round
		for i, j := 0, len(sum)-1; i < j; i, j = i+1, j-1 {
			sum[i], sum[j] = sum[j], sum[i]
		}
	}
	if !bytes.Equal(sum, tail[len(tail)-x.size:]) {
		return fmt.Errorf("%w: the check of block %d is wrong", errXZ, x.blocks)
	}
	return nil
}

// summed sums the bytes of an index.
type summed struct {
	in  io.ByteReader
	sum hash.Hash32
	n   int64
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.in.ReadByte()
	if err == nil {
		s.n++
		s.sum.Write([]byte{b})
	}
	return b, err
}

// index reads that of a stream, whose first byte was read, and its footer.
func (x *xz) index() error {
	s := &summed{in: x.in, sum: crc32.NewIEEE(), n: 1}
	s.sum.Write([]byte{0})
	records, err := binary.ReadUvarint(s)
	if err != nil {
		return early(err)
	}
	if records != x.blocks {
		return fmt.Errorf("%w: it has %d blocks and should have %d", errXZ, x.blocks, records)
	}
	for range 2 * records {
		if _, err := binary.ReadUvarint(s); err != nil {
			return early(err)
		}
	}
	for s.n%4 != 0 {
		if b, err := s.ReadByte(); err != nil || b != 0 {
			return early(errors.Join(err, errXZ))
		}
	}
	var f [16]byte
	if _, err := io.ReadFull(x.in, f[:]); err != nil {
		return early(err)
	}
	if binary.LittleEndian.Uint32(f[:]) != s.sum.Sum32() || binary.LittleEndian.Uint32(f[4:]) != crc32.ChecksumIEEE(f[8:14]) || string(f[14:]) != xzFooter {
		return fmt.Errorf("%w: its end is wrong", errXZ)
	}
	return nil
}

// early makes one error of an end where there should be none.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
