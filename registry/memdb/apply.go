package memdb

import (
	"fmt"
	"maps"
	"slices"

	gomemdb "github.com/hashicorp/go-memdb"
)

// successor is what follows a state: a transaction of the tables, which nobody
// sees until it is committed, and what finds nodes in it.
type successor struct {
	txn  *gomemdb.Txn
	find finder
}

// prepared writes a layer over base. There is one successor at a time.
func prepared(db *gomemdb.MemDB, base *state, l *layer) successor {
	txn := db.Txn(true)
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("memdb: %v", err)) // a misspelt table: the indexers cannot fail
		}
	}
	x := newEdits(base.find, mostLate)
	// A reference can go from one node to another. Whoever gives one up leaves
	// first, or it would take the entry of the one that comes.
	ids := slices.Sorted(maps.Keys(l.nodes))
	for _, id := range ids {
		x.release(l.nodes[id])
	}
	for _, id := range ids {
		e := l.nodes[id]
		x.claim(e)
		x.list(e)
		switch {
		case e.after != nil:
			must(txn.Insert(nodesTable, e.after))
		case e.before != nil:
			must(txn.Delete(nodesTable, e.before))
		}
	}
	for parent, rev := range l.edges {
		switch {
		case rev > 0:
			must(txn.Insert(edgesTable, &edgeRow{parent, rev}))
		case base.edge(parent) > 0:
			must(txn.Delete(edgesTable, &edgeRow{parent: parent}))
		}
	}
	for key, data := range l.blobs {
		if data != nil {
			must(txn.Insert(blobsTable, &blobRow{key, data}))
		} else if _, ok := first[*blobRow](base.txn, blobsTable, key); ok {
			must(txn.Delete(blobsTable, &blobRow{key: key}))
		}
	}
	return successor{txn: txn, find: x.done()}
}

// edits changes a finder for one batch. release and claim may run beside list.
type edits struct {
	edit    *edit
	most    int // see sorted
	find    finder
	changed []*posting
}

func newEdits(find finder, most int) *edits {
	find.keys, find.names = find.keys.next(most), find.names.next(most)
	return &edits{edit: new(edit), most: most, find: find}
}

// release takes out the references that a node gives up.
func (x *edits) release(e entry) {
	if e.before == nil {
		return
	}
	refs(e.before, func(r string) {
		if e.after == nil || !holds(e.after, r) {
			x.find.refs.remove(x.edit, r)
		}
	})
	for i := range e.before.NumKeys() {
		if k := e.before.KeyAt(i); e.after == nil || !e.after.HasKey(k) {
			x.find.keys.remove(owned{k, e.before.ID()})
		}
	}
	if name := e.before.Name(); name != e.before.ID() && (e.after == nil || e.after.Name() != name) {
		x.find.names.remove(owned{name, e.before.ID()})
	}
}

// claim puts in the references of a node as it is now.
func (x *edits) claim(e entry) {
	if e.after == nil {
		return
	}
	refs(e.after, func(r string) { x.find.refs.set(x.edit, ref{r, e.after}) })
	for i := range e.after.NumKeys() {
		if k := e.after.KeyAt(i); e.before == nil || !e.before.HasKey(k) {
			x.find.keys.set(owned{k, e.after.ID()}, true)
		}
	}
	if name := e.after.Name(); name != e.after.ID() && (e.before == nil || e.before.Name() != name) {
		x.find.names.set(owned{name, e.after.ID()}, true)
	}
}

// list puts the node where it belongs, and takes it out where it no longer does.
func (x *edits) list(e entry) {
	if e.before != nil {
		attrs(e.before, func(a attr) {
			if e.after == nil || !a.of(e.after) {
				x.posting(a).drop(e.before)
			}
		})
	}
	if e.after != nil {
		attrs(e.after, func(a attr) { x.posting(a).add(e.after, e.before == nil || !a.of(e.before)) })
	}
}

// posting returns a's posting to be changed.
func (x *edits) posting(a attr) *posting {
	was, ok := x.find.lists.get(a)
	if ok && was.edit == x.edit {
		return was
	}
	p := &posting{attr: a, edit: x.edit}
	p.most = x.most
	if ok {
		p.follow(&was.sorted, x.most)
		p.broad = was.broad
	}
	x.find.lists.set(x.edit, p)
	x.changed = append(x.changed, p)
	return p
}

// done returns the finder as it is now.
func (x *edits) done() finder {
	all := x.find.listing(attr{kind: attrAll})
	broad := make([]attr, 0, len(x.find.broad)+1)
	for _, a := range x.find.broad {
		p, ok := x.find.lists.get(a)
		switch {
		case !ok || p.n == 0 || !p.broad:
		case p.narrows(all.n):
			x.posting(a).narrow(all)
		default:
			broad = append(broad, a)
		}
	}
	for _, p := range x.changed {
		switch {
		case p.n == 0:
			x.find.lists.remove(x.edit, p.attr)
		case !p.broad && p.broadens(all.n):
			p.broaden()
			broad = append(broad, p.attr)
		}
	}
	x.find.broad = broad
	return x.find
}

// settle leaves no changes for later.
func (x *edits) settle() {
	x.find.keys.settle()
	x.find.names.settle()
	for _, p := range x.changed {
		p.settle()
	}
}
