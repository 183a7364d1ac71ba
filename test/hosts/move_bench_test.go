package hosts

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/remote"
)

// BenchmarkMove copies a full disk of 256 MiB from the agent of one host to that of
// another, through the driver, beside what cat of the same content gives over HTTP into
// a file that is synced: in turns, so that both have the same machine. Both agents,
// the driver and all disks share one machine here. Medians are told.
func BenchmarkMove(b *testing.B) {
	size, rounds := int64(256<<20), 5
	if os.Getenv("VAGOTH_BENCH") == "small" {
		size, rounds = 8<<20, 1
	}
	one, two := newHost(b, "one"), newHost(b, "two")
	folder, url := web(b)
	plain := filepath.Join(folder, "full.img")
	f, err := os.Create(plain)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, size)
		err = errors.Join(err, f.Close())
	}
	one.must("write the image", err)
	one.done(one.client.FetchImage(b.Context(), mistify.ImageRequest{ID: "full", Source: url + "/full.img"}))
	d, err := remote.Open(b.Context(), remote.Defaults(), virt.DriverDeps{Name: "agents", Log: slog.New(slog.DiscardHandler)})
	one.must("open the driver", err)
	defer func() { one.must("close the driver", d.Close()) }()
	def := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 16, Disks: []virt.Disk{{Image: "full"}}, Console: virt.Console{Serial: "none"}})
	g := virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
	from, to := virt.Host{ID: "one", Address: one.url}, virt.Host{ID: "two", Address: two.url}
	one.must("define", d.Define(b.Context(), from, g))
	one.must("provision", d.Provision(b.Context(), from, g))
	cat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cmd := exec.Command("cat", "--", plain)
		cmd.Stdout = w
		_ = cmd.Run()
	}))
	defer cat.Close()
	kept := filepath.Join(folder, "kept")
	ways := []struct {
		name      string
		do, after func()
		took      []time.Duration
	}{
		{name: "kept", do: func() {
			resp, err := http.Get(cat.URL)
			one.must("ask cat", err)
			into, err := os.Create(kept)
			one.must("make a file", err)
			_, err = io.Copy(into, resp.Body)
			one.must("keep it", errors.Join(err, into.Sync(), into.Close(), resp.Body.Close()))
		}, after: func() { one.must("remove the file", os.Remove(kept)) }},
		{name: "move", do: func() { one.must("copy", d.CopyDisks(b.Context(), from, to, g, func(int64) {})) },
			after: func() { one.must("tidy", d.TidyDisks(b.Context(), from, to, g)) }},
	}
	for b.Loop() {
		for range rounds {
			for i := range ways {
				began := time.Now()
				ways[i].do()
				ways[i].took = append(ways[i].took, time.Since(began))
				ways[i].after()
			}
		}
	}
	var rates [2]float64
	for i, w := range ways {
		slices.Sort(w.took)
		rates[i] = float64(size) / w.took[len(w.took)/2].Seconds() / 1e6
		b.ReportMetric(rates[i], w.name+"-MB/s")
	}
	b.ReportMetric(rates[1]/rates[0], "move/kept")
}
