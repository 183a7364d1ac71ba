package registrytest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// model is a registry as simple as can be: maps, copied whole for each Update.
type model struct {
	nodes map[string]modelNode
}

type modelNode struct {
	draft registry.Draft
	blobs map[string][]byte
	born  int // tells a node from a later one of the same ID
}

func newModel() *model { return &model{nodes: map[string]modelNode{}} }

func (m *model) clone() *model {
	c := newModel()
	for id, n := range m.nodes {
		c.nodes[id] = modelNode{draft: n.draft.Clone(), blobs: maps.Clone(n.blobs), born: n.born}
	}
	return c
}

func (m *model) ids() []string { return slices.Sorted(maps.Keys(m.nodes)) }

// idents are the names that lead to a node.
func idents(d registry.Draft) []string { return append([]string{d.ID, d.Name}, d.Keys...) }

// problems is what may be wrong with a write. Of several a backend may report
// any.
type problems []error

func (p *problems) add(is bool, err error) {
	if is {
		*p = append(*p, err)
	}
}

func (m *model) identProblems(p *problems, d registry.Draft) {
	for id, n := range m.nodes {
		if id == d.ID {
			continue
		}
		for _, theirs := range idents(n.draft) {
			p.add(slices.Contains(idents(d), theirs), registry.ErrConflict)
		}
	}
}

func (m *model) parentProblems(p *problems, d registry.Draft) {
	if d.Parent == "" {
		return
	}
	_, exists := m.nodes[d.Parent]
	p.add(!exists, registry.ErrNotFound)
	for at, steps := d.Parent, 0; at != "" && steps <= len(m.nodes); steps++ {
		if at == d.ID {
			p.add(true, registry.ErrConflict)
			return
		}
		at = m.nodes[at].draft.Parent
	}
}

func (m *model) create(d registry.Draft, born int) problems {
	var p problems
	p.add(d.Validate() != nil, registry.ErrInvalid)
	_, exists := m.nodes[d.ID]
	p.add(exists, registry.ErrConflict)
	m.identProblems(&p, d)
	m.parentProblems(&p, d)
	if len(p) == 0 {
		m.nodes[d.ID] = modelNode{draft: d.Clone(), born: born}
	}
	return p
}

func (m *model) put(d registry.Draft, o registry.WriteOptions) problems {
	var p problems
	p.add(d.Validate() != nil, registry.ErrInvalid)
	old, exists := m.nodes[d.ID]
	if !exists {
		p.add(true, registry.ErrNotFound)
		return p
	}
	p.add(d.Type != old.draft.Type, registry.ErrInvalid)
	p.add(o.From != nil && *o.From != old.draft.Parent, registry.ErrConflict)
	p.add(o.From == nil && old.draft.Parent != "" && d.Parent != old.draft.Parent, registry.ErrConflict)
	p.add(d.Definition != old.draft.Definition && old.draft.Parent != "" && !o.Force, registry.ErrConflict)
	m.identProblems(&p, d)
	if d.Parent != old.draft.Parent {
		m.parentProblems(&p, d)
	}
	if len(p) == 0 {
		old.draft = d.Clone()
		m.nodes[d.ID] = old
	}
	return p
}

func (m *model) delete(id string) problems {
	var p problems
	n, exists := m.nodes[id]
	p.add(!exists, registry.ErrNotFound)
	p.add(n.draft.Parent != "", registry.ErrConflict)
	p.add(len(m.children(id)) > 0, registry.ErrConflict)
	if len(p) == 0 {
		delete(m.nodes, id)
	}
	return p
}

func (m *model) putBlob(id, key string, data []byte) problems {
	var p problems
	n, exists := m.nodes[id]
	p.add(!exists, registry.ErrNotFound)
	_, had := n.blobs[key]
	p.add(data == nil && !had, registry.ErrNotFound)
	if len(p) > 0 {
		return p
	}
	blobs := maps.Clone(n.blobs)
	if blobs == nil {
		blobs = map[string][]byte{}
	}
	if data == nil {
		delete(blobs, key)
	} else {
		blobs[key] = bytes.Clone(data)
	}
	n.blobs = blobs
	m.nodes[id] = n
	return nil
}

func (m *model) children(id string) []string {
	var kids []string
	if id == "" {
		return nil
	}
	for _, k := range m.ids() {
		if m.nodes[k].draft.Parent == id {
			kids = append(kids, k)
		}
	}
	return kids
}

func (m *model) find(has func(registry.Draft) bool) (string, bool) {
	for id, n := range m.nodes {
		if has(n.draft) {
			return id, true
		}
	}
	return "", false
}

