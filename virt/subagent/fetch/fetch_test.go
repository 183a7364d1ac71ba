package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a folder with a fetcher, and a server.
type bench struct {
	*testing.T
	dir string
	f   *fetch.Fetcher
	url string
}

func newBench(t *testing.T, o fetch.Options, serve http.HandlerFunc) *bench {
	b := &bench{T: t, dir: t.TempDir()}
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	b.url = server.URL
	b.open(o)
	return b
}

func (b *bench) open(o fetch.Options) {
	b.Helper()
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	if b.f, err = fetch.Open(root, o); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = errors.Join(b.f.Close(), root.Close()) })
}

// files lists what is in the folder.
func (b *bench) files() (names []string) {
	b.Helper()
	list, err := os.ReadDir(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// nothing checks that a download failed and left nothing.
func (b *bench) nothing(what string, err error) {
	b.Helper()
	if err == nil {
		b.Errorf("%s: it was taken", what)
	}
	if left := b.files(); len(left) > 0 {
		b.Errorf("%s left %q (%v)", what, left, err)
	}
}

func (b *bench) holds(name string, want []byte) {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil || !bytes.Equal(data, want) {
		b.Errorf("%s has %d bytes and not the %d that were sent (%v)", name, len(data), len(want), err)
	}
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.Error(err)
	}
}

func local() fetch.Options { return fetch.Options{Private: true} }

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// noise is content with a hole in it.
func noise(n int) []byte {
	data := make([]byte, n)
	var seed [32]byte
	src := rand.NewChaCha8(seed)
	_, _ = src.Read(data)
	clear(data[n/4 : n/2])
	return data
}

func gz(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func xzed(t *testing.T, data []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t *testing.T, data []byte, o ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, o...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func serveBytes(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

func TestWhole(t *testing.T) {
	data := noise(1<<20 + 77)
	forms := map[string][]byte{
		"plain":             data,
		"gzip":              gz(t, data),
		"gzip, two members": append(gz(t, data[:1000]), gz(t, data[1000:])...),
		"xz":                xzed(t, data, xz.WriterConfig{}),
		"xz, crc32":         xzed(t, data, xz.WriterConfig{CheckSum: xz.CRC32}),
		"xz, sha256":        xzed(t, data, xz.WriterConfig{CheckSum: xz.SHA256}),
		"xz, no check":      xzed(t, data, xz.WriterConfig{NoCheckSum: true}),
		"xz, blocks":        xzed(t, data, xz.WriterConfig{BlockSize: 100_000}),
		"xz, two streams":   append(append(xzed(t, data[:1000], xz.WriterConfig{}), 0, 0, 0, 0), xzed(t, data[1000:], xz.WriterConfig{})...),
		"zstd":              zst(t, data),
		"zstd, two frames":  append(zst(t, data[:1000]), zst(t, data[1000:])...),
		"zstd, skippable":   append(zst(t, data), 0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2),
	}
	for name, sent := range forms {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, local(), serveBytes(sent))
			for what, item := range map[string]fetch.Item{"bare": {}, "sum": {SHA256: strings.ToUpper(sumOf(sent))}, "both": {SHA256: sumOf(sent), Size: int64(len(sent))}} {
				item.Name, item.URL = "debian-12.img", b.url
				if err := b.f.Fetch(t.Context(), item, nil); err != nil {
					t.Fatal(what, err)
				}
				b.holds(item.Name, data)
			}
		})
	}
}

func TestCutEvery64KiB(t *testing.T) {
	data := noise(1 << 20)
	for name, sent := range map[string][]byte{"plain": data, "gzip": gz(t, data), "xz": xzed(t, data, xz.WriterConfig{}), "zstd": zst(t, data)} {
		var cut atomic.Int64
		b := newBench(t, local(), func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
			case "/close": // the end of the connection is the end, as of old
				c, buf, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(buf, "HTTP/1.0 200 OK\r\n\r\n%s", sent[:cut.Load()])
				_ = errors.Join(buf.Flush(), c.Close())
				return
			}
			_, _ = w.Write(sent[:cut.Load()])
			if r.URL.Path == "/chunked" {
				w.(http.Flusher).Flush()
			}
			panic(http.ErrAbortHandler)
		})
		for at := 0; at < len(sent); at += 64 << 10 {
			cut.Store(int64(at))
			for _, path := range []string{"/length", "/chunked", "/close"} {
				for _, item := range []fetch.Item{{}, {SHA256: sumOf(sent)}, {Size: int64(len(sent))}} {
					item.Name, item.URL = "x", b.url+path
					b.nothing(fmt.Sprintf("%s%s cut at %d", name, path, at), b.f.Fetch(t.Context(), item, nil))
				}
			}
		}
	}
}

