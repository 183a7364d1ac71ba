package provisionertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// ErrInjected is what a registry fails with that Failing made.
var ErrInjected = errors.New("injected failure")

// Failing is r, except that the Updates fail for which fail answers true. It is
// asked at the beginning of each, after each write of one, and at its end.
func Failing(r registry.Registry, fail func() bool) registry.Registry {
	return &failing{r, fail}
}

type failing struct {
	registry.Registry
	fail func() bool
}

func (f *failing) Update(ctx context.Context, fn func(registry.Tx) error) error {
	if f.fail() {
		return ErrInjected
	}
	return f.Registry.Update(ctx, func(tx registry.Tx) error {
		if err := fn(&failingTx{tx, f.fail}); err != nil {
			return err
		}
		if f.fail() {
			return ErrInjected
		}
		return nil
	})
}

type failingTx struct {
	registry.Tx
	fail func() bool
}

func (f *failingTx) Create(d registry.Draft) (*registry.Node, error) {
	n, err := f.Tx.Create(d)
	if err == nil && f.fail() {
		err = ErrInjected
	}
	return n, err
}

func (f *failingTx) Put(d registry.Draft, opts ...registry.WriteOption) (*registry.Node, error) {
	n, err := f.Tx.Put(d, opts...)
	if err == nil && f.fail() {
		err = ErrInjected
	}
	return n, err
}

func (f *failingTx) Delete(id string) error {
	if err := f.Tx.Delete(id); err != nil {
		return err
	}
	if f.fail() {
		return ErrInjected
	}
	return nil
}

// failures fails every operation at every point.
func failures(t *testing.T, s Subject) {
	r := s.Registry(t)
	var left int
	fail := func() bool { left--; return left == 0 }
	p := s.Open(t, provisioner.Deps{Registry: Failing(r, fail), Types: Types()})
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"provision": func() error {
			_, err := p.Provision(ctx, BoxSpec("new", Box{Size: 1, Labels: []string{"n"}}))
			return err
		},
		"redefine": func() error {
			_, err := p.Redefine(ctx, "old", BoxDefinition(Box{Size: 2, Labels: []string{"p"}}), false)
			return err
		},
		"deprovision": func() error { return p.Deprovision(ctx, "gone") },
	} {
		left = 0
		for _, id := range []string{"old", "gone"} {
			if _, err := p.Provision(ctx, BoxSpec(id, Box{Size: 1, Labels: []string{id}})); err != nil && !errors.Is(err, registry.ErrConflict) {
				t.Fatal(err)
			}
		}
		before := contents(t, r)
		points := 0
		for {
			left = points + 1
			err := do()
			if err == nil {
				break
			}
			if points++; points > 20 || !errors.Is(err, ErrInjected) {
				t.Fatalf("%s, failure at point %d: %v", name, points, err)
			}
			if contents(t, r) != before {
				t.Errorf("%s left something after it failed at point %d", name, points)
			}
		}
		if points < 2 {
			t.Errorf("%s failed at %d points only", name, points)
		}
	}
}

// model draws sequences and holds them against maps.
func model(t *testing.T, s Subject) {
	rapid.Check(t, func(rt *rapid.T) {
		r, p := s.fresh(t)
		ctx := context.Background()
		type box struct{ keys, given []string }
		boxes := map[string]box{}
		owner := func(key string) string {
			for id, b := range boxes {
				if id == key || slices.Contains(b.keys, key) {
					return id
				}
			}
			return ""
		}
		ids := rapid.SampledFrom([]string{"b1", "b2", "b3", "label-a"})
		labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID[string])
		keys := func(labels, given []string) []string {
			all := slices.Clone(given)
			for _, l := range labels {
				all = append(all, "label-"+l)
			}
			slices.Sort(all)
			return slices.Compact(all)
		}
		free := func(id string, keys []string) bool {
			return !slices.ContainsFunc(keys, func(k string) bool { o := owner(k); return o != "" && o != id })
		}
		rt.Repeat(map[string]func(*rapid.T){
			"provision": func(rt *rapid.T) {
				id, l := ids.Draw(rt, "id"), labels.Draw(rt, "labels")
				given := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"asset-1", "asset-2"}), 0, 1, rapid.ID[string]).Draw(rt, "given")
				spec := BoxSpec(id, Box{Size: 1, Labels: l})
				spec.Keys = given
				_, err := p.Provision(ctx, spec)
				want := owner(id) == "" && free(id, keys(l, given))
				if (err == nil) != want || err != nil && !errors.Is(err, registry.ErrConflict) {
					rt.Fatalf("provision %s %v: %v, want success %v", id, keys(l, given), err, want)
				}
				if want {
					boxes[id] = box{keys(l, given), given}
				}
			},
			"redefine": func(rt *rapid.T) {
				id, l := ids.Draw(rt, "id"), labels.Draw(rt, "labels")
				b, ok := boxes[id]
				_, err := p.Redefine(ctx, id, BoxDefinition(Box{Size: 2, Labels: l}), false)
				want := ok && free(id, keys(l, b.given))
				if (err == nil) != want {
					rt.Fatalf("redefine %s %v: %v, want success %v", id, l, err, want)
				}
				if want {
					boxes[id] = box{keys(l, b.given), b.given}
				}
			},
			"deprovision": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				_, ok := boxes[id]
				if err := p.Deprovision(ctx, id); (err == nil) != ok {
					rt.Fatalf("deprovision %s: %v, it existed: %v", id, err, ok)
				}
				delete(boxes, id)
			},
			"": func(rt *rapid.T) {
				nodes, err := registry.Collect(ctx, r, registry.Query{})
				if err != nil {
					rt.Fatal(err)
				}
				got := map[string]string{}
				for _, n := range nodes {
					got[n.ID()] = fmt.Sprint(n.Keys())
				}
				want := map[string]string{}
				for id, b := range boxes {
					want[id] = fmt.Sprint(b.keys)
				}
				if !maps.Equal(got, want) {
					rt.Fatalf("the registry has %v, want %v", got, want)
				}
			},
		})
	})
}
