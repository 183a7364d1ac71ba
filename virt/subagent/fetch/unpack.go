package fetch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/vagoth/vagoth/virt"
)

// maxWindow is what zstd --ultra -22 needs, without --long.
const maxWindow = 128 << 20

// unpacked returns what is in a stream: of a gzip, xz or zstd, what is packed; of
// anything else, itself. What it is tells its beginning, not its name.
func unpacked(in *bufio.Reader) (content io.Reader, packed string, err error) {
	magic, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	starts := func(with string) bool { return bytes.HasPrefix(magic, []byte(with)) }
	switch {
	case starts("\x1f\x8b"):
		content, err := gzip.NewReader(in)
		if err != nil {
			return nil, "", broken("gzip", err)
		}
		return &unpacker{content, "gzip"}, "gzip", nil
	case starts(xzMagic):
		return &unpacker{newXZ(in), "xz"}, "xz", nil
	case starts("\x28\xb5\x2f\xfd"):
		// In this goroutine only, and with no window that a file of a few bytes could ask for.
		content, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, "", broken("zstd", err)
		}
		return &unpacker{content, "zstd"}, "zstd", nil
	case starts("BZh"):
		return nil, "", unreadable("bzip2")
	}
	return in, "", nil
}

func unreadable(what string) error {
	return fmt.Errorf("%w: it is packed with %s, which cannot be unpacked here: pack it with gzip, xz or zstd", virt.ErrUnsupported, what)
}

func broken(what string, err error) error {
	if err == io.EOF { //nolint:errorlint // a reader says io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot unpack it as %s: %w", what, err)
}

// unpacker says what could not be unpacked.
type unpacker struct {
	in   io.Reader
	what string
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader says io.EOF itself
		err = broken(u.what, err)
	}
	return n, err
}
