package memdb

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
)

// A posting is a sorted set, under any order of additions and removals, and
// earlier copies of it stay as they were.
func TestPostingIsASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p posting
		set := map[string]bool{}
		span := rapid.SampledFrom([]int{50, 500, 20000}).Draw(t, "span")
		node := func(i int) *registry.Node {
			return registry.NewNode(registry.Draft{ID: fmt.Sprintf("n%05d", i)}, registry.Stamp{})
		}
		type old struct {
			p   posting
			ids []string
		}
		var olds []old
		check := func(p posting, want []string) {
			var got []string
			p.walk("", func(n *registry.Node) bool { got = append(got, n.ID()); return true })
			if !slices.Equal(got, want) || p.n != len(want) {
				t.Fatalf("it holds %v (%d), want %v", got, p.n, want)
			}
		}
		e := new(edit)
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			at, n := rapid.IntRange(0, span).Draw(t, "at"), rapid.IntRange(1, 300).Draw(t, "n")
			step := rapid.IntRange(1, 7).Draw(t, "step")
			remove := rapid.Bool().Draw(t, "remove")
			for i := range n {
				n := node((at + i*step) % span)
				if remove {
					p.remove(e, n.ID())
					delete(set, n.ID())
				} else {
					p.set(e, n)
					set[n.ID()] = true
				}
			}
			ids := slices.Sorted(maps.Keys(set))
			check(p, ids)
			after := node(rapid.IntRange(0, span).Draw(t, "after")).ID()
			var got []string
			p.walk(after, func(n *registry.Node) bool { got = append(got, n.ID()); return len(got) < 70 })
			i, found := slices.BinarySearch(ids, after)
			if found {
				i++
			}
			if want := ids[i:min(len(ids), i+70)]; !slices.Equal(got, want) {
				t.Fatalf("after %s come %v, want %v", after, got, want)
			}
			if rapid.Bool().Draw(t, "publish") {
				olds, e = append(olds, old{p, ids}), new(edit)
			}
		}
		for _, o := range olds {
			check(o.p, o.ids)
			for _, id := range o.ids {
				if n := o.p.get(id); n == nil || n.ID() != id {
					t.Fatalf("an earlier copy no longer finds %s", id)
				}
			}
		}
	})
}
