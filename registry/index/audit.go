package index

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/registry"
)

// Audit looks whether the nodes keep the promises that hold between them, and
// whether every index agrees with the nodes.
func (db *DB) Audit(ctx context.Context) (registry.Audited, error) {
	s := db.state.Load()
	found, err := registry.Audit(&reader{ctx: ctx, s: s, db: db})
	found.Problems = append(found.Problems, s.audit()...)
	return found, err
}

// audit looks whether references, postings, edge revisions and blobs fit the nodes.
func (s *state) audit() (problems []string) {
	found := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	entries, named, keys, names := 0, 0, 0, 0
	find := s.whole()
	find.listing(attr{kind: attrAll}).walk("", func(n *registry.Node) bool {
		attrs(n, func(a attr) {
			entries++
			if s.posting(a).get(n.ID()) != n {
				found("node %s is not listed under %q", n.ID(), a)
			}
		})
		refs(n, func(ref string) {
			named++
			if s.owner(ref) != n {
				found("node %s is not found as %q", n.ID(), ref)
			}
		})
		for i := range n.NumKeys() {
			keys++
			if o, _ := find.keys.get(n.KeyAt(i)); o.id != n.ID() {
				found("key %q is not listed as node %s's", n.KeyAt(i), n.ID())
			}
		}
		if n.Name() != n.ID() {
			names++
			if o, _ := find.names.get(n.Name()); o.id != n.ID() {
				found("name %q is not listed as node %s's", n.Name(), n.ID())
			}
		}
		for _, b := range n.Blobs() {
			if data, ok := s.blob(n.ID(), b.Key); !ok || len(data) != b.Size || sumOf(data) != b.SHA256 {
				found("the blob %s of node %s is not the one that the node describes", b.Key, n.ID())
			}
		}
		return true
	})
	listed := 0
	find.lists.walk(func(p *posting) { listed += s.posting(p.attr).count() })
	for _, c := range []struct {
		what       string
		hold, have int
	}{
		{"lists", listed, entries}, {"references", find.refs.n, named},
		{"ordered keys", find.keys.whole().count(), keys}, {"ordered names", find.names.whole().count(), names},
	} {
		if c.hold != c.have {
			found("the %s hold %d entries, the nodes have %d", c.what, c.hold, c.have)
		}
	}
	find.lists.walk(func(p *posting) {
		if has := s.posting(p.attr).count(); has != p.n {
			found("the list %q holds %d nodes and says %d", p.attr, has, p.n)
		}
	})
	each(s, edgesTable, func(r *edgeRow) {
		if s.node(r.parent) == nil {
			found("there is an edge revision of node %s, which does not exist", r.parent)
		}
	})
	return problems
}