func TestEveryDamageOfXZ(t *testing.T) {
	data := noise(3000)
	packed := xzed(t, data, xz.WriterConfig{CheckSum: xz.CRC64, DictCap: 64 << 10})
	var sent atomic.Pointer[[]byte]
	b := newBench(t, local(), func(w http.ResponseWriter, r *http.Request) { serveBytes(*sent.Load())(w, r) })
	item := fetch.Item{Name: "x", URL: b.url}
	for i := 6; i < len(packed); i += 1 + len(packed)/400 {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x10
		sent.Store(&bad)
		b.nothing(fmt.Sprintf("byte %d of %d turned", i, len(packed)), b.f.Fetch(t.Context(), item, nil))
	}
	for i := 7; i < len(packed); i++ {
		cut := packed[:i]
		sent.Store(&cut)
		b.nothing(fmt.Sprintf("cut at byte %d of %d", i, len(packed)), b.f.Fetch(t.Context(), item, nil))
	}
	greedy := xzed(t, data, xz.WriterConfig{DictCap: 128 << 20})
	sent.Store(&greedy)
	err := b.f.Fetch(t.Context(), item, nil)
	b.nothing("a dictionary of 128 MiB", err)
	if !errors.Is(err, virt.ErrUnsupported) {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	data := noise(300_000)
	bomb := gz(t, make([]byte, 4<<20))
	xzBomb := xzed(t, make([]byte, 4<<20), xz.WriterConfig{})
	zstdBomb := zst(t, make([]byte, 4<<20))
	greedy := zst(t, noise(1<<19), zstd.WithWindowSize(256<<20)) // asks for this much memory
	damaged := zst(t, data)
	damaged[len(damaged)/2] ^= 1
	o := local()
	o.MaxBytes, o.MaxUnpacked = 1<<20, 2<<20
	b := newBench(t, o, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			serveBytes(data)(w, r)
		case "/large":
			serveBytes(make([]byte, 1<<20+1))(w, r)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(data); err != nil {
					return
				}
			}
		case "/bomb":
			serveBytes(bomb)(w, r)
		case "/xzbomb":
			serveBytes(xzBomb)(w, r)
		case "/zstdbomb":
			serveBytes(zstdBomb)(w, r)
		case "/greedy":
			serveBytes(greedy)(w, r)
		case "/damaged":
			serveBytes(damaged)(w, r)
		case "/bzip2":
			serveBytes([]byte("BZh9 and so on"))(w, r)
		case "/empty":
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/secret":
			http.Error(w, "no", http.StatusForbidden)
		default:
			http.NotFound(w, r)
		}
	})
	var large *fetch.TooLargeError
	var sum *fetch.SumError
	var name *mistify.NameError
	for _, c := range []struct {
		what string
		item fetch.Item
		is   error
		as   any
	}{
		{"a wrong sum", fetch.Item{URL: "/good", SHA256: sumOf(nil)}, virt.ErrInvalid, &sum},
		{"too short", fetch.Item{URL: "/good", Size: 300_001}, virt.ErrInvalid, nil},
		{"too long", fetch.Item{URL: "/good", Size: 299_999}, virt.ErrInvalid, nil},
		{"no sum", fetch.Item{URL: "/good", SHA256: "xyz"}, virt.ErrInvalid, nil},
		{"too large by its length", fetch.Item{URL: "/large"}, virt.ErrInvalid, &large},
		{"endless", fetch.Item{URL: "/endless"}, virt.ErrInvalid, &large},
		{"a size over the bound", fetch.Item{URL: "/good", Size: 1<<20 + 1}, virt.ErrInvalid, nil},
		{"a bomb of gzip", fetch.Item{URL: "/bomb"}, virt.ErrInvalid, &large},
		{"a bomb of xz", fetch.Item{URL: "/xzbomb"}, virt.ErrInvalid, &large},
		{"a bomb of zstd", fetch.Item{URL: "/zstdbomb"}, virt.ErrInvalid, &large},
		{"a window of 256 MiB", fetch.Item{URL: "/greedy"}, zstd.ErrWindowSizeExceeded, nil},
		{"a flipped bit of zstd", fetch.Item{URL: "/damaged"}, nil, nil},
		{"bzip2", fetch.Item{URL: "/bzip2"}, virt.ErrUnsupported, nil},
		{"nothing", fetch.Item{URL: "/empty"}, virt.ErrInvalid, nil},
		{"not there", fetch.Item{URL: "/gone"}, virt.ErrNotFound, nil},
		{"a loop of redirects", fetch.Item{URL: "/loop"}, nil, nil},
		{"a redirect to a file", fetch.Item{URL: "/file"}, virt.ErrInvalid, nil},
		{"a name with a slash", fetch.Item{URL: "/good", Name: "a/b"}, virt.ErrInvalid, &name},
		{"a name that goes up", fetch.Item{URL: "/good", Name: ".."}, virt.ErrInvalid, &name},
		{"a name with @", fetch.Item{URL: "/good", Name: "a@b"}, virt.ErrInvalid, &name},
		{"a name like an option", fetch.Item{URL: "/good", Name: "-rf"}, virt.ErrInvalid, &name},
		{"a name of two lines", fetch.Item{URL: "/good", Name: "a\nb"}, virt.ErrInvalid, &name},
		{"a hidden name", fetch.Item{URL: "/good", Name: ".half-x"}, virt.ErrInvalid, &name},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := &bench{T: t, dir: b.dir, f: b.f, url: b.url}
			if c.item.Name == "" {
				c.item.Name = "x"
			}
			c.item.URL = b.url + c.item.URL
			err := b.f.Fetch(t.Context(), c.item, nil)
			b.nothing(c.what, err)
			if c.is != nil && !errors.Is(err, c.is) || c.as != nil && !errors.As(err, c.as) {
				t.Errorf("got error %v, want a %v", err, c.is)
			}
		})
	}
	for _, bad := range []string{"", "ftp://x/y", "file:///etc/passwd", "/etc/passwd", "http://", "http://a b/", "http://x/" + strings.Repeat("y", 5000)} {
		if err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: bad}, nil); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("the source %.50q: %v", bad, err)
		}
	}
	secret := strings.Replace(b.url, "http://", "http://me:hush@", 1) + "/secret?key=hush"
	err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: secret}, nil)
	if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "me:") {
		t.Errorf("the error %v tells secrets", err)
	}
}

