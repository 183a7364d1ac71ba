package registrytest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
)

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// The words of the state machine: few, and IDs, names and keys from the same, so
// that they clash.
func words() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "ab", "abc", "b.c", "B", "k-1", "k-2"})
}

func documents() *rapid.Generator[registry.Document] {
	return rapid.Custom(func(t *rapid.T) registry.Document {
		d, err := registry.ParseDocument([]byte(rapid.SampledFrom([]string{`{}`, `{"cpu":1}`, `{"cpu":2,"x":[1,{"y":null}]}`}).Draw(t, "document")))
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func tagMaps() *rapid.Generator[map[string]string] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"rack", "ssd", "r"}), rapid.SampledFrom([]string{"", "1", "2"}), 0, 3)
}

func maybe(g *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), g)
}

func drafts() *rapid.Generator[registry.Draft] {
	return rapid.Custom(func(t *rapid.T) registry.Draft {
		return registry.Draft{
			ID: words().Draw(t, "id"), Name: words().Draw(t, "name"),
			Type:   rapid.SampledFrom([]string{"vm", "hv"}).Draw(t, "type"),
			Tenant: maybe(rapid.SampledFrom([]string{"t1", "t2"})).Draw(t, "tenant"),
			Parent: maybe(words()).Draw(t, "parent"), State: maybe(rapid.SampledFrom([]string{"on", "off"})).Draw(t, "state"),
			Definition: documents().Draw(t, "definition"), Metadata: documents().Draw(t, "metadata"),
			Tags: tagMaps().Draw(t, "tags"), Keys: rapid.SliceOfN(words(), 0, 2).Draw(t, "keys"),
		}
	})
}

func queries() *rapid.Generator[registry.Query] {
	return rapid.Custom(func(t *rapid.T) registry.Query {
		var q registry.Query
		draw := func(p *string, g *rapid.Generator[string], what string) {
			if rapid.IntRange(0, 3).Draw(t, what+"?") == 0 {
				*p = g.Draw(t, what)
			}
		}
		draw(&q.Name, rapid.SampledFrom([]string{"a", "a*", "*", "?", "ab*", "*c", "b.c", "k-?", "*b*", "k-*", "B*"}), "name")
		draw(&q.Type, rapid.SampledFrom([]string{"vm", "hv", "none"}), "type")
		draw(&q.State, rapid.SampledFrom([]string{"on", "off"}), "state")
		draw(&q.Tenant, rapid.SampledFrom([]string{"t1", "t2"}), "tenant")
		draw(&q.Key, words(), "key")
		draw(&q.After, words(), "after")
		if rapid.IntRange(0, 3).Draw(t, "parent?") == 0 {
			q.Parent = registry.Is(maybe(words()).Draw(t, "parent"))
		}
		if rapid.IntRange(0, 2).Draw(t, "tags?") == 0 {
			q.Tags = map[string]*string{}
			for k, v := range tagMaps().Draw(t, "tags") {
				q.Tags[k] = &v
				if v == "2" {
					q.Tags[k] = nil
				}
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "limit?") == 0 {
			q.Limit = rapid.IntRange(1, 3).Draw(t, "limit")
		}
		return q
	})
}

// step is one thing that an Update does. Steps are drawn before the Update, as
// its function may run more than once.
type step struct {
	kind  string
	draft registry.Draft
	edit  string
	from  *string
	force bool
	blob  string
	data  []byte
	query registry.Query
}

func steps() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		s := step{
			kind:  rapid.SampledFrom([]string{"create", "create", "put", "put", "put", "delete", "blob", "read", "list"}).Draw(t, "step"),
			draft: drafts().Draw(t, "draft"),
		}
		switch s.kind {
		case "put":
			s.edit = rapid.SampledFrom([]string{"name", "parent", "parent", "state", "definition", "metadata", "tags", "keys", "tenant", "all"}).Draw(t, "edit")
			s.force = rapid.Bool().Draw(t, "force")
			if rapid.Bool().Draw(t, "moving") {
				s.from = registry.Is(maybe(words()).Draw(t, "from"))
			}
		case "blob":
			s.blob = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "blob")
			s.data = rapid.SampledFrom([][]byte{nil, {}, []byte("one"), []byte("two")}).Draw(t, "data")
		case "list":
			s.query = queries().Draw(t, "query")
		}
		return s
	})
}

