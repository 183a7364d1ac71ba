package index

import (
	"encoding/binary"
	"iter"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// Snapshot is one state of a store, to be kept.
type Snapshot struct {
	s     *state
	store string
}

// Index is the place of the last record that it holds.
func (s Snapshot) Index() uint64 { return s.s.index }

// Records yields the records of the snapshot. The slice that it yields is used
// again for the next.
func (s Snapshot) Records() iter.Seq2[[]byte, error] { return s.s.snapshot(s.store) }

// snapshot yields the records of a snapshot of s. The slice that it yields is
// used again for the next.
func (s *state) snapshot(store string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var edges []*edgeRow
		var blobs []*blobRow
		each(s, edgesTable, func(r *edgeRow) { edges = append(edges, r) })
		each(s, blobsTable, func(r *blobRow) { blobs = append(blobs, r) })
		all := s.posting(attr{kind: attrAll})
		b := appendHeader(nil, header{
			store: store, rev: s.rev, nodes: uint64(all.len()), edges: uint64(len(edges)), blobs: uint64(len(blobs)),
		})
		if !yield(b, nil) {
			return
		}
		more := all.walk("", func(n *registry.Node) bool {
			var err error
			b, err = appendNode(append(b[:0], format, recNode), n, n.Blobs())
			return yield(b, err) && err == nil
		})
		if !more {
			return
		}
		for _, r := range edges {
			b = binary.AppendUvarint(appendString(append(b[:0], format, recEdge), r.parent), r.rev)
			if !yield(b, nil) {
				return
			}
		}
		for _, r := range blobs {
			id, key, _ := strings.Cut(r.key, "\x00")
			b = appendString(appendString(append(b[:0], format, recBlob), id), key)
			b = append(binary.AppendUvarint(b, uint64(len(r.data))), r.data...)
			if !yield(b, nil) {
				return
			}
		}
		yield(append(b[:0], format, recEnd), nil)
	}
}

// each calls fn with every row of a table, in order.
func each[T any](s *state, table string, fn func(T)) {
	it, err := s.txn.Get(table, "id")
	if err != nil {
		panic("index: " + err.Error()) // a misspelt table
	}
	for obj := it.Next(); obj != nil; obj = it.Next() {
		fn(obj.(T))
	}
}
