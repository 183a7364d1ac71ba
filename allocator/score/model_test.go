package score_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/allocatortest"
	"github.com/vagoth/vagoth/allocator/score"
	"github.com/vagoth/vagoth/registry"
)

// naive is the allocator as one would write it without a table: it adds up every
// host's children and sorts.
func naive(t rapid.TB, r registry.Reader, cfg score.Config, req allocator.Request) (host string, scores map[string]float64) {
	t.Helper()
	deps := allocatortest.Deps()
	over := allocator.Overcommit{CPU: cfg.OverCPU, Memory: cfg.OverMemory, Disk: cfg.OverDisk}
	scores = map[string]float64{}
	best := math.Inf(-1)
	for n, err := range r.List(registry.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		h, ok := deps.Host(n)
		if !ok {
			continue
		}
		children, err := r.Children(h.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(allocatortest.Excluded(h, over, children.Nodes, deps, req)) > 0 {
			continue
		}
		s := rate(t, h, over, children.Nodes, cfg, req)
		scores[h.ID] = s
		if s > best {
			best, host = s, h.ID
		}
	}
	return host, scores
}

func rate(t rapid.TB, h allocator.Host, over allocator.Overcommit, children []*registry.Node, cfg score.Config, req allocator.Request) float64 {
	used, err := allocator.Used(children, allocatortest.Deps().Need, req.ID)
	if err != nil {
		t.Fatal(err)
	}
	room := allocator.Effective(h, over)
	share := func(room, used, need int64) float64 {
		free := 0.0
		if room > 0 {
			free = math.Max(0, float64(room-used-need)*(1/float64(room)))
		}
		if cfg.Policy == score.Pack {
			return 1 - free
		}
		return free
	}
	// Rounded after each step, so that no machine fuses two of them and ties are ties.
	s := float64(cfg.CPU * share(room.CPU, used.CPU, req.Need.CPU))
	s += float64(cfg.Memory * share(room.Memory, used.Memory, req.Need.Memory))
	s += float64(cfg.Disk * share(room.Disk, used.Disk, req.Need.Disk))
	if len(req.Constraints.PreferApart) > 0 {
		n := 0
		for _, tag := range req.Constraints.PreferApart {
			for _, c := range children {
				if c.ID() != req.ID && allocator.HasTag(c, tag) {
					n++
				}
			}
		}
		s += float64(cfg.Apart * (1 / float64(1+n)))
	}
	if len(req.Constraints.Prefer) > 0 {
		n := 0
		for k, v := range req.Constraints.Prefer {
			if got, ok := h.Tags[k]; ok && (v == nil || *v == got) {
				n++
			}
		}
		s += float64(cfg.Prefer * (float64(n) / float64(len(req.Constraints.Prefer))))
	}
	return s
}

// check holds a decision on the reader's snapshot against the naive one.
func check(t rapid.TB, a allocator.Allocator, r, plain registry.Reader, cfg score.Config, req allocator.Request) {
	t.Helper()
	d, err := a.Decide(context.Background(), r, req)
	var none *allocator.NoHostError
	if errors.As(err, &none) {
		d, err = none.Decision, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	host, scores := naive(t, plain, cfg, req)
	if d.Host != host {
		t.Fatalf("chose %q, the naive allocator %q of %v\nrequest %+v", d.Host, host, scores, req)
	}
	allocatortest.CheckVerdicts(t, d, plain)
	for _, v := range d.Hosts() {
		if len(v.Ruled) == 0 && math.Abs(v.Score-scores[v.Host]) > 1e-9 {
			t.Fatalf("host %s scores %v, want %v", v.Host, v.Score, scores[v.Host])
		}
	}
}

func drawConfig(t *rapid.T) score.Config {
	cfg := score.Defaults()
	cfg.Policy = rapid.SampledFrom([]string{score.Spread, score.Pack}).Draw(t, "policy")
	cfg.OverCPU = rapid.SampledFrom([]float64{1, 1.5, 4}).Draw(t, "overcommit cpu")
	cfg.Disk = rapid.SampledFrom([]float64{0, 0.5, 3}).Draw(t, "weight disk")
	return cfg
}

// Whatever happens between decisions, each is as if computed anew on its
// reader's snapshot: changes followed, forgotten, told by no one, seen by an
// older reader or those of another store.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := drawConfig(rt)
		a, err := score.Open(t.Context(), cfg, allocatortest.Deps())
		if err != nil {
			rt.Fatal(err)
		}
		stores := []*allocatortest.Store{allocatortest.NewStore(), allocatortest.NewStore()}
		s := stores[0]
		var hosts, things []string
		for i := range rapid.SampledFrom([]int{3, 7, 40}).Draw(rt, "hosts") {
			hosts = append(hosts, fmt.Sprintf("h%02d", i))
		}
		for i := range 12 {
			things = append(things, fmt.Sprint("t", i))
		}
		parents := append([]string{"", "", "gone"}, hosts...)
		type view struct{ following, plain registry.Reader }
		var views []view
		for _, id := range hosts[:len(hosts)-1] {
			s.Put(allocatortest.DrawHost(rt, id))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"host": func(rt *rapid.T) {
				s.Put(allocatortest.DrawHost(rt, rapid.SampledFrom(hosts).Draw(rt, "host")))
			},
			"thing": func(rt *rapid.T) {
				s.Put(allocatortest.DrawThing(rt, rapid.SampledFrom(things).Draw(rt, "thing"), rapid.SampledFrom(parents).Draw(rt, "parent")))
			},
			"many things": func(rt *rapid.T) {
				for range rapid.IntRange(2, 10).Draw(rt, "n") {
					s.Put(allocatortest.DrawThing(rt, rapid.SampledFrom(things).Draw(rt, "thing"), rapid.SampledFrom(parents).Draw(rt, "parent")))
				}
			},
			"delete thing": func(rt *rapid.T) { s.Delete(rapid.SampledFrom(things).Draw(rt, "thing")) },
			"delete host":  func(rt *rapid.T) { s.Delete(rapid.SampledFrom(hosts).Draw(rt, "host")) },
			"forget":       func(*rapid.T) { s.Forget() },
			"keep view":    func(*rapid.T) { views = append(views, view{s.View(), s.Plain()}) },
			"decide": func(rt *rapid.T) {
				check(rt, a, s.View(), s.Plain(), cfg, allocatortest.DrawRequest(rt, hosts, things))
			},
			"decide without changes": func(rt *rapid.T) {
				check(rt, a, s.Plain(), s.Plain(), cfg, allocatortest.DrawRequest(rt, hosts, things))
			},
			"decide on an old view": func(rt *rapid.T) {
				if len(views) > 0 {
					v := rapid.SampledFrom(views).Draw(rt, "view")
					check(rt, a, v.following, v.plain, cfg, allocatortest.DrawRequest(rt, hosts, things))
				}
			},
			"other store": func(*rapid.T) {
				stores[0], stores[1] = stores[1], stores[0]
				s = stores[0]
			},
		})
	})
}

