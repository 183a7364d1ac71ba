package dir_test

import (
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

// BenchmarkStream downloads a snapshot of a full disk of 256 MiB from the
// sub-agent, beside what cat of the same file gives over HTTP.
func BenchmarkStream(b *testing.B) {
	const size = 256 << 20
	folder := b.TempDir()
	s, err := dir.Open(b.Context(), dir.Options{Dir: folder})
	if err != nil {
		b.Skip(err)
	}
	defer func() { _ = s.Close() }()
	plain := filepath.Join(folder, "plain")
	f, err := os.Create(plain)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, size)
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(err)
	must(f.Close())
	g := &mistify.Guest{ID: uuid.NewString(), Disks: []mistify.Disk{{Size: size >> 20}}}
	out, err := s.CreateGuestDisks(b.Context(), &mistify.GuestRequest{Guest: g})
	must(err)
	must(exec.Command("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", plain, out.Guest.Disks[0].Source).Run())
	_, err = s.CreateSnapshot(b.Context(), &mistify.SnapshotRequest{ID: "guests/" + g.ID, Dest: "s"})
	must(err)

	rpc := mistify.NewServer(mistify.ServerOptions{})
	s.Register(rpc)
	server := httptest.NewServer(rpc)
	defer server.Close()
	_, text, err := net.SplitHostPort(server.Listener.Addr().String())
	must(err)
	port, err := strconv.Atoi(text)
	must(err)
	client, err := mistify.NewRPC(mistify.Endpoint{Port: port}, mistify.RPCOptions{Name: "dir"})
	must(err)
	defer client.Close()
	file := out.Guest.Disks[0].Source
	cat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cmd := exec.Command("cat", "--", file)
		cmd.Stdout = w
		_ = cmd.Run()
	}))
	defer cat.Close()
	b.Run("cat", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			resp, err := http.Get(cat.URL)
			must(err)
			n, err := io.Copy(io.Discard, resp.Body)
			must(err)
			must(resp.Body.Close())
			if n < size {
				b.Fatalf("%d bytes", n)
			}
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			d, err := client.Stream(b.Context(), "ImageStore.DownloadSnapshot", &mistify.SnapshotRequest{ID: "guests/" + g.ID + "/disk-0@s"})
			must(err)
			n, err := io.Copy(io.Discard, d)
			must(err)
			must(d.Close())
			if n < size {
				b.Fatalf("%d bytes", n)
			}
		}
	})
}
