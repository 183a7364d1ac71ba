package index

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
)

func numbered(i int) *registry.Node {
	return registry.NewNode(registry.Draft{ID: fmt.Sprintf("n%05d", i)}, registry.Stamp{})
}

// A sorted set is one under any order of additions and removals, and earlier
// versions of it stay as they were, whether anybody looked at them before the
// later ones were made or not.
func TestASortedSetIsSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := new(sorted[*registry.Node])
		set := map[string]bool{}
		span := rapid.SampledFrom([]int{50, 500, 20000}).Draw(t, "span")
		type old struct {
			p   *sorted[*registry.Node]
			ids []string
		}
		var olds []old
		check := func(p *sorted[*registry.Node], want []string) {
			var got []string
			p.walk("", func(n *registry.Node) bool { got = append(got, n.ID()); return true })
			if !slices.Equal(got, want) || p.len() != len(want) {
				t.Fatalf("it holds %v (%d), want %v", got, p.len(), want)
			}
		}
		p = p.next(mostLate)
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			at, n := rapid.IntRange(0, span).Draw(t, "at"), rapid.IntRange(1, 300).Draw(t, "n")
			step := rapid.IntRange(1, 7).Draw(t, "step")
			remove := rapid.Bool().Draw(t, "remove")
			for i := range n {
				n := numbered((at + i*step) % span)
				switch has := set[n.ID()]; {
				case !remove:
					p.set(n, !has)
					set[n.ID()] = true
				case has:
					p.remove(n)
					delete(set, n.ID())
				}
			}
			ids := slices.Sorted(maps.Keys(set))
			if rapid.Bool().Draw(t, "publish") {
				olds = append(olds, old{p, ids})
				if rapid.Bool().Draw(t, "look") {
					after := numbered(rapid.IntRange(0, span).Draw(t, "after")).ID()
					var got []string
					p.walk(after, func(n *registry.Node) bool { got = append(got, n.ID()); return len(got) < 70 })
					i, found := slices.BinarySearch(ids, after)
					if found {
						i++
					}
					if want := ids[i:min(len(ids), i+70)]; !slices.Equal(got, want) {
						t.Fatalf("after %s come %v, want %v", after, got, want)
					}
				}
				if rapid.IntRange(0, 3).Draw(t, "fail") == 0 { // a batch that is given up
					lost := p.next(mostLate)
					for i := range rapid.IntRange(1, 40).Draw(t, "lost") {
						lost.set(numbered(span+i), true)
					}
				}
				p = p.next(mostLate)
			}
		}
		for _, o := range append(olds, old{p, slices.Sorted(maps.Keys(set))}) {
			check(o.p, o.ids)
			for _, id := range o.ids {
				if n, ok := o.p.get(id); !ok || n.ID() != id {
					t.Fatalf("a version no longer finds %s", id)
				}
			}
			if _, ok := o.p.get("n"); ok {
				t.Fatal("it finds what it does not have")
			}
		}
	})
}

// Readers may ask a version for the first time while a batch goes on from it.
func TestASortedSetIsReadWhileItGrows(t *testing.T) {
	p := new(sorted[*registry.Node])
	var wg sync.WaitGroup
	for round := range 200 {
		p = p.next(mostLate)
		for i := range 17 {
			p.set(numbered(round*17+i), true)
		}
		published := p
		for range 2 {
			wg.Go(func() {
				n := 0
				published.walk("", func(*registry.Node) bool { n++; return true })
				if n != published.len() {
					t.Errorf("it holds %d, says %d", n, published.len())
				}
			})
		}
	}
	wg.Wait()
}

// What nobody asked for is not put off without end.
func TestFewChangesArePutOff(t *testing.T) {
	p := new(sorted[*registry.Node])
	for i := range 20000 {
		p = p.next(mostLate)
		p.set(numbered(i*7919%20000), true)
		if len(p.late) > mostLate || len(p.late) > max(p.n/8, 8) {
			t.Fatalf("of %d items %d are put off", p.n, len(p.late))
		}
	}
}

// pair is an item of a trie whose hash the test chooses.
type pair struct{ k, v int }

func (p pair) is(k int) bool { return p.k == k }

// A trie is a map, also where hashes collide, and earlier versions of it stay as
// they were.
func TestATrieIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// So few hashes that many are the same, in all bits or in the first ones.
		shift, mask := rapid.SampledFrom([]int{0, 20, 58}).Draw(t, "shift"), rapid.SampledFrom([]int{3, 63, 1 << 20}).Draw(t, "mask")
		tr := trie[int, pair]{hash: func(k int) uint64 { return uint64(k&mask) << shift }}
		set := map[int]int{}
		type old struct {
			tr  trie[int, pair]
			set map[int]int
		}
		var olds []old
		e := new(edit)
		for step := range rapid.IntRange(1, 400).Draw(t, "steps") {
			k := rapid.IntRange(0, 300).Draw(t, "k")
			if rapid.IntRange(0, 2).Draw(t, "op") == 0 {
				tr.remove(e, k)
				delete(set, k)
			} else {
				tr.set(e, k, pair{k, step})
				set[k] = step
			}
			if rapid.IntRange(0, 20).Draw(t, "publish") == 0 {
				olds, e = append(olds, old{tr, maps.Clone(set)}), new(edit)
			}
		}
		for _, o := range append(olds, old{tr, set}) {
			got := map[int]int{}
			o.tr.walk(func(p pair) { got[p.k] = p.v })
			if !maps.Equal(got, o.set) || o.tr.n != len(o.set) {
				t.Fatalf("it holds %v (%d), want %v", got, o.tr.n, o.set)
			}
			for k := range 301 {
				p, ok := o.tr.get(k)
				if v, has := o.set[k]; ok != has || p.v != v {
					t.Fatalf("for %d it has %v %v, want %v %v", k, p.v, ok, v, has)
				}
			}
		}
	})
}
