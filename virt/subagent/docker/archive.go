package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// archive is what `docker save` writes of one image: a manifest that names a config
// and layers, which are files of it.
type archive struct {
	config string
	layers []string
}

// entry is one file of an archive.
type entry struct {
	unpacked int64  // bytes, of a layer
	link     string // of a link, the file that it leads to
	problem  error
}

// manifest is one image of manifest.json.
type manifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// What an archive may have.
const (
	manifestName = "manifest.json"
	maxEntries   = 10_000
	maxManifest  = 1 << 20
	maxLayers    = 125 // dockerd has no more
)

// dropped are files that name images too: dockerd is to go by the manifest alone.
var dropped = map[string]bool{"repositories": true, "index.json": true, "oci-layout": true}

func badArchive(format string, args ...any) error {
	return fmt.Errorf("%w: %s", virt.ErrInvalid, clean(fmt.Sprintf(format, args...), 300))
}

// walk calls see for each file of an archive, with its clean name.
func walk(r io.Reader, see func(name string, h *tar.Header, content io.Reader) error) error {
	files := tar.NewReader(bufio.NewReaderSize(r, 128<<10))
	names := map[string]bool{}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badArchive("it is no tar file of docker save: %v", err)
		}
		name, err := entryName(h)
		if err != nil {
			return err
		}
		switch {
		case name == "." || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case len(names) >= maxEntries:
			return badArchive("it has more than %d files", maxEntries)
		case names[name] && h.Typeflag != tar.TypeDir:
			return badArchive("it has %q twice", name)
		}
		names[name] = true
		if err := see(name, h, files); err != nil {
			return err
		}
	}
}

// entryName is where a file would be, in the archive and nowhere else.
func entryName(h *tar.Header) (string, error) {
	name := path.Clean(h.Name)
	if len(h.Name) > 512 || path.IsAbs(h.Name) || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsAny(h.Name, "\x00\\") {
		return "", badArchive("it has a file %q", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeXGlobalHeader:
	default:
		return "", badArchive("%q is neither a file nor a folder", h.Name)
	}
	if first, _, below := strings.Cut(name, "/"); (first == manifestName || dropped[first]) && (below || h.Typeflag != tar.TypeReg) {
		return "", badArchive("%q is no plain file", first)
	}
	return name, nil
}

// readArchive checks an archive: one image, whose files are there and unpack to no
// more than most bytes.
func readArchive(r io.ReadSeeker, most int64) (*archive, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var text []byte
	files := map[string]entry{}
	err := walk(r, func(name string, h *tar.Header, content io.Reader) error {
		switch {
		case name == manifestName:
			var err error
			text, err = mistify.ReadBody(content, maxManifest)
			return err
		case h.Typeflag == tar.TypeSymlink:
			files[name] = entry{link: path.Join(path.Dir(name), h.Linkname)}
		case h.Typeflag == tar.TypeReg:
			e, err := weigh(content, most)
			files[name] = e
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return archiveOf(text, files, most)
}

func archiveOf(text []byte, files map[string]entry, most int64) (*archive, error) {
	if text == nil {
		return nil, badArchive("it has no %s: it must be one of docker save", manifestName)
	}
	var all []manifest
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, badArchive("its %s cannot be read: %v", manifestName, err)
	}
	if len(all) != 1 {
		return nil, badArchive("it has %d images: it must have one", len(all))
	}
	is := all[0]
	if len(is.Layers) > maxLayers {
		return nil, badArchive("its image has %d layers, where at most %d are allowed", len(is.Layers), maxLayers)
	}
	a := &archive{config: path.Clean(is.Config), layers: is.Layers}
	if e, ok := files[a.config]; !ok || e.link != "" {
		return nil, badArchive("its config %q is not in it", is.Config)
	}
	// A layer that stands twice is unpacked twice.
	var unpacked int64
	for _, name := range is.Layers {
		e, ok := files[path.Clean(name)]
		if ok && e.link != "" {
			e, ok = files[e.link] // of the layer of another image, as docker save writes it
		}
		switch {
		case !ok || e.link != "":
			return nil, badArchive("its layer %q is not in it", name)
		case e.problem != nil:
			return nil, badArchive("its layer %q: %v", name, e.problem)
		}
		if unpacked += e.unpacked; unpacked > most {
			return nil, badArchive("its layers unpack to more than %d bytes, which is the limit", most)
		}
	}
	return a, nil
}

// weigh says what a file unpacks to, as dockerd unpacks what is packed.
func weigh(r io.Reader, most int64) (entry, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return entry{}, badArchive("it is cut: %v", err)
	}
	limited := func(r io.Reader) (int64, error) { return io.Copy(io.Discard, io.LimitReader(r, most+1)) }
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		unpacked, err := gzip.NewReader(b)
		var n int64
		if err == nil {
			n, err = limited(unpacked)
		}
		if err != nil {
			err = fmt.Errorf("it is packed and cannot be unpacked: %w", err)
		}
		return entry{unpacked: n, problem: err}, nil
	case bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}), bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return entry{problem: errors.New("it is packed with something else than gzip: have it unpacked")}, nil
	}
	n, err := limited(b)
	if err != nil {
		return entry{}, badArchive("it is cut: %v", err)
	}
	return entry{unpacked: n}, nil
}

// rewrite writes the archive with another manifest: one name for its image, and
// none of those that it came with.
func (a *archive) rewrite(r io.ReadSeeker, w io.Writer, name string) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out := tar.NewWriter(w)
	text, err := json.Marshal([]manifest{{Config: a.config, RepoTags: []string{name}, Layers: a.layers}})
	if err != nil {
		return err
	}
	err = walk(r, func(name string, h *tar.Header, content io.Reader) error {
		if name == manifestName || dropped[name] {
			return nil
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		_, err := io.Copy(out, content)
		return err
	})
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return out.Close()
}
