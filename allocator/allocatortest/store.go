package allocatortest

import (
	"encoding/json"
	"iter"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// The types of the nodes that Deps understands.
const (
	TypeHost  = "host"
	TypeThing = "thing"
)

// HostDefinition is the definition of a node of TypeHost.
type HostDefinition struct {
	Capacity    allocator.Resources  `json:"capacity"`
	Overcommit  allocator.Overcommit `json:"overcommit,omitzero"`
	Types       []string             `json:"types,omitempty"`
	Maintenance bool                 `json:"maintenance,omitempty"`
	Retired     bool                 `json:"retired,omitempty"` // it is no host any more
}

// Deps reads nodes of TypeHost as hosts, and the definition of every other node
// as the allocator.Resources that it takes. A definition that is not of this
// form cannot be read.
func Deps() allocator.Deps {
	return allocator.Deps{
		Host: func(n *registry.Node) (allocator.Host, bool) {
			var d HostDefinition
			if n.Type() != TypeHost || n.Definition().Decode(&d) != nil || d.Retired {
				return allocator.Host{}, false
			}
			return allocator.Host{
				ID: n.ID(), Name: n.Name(), Types: d.Types, Capacity: d.Capacity, Overcommit: d.Overcommit,
				State: n.State(), Maintenance: d.Maintenance, Tags: n.Tags(),
			}, true
		},
		Need: func(n *registry.Node) (allocator.Resources, error) {
			var r allocator.Resources
			if n.Type() == TypeHost {
				return r, nil
			}
			return r, n.Definition().Decode(&r)
		},
	}
}

// Host is the draft of a host that is up.
func Host(id string, d HostDefinition, tags ...string) registry.Draft {
	return registry.Draft{ID: id, Name: "name-" + id, Type: TypeHost, State: allocator.StateUp, Definition: document(d), Tags: tagMap(tags)}
}

// Thing is the draft of something that stands on a host.
func Thing(id, parent string, need allocator.Resources, tags ...string) registry.Draft {
	return registry.Draft{ID: id, Name: "name-" + id, Type: TypeThing, Parent: parent, Definition: document(need), Tags: tagMap(tags)}
}

func document(v any) registry.Document {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // of this package's own types
	}
	return registry.TrustedDocument(string(data))
}

func tagMap(tags []string) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		key, value := splitTag(t)
		m[key] = ""
		if value != nil {
			m[key] = *value
		}
	}
	return m
}

// Store holds nodes in a map and gives snapshots of them: as much of a registry
// as an allocator sees, with knobs for what a real one does rarely. It keeps
// none of a registry's rules.
type Store struct {
	mu      sync.Mutex
	rev     uint64
	nodes   map[string]*registry.Node
	changes []registry.Change
	kept    uint64 // changes after this revision are remembered
}

// NewStore returns a store with the nodes of the drafts.
func NewStore(drafts ...registry.Draft) *Store {
	s := &Store{nodes: map[string]*registry.Node{}}
	for _, d := range drafts {
		s.Put(d)
	}
	return s
}

// Put commits the draft as a new node, or as the next state of one.
func (s *Store) Put(d registry.Draft) *registry.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	c := registry.Change{Kind: registry.Created, Before: s.nodes[d.ID], After: registry.NewNode(d, registry.Stamp{Revision: s.rev}), Revision: s.rev}
	if c.Before != nil {
		c.Kind = registry.Updated
	}
	s.nodes[d.ID] = c.After
	s.changes = append(s.changes, c)
	return c.After
}

// Delete commits the absence of a node.
func (s *Store) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes[id] == nil {
		return
	}
	s.rev++
	s.changes = append(s.changes, registry.Change{Kind: registry.Deleted, Before: s.nodes[id], Revision: s.rev})
	delete(s.nodes, id)
}

// Forget makes Since answer that older changes are not remembered.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept, s.changes = s.rev, nil
}

// View is a snapshot that can tell what changed.
func (s *Store) View() registry.Reader { return &following{s.snapshot(), s} }

// Plain is a snapshot that cannot.
func (s *Store) Plain() registry.Reader { return s.snapshot() }

func (s *Store) snapshot() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &snapshot{rev: s.rev, nodes: maps.Clone(s.nodes), ids: slices.Sorted(maps.Keys(s.nodes))}
}

type following struct {
	*snapshot
	store *Store
}

var _ registry.Delta = (*following)(nil)

func (f *following) Revision() uint64 { return f.rev }

func (f *following) Since(from uint64) (iter.Seq[registry.Change], bool) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if from < f.store.kept {
		return nil, false
	}
	var changes []registry.Change
	for _, c := range f.store.changes {
		if c.Revision > from && c.Revision <= f.rev {
			changes = append(changes, c)
		}
	}
	return slices.Values(changes), true
}

type snapshot struct {
	rev   uint64
	nodes map[string]*registry.Node
	ids   []string
}

var _ registry.Reader = (*snapshot)(nil)

func (s *snapshot) Get(id string) (*registry.Node, error) {
	if n := s.nodes[id]; n != nil {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "node", Ref: id}
}

func (s *snapshot) first(what, ref string, match func(*registry.Node) bool) (*registry.Node, error) {
	for _, id := range s.ids {
		if match(s.nodes[id]) {
			return s.nodes[id], nil
		}
	}
	return nil, &registry.NotFoundError{What: what, Ref: ref}
}

func (s *snapshot) ByName(name string) (*registry.Node, error) {
	return s.first("name", name, func(n *registry.Node) bool { return n.Name() == name })
}

func (s *snapshot) ByKey(key string) (*registry.Node, error) {
	return s.first("key", key, func(n *registry.Node) bool { return n.HasKey(key) })
}

func (s *snapshot) List(q registry.Query) iter.Seq2[*registry.Node, error] {
	return func(yield func(*registry.Node, error) bool) {
		if err := q.Validate(); err != nil {
			yield(nil, err)
			return
		}
		left := q.Limit
		for _, id := range s.ids {
			if id > q.After && q.Matches(s.nodes[id]) {
				if !yield(s.nodes[id], nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
		}
	}
}

func (s *snapshot) Children(id string) (registry.Children, error) {
	c := registry.Children{Edge: s.rev}
	for _, child := range s.ids {
		if n := s.nodes[child]; n.Parent() == id && id != "" {
			c.Nodes = append(c.Nodes, n)
		}
	}
	return c, nil
}

func (s *snapshot) Keys(prefix, from string) iter.Seq2[registry.Key, error] {
	return func(yield func(registry.Key, error) bool) {
		var keys []registry.Key
		for _, id := range s.ids {
			for _, k := range s.nodes[id].Keys() {
				if k >= from && len(k) >= len(prefix) && k[:len(prefix)] == prefix {
					keys = append(keys, registry.Key{Key: k, Owner: id})
				}
			}
		}
		slices.SortFunc(keys, func(a, b registry.Key) int {
			if a.Key < b.Key {
				return -1
			}
			return 1
		})
		for _, k := range keys {
			if !yield(k, nil) {
				return
			}
		}
	}
}

func (s *snapshot) Blob(id, key string) ([]byte, error) {
	return nil, &registry.NotFoundError{What: "blob", Ref: path.Join(id, key)}
}
