package index

import (
	"fmt"
	"slices"

	gomemdb "github.com/hashicorp/go-memdb"
)

// successor is what follows a state. Nobody sees it until it is published.
type successor struct {
	txn    *gomemdb.Txn // of the tables; nil if nothing changed there
	find   finder
	late   []entry // what find lacks
	recent *recent // of late
	fold   *fold
	nodes  int
}

// prepared writes a layer over base. There is one successor at a time.
func prepared(db *gomemdb.MemDB, base *state, l *layer) successor {
	next := successor{find: base.find, late: base.late, recent: base.recent, fold: base.fold, nodes: base.nodes}
	x := base.fold
	switch f := base.settled.Load(); {
	case f != nil: // somebody has listed what there is
		next.find, next.late, next.recent, next.fold = *f, nil, newRecent(smallRecent), nil
	case x != nil && (x.done() || len(base.late)-len(x.late) >= mostRecent(base.nodes)):
		n := len(x.late)
		next.find, next.late, next.fold = *x.wait(), slices.Clone(base.late[n:]), nil
		next.recent = base.recent.part(len(base.recent.heads), n, len(base.late))
	case base.recent == nil:
		next.recent = newRecent(smallRecent)
	case base.recent.end != len(base.late): // a batch that failed wrote into it
		next.recent = base.recent.part(len(base.recent.heads), 0, len(base.late))
	}
	from := len(next.late)
	for _, e := range l.nodes {
		switch {
		case e.before == nil && e.after == nil:
			continue // created and deleted
		case e.before == nil:
			next.nodes++
		case e.after == nil:
			next.nodes--
		}
		next.late = append(next.late, e)
	}
	if room := next.recent.room(len(next.late) - from); room > len(next.recent.heads) {
		next.recent = next.recent.part(room, 0, from)
	}
	next.recent.add(from+1, next.late[from:], next.find.refs.hash)
	if next.fold == nil && len(next.late) >= mostRecent(next.nodes) {
		next.fold = &fold{find: next.find, late: next.late}
	}
	if len(l.edges) > 0 || len(l.blobs) > 0 {
		next.txn = db.Txn(true)
		writeRows(next.txn, base, l)
	}
	return next
}

// writeRows writes the layer's edge revisions and blobs.
func writeRows(txn *gomemdb.Txn, base *state, l *layer) {
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("memdb: %v", err)) // a misspelt table: the indexers cannot fail
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
}

// drop gives the successor up.
func (x successor) drop() {
	if x.txn != nil {
		x.txn.Abort()
	}
}

// state is the successor of base as a state, which has yet to be published.
func (x successor) state(db *gomemdb.MemDB, base *state, rev, index uint64) *state {
	s := &state{
		txn: base.txn, find: x.find, late: x.late, recent: x.recent, fold: x.fold, nodes: x.nodes,
		rev: rev, index: index, next: make(chan struct{}),
	}
	if x.txn != nil {
		x.txn.Commit()
		s.txn = db.Txn(false)
	}
	return s
}

// edits changes a finder for one batch. release and claim may run beside list.
type edits struct {
	edit    *edit
	most    int // see sorted
	find    finder
	changed []*posting
}

func newEdits(find finder, most int) *edits {
	find.keys, find.names = find.keys.next(8*most), find.names.next(8*most) // few ask for these
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
	refs(e.after, func(r string) { x.find.refs.set(x.edit, r, ref{e.after}) })
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
	x.find.lists.set(x.edit, a, p)
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
