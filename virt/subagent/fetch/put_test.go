package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// sending is content that counts how often it is closed, and is so by hand only.
type sending struct {
	io.Reader
	closed atomic.Int64
}

func (s *sending) Close() error {
	s.closed.Add(1)
	return nil
}

// put sends content as x.
func (b *bench) put(item fetch.Item, content io.Reader, finish fetch.Finish) error {
	b.Helper()
	in := &sending{Reader: content}
	if item.Name == "" {
		item.Name = "x"
	}
	err := b.f.Put(b.Context(), item, in, finish)
	if in.closed.Load() == 0 {
		b.Errorf("the content was left open (%v)", err)
	}
	return err
}

func TestSentWhole(t *testing.T) {
	data := noise(1<<20 + 77)
	o := fetch.Options{RequireSum: true} // which is for downloads
	b := newBench(t, o, nil)
	for name, sent := range map[string][]byte{"plain": data, "gzip": gz(t, data), "xz": xzed(t, data, xz.WriterConfig{}), "zstd": zst(t, data)} {
		for what, item := range map[string]fetch.Item{"bare": {}, "sum": {SHA256: strings.ToUpper(sumOf(sent))}, "both": {SHA256: sumOf(sent), Size: int64(len(sent))}} {
			if err := b.put(item, iotest.DataErrReader(bytes.NewReader(sent)), nil); err != nil {
				t.Fatal(name, what, err)
			}
			b.holds("x", data)
			err := b.put(item, bytes.NewReader(sent), func(_ context.Context, got fetch.Got) error {
				content, err := os.ReadFile(filepath.Join(b.dir, got.Name))
				if !bytes.Equal(content, data) || got.SHA256 != sumOf(sent) || got.Size != int64(len(data)) || got.Sent != int64(len(sent)) {
					t.Errorf("%s %s: what was got is %+v, with %d bytes in it", name, what, got, len(content))
				}
				return err
			})
			if err != nil || len(b.files()) > 0 {
				t.Errorf("%s %s: left is %q (%v)", name, what, b.files(), err)
			}
		}
	}
}

// TestSentCut ends what is sent with one error or another, every 64 KiB and where
// it ends.
func TestSentCut(t *testing.T) {
	data := noise(1 << 20)
	b := newBench(t, fetch.Options{}, nil)
	for name, sent := range map[string][]byte{"plain": data, "gzip": gz(t, data), "xz": xzed(t, data, xz.WriterConfig{}), "zstd": zst(t, data)} {
		cuts := []error{io.ErrUnexpectedEOF, errors.New("connection reset"), fmt.Errorf("cut: %w", io.EOF)}
		for at := 0; at <= len(sent); at += 64 << 10 {
			for i, item := range []fetch.Item{{}, {Size: int64(len(sent))}, {SHA256: sumOf(sent)}} {
				cut := cuts[(at>>16+i)%len(cuts)]
				err := b.put(item, io.MultiReader(bytes.NewReader(sent[:at]), iotest.ErrReader(cut)), nil)
				b.nothing(fmt.Sprintf("%s cut at %d with %v", name, at, cut), err)
			}
		}
		b.nothing(name+" cut where it ends", b.put(fetch.Item{}, io.MultiReader(bytes.NewReader(sent), iotest.ErrReader(io.ErrUnexpectedEOF)), nil))
	}
}

func TestSentRefused(t *testing.T) {
	data := noise(300_000)
	b := newBench(t, fetch.Options{MaxBytes: 1 << 20, MaxUnpacked: 2 << 20}, nil)
	var large *fetch.TooLargeError
	var sum *fetch.SumError
	for _, c := range []struct {
		what string
		item fetch.Item
		sent []byte
		is   error
		as   any
	}{
		{"a wrong sum", fetch.Item{SHA256: sumOf(nil)}, data, virt.ErrInvalid, &sum},
		{"no sum", fetch.Item{SHA256: "xyz"}, data, virt.ErrInvalid, nil},
		{"too short", fetch.Item{Size: 300_001}, data, virt.ErrInvalid, nil},
		{"too long", fetch.Item{Size: 299_999}, data, virt.ErrInvalid, nil},
		{"a size over the bound", fetch.Item{Size: 1<<20 + 1}, data, virt.ErrInvalid, nil},
		{"too large", fetch.Item{}, make([]byte, 1<<20+1), virt.ErrInvalid, &large},
		{"a bomb of gzip", fetch.Item{}, gz(t, make([]byte, 4<<20)), virt.ErrInvalid, &large},
		{"a bomb of zstd", fetch.Item{}, zst(t, make([]byte, 4<<20)), virt.ErrInvalid, &large},
		{"nothing", fetch.Item{}, nil, virt.ErrInvalid, nil},
		{"bzip2", fetch.Item{}, []byte("BZh9 and so on"), virt.ErrUnsupported, nil},
		{"a source", fetch.Item{URL: "http://example.com/x"}, data, virt.ErrInvalid, nil},
		{"a name that goes up", fetch.Item{Name: ".."}, data, virt.ErrInvalid, nil},
	} {
		err := b.put(c.item, bytes.NewReader(c.sent), nil)
		b.nothing(c.what, err)
		if !errors.Is(err, c.is) || c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: got error %v, want a %v", c.what, err, c.is)
		}
	}
	for name, finish := range map[string]fetch.Finish{
		"an error": func(context.Context, fetch.Got) error { return errors.New("cannot use it") },
		"a panic":  func(context.Context, fetch.Got) error { panic("oh") },
	} {
		b.nothing("a use with "+name, b.put(fetch.Item{}, bytes.NewReader(data), finish))
	}
	err := b.put(fetch.Item{}, iotest.ErrReader(io.ErrUnexpectedEOF), nil)
	if err == nil || !strings.Contains(err.Error(), "cannot take what was sent as x: ") {
		t.Errorf("the error is %v", err)
	}
}

