package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// Occupied is what stands on a host already, without the node to be placed.
type Occupied struct {
	Used   Resources
	Beside func(tag string) int // how many children have the tag, key or key=value; nil has none
	Unread string               // why it is not known what they take, or ""
}

// Occupy looks at a host's children, leaving out the one with the ID except.
func Occupy(children []*registry.Node, need func(*registry.Node) (Resources, error), except string) Occupied {
	used, err := Used(children, need, except)
	o := Occupied{Used: used, Beside: func(tag string) (n int) {
		for _, c := range children {
			if c.ID() != except && HasTag(c, tag) {
				n++
			}
		}
		return n
	}}
	if err != nil {
		o.Unread = err.Error()
	}
	return o
}

// HasTag reports whether the node has the tag, written key or key=value.
func HasTag(n *registry.Node, tag string) bool {
	key, value, exact := strings.Cut(tag, "=")
	got, ok := n.Tag(key)
	return ok && (!exact || got == value)
}

// Rules returns everything that keeps the request off the host, so that every
// allocator that filters does it alike: nothing if it fits.
func Rules(h Host, over Overcommit, req Request, o Occupied) []Ruled {
	var ruled []Ruled
	rule := func(filter, required, observed string) {
		ruled = append(ruled, Ruled{Filter: filter, Required: required, Observed: observed})
	}
	c := req.Constraints
	if req.Hint != "" && req.Hint != h.ID && req.Hint != h.Name {
		rule("hint", req.Hint, h.ID)
	}
	if len(c.Hosts) > 0 && !slices.Contains(c.Hosts, h.ID) {
		rule("hosts", strings.Join(c.Hosts, " or "), h.ID)
	}
	if slices.Contains(c.Exclude, h.ID) {
		rule("exclude", "not "+strings.Join(c.Exclude, ", "), h.ID)
	}
	if h.State != StateUp {
		rule("state", StateUp, orElse(h.State, "never polled"))
	}
	if h.Maintenance {
		rule("maintenance", "no", "yes")
	}
	if req.Type != "" && len(h.Types) > 0 && !slices.Contains(h.Types, req.Type) {
		rule("type", req.Type, strings.Join(h.Types, ", "))
	}
	ruled = append(ruled, Fits(h, over, o.Used, req.Need)...)
	for _, key := range slices.Sorted(maps.Keys(c.Require)) {
		want, got := c.Require[key], tagOf(h, key)
		if !matches(h, key, want) {
			rule("require", tagText(key, want), got)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Forbid)) {
		if want := c.Forbid[key]; matches(h, key, want) {
			rule("forbid", "not "+tagText(key, want), tagOf(h, key))
		}
	}
	for _, tag := range c.Apart {
		if n := o.beside(tag); n > 0 {
			rule("apart", "none with "+tag, fmt.Sprintf("%d with it", n))
		}
	}
	if o.Unread != "" {
		rule("children", "known demands", o.Unread)
	}
	return ruled
}

// StateUp is the only state in which a host is given anything.
const StateUp = "up"

// Absent returns the verdicts on hosts that a request names and that do not
// exist, so that a decision says so.
func Absent(req Request, exists func(host string) bool) []Verdict {
	var verdicts []Verdict
	seen := map[string]bool{}
	for _, name := range append([]string{req.Hint}, req.Constraints.Hosts...) {
		if name == "" || seen[name] || exists(name) {
			continue
		}
		seen[name] = true
		verdicts = append(verdicts, Verdict{Host: name, Ruled: []Ruled{{Filter: "exists", Required: "a host " + name, Observed: "there is none"}}})
	}
	return verdicts
}

// SortVerdicts brings verdicts into a Decision's order: those that fit by score,
// the best first, and behind them the ruled-out ones; each by ID where alike.
func SortVerdicts(verdicts []Verdict) {
	slices.SortFunc(verdicts, func(a, b Verdict) int {
		switch fits, other := len(a.Ruled) == 0, len(b.Ruled) == 0; {
		case fits != other && fits:
			return -1
		case fits != other:
			return 1
		case fits && a.Score != b.Score && a.Score > b.Score:
			return -1
		case fits && a.Score != b.Score:
			return 1
		}
		return strings.Compare(a.Host, b.Host)
	})
}

func (o Occupied) beside(tag string) int {
	if o.Beside == nil {
		return 0
	}
	return o.Beside(tag)
}

func matches(h Host, key string, want *string) bool {
	got, ok := h.Tags[key]
	return ok && (want == nil || *want == got)
}

// tagOf is what the host has of the tag, for people.
func tagOf(h Host, key string) string {
	got, ok := h.Tags[key]
	switch {
	case !ok:
		return "no " + key
	case got == "":
		return key
	}
	return key + "=" + got
}

func tagText(key string, value *string) string {
	if value == nil {
		return key
	}
	return key + "=" + *value
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