// run does the step in tx and in the model, and compares.
func (s step) run(tx registry.Tx, m *model, born int) error {
	switch s.kind {
	case "create":
		n, err := tx.Create(s.draft)
		if bad := expect(err, m.create(s.draft, born)); bad != nil || err != nil {
			return bad
		}
		return m.nodes[s.draft.ID].same(n)
	case "put":
		d := s.draft
		if old, ok := m.nodes[d.ID]; ok && s.edit != "all" {
			d = old.draft.Clone()
			switch s.edit {
			case "name":
				d.Name = s.draft.Name
			case "parent":
				d.Parent = s.draft.Parent
			case "state":
				d.State = s.draft.State
			case "definition":
				d.Definition = s.draft.Definition
			case "metadata":
				d.Metadata = s.draft.Metadata
			case "tags":
				d.Tags = s.draft.Tags
			case "keys":
				d.Keys = s.draft.Keys
			case "tenant":
				d.Tenant = s.draft.Tenant
			}
		}
		o := registry.WriteOptions{From: s.from, Force: s.force}
		n, err := tx.Put(d, func(w *registry.WriteOptions) { *w = o })
		if bad := expect(err, m.put(d, o)); bad != nil || err != nil {
			return bad
		}
		return m.nodes[d.ID].same(n)
	case "delete":
		return expect(tx.Delete(s.draft.ID), m.delete(s.draft.ID))
	case "blob":
		return expect(tx.PutBlob(s.draft.ID, s.blob, s.data), m.putBlob(s.draft.ID, s.blob, s.data))
	case "list":
		return compareList(tx, m, s.query)
	default:
		return m.compare(tx)
	}
}

// expect compares an error with the model's problems.
func expect(err error, p problems) error {
	if err == nil && len(p) == 0 {
		return nil
	}
	for _, want := range p {
		if errors.Is(err, want) {
			return nil
		}
	}
	return fmt.Errorf("the answer is %w, want one of %v", err, []error(p))
}

func compareList(r registry.Reader, m *model, q registry.Query) error {
	var got []string
	for n, err := range r.List(q) {
		if err != nil {
			return err
		}
		got = append(got, n.ID())
	}
	if want := m.list(q); !slices.Equal(got, want) {
		return fmt.Errorf("list %+v is %v, want %v", q, got, want)
	}
	return nil
}

// errVeto is what an Update's function returns to abort.
var errVeto = errors.New("vetoed")

// machine drives a registry and the model side by side.
type machine struct {
	ctx     context.Context //nolint:containedctx // the test's
	r       registry.Registry
	m       *model
	born    int
	rev     uint64
	stamps  map[string]registry.Stamp // as last seen
	edges   map[string]uint64         // as last seen
	kept    []kept
	watches []*watching
}

// kept is a snapshot that must not change.
type kept struct {
	reader registry.Reader
	m      *model
}

// watching is a Watch and the changes that it has yet to deliver.
type watching struct {
	q      registry.Query
	next   func() (registry.Change, error, bool)
	stop   func()
	want   []wanted
	cursor registry.Cursor
}

type wanted struct {
	kind          registry.ChangeKind
	id            string
	before, after *modelNode
	rev           uint64
}

func newMachine(ctx context.Context, r registry.Registry) *machine {
	return &machine{ctx: ctx, r: r, m: newModel(), stamps: map[string]registry.Stamp{}, edges: map[string]uint64{}}
}

func (s *machine) close() {
	for _, w := range s.watches {
		w.stop()
	}
}

