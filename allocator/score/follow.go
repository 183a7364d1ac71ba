package score

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// keepTables is how many tables are kept for readers that are a little behind.
const keepTables = 32

// follower finds the table of a reader's snapshot. What it keeps is of one
// store.
type follower struct {
	maker

	newest atomic.Pointer[table]

	mu     sync.Mutex
	recent []*table // ordered by revision

	scanning sync.Mutex // held while everything is read, so that it is done once
}

// at returns the table of the snapshot. It follows the changes where the reader
// can tell them, and reads everything where it cannot: in a transaction, whose
// own writes are no changes yet, where the changes are forgotten, where the
// snapshot is older than every table, and where it is of another store.
func (f *follower) at(r registry.Reader) (*table, error) {
	d, ok := r.(registry.Delta)
	if _, writes := r.(registry.Tx); writes || !ok {
		return f.scan(r, 0)
	}
	rev := d.Revision()
	if t := f.newest.Load(); t != nil && t.rev == rev {
		if ok, err := t.of(r); ok || err != nil {
			return t, err
		}
	}
	if t, err := f.catchUp(r, d, rev); t != nil || err != nil {
		return t, err
	}
	f.scanning.Lock()
	defer f.scanning.Unlock()
	if t, err := f.catchUp(r, d, rev); t != nil || err != nil {
		return t, err
	}
	t, err := f.scan(r, rev)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.foreign(r) {
		f.recent = nil
	}
	f.keep(t)
	return t, nil
}

// foreign reports whether the tables that are kept are of another store than r,
// as far as that can be told: if not, they count as such.
func (f *follower) foreign(r registry.Reader) bool {
	for _, t := range f.recent {
		if ok, err := t.of(r); ok && err == nil {
			return false
		}
	}
	return true
}

// of reports whether t's store is the one of r, whose snapshot has t's revision.
// A table without hosts cannot tell.
func (t *table) of(r registry.Reader) (bool, error) {
	if t.witness == nil {
		return false, nil
	}
	n, err := r.Get(t.witness.ID())
	if notFound(err) {
		return false, nil
	}
	return n == t.witness, err
}

// catchUp makes the table of the snapshot from the newest one that is not newer
// than it. It returns nil if everything has to be read.
func (f *follower) catchUp(r registry.Reader, d registry.Delta, rev uint64) (*table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, found := f.find(rev)
	if found {
		ok, err := f.recent[at].of(r)
		if ok {
			return f.recent[at], err
		}
		return nil, err
	}
	if at == 0 {
		return nil, nil
	}
	t, err := f.follow(f.recent[at-1], r, d, rev)
	if t != nil {
		f.keep(t)
	}
	return t, err
}

// find is the place of a revision among the tables, and whether there is one.
func (f *follower) find(rev uint64) (int, bool) {
	return slices.BinarySearchFunc(f.recent, rev, func(t *table, rev uint64) int { return cmp.Compare(t.rev, rev) })
}

// keep adds a table.
func (f *follower) keep(t *table) {
	at, found := f.find(t.rev)
	if found {
		f.recent[at] = t
	} else {
		f.recent = slices.Insert(f.recent, at, t)
	}
	if len(f.recent) > keepTables {
		f.recent = slices.Delete(f.recent, 0, len(f.recent)-keepTables)
	}
	f.newest.Store(f.recent[len(f.recent)-1])
}

// follow applies the changes between old and the snapshot. It returns nil if
// they cannot be told, or are not changes of what old holds.
func (f *follower) follow(old *table, r registry.Reader, d registry.Delta, rev uint64) (*table, error) {
	if old.witness == nil {
		return nil, nil
	}
	changes, ok := d.Since(old.rev)
	if !ok {
		return nil, nil
	}
	b := f.edit(old)
	b.table.rev = rev
	seen := false                  // the witness, among the changes
	became := map[string]bool(nil) // nodes that began or ceased to be hosts
	for c := range changes {
		if c.Revision <= old.rev || c.Revision > rev {
			continue
		}
		id := c.Node().ID()
		if id == old.witness.ID() && !seen {
			if c.Before != old.witness {
				return nil, nil
			}
			seen = true
		}
		if b.changed(c) {
			if became == nil {
				became = map[string]bool{}
			}
			became[id] = true
		}
	}
	if !seen {
		if ok, err := old.of(r); !ok || err != nil {
			return nil, err
		}
	}
	if len(became) > 0 {
		return b.relaid(r, became)
	}
	return b.done(), nil
}

