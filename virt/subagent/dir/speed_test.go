package dir_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// BenchmarkStream downloads a snapshot of a full disk of 256 MiB from the
// sub-agent, and fetches that disk as an image, beside what cat of the same file
// gives over HTTP, thrown away and kept in a file that is synced: in turns, so that all
// have the same machine. Medians are told.
func BenchmarkStream(b *testing.B) {
	const size = 256 << 20
	folder := b.TempDir()
	s, err := dir.Open(b.Context(), dir.Options{Dir: folder, Fetch: fetch.Options{Private: true}})
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
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, plain) }))
	defer origin.Close()
	whole := func(from io.ReadCloser, err error) {
		b.Helper()
		must(err)
		n, err := io.Copy(io.Discard, from)
		must(err)
		must(from.Close())
		if n < size {
			b.Fatalf("%d bytes", n)
		}
	}
	id := 0
	ways := []struct {
		name string
		do   func()
		took []time.Duration
	}{
		{name: "cat", do: func() {
			resp, err := http.Get(cat.URL)
			must(err)
			whole(resp.Body, nil)
		}},
		{name: "kept", do: func() { // as cat, into a file that is on disk then
			resp, err := http.Get(cat.URL)
			must(err)
			into, err := os.Create(filepath.Join(folder, "kept"))
			must(err)
			_, err = io.Copy(into, resp.Body)
			must(errors.Join(err, into.Sync(), into.Close(), resp.Body.Close()))
		}},
		{name: "snapshot", do: func() {
			d, err := client.Stream(b.Context(), "ImageStore.DownloadSnapshot", &mistify.SnapshotRequest{ID: "guests/" + g.ID + "/disk-0@s"})
			must(err)
			whole(d, nil)
		}},
		{name: "fetch", do: func() {
			id++
			_, err := s.FetchImage(b.Context(), &mistify.ImageRequest{ID: fmt.Sprint("image-", id), Source: origin.URL})
			must(err)
		}},
	}
	rounds := 7
	if os.Getenv("VAGOTH_BENCH") == "small" {
		rounds = 1
	}
	for b.Loop() {
		for range rounds {
			for i := range ways {
				began := time.Now()
				ways[i].do()
				ways[i].took = append(ways[i].took, time.Since(began))
			}
			_, err := s.DeleteImage(b.Context(), &mistify.ImageRequest{ID: fmt.Sprint("image-", id)})
			must(errors.Join(err, os.Remove(filepath.Join(folder, "kept"))))
		}
	}
	rates := map[string]float64{}
	for _, w := range ways {
		slices.Sort(w.took)
		rate := size / w.took[len(w.took)/2].Seconds() / 1e6
		b.ReportMetric(rate, w.name+"-MB/s")
		rates[w.name] = rate
	}
	for _, pair := range [][2]string{{"snapshot", "cat"}, {"fetch", "cat"}, {"fetch", "kept"}} {
		b.ReportMetric(rates[pair[0]]/rates[pair[1]], pair[0]+"/"+pair[1])
	}
}