// Callers on different snapshots at once each get what their own says.
func TestConcurrent(t *testing.T) {
	cfg := score.Defaults()
	deps := allocatortest.Deps()
	a, err := score.Open(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	s := allocatortest.NewStore()
	for i := range 70 {
		s.Put(allocatortest.Host(fmt.Sprintf("h%02d", i), allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 8, Memory: 64, Disk: 64}}))
	}
	type view struct{ following, plain registry.Reader }
	var mu sync.Mutex // of a snapshot and its twin
	snapshot := func() view {
		mu.Lock()
		defer mu.Unlock()
		return view{s.View(), s.Plain()}
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			old := snapshot()
			for i := range 60 {
				v := snapshot()
				id := fmt.Sprintf("t%d-%d", w, i)
				req := allocator.Request{ID: id, Need: allocator.Resources{CPU: int64(i%3 + 1), Memory: int64(i % 5)}}
				if i%4 == 0 {
					req.Constraints.Apart = []string{fmt.Sprint("w=", w)}
				}
				check(t, a, v.following, v.plain, cfg, req)
				if i%9 == 0 {
					check(t, a, old.following, old.plain, cfg, req)
					old = v
				}
				mu.Lock()
				s.Put(allocatortest.Thing(id, fmt.Sprintf("h%02d", (w*31+i*7)%70), req.Need, fmt.Sprint("w=", w)))
				if i%10 == 5 {
					s.Delete(fmt.Sprintf("t%d-%d", w, i-5))
				}
				if i%29 == 28 {
					s.Forget()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// A definition is decoded when it appears, not for every decision.
func TestDecodesOnce(t *testing.T) {
	deps := allocatortest.Deps()
	var mu sync.Mutex
	decoded, hosts := 0, 0
	need, host := deps.Need, deps.Host
	deps.Need = func(n *registry.Node) (allocator.Resources, error) {
		mu.Lock()
		defer mu.Unlock()
		decoded++
		return need(n)
	}
	deps.Host = func(n *registry.Node) (allocator.Host, bool) {
		mu.Lock()
		defer mu.Unlock()
		hosts++
		return host(n)
	}
	a, err := score.Open(t.Context(), score.Defaults(), deps)
	if err != nil {
		t.Fatal(err)
	}
	s := allocatortest.NewStore()
	for i := range 50 {
		s.Put(allocatortest.Host(fmt.Sprint("h", i), allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 100}}))
	}
	for i := range 100 {
		d, err := a.Decide(t.Context(), s.View(), allocator.Request{ID: fmt.Sprint("t", i), Need: allocator.Resources{CPU: 1}})
		if err != nil {
			t.Fatal(err)
		}
		s.Put(allocatortest.Thing(fmt.Sprint("t", i), d.Host, allocator.Resources{CPU: 1, Memory: int64(i)}))
	}
	for i := range 100 { // and moved
		if _, err := a.Decide(t.Context(), s.View(), allocator.Request{ID: fmt.Sprint("t", i), Need: allocator.Resources{CPU: 1}}); err != nil {
			t.Fatal(err)
		}
		s.Put(allocatortest.Thing(fmt.Sprint("t", i), fmt.Sprint("h", i%50), allocator.Resources{CPU: 1, Memory: int64(i)}))
	}
	if decoded > 100 || hosts > 300 {
		t.Errorf("%d children and %d hosts were decoded in 100 placements and as many moves on 50 hosts", decoded, hosts)
	}
}

func placements(t *testing.T, policy string, hosts, things int) map[string]int {
	cfg := score.Defaults()
	cfg.Policy = policy
	a, err := score.Open(t.Context(), cfg, allocatortest.Deps())
	if err != nil {
		t.Fatal(err)
	}
	s := allocatortest.NewStore()
	for i := range hosts {
		s.Put(allocatortest.Host(fmt.Sprint("h", i), allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 4, Memory: 64, Disk: 100}}))
	}
	on := map[string]int{}
	for i := range things {
		need := allocator.Resources{CPU: 2, Memory: 8, Disk: 1}
		d, err := a.Decide(t.Context(), s.View(), allocator.Request{ID: fmt.Sprint("t", i), Need: need})
		if err != nil {
			t.Fatal(err)
		}
		on[d.Host]++
		s.Put(allocatortest.Thing(fmt.Sprint("t", i), d.Host, need))
	}
	return on
}