// update runs one Update of several steps.
func (s *machine) update(t *rapid.T) {
	plan := rapid.SliceOfN(steps(), 1, 5).Draw(t, "steps")
	veto := rapid.IntRange(0, 9).Draw(t, "veto") == 0
	s.born++
	var m *model
	var bad error
	err := s.r.Update(s.ctx, func(tx registry.Tx) error {
		m, bad = s.m.clone(), nil
		for _, step := range plan {
			if bad = step.run(tx, m, s.born); bad != nil {
				return bad
			}
		}
		if bad = m.compare(tx); bad != nil {
			return bad
		}
		if veto {
			return errVeto
		}
		return nil
	})
	switch {
	case bad != nil:
		t.Fatal(bad)
	case errors.Is(err, errVeto):
		if err != errVeto { //nolint:errorlint // "returned as it is"
			t.Fatalf("the function's error came back as %#v", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		s.commit(t, m)
	}
}

// commit takes over the model of an acknowledged Update.
func (s *machine) commit(t *rapid.T, m *model) {
	v, err := s.r.View(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var events []wanted
	rev := s.rev
	for _, id := range union(s.m.ids(), m.ids()) {
		old, was := s.m.nodes[id]
		now, is := m.nodes[id]
		var stamp registry.Stamp
		if is {
			n, err := v.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			stamp = n.Stamp()
		}
		switch {
		case was && is && equalNodes(old, now) && old.born == now.born:
			// It may have been written and written back, or not.
			if stamp.Revision != s.stamps[id].Revision {
				events = append(events, wanted{registry.Updated, id, &old, &now, stamp.Revision})
			}
		case was && is && old.born == now.born:
			events = append(events, wanted{registry.Updated, id, &old, &now, stamp.Revision})
			if !stamp.CreatedAt.Equal(s.stamps[id].CreatedAt) {
				t.Fatalf("node %s: created at %v, then at %v", id, s.stamps[id].CreatedAt, stamp.CreatedAt)
			}
		default:
			if was {
				events = append(events, wanted{registry.Deleted, id, &old, nil, 0})
			}
			if is {
				events = append(events, wanted{registry.Created, id, nil, &now, stamp.Revision})
			}
		}
		if is {
			if stamp.Revision < s.stamps[id].Revision || stamp.UpdatedAt.IsZero() || stamp.CreatedAt.IsZero() {
				t.Fatalf("node %s has the stamp %+v after %+v", id, stamp, s.stamps[id])
			}
			if stamp.Revision > s.rev {
				if rev > s.rev && stamp.Revision != rev {
					t.Fatalf("one commit has the revisions %d and %d", rev, stamp.Revision)
				}
				rev = stamp.Revision
			}
		}
		if is {
			s.stamps[id] = stamp
		} else {
			delete(s.stamps, id)
		}
	}
	for i := range events {
		if events[i].kind != registry.Deleted && events[i].rev <= s.rev {
			t.Fatalf("node %s was changed and has the old revision %d", events[i].id, events[i].rev)
		}
	}
	s.checkEdges(t, v, m)
	for _, w := range s.watches {
		w.expect(events)
	}
	s.rev, s.m = rev, m
}

// checkEdges looks whether edge revisions moved where they must, and rested
// where they must.
func (s *machine) checkEdges(t *rapid.T, v registry.Reader, m *model) {
	for _, id := range m.ids() {
		kids, err := v.Children(id)
		if err != nil {
			t.Fatal(err)
		}
		old, ok := s.m.nodes[id]
		if ok && old.born == m.nodes[id].born {
			was, is := s.m.below(id), m.below(id)
			switch moved := !maps.Equal(was, is); {
			case moved && kids.Edge <= s.edges[id]:
				t.Fatalf("children of %s went from %v to %v, and the edge revision from %d to %d", id, was, is, s.edges[id], kids.Edge)
			case kids.Edge < s.edges[id]:
				t.Fatalf("the edge revision of %s went from %d to %d", id, s.edges[id], kids.Edge)
			}
		}
		s.edges[id] = kids.Edge
	}
}

// below is what an edge revision stands for: the children and their definitions.
func (m *model) below(id string) map[string]string {
	set := map[string]string{}
	for _, k := range m.children(id) {
		set[k] = m.nodes[k].draft.Definition.String()
	}
	return set
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

func equalNodes(a, b modelNode) bool {
	return registry.NewNode(a.draft, registry.Stamp{}).Same(b.draft) && maps.EqualFunc(a.blobs, b.blobs, bytes.Equal)
}

// read compares random answers of a fresh view.
func (s *machine) read(t *rapid.T) {
	v, err := s.r.View(s.ctx, registry.Consistent())
	if err != nil {
		t.Fatal(err)
	}
	if err := compareList(v, s.m, queries().Draw(t, "query")); err != nil {
		t.Fatal(err)
	}
	w := words().Draw(t, "word")
	for _, look := range []struct {
		what string
		get  func(string) (*registry.Node, error)
		find func(string) (string, bool)
	}{
		{"id", v.Get, func(id string) (string, bool) { _, ok := s.m.nodes[id]; return id, ok }},
		{"name", v.ByName, s.m.byName}, {"key", v.ByKey, s.m.byKey},
	} {
		n, err := look.get(w)
		want, ok := look.find(w)
		if ok != (err == nil) || ok && n.ID() != want || !ok && !errors.Is(err, registry.ErrNotFound) {
			t.Fatalf("by %s %s: %v, %v; want %s, %v", look.what, w, n, err, want, ok)
		}
	}
	prefix, from := rapid.SampledFrom([]string{"", "a", "k-", "zz"}).Draw(t, "prefix"), maybe(words()).Draw(t, "from")
	var keys []registry.Key
	for k, err := range v.Keys(prefix, from) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if want := s.m.keys(prefix, from); !slices.Equal(keys, want) {
		t.Fatalf("keys %q from %q are %v, want %v", prefix, from, keys, want)
	}
	if err := s.m.compare(v); err != nil {
		t.Fatal(err)
	}
}

// keep takes a snapshot, and looks at those taken earlier.
func (s *machine) keep(t *rapid.T) {
	for _, k := range s.kept {
		if err := k.m.compare(k.reader); err != nil {
			t.Fatalf("a snapshot has changed: %v", err)
		}
	}
	v, err := s.r.View(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.kept = append(s.kept, kept{v, s.m.clone()})
	if len(s.kept) > 5 {
		s.kept = s.kept[1:]
	}
}

// watch begins to watch, from the start, from now, or from a cursor.
func (s *machine) watch(t *rapid.T) {
	w := &watching{q: queries().Draw(t, "query")}
	w.q.After, w.q.Limit = "", 0
	from := rapid.SampledFrom([]registry.Cursor{registry.Start, registry.Now}).Draw(t, "from")
	if from == registry.Start {
		for _, id := range s.m.list(w.q) {
			n := s.m.nodes[id]
			w.want = append(w.want, wanted{registry.Existing, id, nil, &n, s.stamps[id].Revision})
		}
		w.want = append(w.want, wanted{kind: registry.Synced})
	}
	w.next, w.stop = iter.Pull2(s.r.Watch(s.ctx, w.q, from))
	s.watches = append(s.watches, w)
	if len(s.watches) > 3 {
		s.watches[0].stop()
		s.watches = s.watches[1:]
	}
}

// resume breaks a watch off and goes on from its cursor.
func (s *machine) resume(t *rapid.T) {
	for _, w := range s.watches {
		if w.cursor != "" {
			w.stop()
			w.next, w.stop = iter.Pull2(s.r.Watch(s.ctx, w.q, w.cursor))
		}
	}
	s.deliver(t)
}

// expect adds the events of a commit, as a watcher of w.q sees them.
func (w *watching) expect(events []wanted) {
	for _, e := range events {
		before := e.before != nil && matches(w.q, e.before.draft)
		after := e.after != nil && matches(w.q, e.after.draft)
		if before && !after && e.kind == registry.Updated {
			e.kind = registry.Left
		}
		if before || after {
			w.want = append(w.want, e)
		}
	}
}

// deliver pulls what the watches owe, some of it only now and then. The order
// within a commit is the backend's.
func (s *machine) deliver(t *rapid.T) {
	for _, w := range s.watches {
		n := rapid.IntRange(0, len(w.want)).Draw(t, "pull")
		for range n {
			c, err, ok := w.next()
			if !ok || err != nil {
				t.Fatalf("the watch ended (%v) and owes %+v", err, w.want)
			}
			i := slices.IndexFunc(w.want, func(e wanted) bool { return e.kind == c.Kind && (c.Node() == nil || e.id == c.Node().ID()) })
			if i < 0 || i > 0 && w.want[i].rev != 0 && w.want[0].rev != 0 && w.want[i].rev != w.want[0].rev {
				t.Fatalf("the watch delivered %s %v, and owes %+v", c.Kind, c.Node(), w.want)
			}
			e := w.want[i]
			w.want = slices.Delete(w.want, i, i+1)
			for _, side := range []struct {
				got  *registry.Node
				want *modelNode
			}{{c.Before, e.before}, {c.After, e.after}} {
				if (side.got == nil) != (side.want == nil) {
					t.Fatalf("%s %s has before %v, after %v", c.Kind, e.id, c.Before, c.After)
				}
				if side.got != nil {
					if err := side.want.same(side.got); err != nil {
						t.Fatalf("%s: %v", c.Kind, err)
					}
				}
			}
			if e.rev != 0 && c.Revision != e.rev {
				t.Fatalf("%s %s has revision %d, want %d", c.Kind, e.id, c.Revision, e.rev)
			}
			w.cursor = c.Cursor
		}
	}
}

func testModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		r := open(t)
		defer func() {
			if err := r.Close(); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		s := newMachine(t.Context(), r)
		defer s.close()
		rt.Repeat(map[string]func(*rapid.T){
			"update": s.update, "update2": s.update, "read": s.read, "keep": s.keep, "watch": s.watch, "resume": s.resume,
			"": s.deliver,
		})
	})
}
