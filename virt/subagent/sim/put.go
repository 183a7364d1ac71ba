package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// padding is what follows what a disk holds, for ever: a zero byte and noise that
// follows from it.
func padding(text string) io.Reader {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%032x", hash(text)))
	return io.MultiReader(strings.NewReader("\x00"), rand.NewChaCha8(seed))
}

// unpadded is what a disk holds that becomes of content, in a download of which the
// same bytes come again. A simulated disk holds text, so of content that is none,
// and no download of such a disk, its sum is kept.
func unpadded(content []byte, sum string) string {
	const zeros = 16 // which text may have in it
	for at, n := 0, 0; n < zeros; n++ {
		next := bytes.IndexByte(content[at:], 0)
		if next < 0 {
			break
		}
		text := string(content[:at+next])
		rest := make([]byte, len(content)-len(text))
		if _, err := io.ReadFull(padding(text), rest); err == nil && bytes.Equal(rest, content[len(text):]) {
			return text
		}
		at += next + 1
	}
	if utf8.Valid(content) {
		return string(content)
	}
	return "sha256:" + sum
}

// Put makes an image of what is read from content, of which it keeps what the
// options let a download have. It is there at once.
func (i *Images) Put(ctx context.Context, r *mistify.ImageRequest, content io.ReadCloser) (*mistify.ImageResponse, error) {
	defer func() { _ = content.Close() }()
	defer context.AfterFunc(ctx, func() { _ = content.Close() })() // wakes who reads it
	if r.Source != "" {
		return nil, fmt.Errorf("%w: the image %.200q is sent and has a source too", virt.ErrInvalid, r.ID)
	}
	if r.Type == mistify.TypeContainer {
		return nil, fmt.Errorf("%w: images of containers are not sent", virt.ErrUnsupported)
	}
	if _, err := i.agent.onImages(ctx, i.container, r, true, func(g gallery) ([]image, error) { return nil, g.free(r.ID) }); err != nil {
		return nil, err
	}
	one, err := i.agent.receive(r, content)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what is closed by the end of it can look as if it were whole
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take what was sent as %s: %w", r.ID, err)
	}
	return i.agent.onImages(ctx, i.container, r, true, func(g gallery) ([]image, error) {
		if err := g.free(one.id); err != nil {
			return nil, err
		}
		one, err := g.fetch(one)
		return []image{one}, err
	})
}

// receive reads content to its end and checks it.
func (a *Agent) receive(r *mistify.ImageRequest, content io.Reader) (one image, err error) {
	var kept bytes.Buffer
	sum := sha256.New()
	n, err := io.Copy(sum, io.TeeReader(io.LimitReader(content, a.opts.Download), &kept))
	if err == nil {
		var more int64
		more, err = io.Copy(sum, content)
		n += more
	}
	got := hex.EncodeToString(sum.Sum(nil))
	switch {
	case err != nil:
		return one, err
	case n == 0:
		return one, fmt.Errorf("%w: it is empty", virt.ErrInvalid)
	case r.Size > 0 && uint64(n) != r.Size:
		return one, fmt.Errorf("%w: it has %d bytes and should have %d", virt.ErrInvalid, n, r.Size)
	case r.SHA256 != "" && !strings.EqualFold(got, r.SHA256):
		return one, fmt.Errorf("%w: its sha256 is %s and should be %s", virt.ErrInvalid, got, r.SHA256)
	}
	return image{id: r.ID, source: "sent, with the sha256 " + got, at: a.opts.Now(), sent: n, text: unpadded(kept.Bytes(), got)}, nil
}
