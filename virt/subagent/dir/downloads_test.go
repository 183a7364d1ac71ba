package dir_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// packed packs data with a real program.
func packed(t *testing.T, with string, data []byte) []byte {
	t.Helper()
	if with == "" {
		return data
	}
	if _, err := exec.LookPath(with); err != nil {
		testlong.Missing(t, "%s is not installed: apt-get install gzip xz-utils zstd", with)
	}
	cmd := exec.Command(with, "-c", "-q")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(with, err)
	}
	return out
}

// Whatever is wrong with a download, of any format and packing: no image is seen,
// nothing is left, and the error says what it was.
func TestDownloadsThatFail(t *testing.T) {
	b := newBench(t)
	noise := make([]byte, 700<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	b.image("raw", "raw", 1, 'r')
	if err := os.WriteFile(filepath.Join(b.web, "raw"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	b.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "qcow2")
	bomb := make([]byte, 3<<20)

	var sending atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://10.255.255.1/image", http.StatusFound)
			return
		}
		sent := *sending.Load()
		w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
		cut := len(sent)
		if text := r.URL.Query().Get("cut"); text != "" {
			cut, _ = strconv.Atoi(text)
		}
		_, _ = w.Write(sent[:cut])
		if cut < len(sent) {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	reopen := func(o fetch.Options) {
		t.Helper()
		b.close()
		s, err := dir.Open(t.Context(), dir.Options{Dir: b.dir, Run: b.run, Fetch: o})
		if err != nil {
			t.Fatal(err)
		}
		b.s = s
	}
	before := b.all()
	fails := func(what, query, sum string, is error, says string) {
		t.Helper()
		_, err := b.s.FetchImage(t.Context(), &mistify.ImageRequest{ID: "x", Source: server.URL + query, SHA256: sum})
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want one that is %v and says %q", what, err, is, says)
		}
		if now := b.all(); !slices.Equal(now, before) {
			t.Errorf("%s left %q", what, now)
		}
		if out, err := b.s.ListImages(t.Context(), &mistify.ImageRequest{}); err != nil || len(out.Images) > 0 {
			t.Errorf("%s: the images are %+v (%v)", what, out, err)
		}
	}
	for _, format := range []string{"raw", "qcow2"} {
		data, err := os.ReadFile(filepath.Join(b.web, format))
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range []string{"", "gzip", "xz", "zstd"} {
			name := strings.TrimSpace(format + " " + with)
			reopen(fetch.Options{Private: true})
			sent := packed(t, with, data)
			sending.Store(&sent)
			sum := sha256.Sum256(sent)
			for at := 0; at < len(sent); at += 64 << 10 {
				fails(fmt.Sprintf("%s cut at %d", name, at), fmt.Sprintf("/?cut=%d", at), hex.EncodeToString(sum[:]), nil, "EOF")
			}
			fails(name+" with a wrong sum", "/", strings.Repeat("0", 64), virt.ErrInvalid, "sha256")
			reopen(fetch.Options{Private: true, MaxBytes: int64(len(sent)) - 1})
			fails(name+" too large", "/", "", virt.ErrInvalid, "limit")
			reopen(fetch.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
			fails(name+" that leads away", "/away", "", nil, "10.255.255.1")
			if with != "" {
				reopen(fetch.Options{Private: true, MaxUnpacked: 2 << 20})
				more := packed(t, with, append(slices.Clone(data), bomb...))
				sending.Store(&more)
				fails(name+" bomb", "/", "", virt.ErrInvalid, "unpacks to more")
			}
		}
	}
	b.open(dir.Options{})
	for _, with := range []string{"", "gzip", "xz", "zstd"} { // and whole ones are taken
		whole := packed(t, with, noise)
		sending.Store(&whole)
		if _, err := b.s.FetchImage(t.Context(), &mistify.ImageRequest{ID: "good" + with, Source: server.URL + "/"}); err != nil {
			t.Error(with, err)
		}
	}
	b.tidy()
}
