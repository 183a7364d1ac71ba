package registrytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// testExport: what was exported is imported into an empty store as it was, and
// what cannot be imported changes nothing.
func testExport(t *testing.T, open Open) {
	from, to := open(t), open(t)
	defer func() {
		for _, r := range []registry.Registry{from, to} {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	fill(t, from)
	var file bytes.Buffer
	if n, err := registry.Export(t.Context(), view(t, from), &file); err != nil || n != (registry.Counts{Nodes: 251, Blobs: 3}) {
		t.Fatalf("exported %v, %v", n, err)
	}
	text := file.String()
	lines := strings.SplitAfter(text, "\n")
	for name, bad := range map[string]string{
		"cut off":          strings.Join(lines[:len(lines)-3], ""),
		"a line cut off":   text[:len(text)/2],
		"no header":        strings.Join(lines[1:], ""),
		"another format":   strings.Replace(text, "vagoth-registry", "other", 1),
		"a node twice":     strings.Join(append(append(lines[:3:3], lines[2]), lines[3:]...), ""),
		"a node missing":   strings.Join(append(lines[:1:1], lines[2:]...), ""),
		"a hostile id":     strings.ReplaceAll(text, `"n003"`, `"../n3"`),
		"unknown member":   strings.Replace(text, `"tenant"`, `"tennant"`, 1),
		"a key twice":      strings.ReplaceAll(text, `"k-n004"`, `"k-n003"`),
		"a damaged blob":   strings.Replace(text, "/wD/AP8A", "/wD/AP8B", 1),
		"not JSON":         strings.Replace(text, "{", "", 1),
		"something behind": text + lines[1],
	} {
		n, err := registry.Import(t.Context(), to, strings.NewReader(bad), registry.ImportOptions{})
		var at *registry.ImportError
		if !errors.As(err, &at) || at.Line < 1 || at.Done != (registry.Counts{}) || n != (registry.Counts{}) {
			t.Errorf("%s: %v, want an *ImportError with its line", name, err)
		}
	}
	if nodes, err := registry.Collect(t.Context(), to, registry.Query{}); err != nil || len(nodes) > 0 {
		t.Fatalf("a refused import left %d nodes, %v", len(nodes), err)
	}
	if n, err := registry.Import(t.Context(), to, strings.NewReader(text), registry.ImportOptions{DryRun: true}); err != nil || n.Nodes != 251 || n.Blobs != 3 {
		t.Fatalf("a dry run found %v, %v", n, err)
	}
	if nodes, err := registry.Collect(t.Context(), to, registry.Query{}); err != nil || len(nodes) > 0 {
		t.Fatalf("a dry run left %d nodes, %v", len(nodes), err)
	}
	steps := 0
	n, err := registry.Import(t.Context(), to, io.MultiReader(strings.NewReader(text)), registry.ImportOptions{Progress: func(registry.Counts) { steps++ }})
	if err != nil || n.Nodes != 251 || n.Blobs != 3 || steps < 3 {
		t.Fatalf("imported %v in %d Updates, %v", n, steps, err)
	}
	m := newModel()
	vf := view(t, from)
	for node, err := range vf.List(registry.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		blobs := map[string][]byte{}
		for _, b := range node.Blobs() {
			if blobs[b.Key], err = vf.Blob(node.ID(), b.Key); err != nil {
				t.Fatal(err)
			}
		}
		m.nodes[node.ID()] = modelNode{draft: node.Draft(), blobs: blobs}
	}
	if err := m.compare(view(t, to)); err != nil {
		t.Fatal(err)
	}
	_, err = registry.Import(t.Context(), to, strings.NewReader(text), registry.ImportOptions{})
	var at *registry.ImportError
	if !errors.As(err, &at) || at.Line != 2 || !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("imported twice: %v, want a conflict on line 2", err)
	}
}

// fill makes 251 nodes and 3 blobs.
func fill(t *testing.T, from registry.Registry) {
	t.Helper()
	doc := document(t, `{"a":"<&>","b":[1,null]}`)
	// The root sorts behind its children.
	create(t, from, registry.Draft{ID: "z", Definition: doc})
	for i := range 250 {
		id := fmt.Sprintf("n%03d", i)
		d := registry.Draft{ID: id, Name: "name-" + id, Parent: "z", State: "on", Tenant: "t", Tags: map[string]string{"x": "ä \"", "y": ""}, Keys: []string{"k-" + id}, Metadata: doc}
		if i > 200 {
			d.Parent = fmt.Sprintf("n%03d", i-1)
		}
		create(t, from, d)
	}
	update(t, from, func(tx registry.Tx) error {
		return errors.Join(tx.PutBlob("n007", "small", []byte("x\x00y")), tx.PutBlob("n007", "empty", []byte{}))
	})
	update(t, from, func(tx registry.Tx) error {
		return tx.PutBlob("z", "big", bytes.Repeat([]byte("\xff\x00"), registry.MaxBlob/2))
	})
}