func TestPolicies(t *testing.T) {
	if got := placements(t, score.Spread, 10, 20); len(got) != 10 || slices.Max(values(got)) != 2 {
		t.Errorf("20 spread over 10 hosts: %v", got)
	}
	if got := placements(t, score.Pack, 10, 20); len(got) != 3 || slices.Max(values(got)) != 8 {
		t.Errorf("20 packed into hosts with room for 8: %v", got)
	}
}

func values(m map[string]int) []int {
	var v []int
	for _, n := range m {
		v = append(v, n)
	}
	return v
}

func TestManyTypes(t *testing.T) {
	a := open(score.Spread)(t, allocatortest.Deps())
	s := allocatortest.NewStore()
	for i := range 80 {
		s.Put(allocatortest.Host(fmt.Sprintf("h%02d", i), allocatortest.HostDefinition{Types: []string{fmt.Sprint("type", i)}}))
	}
	for i := range 80 {
		d, err := a.Decide(t.Context(), s.View(), allocator.Request{Type: fmt.Sprint("type", i)})
		if err != nil || d.Host != fmt.Sprintf("h%02d", i) {
			t.Fatalf("type %d: %+v, %v", i, d, err)
		}
	}
	if _, err := a.Decide(t.Context(), s.View(), allocator.Request{ID: "x", Type: "type80"}); err == nil || !strings.Contains(err.Error(), "80 ruled out by type") {
		t.Errorf("a type that no host can run: %v", err)
	}
}
