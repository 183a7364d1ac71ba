package index

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// full is a node that has everything.
func full() *registry.Node {
	return registry.NewNode(registry.Draft{
		ID: "web1", Name: "web", Type: "vm", Tenant: "acme", Parent: "hv1", State: "running",
		Definition: registry.TrustedDocument(`{"cpu":2}`), Metadata: registry.TrustedDocument(`{"seen":"ä"}`),
		Tags: map[string]string{"rack": "1", "ssd": ""}, Keys: []string{"mac-52:54:00:00:00:01", "ip-10.0.0.1"},
	}, registry.Stamp{
		Revision: 300, CreatedAt: time.Unix(1700000000, 123456789).UTC(), UpdatedAt: time.Unix(-5, 0).UTC(),
		Changed: trail.Trail{Transaction: "t", Source: "alice", Reason: "why not", Job: "j1", Attempt: 3, Token: trail.Token{Epoch: 1, Number: 1 << 60}},
		Blobs:   []registry.BlobInfo{{Key: "b", Size: 3, SHA256: sumOf([]byte("abc"))}},
	})
}

// records are one of each kind.
func records(tb testing.TB) [][]byte {
	tb.Helper()
	node, err := appendNode(nil, full(), full().Blobs())
	if err != nil {
		tb.Fatal(err)
	}
	t := &tx{stack: stack{top: newLayer(0)}, rev: 300}
	old := registry.NewNode(registry.Draft{ID: "old", Name: "old", Type: "vm"}, registry.Stamp{})
	t.changes = []*change{{id: "web1", after: full(), encoded: string(node)}, {id: "old", before: old}}
	t.blobs = []operation{{op: opPutBlob, id: "web1", key: "b", data: "abc"}, {op: opDeleteBlob, id: "web1", key: "c"}}
	t.bumped = []string{"hv2"}
	t.top.edges["hv2"] = 300
	t.committed()
	return [][]byte{
		appendHeader(nil, header{store: "0123456789abcdef", rev: 7, nodes: 1, edges: 2, blobs: 3}),
		t.encode(),
		append([]byte{format, recNode}, node...),
		appendString([]byte{format, recEnd}, "")[:2],
	}
}

var update = flag.Bool("update", false, "write the golden file")

// The format on disk does not change by accident: what was written once is read
// for ever.
func TestRecordsAreAsTheyEverWere(t *testing.T) {
	var b strings.Builder
	for _, r := range records(t) {
		b.WriteString(hex.EncodeToString(r) + "\n")
	}
	path := filepath.Join("testdata", "records.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(golden) {
		t.Errorf("records are encoded as\n%swere encoded as\n%sa new encoding needs a new format number, and the old one to be read", b.String(), golden)
	}
	lines := strings.Fields(string(golden))
	rec, err := hex.DecodeString(lines[2])
	if err != nil {
		t.Fatal(err)
	}
	d, kind := record(string(rec))
	n := d.node()
	if err := d.end(); err != nil || kind != recNode {
		t.Fatal(kind, err)
	}
	if want := full(); !n.Same(want.Draft()) || n.Changed() != want.Changed() || n.Revision() != want.Revision() ||
		!n.CreatedAt().Equal(want.CreatedAt()) || !n.UpdatedAt().Equal(want.UpdatedAt()) || n.Blobs()[0] != want.Blobs()[0] {
		t.Fatalf("decoded as %+v %+v", n.Draft(), n.Stamp())
	}
}

// Whatever a record holds, decoding it ends, without a panic, and what it takes
// is encoded as it was read.
func FuzzRecord(f *testing.F) {
	for _, r := range records(f) {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		d, kind := record(string(rec))
		switch kind {
		case recHeader:
			h := d.header()
			if d.end() == nil {
				again, _ := record(string(appendHeader(nil, h)))
				if got := again.header(); got != h {
					t.Fatalf("header %+v came back as %+v", h, got)
				}
			}
		case recCommit:
			d.commit()
			_ = d.end()
		case recNode:
			n := d.node()
			if d.end() != nil {
				return
			}
			b, err := appendNode([]byte{format, recNode}, n, n.Blobs())
			if err != nil {
				t.Fatal(err)
			}
			again, _ := record(string(b))
			m := again.node()
			if err := again.end(); err != nil || !m.Same(n.Draft()) {
				t.Fatalf("%+v came back as %+v, %v", n.Draft(), m.Draft(), err)
			}
			c, err := appendNode([]byte{format, recNode}, m, m.Blobs())
			if err != nil || !bytes.Equal(b, c) {
				t.Fatalf("encoded as %x, then as %x, %v", b, c, err)
			}
		}
	})
}

// Loading any record gives an error or a store that holds together.
func FuzzLoad(f *testing.F) {
	for _, r := range records(f) {
		f.Add(r, r)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		db, err := newDB(registry.Deps{}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		l := newLoader(db)
		l.begin(header{store: "s"}, newFinder())
		for _, rec := range [][]byte{one, two} {
			if err := l.entry(rec); err != nil {
				return
			}
		}
		l.end()
		for _, p := range db.state.Load().audit() {
			if !strings.Contains(p, "blob") && !strings.Contains(p, "edge") {
				t.Fatal(p) // blobs and edges are the writer's to keep in step
			}
		}
	})
}
