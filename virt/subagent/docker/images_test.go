package docker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/docker"
)

// part is a file of an archive.
type part struct {
	name, text, link string
	kind             byte
}

func pack(t testing.TB, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		h := &tar.Header{Name: p.name, Size: int64(len(p.text)), Mode: 0o644, Typeflag: tar.TypeReg}
		if p.kind != 0 {
			h.Typeflag, h.Linkname, h.Size = p.kind, p.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, p.text[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const goodManifest = `[{"Config":"c.json","RepoTags":["debian:latest","evil:1"],"Layers":["a/layer.tar"]}]`

func goodParts() []part {
	return []part{{name: "c.json", text: "{}"}, {name: "a/", kind: tar.TypeDir}, {name: "a/layer.tar", text: "layer"}, {name: "repositories", text: `{"debian":{"latest":"a"}}`}, {name: "index.json", text: "{}"}, {name: "manifest.json", text: goodManifest}}
}

// web serves files from memory.
func web(t *testing.T, files map[string][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// images are the names that are listed.
func (b *bench) images() (names []string) {
	b.Helper()
	out, err := b.d.ListImages(b.Context(), &mistify.ImageRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, i := range out.Images {
		if i.Type != mistify.TypeContainer || i.Status != "complete" {
			b.Errorf("an image is listed as %+v", i)
		}
		names = append(names, i.ID)
	}
	return names
}

// left checks that nothing of a download is left.
func (b *bench) left(what string) {
	b.Helper()
	for _, folder := range []string{"incoming", "images"} {
		entries, err := os.ReadDir(filepath.Join(b.o.Dir, folder))
		if err != nil || len(entries) > 0 {
			b.Errorf("%s: left are %v (%v)", what, entries, err)
		}
	}
}

func TestImages(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	ctx := t.Context()
	good := pack(t, goodParts()...)
	packed := zip(t, good)
	url := web(t, map[string][]byte{"good.tar": good, "good.tar.gz": packed, "again.tar": good})
	sum := sha256.Sum256(packed)

	// From a registry, once.
	fetch := func(r mistify.ImageRequest) error {
		out, err := b.d.FetchImage(ctx, &r)
		if err == nil && (len(out.Images) != 1 || out.Images[0].ID != r.ID || out.Images[0].Status != "complete") {
			t.Errorf("%s is answered as %+v", r.ID, out)
		}
		return err
	}
	for range 2 {
		if err := fetch(mistify.ImageRequest{ID: "web:1", Type: mistify.TypeContainer}); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.requests(); slices.Index(got, "POST /images/create") < 0 || slices.Index(got, "POST /images/create") != len(got)-3 {
		t.Errorf("dockerd was asked %q, want one pull", got)
	}
	b.refused("one that no registry has", fetch(mistify.ImageRequest{ID: "none-such"}), virt.ErrNotFound)

	// From a URL, under the one name that was asked for.
	if err := fetch(mistify.ImageRequest{ID: "mine", Source: url + "/good.tar.gz", SHA256: hex.EncodeToString(sum[:]), Size: uint64(len(packed))}); err != nil {
		t.Fatal(err)
	}
	if got := b.images(); !slices.Equal(got, []string{"base", "mine", "web:1"}) {
		t.Errorf("the images are %q", got)
	}
	if data := string(f.archives[0]); strings.Contains(data, "debian") || strings.Contains(data, "index.json") || !strings.Contains(data, "layer") {
		t.Errorf("dockerd got the archive %q", data)
	}
	for _, again := range []mistify.ImageRequest{{ID: "mine", Source: url + "/good.tar.gz"}, {ID: "mine", Source: url + "/again.tar", SHA256: hex.EncodeToString(sum[:])}} {
		if err := fetch(again); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	for name, other := range map[string]mistify.ImageRequest{
		"another source": {ID: "mine", Source: url + "/good.tar"}, "the registry": {ID: "mine"}, "a URL of what was pulled": {ID: "web:1", Source: url + "/good.tar"},
	} {
		b.refused(name, fetch(other), virt.ErrConflict)
	}
	if len(f.archives) != 1 {
		t.Errorf("%d archives were loaded", len(f.archives))
	}

	// One that is used stays; one that is deleted is gone, and can be fetched anew.
	g := guest()
	g.Image = "mine"
	b.must(b.d.CreateContainer, g, "shutoff")
	_, err := b.d.DeleteImage(ctx, &mistify.ImageRequest{ID: "mine"})
	b.refused("delete what is used", err, virt.ErrConflict)
	b.must(b.d.DeleteContainer, g, "")
	for _, want := range []error{nil, virt.ErrNotFound} {
		if _, err := b.d.DeleteImage(ctx, &mistify.ImageRequest{ID: "mine"}); !errors.Is(err, want) {
			t.Errorf("delete: %v, want %v", err, want)
		}
	}
	b.left("all were deleted")
	if _, err := b.d.GetImage(ctx, &mistify.ImageRequest{ID: "mine"}); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if err := fetch(mistify.ImageRequest{ID: "mine", Source: url + "/good.tar"}); err != nil {
		t.Error(err)
	}
}

// An archive that is not what docker save writes is refused before dockerd sees it,
// and nothing is left of it.
func TestArchives(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, func(o *docker.Options) { o.Fetch.MaxUnpacked = 1 << 20 })
	with := func(change func([]part) []part) []byte { return pack(t, change(goodParts())...) }
	replaced := func(name, text string) func([]part) []part {
		return func(all []part) []part {
			for i := range all {
				if all[i].name == name {
					all[i].text = text
				}
			}
			return all
		}
	}
	added := func(more ...part) func([]part) []part {
		return func(all []part) []part { return append(all, more...) }
	}
	without := func(name string) func([]part) []part {
		return func(all []part) []part { return slices.DeleteFunc(all, func(p part) bool { return p.name == name }) }
	}
	bomb := string(zip(t, make([]byte, 700<<10)))
	bad := map[string][]byte{
		"text": []byte("hello"), "empty": pack(t), "cut": with(func(p []part) []part { return p })[:1100],
		"no manifest": with(without("manifest.json")), "no config": with(without("c.json")), "no layer": with(without("a/layer.tar")),
		"no JSON": with(replaced("manifest.json", "[")), "no image": with(replaced("manifest.json", "[]")),
		"two images":       with(replaced("manifest.json", `[{"Config":"c.json"},{"Config":"c.json"}]`)),
		"another manifest": with(added(part{name: "./manifest.json", text: goodManifest})),
		"a link as manifest": with(func(p []part) []part {
			return append(without("manifest.json")(p), part{name: "manifest.json", kind: tar.TypeSymlink, link: "c.json"})
		}),
		"a folder as manifest": with(added(part{name: "manifest.json/x", text: "y"})),
		"above":                with(added(part{name: "../x", text: "y"})), "absolute": with(added(part{name: "/etc/passwd", text: "y"})),
		"a device": with(added(part{name: "dev", kind: tar.TypeChar})), "a hard link": with(added(part{name: "hard", kind: tar.TypeLink, link: "c.json"})),
		"a bomb": with(func(p []part) []part {
			return replaced("manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar","a/layer.tar"]}]`)(replaced("a/layer.tar", bomb)(p))
		}),
		"a layer that is not gzip": with(replaced("a/layer.tar", "\x1f\x8bno")), "a layer of bzip2": with(replaced("a/layer.tar", "BZh91AY")),
		"many layers": with(replaced("manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar"`+strings.Repeat(`,"a/layer.tar"`, 125)+`]}]`)),
		"packed bomb": zip(t, make([]byte, 2<<20)),
	}
	files := map[string][]byte{}
	for name, data := range bad {
		files[strings.ReplaceAll(name, " ", "-")] = data
	}
	files["linked"] = with(func(p []part) []part {
		return append(replaced("manifest.json", `[{"Config":"c.json","Layers":["b/layer.tar"]}]`)(p), part{name: "b/layer.tar", kind: tar.TypeSymlink, link: "../a/layer.tar"})
	})
	url := web(t, files)
	for name := range bad {
		_, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "bad", Source: url + "/" + strings.ReplaceAll(name, " ", "-")})
		b.refused(name, err, virt.ErrInvalid)
		b.left(name)
	}
	if len(f.archives) > 0 {
		t.Errorf("dockerd was given %d of them", len(f.archives))
	}
	for name, c := range map[string]struct {
		r    mistify.ImageRequest
		want error
	}{
		"a wrong sum":       {mistify.ImageRequest{ID: "bad", Source: url + "/linked", SHA256: strings.Repeat("0", 64)}, virt.ErrInvalid},
		"a wrong size":      {mistify.ImageRequest{ID: "bad", Source: url + "/linked", Size: 7}, virt.ErrInvalid},
		"what is not there": {mistify.ImageRequest{ID: "bad", Source: url + "/nothing"}, virt.ErrNotFound},
		"an image of disks": {mistify.ImageRequest{ID: "bad", Source: url + "/linked", Type: "vm"}, virt.ErrUnsupported},
		"a file":            {mistify.ImageRequest{ID: "bad", Source: "file:///etc/passwd"}, virt.ErrInvalid},
		"a sum as name":     {mistify.ImageRequest{ID: "sha256:" + strings.Repeat("a", 64)}, virt.ErrInvalid},
		"a name with a sum": {mistify.ImageRequest{ID: "a@sha256:" + strings.Repeat("a", 64), Source: url + "/linked"}, virt.ErrInvalid},
		"a sum of a pull":   {mistify.ImageRequest{ID: "a", SHA256: strings.Repeat("a", 64)}, virt.ErrInvalid},
	} {
		_, err := b.d.FetchImage(t.Context(), &c.r)
		b.refused(name, err, c.want)
		b.left(name)
	}
	if got := b.images(); !slices.Equal(got, []string{"base"}) {
		t.Errorf("the images are %q", got)
	}
	f.put(func() {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/images/load") {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintln(w, `{"errorDetail":{"message":"no space left"}}`)
			return true
		}
	})
	if _, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "linked", Source: url + "/linked"}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("one that dockerd does not take: %v", err)
	}
	b.left("dockerd did not take it")
	f.put(func() { f.before = nil })
	if _, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "linked", Source: url + "/linked"}); err != nil {
		t.Errorf("a layer that is a link: %v", err)
	}
}

