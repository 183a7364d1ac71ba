package allocator_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

func host(cpu, memory, disk int64) allocator.Host {
	return allocator.Host{ID: "h1", Name: "h1", State: "up", Capacity: allocator.Resources{CPU: cpu, Memory: memory, Disk: disk}}
}

func TestFits(t *testing.T) {
	over := allocator.Overcommit{CPU: 4}
	for _, c := range []struct {
		name       string
		host       allocator.Host
		used, need allocator.Resources
		ruled      []allocator.Ruled
	}{
		{"room", host(4, 1024, 10), allocator.Resources{CPU: 15, Memory: 1000, Disk: 9}, allocator.Resources{CPU: 1, Memory: 24, Disk: 1}, nil},
		{"cpu full", host(4, 1024, 10), allocator.Resources{CPU: 16}, allocator.Resources{CPU: 1},
			[]allocator.Ruled{{Filter: "cpu", Required: "1 CPUs", Observed: "0 CPUs free of 16, 16 used"}}},
		{"memory one too many", host(4, 1024, 10), allocator.Resources{Memory: 1000}, allocator.Resources{Memory: 25},
			[]allocator.Ruled{{Filter: "memory", Required: "25 MB", Observed: "24 MB free of 1024, 1000 used"}}},
		{"nothing asked of a host that gave too much", host(4, 1024, 10), allocator.Resources{Disk: 11}, allocator.Resources{CPU: 1}, nil},
		{"no capacity", host(4, 1024, 0), allocator.Resources{}, allocator.Resources{Disk: 1},
			[]allocator.Ruled{{Filter: "disk", Required: "1 MB", Observed: "the host has none, or it is not known how much"}}},
		{"negative demand", host(4, 1024, 10), allocator.Resources{}, allocator.Resources{CPU: -1},
			[]allocator.Ruled{{Filter: "cpu", Required: "-1 CPUs", Observed: "a demand cannot be negative"}}},
		{"overflow", host(4, math.MaxInt64, 10), allocator.Resources{Memory: math.MaxInt64}, allocator.Resources{Memory: 1},
			[]allocator.Ruled{{Filter: "memory", Required: "1 MB", Observed: "0 MB free of 1099511627776, 9223372036854775807 used"}}},
		{"more than there can be", host(4, math.MaxInt64, 10), allocator.Resources{}, allocator.Resources{Memory: math.MaxInt64},
			[]allocator.Ruled{{Filter: "memory", Required: "9223372036854775807 MB", Observed: "a demand is at most 1099511627776 MB"}}},
		{"used below zero gives nothing back", host(4, 10, 10), allocator.Resources{Memory: -100}, allocator.Resources{Memory: 11},
			[]allocator.Ruled{{Filter: "memory", Required: "11 MB", Observed: "10 MB free of 10, 0 used"}}},
		{"custom", host(4, 10, 10), allocator.Resources{}, allocator.Resources{Custom: map[string]int64{"gpu": 1}},
			[]allocator.Ruled{{Filter: "gpu", Required: "1", Observed: "the host has none, or it is not known how much"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := allocator.Fits(c.host, over, c.used, c.need); !reflect.DeepEqual(got, c.ruled) {
				t.Errorf("Fits: %+v, want %+v", got, c.ruled)
			}
		})
	}
}

func TestEffective(t *testing.T) {
	h := host(8, 1000, 50)
	h.Overcommit = allocator.Overcommit{CPU: 2, Memory: math.NaN(), Disk: math.Inf(1)}
	got := allocator.Effective(h, allocator.Overcommit{CPU: 4, Memory: 4, Disk: 4})
	if got.CPU != 16 || got.Memory != 0 || got.Disk != allocator.MaxAmount {
		t.Errorf("Effective: %+v", got)
	}
	got = allocator.Effective(host(-8, 1001, 50), allocator.Overcommit{Memory: 1.5, Disk: -1})
	if got.CPU != 0 || got.Memory != 1501 || got.Disk != 0 {
		t.Errorf("Effective: %+v", got)
	}
}

// What fits keeps fitting as the sum says, and no amount makes it overflow.
func TestFitsNeverGivesMoreThanThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.OneOf(rapid.Int64Range(-10, 100), rapid.Int64())
		h := host(amount.Draw(t, "cpu"), amount.Draw(t, "memory"), amount.Draw(t, "disk"))
		h.Overcommit.CPU = rapid.Float64Range(-1, 8).Draw(t, "overcommit")
		var used allocator.Resources
		for range rapid.IntRange(0, 6).Draw(t, "children") {
			used = used.Add(allocator.Resources{CPU: amount.Draw(t, "c"), Memory: amount.Draw(t, "m")}.Bounded())
		}
		need := allocator.Resources{CPU: amount.Draw(t, "need cpu"), Memory: amount.Draw(t, "need memory")}
		if len(allocator.Fits(h, allocator.Overcommit{}, used, need)) > 0 {
			return
		}
		can := allocator.Effective(h, allocator.Overcommit{})
		if need.CPU < 0 || need.Memory < 0 {
			t.Fatalf("a negative demand fits: %+v", need)
		}
		if need.CPU > 0 && need.CPU > can.CPU-used.CPU || need.Memory > 0 && need.Memory > can.Memory-used.Memory {
			t.Fatalf("%+v beside %+v fits in %+v", need, used, can)
		}
	})
}