// TestSentStalls sends too little, and nothing, and what never ends: the content is
// closed, which wakes who reads it.
func TestSentStalls(t *testing.T) {
	b := newBench(t, fetch.Options{Stall: 150 * time.Millisecond, MinPerStall: 1000}, nil)
	stalled := func(what string, ctx context.Context) error {
		in, out := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, err := out.Write(make([]byte, 5000))
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for err == nil && what == "trickle" {
				<-tick.C
				_, err = out.Write([]byte("x"))
			}
		}()
		err := b.f.Put(ctx, fetch.Item{Name: "x"}, in, nil)
		b.nothing(what, err)
		<-ended
		if _, open := out.Write([]byte("x")); !errors.Is(open, io.ErrClosedPipe) {
			t.Errorf("%s: the content was left open (%v)", what, open)
		}
		return err
	}
	for _, what := range []string{"hang", "trickle"} {
		if err := stalled(what, t.Context()); err == nil || !strings.Contains(err.Error(), "too little came") {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.open(fetch.Options{Timeout: 100 * time.Millisecond})
	if err := stalled("longer than the whole may take", t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	b.open(fetch.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := stalled("given up", ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// quiet looks whole once it is closed.
type quiet struct {
	first  io.Reader
	closed chan struct{}
	gone   atomic.Bool
}

func (q *quiet) Read(p []byte) (int, error) {
	if n, err := q.first.Read(p); err == nil {
		return n, nil
	}
	<-q.closed
	return 0, io.EOF
}

func (q *quiet) Close() error {
	if q.gone.CompareAndSwap(false, true) {
		close(q.closed)
	}
	return nil
}

func TestSentOnlyOnce(t *testing.T) {
	b := newBench(t, local(), serveBytes(noise(1000)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	in := &quiet{first: bytes.NewReader(noise(4000)), closed: make(chan struct{})}
	go func() { done <- b.f.Put(ctx, fetch.Item{Name: "x", Size: 5000}, in, nil) }()
	await(t, func() bool { return b.f.Under()["x"].Done == 4000 })
	if p := b.f.Under()["x"]; p.Total != 5000 || p.Waiting != 1 {
		t.Errorf("it is %+v", p)
	}
	unread := &sending{Reader: iotest.ErrReader(errors.New("it was read"))}
	if err := b.f.Put(t.Context(), fetch.Item{Name: "x", Size: 5000}, unread, nil); !errors.Is(err, virt.ErrConflict) || unread.closed.Load() == 0 {
		t.Errorf("sent twice at once: %v", err)
	}
	if err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: b.url}, nil); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("a download of what is being sent: %v", err)
	}
	cancel()
	err := <-done
	b.nothing("what looks whole when it is closed", err)
	if !errors.Is(err, context.Canceled) || len(b.f.Under()) > 0 {
		t.Errorf("%v, under way: %v", err, b.f.Under())
	}
	in = &quiet{first: bytes.NewReader(noise(4000)), closed: make(chan struct{})}
	go func() { done <- b.f.Put(t.Context(), fetch.Item{Name: "x"}, in, nil) }()
	await(t, func() bool { return b.f.Under()["x"].Done == 4000 })
	if err := b.f.Close(); err != nil {
		t.Error(err)
	}
	b.nothing("closed", <-done)
	b.nothing("after the end", b.put(fetch.Item{}, bytes.NewReader(noise(10)), nil))
}

// TestSentWhileDownloaded has the name taken by a download.
func TestSentWhileDownloaded(t *testing.T) {
	goOn := make(chan struct{})
	b := newBench(t, local(), serveBytes(noise(1000)))
	done := make(chan error, 1)
	go func() {
		done <- b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: b.url}, func(context.Context, fetch.Got) error { <-goOn; return nil })
	}()
	await(t, func() bool { return b.f.Under()["x"].Done == 1000 })
	if err := b.put(fetch.Item{}, iotest.ErrReader(errors.New("it was read")), nil); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("while it is downloaded: %v", err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