// What comes from a private address, from a registry that the config does not have,
// or without a sum, is refused where the config wants that.
func TestSources(t *testing.T) {
	f := newFake(t)
	url := web(t, map[string][]byte{"good.tar": pack(t, goodParts()...)})
	b := newBench(t, f.socket, func(o *docker.Options) {
		o.Fetch.Private, o.Registries = false, []string{"docker.io", "r.example.org:5000"}
	})
	_, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "a", Source: url + "/good.tar"})
	if err == nil || !strings.Contains(err.Error(), "private") && !strings.Contains(err.Error(), "public") {
		t.Errorf("a private address: %v", err)
	}
	for id, want := range map[string]error{"a": nil, "r.example.org:5000/a": nil, "r.example.org/a": virt.ErrInvalid, "127.0.0.1:5000/a": virt.ErrInvalid, "evil.example.org/docker.io/a": virt.ErrInvalid} {
		if _, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: id}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	b = newBench(t, f.socket, func(o *docker.Options) { o.Fetch.RequireSum = true })
	_, err = b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "without"})
	b.refused("without a sum", err, virt.ErrInvalid)
}

// What is asked for while it comes is answered as coming, and comes once.
func TestComing(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var pulls int
	var mu sync.Mutex
	var once sync.Once
	f.put(func() {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/images/create") {
				return false
			}
			mu.Lock()
			pulls++
			mu.Unlock()
			_, _ = fmt.Fprint(w, `{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}`+"\r\n")
			_ = http.NewResponseController(w).Flush()
			once.Do(func() { close(begun) })
			<-goOn
			f.put(func() { f.images["docker.io/library/slow:latest"] = &img{ID: "sha256:" + sum("slow"), Size: 1} })
			return true
		}
	})
	var work sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		work.Go(func() { _, errs[i] = b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "slow"}) })
	}
	<-begun
	var is mistify.Image
	for end := time.Now().Add(20 * time.Second); is.Fetched != 5 && time.Now().Before(end); {
		out, err := b.d.GetImage(t.Context(), &mistify.ImageRequest{ID: "slow"})
		if err != nil {
			t.Fatal(err)
		}
		is = out.Images[0]
	}
	if is.Status != "pending" || is.Fetched != 5 || is.Total != 10 || is.Type != mistify.TypeContainer {
		t.Errorf("meanwhile it is %+v", is)
	}
	if out, err := b.d.ListImages(t.Context(), &mistify.ImageRequest{}); err != nil || len(out.Images) != 2 || out.Images[1].Status != "pending" {
		t.Errorf("it is listed as %+v (%v)", out, err)
	}
	for range 50 { // the others are there by now, and wait
		if _, err := b.d.GetImage(t.Context(), &mistify.ImageRequest{ID: "slow"}); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	work.Wait()
	if err := errors.Join(errs...); err != nil || pulls != 1 {
		t.Errorf("%d pulls: %v", pulls, err)
	}
}

