package memdb

import (
	"fmt"

	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
)

// applied writes a layer over base into the tables and returns the state that
// this makes. The caller has seen the layer synced; there is one at a time.
func applied(db *gomemdb.MemDB, base *state, l *layer, rev uint64) *state {
	txn := db.Txn(true)
	defer txn.Abort()
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("memdb: %v", err)) // a misspelt table: the indexers cannot fail
		}
	}
	// A reference can go from one node to another. Whoever gives one up leaves
	// first, or it would take the entry of the one that comes.
	for _, e := range l.nodes {
		if e.before != nil && (e.after == nil || givesUp(e)) {
			must(txn.Delete(nodesTable, e.before))
		}
	}
	p := postings{base: base, edit: new(edit), changed: map[attr]*posting{}}
	for _, e := range l.nodes {
		if e.after != nil {
			must(txn.Insert(nodesTable, e.after))
		}
		p.change(e)
	}
	for a, posting := range p.changed {
		switch {
		case posting.n > 0:
			must(txn.Insert(postingsTable, &postingRow{key: a.row(), posting: *posting}))
		case base.posting(a) != nil:
			must(txn.Delete(postingsTable, &postingRow{key: a.row()}))
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
		} else if _, ok := first[*blobRow](base.txn, blobsTable, "id", key); ok {
			must(txn.Delete(blobsTable, &blobRow{key: key}))
		}
	}
	txn.Commit()
	return newState(db, rev)
}

// givesUp reports whether the node no longer holds a reference that it held.
func givesUp(e entry) (yes bool) {
	refs(e.before, func(ref string) { yes = yes || !holds(e.after, ref) })
	return yes
}

// postings gathers what a batch changes in the postings.
type postings struct {
	base    *state
	edit    *edit
	changed map[attr]*posting
}

func (p *postings) get(a attr) *posting {
	if t, ok := p.changed[a]; ok {
		return t
	}
	t := new(posting)
	if base := p.base.posting(a); base != nil {
		*t = *base
	}
	p.changed[a] = t
	return t
}

func (p *postings) change(e entry) {
	if e.before != nil {
		attrs(e.before, func(a attr) {
			if e.after == nil || !a.of(e.after) {
				p.get(a).remove(p.edit, e.before.ID())
			}
		})
	}
	if e.after != nil {
		attrs(e.after, func(a attr) { p.get(a).set(p.edit, e.after) })
	}
}

// load puts nodes of a snapshot into empty tables, many at a time.
func load(txn *gomemdb.Txn, p *postings, n *registry.Node) error {
	p.change(entry{after: n})
	return txn.Insert(nodesTable, n)
}
