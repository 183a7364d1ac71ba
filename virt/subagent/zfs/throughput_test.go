package zfs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
)

// throughput measures a download over HTTP beside cat of a file with the same
// bytes. The figures are for people: only what came is checked.
func throughput(t *testing.T) {
	size := 8 << 20
	if testlong.Long() {
		size = 48 << 20
	}
	p := newPool(t, 256)
	p.open()
	g := p.create(guest(mistify.Disk{Size: uint64(size) >> 20}))
	noise(t, g.Disks[0], size)
	p.do(p.take(g, "", "s"))
	file := filepath.Join(t.TempDir(), "stream")
	p.do(os.WriteFile(file, p.download(storetest.At(g, "0", "s")), 0o600))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cat" {
			cmd := exec.Command("cat", file)
			cmd.Stdout = w
			if err := cmd.Run(); err != nil {
				panic(http.ErrAbortHandler)
			}
			return
		}
		d, err := p.s.DownloadSnapshot(r.Context(), storetest.At(g, "0", "s"))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, err = io.Copy(w, d)
		if closed := d.Close(); err != nil || closed != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	speed := func(path string) (best float64) {
		for range 3 {
			begun := time.Now()
			resp, err := server.Client().Get(server.URL + path)
			p.do(err)
			n, err := io.Copy(io.Discard, resp.Body)
			p.do(err)
			p.do(resp.Body.Close())
			if n < int64(size) {
				t.Errorf("%s sent %d bytes of more than %d", path, n, size)
			}
			best = max(best, float64(n)/(1<<20)/time.Since(begun).Seconds())
		}
		return best
	}
	cat, stream := speed("/cat"), speed("/stream")
	t.Logf(testbed.Figure+"snapshot stream %.1f MB/s, cat of the same bytes %.1f MB/s: %.2f", stream, cat, stream/cat)
}
