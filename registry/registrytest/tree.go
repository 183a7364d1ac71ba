package registrytest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

func testParents(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	for _, id := range []string{"hv1", "hv2", "vm"} {
		create(t, r, registry.Draft{ID: id})
	}
	_, err := registry.SetParent(ctx, r, "vm", "", "nowhere")
	want(t, err, registry.ErrNotFound)
	_, err = registry.Create(ctx, r, registry.Draft{ID: "x", Name: "x", Type: "vm", Parent: "nowhere"})
	want(t, err, registry.ErrNotFound)
	if _, err := registry.SetParent(ctx, r, "vm", "", "hv1"); err != nil {
		t.Fatal(err)
	}
	// It is set only where there is none, and moved only by who names it.
	for _, from := range []string{"", "hv2"} {
		_, err := registry.SetParent(ctx, r, "vm", from, "hv2")
		var parent *registry.ParentError
		if !errors.As(err, &parent) || parent.Actual != "hv1" {
			t.Fatalf("moved from %q: %v, want a *ParentError that names hv1", from, err)
		}
	}
	_, err = registry.Modify(ctx, r, "vm", func(d *registry.Draft) error { d.Parent = ""; return nil })
	want(t, err, registry.ErrConflict)
	if _, err := registry.SetParent(ctx, r, "vm", "hv1", "hv2"); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.SetParent(ctx, r, "vm", "hv2", ""); err != nil {
		t.Fatal(err)
	}
}

