package provisionertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// Pools is a provisioner that hands out addresses.
type Pools struct {
	Registry func(t testing.TB) registry.Registry
	// Open makes a provisioner with one pool of size addresses.
	Open func(t testing.TB, deps provisioner.Deps, size int) provisioner.Provisioner
	// Types are the classes of the nodes that Spec asks for.
	Types map[string]provisioner.Class
	// Spec asks for a node with the given number of addresses of the pool.
	Spec func(id string, addresses int) provisioner.Spec
	// Addresses are those that the node has.
	Addresses func(n *registry.Node) []string
}

// RunPools checks what provisioners promise that hand out addresses.
func RunPools(t *testing.T, s Pools) {
	t.Run("Thousand", func(t *testing.T) { thousand(t, s) })
	t.Run("Exhausted", func(t *testing.T) { exhausted(t, s) })
	t.Run("Freed", func(t *testing.T) { freed(t, s) })
	t.Run("PoolModel", func(t *testing.T) { poolModel(t, s) })
	t.Run("PoolFailures", func(t *testing.T) { poolFailures(t, s) })
}

func (s Pools) fresh(t testing.TB, size int) (registry.Registry, provisioner.Provisioner) {
	r := s.Registry(t)
	return r, s.Open(t, provisioner.Deps{Registry: r, Types: s.Types}, size)
}

// thousand asks for as many addresses as the pool has, all at once.
func thousand(t *testing.T, s Pools) {
	const size = 1000
	_, p := s.fresh(t, size)
	var mu sync.Mutex
	owners := map[string]string{}
	var wg sync.WaitGroup
	for i := range size {
		wg.Go(func() {
			id := fmt.Sprint("n", i)
			n, err := p.Provision(t.Context(), s.Spec(id, 1))
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, a := range s.Addresses(n) {
				if owners[a] != "" {
					t.Errorf("%s was handed out to %s and %s", a, owners[a], id)
				}
				owners[a] = id
			}
		})
	}
	wg.Wait()
	if len(owners) != size {
		t.Errorf("%d addresses were handed out, want %d", len(owners), size)
	}
}

func exhausted(t *testing.T, s Pools) {
	const size = 7
	r, p := s.fresh(t, size)
	for i := range size {
		must[*registry.Node](t)(p.Provision(t.Context(), s.Spec(fmt.Sprint("n", i), 1)))
	}
	before := contents(t, r)
	_, err := p.Provision(t.Context(), s.Spec("late", 1))
	var ex *provisioner.ExhaustedError
	if !errors.Is(err, provisioner.ErrExhausted) || !errors.As(err, &ex) || ex.Size != size || ex.Used != size || ex.Pool == "" {
		t.Fatalf("an empty pool: %v", err)
	}
	if !strings.Contains(err.Error(), "late") || !strings.Contains(err.Error(), ex.Pool) {
		t.Errorf("%v does not name the node and the pool", err)
	}
	if _, err := p.Plan(t.Context(), s.Spec("late", 1)); !errors.Is(err, provisioner.ErrExhausted) {
		t.Errorf("Plan on an empty pool: %v", err)
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}

func freed(t *testing.T, s Pools) {
	_, p := s.fresh(t, 3)
	ctx := t.Context()
	for round := range 20 {
		ids := []string{fmt.Sprint("a", round), fmt.Sprint("b", round)}
		must[*registry.Node](t)(p.Provision(ctx, s.Spec(ids[0], 2)))
		must[*registry.Node](t)(p.Provision(ctx, s.Spec(ids[1], 1)))
		if _, err := p.Provision(ctx, s.Spec("c", 1)); !errors.Is(err, provisioner.ErrExhausted) {
			t.Fatalf("a fourth of three addresses: %v", err)
		}
		for _, id := range ids {
			if err := p.Deprovision(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// poolModel draws sequences and holds them against a map of owners.
func poolModel(t *testing.T, s Pools) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(rt, "size")
		r, p := s.fresh(t, size)
		ctx := context.Background()
		owners := map[string]string{} // by address
		nodes := map[string]int{}     // addresses by node
		ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})
		rt.Repeat(map[string]func(*rapid.T){
			"provision": func(rt *rapid.T) {
				id, n := ids.Draw(rt, "id"), rapid.IntRange(0, 4).Draw(rt, "addresses")
				_, exists := nodes[id]
				node, err := p.Provision(ctx, s.Spec(id, n))
				switch room := n <= size-len(owners); {
				case exists && err == nil:
					rt.Fatalf("%s was provisioned twice", id)
				case !exists && room && err != nil:
					rt.Fatalf("%s with %d of %d, %d used: %v", id, n, size, len(owners), err)
				case !exists && !room && !errors.Is(err, provisioner.ErrExhausted):
					rt.Fatalf("%s with %d of %d, %d used: %v", id, n, size, len(owners), err)
				}
				if err != nil {
					return
				}
				nodes[id] = n
				got := s.Addresses(node)
				if len(got) != n {
					rt.Fatalf("%s has %v, want %d addresses", id, got, n)
				}
				for _, a := range got {
					if owners[a] != "" {
						rt.Fatalf("%s belongs to %s and to %s", a, owners[a], id)
					}
					owners[a] = id
				}
			},
			"deprovision": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				_, exists := nodes[id]
				if err := p.Deprovision(ctx, id); (err == nil) != exists {
					rt.Fatalf("deprovision %s: %v, it existed: %v", id, err, exists)
				}
				delete(nodes, id)
				for a, owner := range owners {
					if owner == id {
						delete(owners, a)
					}
				}
			},
			"": func(rt *rapid.T) {
				v, err := r.View(ctx)
				if err != nil {
					rt.Fatal(err)
				}
				held := 0
				for k, err := range v.Keys("ip-", "") {
					if err != nil {
						rt.Fatal(err)
					}
					if a := strings.TrimPrefix(k.Key, "ip-"); owners[a] != k.Owner {
						rt.Fatalf("%s is held by %s, want %q", a, k.Owner, owners[a])
					}
					held++
				}
				if held != len(owners) {
					rt.Fatalf("%d addresses are held, want %d", held, len(owners))
				}
			},
		})
	})
}

// poolFailures fails provisioning at every point, and then uses the whole pool.
func poolFailures(t *testing.T, s Pools) {
	r := s.Registry(t)
	left := 0
	p := s.Open(t, provisioner.Deps{Registry: Failing(r, func() bool { left--; return left == 0 }), Types: s.Types}, 4)
	before := contents(t, r)
	for point := 1; ; point++ {
		left = point
		_, err := p.Provision(t.Context(), s.Spec("a", 2))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrInjected) || point > 20 {
			t.Fatalf("failure at point %d: %v", point, err)
		}
		if contents(t, r) != before {
			t.Fatalf("a failure at point %d left something", point)
		}
	}
	left = 0
	must[*registry.Node](t)(p.Provision(t.Context(), s.Spec("b", 2)))
}