// changed brings the rows up to date with one change and reports whether a node
// began or ceased to be a host.
func (b *builder) changed(c registry.Change) bool {
	if !sameChild(c.Before, c.After) {
		if c.Before != nil {
			if at, ok := b.table.layout.at[c.Before.Parent()]; ok {
				b.child(at, c.Before, -1)
			}
		}
		if c.After != nil {
			if at, ok := b.table.layout.at[c.After.Parent()]; ok {
				b.child(at, c.After, 1)
			}
		}
	}
	at, was := b.table.layout.at[c.Node().ID()]
	if c.After == nil {
		return was
	}
	h, is := b.host(c.After)
	switch {
	case !is:
		return was
	case !was:
		return true
	}
	b.set(at, c.After, h)
	// A host deleted and created anew in one commit has other children.
	return c.Before == nil
}

// sameChild reports whether a node is to its parent what it was before.
func sameChild(a, b *registry.Node) bool {
	if a == nil || b == nil || a.Parent() != b.Parent() || a.Type() != b.Type() || a.NumTags() != b.NumTags() || a.Definition() != b.Definition() {
		return false
	}
	for i := range a.NumTags() {
		if a.TagAt(i) != b.TagAt(i) {
			return false
		}
	}
	return true
}

// relaid gives the rows new places after hosts came or went. Those that did are
// read anew, with their children, from the snapshot itself.
func (b *builder) relaid(r registry.Reader, became map[string]bool) (*table, error) {
	old := b.table
	ids := slices.DeleteFunc(slices.Clone(old.layout.ids), func(id string) bool { return became[id] })
	fresh := map[string]*registry.Node{}
	for id := range became {
		n, err := r.Get(id)
		if notFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, ok := b.host(n); ok {
			fresh[id] = n
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	laid := b.blank(ids)
	laid.table.rev, laid.table.types, laid.types = old.rev, old.types, b.types
	for i, id := range ids {
		n, ok := fresh[id]
		if !ok {
			at := old.layout.at[id]
			*laid.room(i), *laid.mark(i) = *old.room(at), *old.mark(at)
			continue
		}
		h, _ := b.host(n)
		laid.set(i, n, h)
		children, err := r.Children(id)
		if err != nil {
			return nil, err
		}
		for _, c := range children.Nodes {
			laid.child(i, c, 1)
		}
	}
	return laid.done(), nil
}

// done finishes a table.
func (b *builder) done() *table {
	if b.table.len() > 0 {
		b.table.witness = b.table.mark(0).host.node
	}
	return b.table
}

// scan reads every node of the snapshot.
func (f *follower) scan(r registry.Reader, rev uint64) (*table, error) {
	type found struct {
		node *registry.Node
		host allocator.Host
	}
	hosts := map[string]found{}
	var ids []string
	var children []*registry.Node
	for n, err := range r.List(registry.Query{}) {
		if err != nil {
			return nil, err
		}
		rev = max(rev, n.Revision())
		if h, ok := f.host(n); ok {
			hosts[n.ID()] = found{n, h}
			ids = append(ids, n.ID())
		}
		if n.Parent() != "" {
			children = append(children, n)
		}
	}
	slices.Sort(ids)
	b := f.blank(ids)
	b.table.rev = rev
	for i, id := range ids {
		b.set(i, hosts[id].node, hosts[id].host)
	}
	for _, n := range children {
		if at, ok := b.table.layout.at[n.Parent()]; ok {
			b.child(at, n, 1)
		}
	}
	return b.done(), nil
}

func notFound(err error) bool { return errors.Is(err, registry.ErrNotFound) }