// After a crash between dockerd and the note an image is whose it was.
func TestLoadedAndNotNoted(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	url := web(t, map[string][]byte{"good.tar": pack(t, goodParts()...), "other.tar": pack(t, goodParts()...)})
	ctx, cancel := context.WithCancel(t.Context())
	f.put(func() {
		f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if f.loaded() == 0 || r.Method != http.MethodGet || ctx.Err() != nil {
				return false
			}
			cancel() // what a kill does: the load is done, and nothing after it
			<-r.Context().Done()
			return true
		}
	})
	if _, err := b.d.FetchImage(ctx, &mistify.ImageRequest{ID: "mine", Source: url + "/good.tar"}); err == nil {
		t.Fatal("it was not cut")
	}
	f.put(func() { f.before = nil })
	b.close()
	b.open()
	_, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "mine", Source: url + "/other.tar"})
	b.refused("another source", err, virt.ErrConflict)
	if _, err := b.d.FetchImage(t.Context(), &mistify.ImageRequest{ID: "mine", Source: url + "/good.tar"}); err != nil {
		t.Errorf("the same source: %v", err)
	}
	if n := f.loaded(); n != 1 {
		t.Errorf("it was loaded %d times", n)
	}
}

func TestSave(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g := guest()
	b.must(b.d.CreateContainer, g, "shutoff")
	for _, r := range []*docker.SaveRequest{{ID: g.ID, Dest: "saved:1"}, {ID: g.ID, Opts: struct{ Repository, Tag string }{"saved", "2"}}} {
		if out, err := b.d.SaveContainer(t.Context(), r); err != nil || out.Images[0].Size != 1 {
			t.Errorf("%+v: %+v (%v)", r, out, err)
		}
		_, err := b.d.SaveContainer(t.Context(), r)
		b.refused("a name that is taken", err, virt.ErrConflict)
	}
	if got := b.images(); !slices.Equal(got, []string{"base", "saved:1", "saved:2"}) {
		t.Errorf("the images are %q", got)
	}
	// The same job finds what it has made, and only that one.
	r := &docker.SaveRequest{ID: g.ID, Dest: "saved:3", Job: "job \"1\"\nRUN x"}
	first, err := b.d.SaveContainer(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.d.SaveContainer(t.Context(), r); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("again: %+v (%v), was %+v", again, err, first)
	}
	other := guest()
	b.must(b.d.CreateContainer, other, "shutoff")
	for _, r := range []*docker.SaveRequest{{ID: g.ID, Dest: "saved:3", Job: "2"}, {ID: g.ID, Dest: "saved:3"}, {ID: other.ID, Dest: "saved:3", Job: r.Job}} {
		_, err := b.d.SaveContainer(t.Context(), r)
		b.refused(fmt.Sprintf("%+v", r), err, virt.ErrConflict)
	}
	for _, r := range []*docker.SaveRequest{{}, {ID: g.ID}, {ID: "../x", Dest: "a"}, {ID: g.ID, Dest: "../x"}, {ID: g.ID, Dest: "a@sha256:" + strings.Repeat("a", 64)}} {
		_, err := b.d.SaveContainer(t.Context(), r)
		b.refused(fmt.Sprintf("%+v", r), err, virt.ErrInvalid)
	}
	_, err = b.d.SaveContainer(t.Context(), &docker.SaveRequest{ID: guest().ID, Dest: "x"})
	b.refused("a guest that is not there", err, virt.ErrNotFound)
}
