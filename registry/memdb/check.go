package memdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// Check opens the store in dir, which reads every record and verifies its
// checksum, and looks whether the nodes keep the promises that hold between
// them and whether every index agrees with the nodes. A store that another
// process has open is waited for as long as wait. Check writes nothing but what
// every opening does: it cuts off the torn end of a write that a crash left.
func Check(ctx context.Context, dir string, wait time.Duration) (registry.Audited, error) {
	c := Defaults()
	c.Path = component.Path(dir)
	db, err := Open(ctx, c, registry.Deps{LockWait: wait})
	if err != nil {
		return registry.Audited{}, err
	}
	found, err := registry.Audit(&reader{ctx: ctx, s: db.state.Load(), db: db})
	found.Problems = append(found.Problems, db.state.Load().audit()...)
	if err = errors.Join(err, db.Close()); err != nil {
		return found, fmt.Errorf("cannot check the registry %s: %w", dir, err)
	}
	return found, nil
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