func TestArithmeticSaturates(t *testing.T) {
	most := allocator.Resources{CPU: math.MaxInt64, Memory: math.MinInt64, Custom: map[string]int64{"gpu": math.MaxInt64}}
	if got := most.Add(most); got.CPU != math.MaxInt64 || got.Memory != math.MinInt64 || got.Custom["gpu"] != math.MaxInt64 {
		t.Errorf("Add: %+v", got)
	}
	if got := (allocator.Resources{}).Sub(most); got.CPU != -math.MaxInt64 || got.Memory != math.MaxInt64 {
		t.Errorf("Sub: %+v", got)
	}
	if got := (allocator.Resources{Memory: -1}).Sub(most); got.Memory != math.MaxInt64 {
		t.Errorf("Sub of the least number: %+v", got)
	}
	if most.Custom["gpu"] != math.MaxInt64 {
		t.Error("Add changed what it was given")
	}
}

func TestUsed(t *testing.T) {
	node := func(id string) *registry.Node {
		return registry.NewNode(registry.Draft{ID: id, Name: id, Type: "vm"}, registry.Stamp{})
	}
	broken := errors.New("no number")
	need := func(n *registry.Node) (allocator.Resources, error) {
		if n.ID() == "bad" {
			return allocator.Resources{}, broken
		}
		return allocator.Resources{CPU: -5, Memory: 10}, nil
	}
	got, err := allocator.Used([]*registry.Node{node("a"), node("b"), node("c")}, need, "b")
	if err != nil || got.CPU != 0 || got.Memory != 20 {
		t.Errorf("Used: %+v, %v", got, err)
	}
	if _, err := allocator.Used([]*registry.Node{node("a"), node("bad")}, need, ""); !errors.Is(err, broken) {
		t.Errorf("Used with a child that cannot be read: %v", err)
	}
}

func TestMemoNeed(t *testing.T) {
	calls := 0
	need := allocator.MemoNeed(func(n *registry.Node) (allocator.Resources, error) {
		calls++
		var r allocator.Resources
		return r, n.Definition().Decode(&r)
	}, 8)
	node := func(cpu int) *registry.Node {
		doc, err := registry.NewDocument(map[string]any{"cpu": cpu})
		if err != nil {
			t.Fatal(err)
		}
		return registry.NewNode(registry.Draft{ID: fmt.Sprint("n", cpu), Type: "vm", Definition: doc}, registry.Stamp{})
	}
	for range 3 {
		for cpu := range 4 {
			if r, err := need(node(cpu)); err != nil || r.CPU != int64(cpu) {
				t.Fatalf("need of %d: %+v, %v", cpu, r, err)
			}
		}
	}
	if calls != 4 {
		t.Errorf("decoded %d times, want 4", calls)
	}
	for cpu := range 100 {
		if r, err := need(node(cpu)); err != nil || r.CPU != int64(cpu) {
			t.Fatalf("need of %d: %+v, %v", cpu, r, err)
		}
	}
	bad := registry.NewNode(registry.Draft{ID: "x", Type: "vm", Definition: registry.TrustedDocument(`{"cpu":"two"}`)}, registry.Stamp{})
	for range 2 {
		if _, err := need(bad); err == nil {
			t.Error("an error was forgotten")
		}
	}
}
