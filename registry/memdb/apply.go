package memdb

import (
	"fmt"

	gomemdb "github.com/hashicorp/go-memdb"
)

// prepared writes a layer over base into a transaction of the tables, which
// nobody sees until it is committed. There is one at a time.
func prepared(db *gomemdb.MemDB, base *state, l *layer) *gomemdb.Txn {
	txn := db.Txn(true)
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
	p := postings{base: base, edit: new(edit), changed: make(map[attr]*posting, 4*len(l.nodes))}
	for _, e := range l.nodes {
		p.change(e)
		if e.after != nil {
			must(txn.Insert(nodesTable, e.after))
		}
	}
	must(p.write(txn))
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
	return txn
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

// write puts the changed postings into the tables.
func (p *postings) write(txn *gomemdb.Txn) error {
	for a, posting := range p.changed {
		row := &postingRow{key: a.row(), posting: *posting}
		if posting.n > 0 {
			if err := txn.Insert(postingsTable, row); err != nil {
				return err
			}
		} else if p.base.posting(a) != nil {
			if err := txn.Delete(postingsTable, row); err != nil {
				return err
			}
		}
	}
	return nil
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
