package index

import (
	"slices"

	"github.com/vagoth/vagoth/registry"
)

// apply writes into the top layer.
func (t *tx) apply(old, node *registry.Node, blob *operation) {
	top, id := t.top, idOf(old, node)
	e, ok := top.nodes[id]
	if !ok {
		e.before = old
	}
	e.after = node
	t.putNode(id, e)
	t.applyRefs(old, node)
	t.applyEdges(old, node)
	if node == nil {
		t.putEdge(id, 0)
		for _, b := range old.Blobs() {
			t.putData(blobKey(id, b.Key), nil)
		}
		t.blobs = slices.DeleteFunc(t.blobs, func(o operation) bool { return o.id == id })
	}
	if blob != nil {
		var data []byte
		if blob.op == opPutBlob {
			data = append([]byte{}, blob.data...) // not nil, which would mean removed
		}
		t.putData(blobKey(id, blob.key), data)
		t.blobs = append(t.blobs, *blob)
	}
}

func (t *tx) applyRefs(old, node *registry.Node) {
	if old != nil {
		refs(old, func(ref string) {
			if node == nil || !holds(node, ref) {
				t.putRef(ref, "")
			}
		})
	}
	if node != nil {
		refs(node, func(ref string) {
			if old == nil || !holds(old, ref) {
				t.putRef(ref, node.ID())
			}
		})
	}
}

func (t *tx) applyEdges(old, node *registry.Node) {
	from, to := "", ""
	if old != nil {
		from = old.Parent()
	}
	if node != nil {
		to = node.Parent()
	}
	if from == to {
		if to != "" && old.Definition() != node.Definition() {
			t.bump(to)
		}
		return
	}
	for _, p := range []string{from, to} {
		if p != "" {
			t.bump(p)
			kids := t.top.kids[p]
			t.putKids(p, append(kids[:len(kids):len(kids)], idOf(old, node)))
		}
	}
}

func (t *tx) bump(parent string) {
	t.putEdge(parent, t.rev)
	t.bumped = append(t.bumped, parent)
}

// undone is one step of the undo log: what stood in one of the layer's maps.
type undone struct {
	in  rune // the map, by its initial
	key string
	was any // nil where there was nothing
}

// note sets m[k] and remembers how to take it back.
func note[V any](t *tx, in rune, m map[string]V, k string, v V) {
	u := undone{in: in, key: k}
	if was, had := m[k]; had {
		u.was = was
	}
	t.undo = append(t.undo, u)
	m[k] = v
}

func takeBack[V any](u undone, m map[string]V) {
	if was, had := u.was.(V); had {
		m[u.key] = was
	} else {
		delete(m, u.key)
	}
}

func (t *tx) putNode(id string, e entry)          { note(t, 'n', t.top.nodes, id, e) }
func (t *tx) putRef(ref, owner string)            { note(t, 'r', t.top.refs, ref, owner) }
func (t *tx) putEdge(parent string, rev uint64)   { note(t, 'e', t.top.edges, parent, rev) }
func (t *tx) putKids(parent string, ids []string) { note(t, 'k', t.top.kids, parent, ids) }
func (t *tx) putData(key string, data []byte)     { note(t, 'b', t.top.blobs, key, data) }

// rollback takes back all that the transaction wrote into the layer.
func (t *tx) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		u := t.undo[i]
		switch u.in {
		case 'n':
			takeBack(u, t.top.nodes)
		case 'r':
			takeBack(u, t.top.refs)
		case 'e':
			takeBack(u, t.top.edges)
		case 'k':
			takeBack(u, t.top.kids)
		case 'b':
			takeBack(u, t.top.blobs)
		}
	}
	t.changes, t.blobs = nil, nil
}