func TestPrivateAddresses(t *testing.T) {
	data := noise(1000)
	inner := httptest.NewServer(serveBytes(data))
	defer inner.Close()
	var asked atomic.Int64
	redirect := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, strings.Replace(inner.URL, "127.0.0.1", "127.0.0.2", 1), http.StatusFound)
	}
	b := newBench(t, fetch.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, redirect)
	var address *fetch.AddressError
	if err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: inner.URL}, nil); err != nil {
		t.Errorf("an allowed address: %v", err)
	}
	b.holds("x", data)
	err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: b.url}, nil)
	b.nothing("a redirect to another address", err)
	if !errors.As(err, &address) || address.Address.String() != "127.0.0.2" || asked.Load() != 1 {
		t.Errorf("a redirect was refused with %v after %d questions", err, asked.Load())
	}
	b.open(fetch.Options{})
	port := b.url[strings.LastIndex(b.url, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "10.1.2.3", "192.168.0.1", "172.16.0.1",
		"169.254.169.254", "[fe80::1]", "[fd00::1]", "100.64.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := b.f.Fetch(ctx, fetch.Item{Name: "x", URL: "http://" + host + port}, nil)
		cancel()
		b.nothing(host, err)
		if host != "2130706433" && !errors.As(err, &address) { // a resolver that takes it for a name finds none
			t.Errorf("%s: %v", host, err)
		}
	}
	if asked.Load() != 1 {
		t.Error("a server on loopback was asked")
	}
}

