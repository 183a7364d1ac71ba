package registry

import (
	"fmt"
	"path"
	"strings"
)

// Query selects nodes: those that match every field that is set.
type Query struct {
	Name   string             `json:"name,omitempty"` // a glob over the name, as path.Match without /
	Type   string             `json:"type,omitempty"`
	State  string             `json:"state,omitempty"`
	Tenant string             `json:"tenant,omitempty"`
	Parent *string            `json:"parent,omitempty"` // "" selects nodes without a parent
	Key    string             `json:"key,omitempty"`    // a unique key
	Tags   map[string]*string `json:"tags,omitempty"`   // all of them; nil means that it exists
	After  string             `json:"after,omitempty"`  // only IDs greater than this
	Limit  int                `json:"limit,omitempty"`  // at most so many; 0 is no limit
}

// Is returns a pointer to s, for Parent and Tags.
func Is(s string) *string { return &s }

// IsEmpty reports whether q selects every node.
func (q Query) IsEmpty() bool {
	return q.Name == "" && q.Type == "" && q.State == "" && q.Tenant == "" && q.Parent == nil && q.Key == "" && len(q.Tags) == 0
}

// Validate refuses a malformed glob and a negative limit.
func (q Query) Validate() error {
	if _, err := path.Match(q.Name, ""); err != nil {
		return &InvalidError{Field: "name", Reason: fmt.Sprintf("the pattern %q is malformed", q.Name)}
	}
	if strings.Contains(q.Name, "/") {
		return &InvalidError{Field: "name", Reason: fmt.Sprintf("the pattern %q has a /, which no name has", q.Name)}
	}
	if q.Limit < 0 {
		return &InvalidError{Field: "limit", Reason: fmt.Sprintf("%d is negative", q.Limit)}
	}
	return nil
}

// Matches reports whether n matches q, apart from After and Limit. q is valid.
func (q Query) Matches(n *Node) bool {
	if q.Type != "" && n.typ != q.Type || q.State != "" && n.state != q.State || q.Tenant != "" && n.tenant != q.Tenant {
		return false
	}
	if q.Parent != nil && n.parent != *q.Parent || q.Key != "" && !n.HasKey(q.Key) {
		return false
	}
	for k, want := range q.Tags {
		got, ok := n.Tag(k)
		if !ok || want != nil && got != *want {
			return false
		}
	}
	if q.Name != "" {
		ok, err := path.Match(q.Name, n.name)
		return err == nil && ok
	}
	return true
}
