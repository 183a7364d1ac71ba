package registry

import (
	"errors"
	"fmt"
	"slices"
)

// Audited is what Audit found.
type Audited struct {
	Nodes    int      `json:"nodes"`
	Problems []string `json:"problems"` // in words; none if every promise is kept
}

// maxProblems bounds what Audit lists.
const maxProblems = 1000

// Audit reads everything through r and checks the promises that hold between
// nodes: one owner of each ID, name and key, parents that exist and make no
// loop, and answers of ByName, ByKey and Children that agree with the nodes.
// The error says that something could not be read.
func Audit(r Reader) (Audited, error) {
	a := Audited{Problems: []string{}}
	found := func(format string, args ...any) {
		if len(a.Problems) < maxProblems {
			a.Problems = append(a.Problems, fmt.Sprintf(format, args...))
		}
	}
	owner := map[string]string{}
	parent := map[string]string{}
	children := map[string][]string{}
	for n, err := range r.List(Query{}) {
		if err != nil {
			return a, err
		}
		a.Nodes++
		if err := n.Draft().Validate(); err != nil {
			found("%s", err)
		}
		for _, word := range append([]string{n.id, n.name}, n.keys...) {
			if o, taken := owner[word]; taken && o != n.id {
				found("%q is held by both %s and %s", word, o, n.id)
			}
			owner[word] = n.id
		}
		if err := indexed(r.ByName, n.name, n.id); err != nil {
			found("name %q of %s: %s", n.name, n.id, err)
		}
		for _, k := range n.keys {
			if err := indexed(r.ByKey, k, n.id); err != nil {
				found("key %q of %s: %s", k, n.id, err)
			}
		}
		if n.parent != "" {
			parent[n.id] = n.parent
			children[n.parent] = append(children[n.parent], n.id)
		}
	}
	for id, p := range parent {
		if _, err := r.Get(p); err != nil {
			found("the parent %s of %s cannot be found: %s", p, id, err)
		}
		for up, steps := p, 0; up != ""; up, steps = parent[up], steps+1 {
			if up == id || steps > a.Nodes {
				found("%s is among its own parents", id)
				break
			}
		}
	}
	for p, want := range children {
		c, err := r.Children(p)
		if err != nil {
			return a, err
		}
		got := make([]string, len(c.Nodes))
		for i, n := range c.Nodes {
			got[i] = n.id
		}
		if slices.Sort(want); !slices.Equal(got, want) {
			found("the children of %s are listed as %v and are %v", p, got, want)
		}
	}
	slices.Sort(a.Problems)
	return a, nil
}

func indexed(find func(string) (*Node, error), word, id string) error {
	n, err := find(word)
	switch {
	case errors.Is(err, ErrNotFound):
		return errors.New("it is not in the index")
	case err != nil:
		return err
	case n.id != id:
		return fmt.Errorf("the index says %s", n.id)
	}
	return nil
}