func TestHangAndTrickle(t *testing.T) {
	o := local()
	o.Stall, o.MinPerStall = 150*time.Millisecond, 1000
	b := newBench(t, o, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/hang":
			_, _ = w.Write(make([]byte, 5000))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/trickle":
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				<-tick.C
			}
		}
	})
	for _, path := range []string{"/silent", "/hang", "/trickle"} {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		b.nothing(path, b.f.Fetch(ctx, fetch.Item{Name: "x", URL: b.url + path}, nil))
		cancel()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s took %s", path, took)
		}
	}
	o.Stall, o.Timeout = time.Minute, 100*time.Millisecond
	b.open(o)
	err := b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: b.url + "/trickle"}, nil)
	b.nothing("longer than the whole may take", err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestOneDownloadForMany(t *testing.T) {
	data := noise(200_000)
	var asked, finished atomic.Int64
	goOn := make(chan struct{})
	b := newBench(t, local(), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:1000])
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
			_, _ = w.Write(data[1000:])
		case <-r.Context().Done():
		}
	})
	item := fetch.Item{Name: "x", URL: b.url, SHA256: sumOf(data)}
	finish := func(_ context.Context, got fetch.Got) error {
		finished.Add(1)
		content, err := os.ReadFile(filepath.Join(b.dir, got.Name))
		if !bytes.Equal(content, data) || got.SHA256 != item.SHA256 || got.Size != int64(len(data)) {
			t.Errorf("what was got is %+v, with %d bytes in it", got, len(content))
		}
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	left := make(chan struct{}) // the first has, and so all had come
	for i := range errs {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i == 0 {
				go func() {
					await(t, func() bool { p := b.f.Under()["x"]; return p.Done > 0 && p.Waiting == len(errs) })
					cancel()
				}()
			}
			errs[i] = b.f.Fetch(ctx, item, finish)
			if i == 0 {
				close(left)
			}
		})
	}
	<-left
	await(t, func() bool {
		p := b.f.Under()["x"]
		return p.Done == 1000 && p.Total == int64(len(data)) && p.Waiting == len(errs)-1
	})
	other := item
	other.URL += "/other"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.f.Fetch(ctx, other, finish); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("another source of the same name: %v", err)
	}
	close(goOn)
	wg.Wait()
	for i, err := range errs {
		if i > 0 && err != nil {
			t.Error(i, err)
		}
	}
	if asked.Load() != 1 || finished.Load() != 1 || len(b.files()) > 0 {
		t.Errorf("%d downloads, %d uses, left %q", asked.Load(), finished.Load(), b.files())
	}
}

// await polls until something is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("it never was so")
			return
		}
	}
}

func TestGivenUp(t *testing.T) {
	var asked atomic.Int64
	b := newBench(t, local(), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	item := fetch.Item{Name: "x", URL: b.url}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.f.Fetch(ctx, item, nil) }()
		await(t, func() bool { return b.f.Under()["x"].Done > 0 })
		cancel()
		err := <-done
		b.nothing("given up", err)
		if !errors.Is(err, context.Canceled) || len(b.f.Under()) > 0 {
			t.Errorf("%v, under way: %v", err, b.f.Under())
		}
	}
	done := make(chan error, 1)
	go func() { done <- b.f.Fetch(t.Context(), item, nil) }()
	await(t, func() bool { return b.f.Under()["x"].Done > 0 })
	if err := b.f.Close(); err != nil {
		t.Error(err)
	}
	b.nothing("closed", <-done)
	b.nothing("after the end", b.f.Fetch(t.Context(), item, nil))
	if asked.Load() != 4 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestSweep(t *testing.T) {
	b := newBench(t, local(), serveBytes(nil))
	for _, name := range []string{".half-AAAA", "debian"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.open(local())
	if left := b.files(); len(left) != 1 || left[0] != "debian" {
		t.Errorf("after the sweep there are %q", left)
	}
}

func TestUseThatFails(t *testing.T) {
	b := newBench(t, local(), serveBytes(noise(1000)))
	bad := errors.New("cannot use it")
	for name, finish := range map[string]fetch.Finish{
		"an error": func(context.Context, fetch.Got) error { return bad },
		"a panic":  func(context.Context, fetch.Got) error { panic("oh") },
	} {
		b.nothing(name, b.f.Fetch(t.Context(), fetch.Item{Name: "x", URL: b.url}, finish))
	}
}