func (m *model) byName(name string) (string, bool) {
	return m.find(func(d registry.Draft) bool { return d.Name == name })
}

func (m *model) byKey(key string) (string, bool) {
	return m.find(func(d registry.Draft) bool { return slices.Contains(d.Keys, key) })
}

// matches is Query.Matches as its documentation has it, over a draft.
func matches(q registry.Query, d registry.Draft) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	if !is(q.Type, d.Type) || !is(q.State, d.State) || !is(q.Tenant, d.Tenant) || q.Parent != nil && *q.Parent != d.Parent {
		return false
	}
	if q.Key != "" && !slices.Contains(d.Keys, q.Key) {
		return false
	}
	for k, want := range q.Tags {
		if got, ok := d.Tags[k]; !ok || want != nil && *want != got {
			return false
		}
	}
	return q.Name == "" || glob(q.Name, d.Name)
}

// glob knows * and ? only, which is what the suite asks for.
func glob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return glob(pattern[1:], s) || s != "" && glob(pattern, s[1:])
	default:
		return s != "" && (pattern[0] == '?' || pattern[0] == s[0]) && glob(pattern[1:], s[1:])
	}
}

func (m *model) list(q registry.Query) []string {
	var found []string
	for _, id := range m.ids() {
		if id > q.After && matches(q, m.nodes[id].draft) && (q.Limit == 0 || len(found) < q.Limit) {
			found = append(found, id)
		}
	}
	return found
}

func (m *model) keys(prefix, from string) []registry.Key {
	var keys []registry.Key
	for id, n := range m.nodes {
		for _, k := range n.draft.Keys {
			if strings.HasPrefix(k, prefix) && k >= from {
				keys = append(keys, registry.Key{Key: k, Owner: id})
			}
		}
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].Key < keys[j].Key })
	return slices.Compact(keys)
}

// same compares a node with the model's.
func (n modelNode) same(got *registry.Node) error {
	if !got.Same(n.draft) {
		return fmt.Errorf("node %s is %+v, want %+v", got.ID(), got.Draft(), n.draft)
	}
	blobs := got.Blobs()
	if len(blobs) != len(n.blobs) {
		return fmt.Errorf("node %s has the blobs %v, want %v", got.ID(), blobs, slices.Collect(maps.Keys(n.blobs)))
	}
	for _, b := range blobs {
		if data, ok := n.blobs[b.Key]; !ok || b.Size != len(data) || b.SHA256 != sum(data) {
			return fmt.Errorf("node %s has the blob %+v, want %q", got.ID(), b, data)
		}
	}
	return nil
}

// compare reads all of r and returns the first difference to the model.
func (m *model) compare(r registry.Reader) error {
	var listed []string
	for n, err := range r.List(registry.Query{}) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		listed = append(listed, n.ID())
		want, ok := m.nodes[n.ID()]
		if !ok {
			return fmt.Errorf("list holds %s, which should not exist", n.ID())
		}
		if err := want.same(n); err != nil {
			return err
		}
	}
	if want := m.ids(); !slices.Equal(listed, want) {
		return fmt.Errorf("list is %v, want %v", listed, want)
	}
	for id, want := range m.nodes {
		got, err := r.Get(id)
		if err != nil {
			return err
		}
		if err := want.same(got); err != nil {
			return err
		}
		if n, err := r.ByName(want.draft.Name); err != nil || n.ID() != id {
			return fmt.Errorf("by name %s: %v, %w", want.draft.Name, n, err)
		}
		for _, k := range want.draft.Keys {
			if n, err := r.ByKey(k); err != nil || n.ID() != id {
				return fmt.Errorf("by key %s: %v, %w", k, n, err)
			}
		}
		for k, data := range want.blobs {
			if got, err := r.Blob(id, k); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("blob %s of %s is %q, %w; want %q", k, id, got, err, data)
			}
		}
		kids, err := r.Children(id)
		if err != nil {
			return err
		}
		if got, want := idsOf(kids.Nodes), m.children(id); !slices.Equal(got, want) {
			return fmt.Errorf("children of %s are %v, want %v", id, got, want)
		}
	}
	var keys []registry.Key
	for k, err := range r.Keys("", "") {
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	if want := m.keys("", ""); !slices.Equal(keys, want) {
		return fmt.Errorf("keys are %v, want %v", keys, want)
	}
	return nil
}

func idsOf(nodes []*registry.Node) []string {
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.ID())
	}
	return ids
}
