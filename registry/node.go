package registry

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/trail"
)

// Draft is a node as its writer wants it: what Create and Put take, and what
// Node.Draft gives to be changed. A Draft belongs to whoever holds it.
type Draft struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Tenant     string            `json:"tenant,omitempty"`
	Parent     string            `json:"parent,omitempty"`
	State      string            `json:"state,omitempty"`
	Definition Document          `json:"definition,omitzero"`
	Metadata   Document          `json:"metadata,omitzero"`
	Tags       map[string]string `json:"tags,omitempty"` // an empty value is a bare tag
	Keys       []string          `json:"keys,omitempty"` // unique in the cluster
}

// Stamp is what the store adds to a draft.
type Stamp struct {
	Revision  uint64      `json:"revision"` // the commit that wrote the node last; grows in the store
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
	Changed   trail.Trail `json:"changed,omitzero"` // on whose behalf it was written last
	Blobs     []BlobInfo  `json:"blobs,omitempty"`  // ordered by key
}

// BlobInfo describes a blob of a node.
type BlobInfo struct {
	Key    string `json:"key"`
	Size   int    `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // hexadecimal
}

// Tag is one tag of a node.
type Tag struct{ Key, Value string }

// Node is an immutable snapshot of a node. It shares no memory that anybody can
// write to, so it is safe to keep and to hand on.
type Node struct {
	id, name, typ, tenant, parent, state string
	definition, metadata                 Document
	tags                                 []Tag    // ordered by key
	keys                                 []string // ordered
	stamp                                Stamp
}

// Parts is a node taken apart, as a store decodes it.
type Parts struct {
	ID, Name, Type, Tenant, Parent, State string
	Definition, Metadata                  Document
	Tags                                  []Tag    // ordered by key, each key once
	Keys                                  []string // ordered, each once
	Stamp                                 Stamp    // its Blobs ordered by key
}

// MakeNode makes the node of p and takes over its slices: a store that decodes
// a million nodes copies none of them. It checks nothing.
func MakeNode(p Parts) *Node {
	return &Node{
		id: p.ID, name: p.Name, typ: p.Type, tenant: p.Tenant, parent: p.Parent, state: p.State,
		definition: p.Definition, metadata: p.Metadata, tags: p.Tags, keys: p.Keys, stamp: p.Stamp,
	}
}

// Parts copies the draft into its parts, in their order.
func (d Draft) Parts(s Stamp) Parts {
	p := Parts{
		ID: d.ID, Name: d.Name, Type: d.Type, Tenant: d.Tenant, Parent: d.Parent, State: d.State,
		Definition: d.Definition, Metadata: d.Metadata, Stamp: s,
	}
	if len(d.Tags) > 0 {
		p.Tags = make([]Tag, 0, len(d.Tags))
		for k, v := range d.Tags {
			p.Tags = append(p.Tags, Tag{k, v})
		}
		slices.SortFunc(p.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	}
	if len(d.Keys) > 0 {
		p.Keys = slices.Clone(d.Keys)
		slices.Sort(p.Keys)
		p.Keys = slices.Compact(p.Keys)
	}
	p.Stamp.Blobs = slices.Clone(s.Blobs)
	slices.SortFunc(p.Stamp.Blobs, func(a, b BlobInfo) int { return strings.Compare(a.Key, b.Key) })
	return p
}

// NewNode makes the node of a draft, copying it. Stores use it; it checks
// nothing (see Draft.Validate).
func NewNode(d Draft, s Stamp) *Node { return MakeNode(d.Parts(s)) }

// Restamp sets the revision of a node that nobody has but the store and the
// Update that wrote it: a store that learns only at the commit which one it is.
func Restamp(n *Node, revision uint64) { n.stamp.Revision = revision }

// ID is unique in the cluster and never changes.
func (n *Node) ID() string { return n.id }

// Name is unique in the cluster and can change.
func (n *Node) Name() string { return n.name }

// Type never changes.
func (n *Node) Type() string { return n.typ }

// Tenant is whom the node belongs to.
func (n *Node) Tenant() string { return n.tenant }

// Parent is the ID of the node that this one stands on, or "".
func (n *Node) Parent() string { return n.parent }

// State is the last state that was written.
func (n *Node) State() string { return n.state }

// Definition is what the node ought to be.
func (n *Node) Definition() Document { return n.definition }

// Metadata is what is known about the node.
func (n *Node) Metadata() Document { return n.metadata }

// Revision is the commit that wrote the node last.
func (n *Node) Revision() uint64 { return n.stamp.Revision }

// CreatedAt is when the node was created.
func (n *Node) CreatedAt() time.Time { return n.stamp.CreatedAt }

// UpdatedAt is when the node was written last.
func (n *Node) UpdatedAt() time.Time { return n.stamp.UpdatedAt }

// Changed is on whose behalf the node was written last.
func (n *Node) Changed() trail.Trail { return n.stamp.Changed }

// Stamp returns what the store added, as a copy.
func (n *Node) Stamp() Stamp {
	s := n.stamp
	s.Blobs = slices.Clone(s.Blobs)
	return s
}

// Blobs returns the node's blobs, ordered by key, as a copy.
func (n *Node) Blobs() []BlobInfo { return slices.Clone(n.stamp.Blobs) }

// Tag returns a tag's value, and whether the node has it.
func (n *Node) Tag(key string) (value string, ok bool) {
	i, ok := slices.BinarySearchFunc(n.tags, key, func(t Tag, k string) int { return strings.Compare(t.Key, k) })
	if !ok {
		return "", false
	}
	return n.tags[i].Value, true
}

// NumTags and TagAt walk the tags in the order of their keys without copying.
func (n *Node) NumTags() int { return len(n.tags) }

// TagAt returns the i-th tag.
func (n *Node) TagAt(i int) Tag { return n.tags[i] }

// Tags returns the tags as a fresh map.
func (n *Node) Tags() map[string]string {
	m := make(map[string]string, len(n.tags))
	for _, t := range n.tags {
		m[t.Key] = t.Value
	}
	return m
}

// NumKeys and KeyAt walk the unique keys in order without copying.
func (n *Node) NumKeys() int { return len(n.keys) }

// KeyAt returns the i-th unique key.
func (n *Node) KeyAt(i int) string { return n.keys[i] }

// Keys returns the unique keys, ordered, as a copy.
func (n *Node) Keys() []string { return slices.Clone(n.keys) }

// HasKey reports whether the node holds the unique key.
func (n *Node) HasKey(key string) bool {
	_, ok := slices.BinarySearch(n.keys, key)
	return ok
}

// Draft returns the node as a draft to change and put back.
func (n *Node) Draft() Draft {
	d := Draft{
		ID: n.id, Name: n.name, Type: n.typ, Tenant: n.tenant, Parent: n.parent, State: n.state,
		Definition: n.definition, Metadata: n.metadata, Keys: slices.Clone(n.keys),
	}
	if len(n.tags) > 0 {
		d.Tags = n.Tags()
	}
	return d
}

// Clone returns a deep copy of d.
func (d Draft) Clone() Draft {
	d.Tags = maps.Clone(d.Tags)
	d.Keys = slices.Clone(d.Keys)
	return d
}

// wireNode is a node's JSON form, in export files and on the wire.
type wireNode struct {
	Draft
	Stamp
}

// MarshalJSON writes the draft's and the stamp's members in one object.
func (n *Node) MarshalJSON() ([]byte, error) { return json.Marshal(wireNode{n.Draft(), n.stamp}) }

// UnmarshalJSON reads what MarshalJSON wrote. It fills a fresh Node only.
func (n *Node) UnmarshalJSON(data []byte) error {
	var w wireNode
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*n = *NewNode(w.Draft, w.Stamp)
	return nil
}