func testLoops(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	create(t, r, registry.Draft{ID: "a"})
	create(t, r, registry.Draft{ID: "b", Parent: "a"})
	create(t, r, registry.Draft{ID: "c", Parent: "b"})
	for _, to := range []string{"a", "b", "c"} {
		_, err := registry.SetParent(ctx, r, "a", "", to)
		want(t, err, registry.ErrConflict)
	}
	_, err := registry.Create(ctx, r, registry.Draft{ID: "self", Name: "self", Type: "vm", Parent: "self"})
	want(t, err, registry.ErrConflict)
	// Two that swap in one Update, and many that race to close a ring.
	const ring = 8
	for i := range ring {
		create(t, r, registry.Draft{ID: fmt.Sprintf("r%d", i)})
	}
	var wg sync.WaitGroup
	var refused atomic.Int32
	for i := range ring {
		wg.Go(func() {
			if _, err := registry.SetParent(ctx, r, fmt.Sprintf("r%d", i), "", fmt.Sprintf("r%d", (i+1)%ring)); errors.Is(err, registry.ErrConflict) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if refused.Load() != 1 {
		t.Fatalf("%d of %d links of a ring were refused, want 1", refused.Load(), ring)
	}
}

func testDeletion(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	create(t, r, registry.Draft{ID: "hv"})
	create(t, r, registry.Draft{ID: "vm", Parent: "hv"})
	var inUse *registry.InUseError
	if err := registry.Delete(ctx, r, "hv"); !errors.As(err, &inUse) || inUse.Children != 1 {
		t.Fatalf("delete with a child: %v, want an *InUseError with 1 child", err)
	}
	if err := registry.Delete(ctx, r, "vm"); !errors.As(err, &inUse) || inUse.Parent != "hv" {
		t.Fatalf("delete with a parent: %v, want an *InUseError that names hv", err)
	}
	want(t, registry.Delete(ctx, r, "none"), registry.ErrNotFound)
	// One that gains a child while it is deleted keeps existing, or the child is
	// refused.
	for i := range 20 {
		host, guest := fmt.Sprintf("h%d", i), fmt.Sprintf("g%d", i)
		create(t, r, registry.Draft{ID: host})
		var wg sync.WaitGroup
		var deleted, placed error
		wg.Go(func() { deleted = registry.Delete(ctx, r, host) })
		wg.Go(func() {
			_, placed = registry.Create(ctx, r, registry.Draft{ID: guest, Name: guest, Type: "vm", Parent: host})
		})
		wg.Wait()
		if (deleted == nil) == (placed == nil) {
			t.Fatalf("delete answered %v, create below it %v: want one of them to win", deleted, placed)
		}
	}
}

func testDefinition(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	one, two := document(t, `{"cpu":1}`), document(t, `{"cpu":2}`)
	create(t, r, registry.Draft{ID: "hv"})
	create(t, r, registry.Draft{ID: "vm", Parent: "hv", Definition: one})
	_, err := registry.SetDefinition(ctx, r, "vm", two, false)
	var inUse *registry.InUseError
	if !errors.As(err, &inUse) || inUse.Parent != "hv" {
		t.Fatalf("redefined on a host: %v, want an *InUseError that names it", err)
	}
	if n, err := registry.SetDefinition(ctx, r, "vm", two, true); err != nil || n.Definition() != two {
		t.Fatalf("forced: %v, %v", n, err)
	}
	if _, err := registry.SetParent(ctx, r, "vm", "hv", ""); err != nil {
		t.Fatal(err)
	}
	if n, err := registry.SetDefinition(ctx, r, "vm", one, false); err != nil || n.Definition() != one {
		t.Fatalf("without a parent: %v, %v", n, err)
	}
	_, err = registry.Modify(ctx, r, "vm", func(d *registry.Draft) error { d.Type = "hv"; return nil })
	want(t, err, registry.ErrInvalid)
}

// testEdges: the edge revision grows with each change of the set of children and
// of a definition in it, and with nothing else.
func testEdges(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	for _, id := range []string{"hv1", "hv2", "vm"} {
		create(t, r, registry.Draft{ID: id})
	}
	edge := func(id string) uint64 {
		kids, err := view(t, r).Children(id)
		if err != nil {
			t.Fatal(err)
		}
		return kids.Edge
	}
	modify := func(change func(*registry.Draft), opts ...registry.WriteOption) func() error {
		return func() error {
			_, err := registry.Modify(ctx, r, "vm", func(d *registry.Draft) error { change(d); return nil }, opts...)
			return err
		}
	}
	definition := document(t, `{"cpu":4}`)
	for _, s := range []struct {
		name   string
		do     func() error
		moving []string
	}{
		{"set", modify(func(d *registry.Draft) { d.Parent = "hv1" }), []string{"hv1"}},
		{"state", modify(func(d *registry.Draft) { d.State = "on" }), nil},
		{"redefine", modify(func(d *registry.Draft) { d.Definition = definition }, registry.Forced()), []string{"hv1"}},
		{"move", modify(func(d *registry.Draft) { d.Parent = "hv2" }, registry.MovingFrom("hv1")), []string{"hv1", "hv2"}},
		{"tags, keys, metadata, name", modify(func(d *registry.Draft) {
			d.Tags, d.Keys, d.Name, d.Metadata = map[string]string{"x": ""}, []string{"k"}, "other", definition
		}), nil},
		{"change of the parent itself", func() error { _, err := registry.SetState(ctx, r, "hv2", "up"); return err }, nil},
		{"clear", modify(func(d *registry.Draft) { d.Parent = "" }, registry.MovingFrom("hv2")), []string{"hv2"}},
		{"redefine alone", modify(func(d *registry.Draft) { d.Definition = registry.Document{} }), nil},
	} {
		before := map[string]uint64{"hv1": edge("hv1"), "hv2": edge("hv2")}
		parents := map[string]uint64{}
		for id := range before {
			n, err := view(t, r).Get(id)
			if err != nil {
				t.Fatal(err)
			}
			parents[id] = n.Revision()
		}
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for id, was := range before {
			moved := false
			for _, m := range s.moving {
				moved = moved || m == id
			}
			if is := edge(id); moved != (is > was) || is < was {
				t.Errorf("%s: the edge revision of %s went from %d to %d", s.name, id, was, is)
			}
			if n, err := view(t, r).Get(id); err != nil || moved && n.Revision() != parents[id] {
				t.Errorf("%s: it changed the parent %s itself: %v", s.name, id, err)
			}
		}
	}
	if kids, err := view(t, r).Children("none"); err != nil || len(kids.Nodes) > 0 {
		t.Fatalf("children of what is not there: %v, %v", kids, err)
	}
}

func document(t *testing.T, s string) registry.Document {
	t.Helper()
	d, err := registry.ParseDocument([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("the answer is %v, want %v", err, target)
	}
}
