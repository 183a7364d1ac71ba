// Package provisionertest holds what every provisioner promises.
//
//	promise                                              subtest of Run
//	the node is what the spec asks for, and what Plan    AsAsked
//	said; Plan writes nothing
//	what can never be is refused with every problem at   Refused, Names
//	once, before anything is written
//	an unknown type or argument is refused with a hint   Unknown
//	a clash names the owner and stays a ConflictError    Clash
//	node and keys come and go together, whatever fails   AllOrNothing, Failures
//	Redefine replaces derived keys and keeps given ones  Redefine
//	a definition in use changes only by force            RedefineInUse
//	Deprovision refuses parent, children and busy nodes  Deprovision
//	of many callers for one thing one wins               Race
//	any sequence does what a naive model does            Model
//
// RunPools is for provisioners that hand out addresses:
//
//	a thousand callers at once get a thousand addresses  Thousand
//	an empty pool is ErrExhausted with size and use      Exhausted
//	what is freed is handed out again                    Freed
//	any sequence does what a naive model of a pool does  PoolModel
//	a failure costs no address                           PoolFailures
package provisionertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// Subject is what is tested.
type Subject struct {
	// Registry makes an empty registry that is closed when the test ends.
	Registry func(t testing.TB) registry.Registry
	// Open makes the provisioner.
	Open func(t testing.TB, deps provisioner.Deps) provisioner.Provisioner
	// Slow leaves out Model, for provisioners that start a program for each
	// change.
	Slow bool
}

// TypeBox is the node type of Types.
const TypeBox = "box"

// Box is the definition of a node of TypeBox.
type Box struct {
	Size   int      `json:"size"`             // must be positive
	Labels []string `json:"labels,omitempty"` // each is claimed as the key label-LABEL
	Color  string   `json:"color,omitempty"`  // must not be "octarine"
}

type boxError []string

func (e boxError) Error() string  { return "not a box: " + strings.Join(e, "; ") }
func (e boxError) List() []string { return e }

// Types has a class that exercises everything a class can do. A box with the
// metadata {"full": true} is busy.
func Types() map[string]provisioner.Class {
	return map[string]provisioner.Class{
		TypeBox: {
			Help: "a box",
			Validate: func(doc registry.Document) error {
				var b Box
				if err := doc.DecodeStrict(&b); err != nil {
					return err
				}
				var problems boxError
				if b.Size <= 0 {
					problems = append(problems, "size: it is not positive")
				}
				if b.Color == "octarine" {
					problems = append(problems, "color: nobody can see it")
				}
				if len(problems) > 0 {
					return problems
				}
				return nil
			},
			Keys: func(_ string, doc registry.Document) ([]string, error) {
				var b Box
				err := doc.Decode(&b)
				var keys []string
				for _, l := range b.Labels {
					keys = append(keys, "label-"+l)
				}
				return keys, err
			},
			Busy: func(n *registry.Node) error {
				if strings.Contains(n.Metadata().String(), `"full":true`) {
					return errors.New("it is full: empty it first")
				}
				return nil
			},
		},
		"shelf": {Help: "anything"},
	}
}

// BoxSpec asks for a box.
func BoxSpec(id string, b Box) provisioner.Spec {
	return provisioner.Spec{ID: id, Type: TypeBox, Definition: BoxDefinition(b)}
}

// BoxDefinition encodes b.
func BoxDefinition(b Box) registry.Document {
	data, err := json.Marshal(b)
	if err != nil {
		panic(err) // of this package's own type
	}
	return registry.TrustedDocument(string(data))
}

// Run checks what every provisioner promises.
func Run(t *testing.T, s Subject) {
	for name, f := range map[string]func(*testing.T, Subject){
		"AsAsked": asAsked, "Refused": refused, "Names": names, "Unknown": unknown, "Clash": clash, "AllOrNothing": allOrNothing,
		"Failures": failures, "Redefine": redefine, "RedefineInUse": redefineInUse, "Deprovision": deprovision, "Race": race, "Model": model,
		"Cancelled": cancelled,
	} {
		if s.Slow && name == "Model" {
			continue
		}
		t.Run(name, func(t *testing.T) { f(t, s) })
	}
}

func (s Subject) fresh(t testing.TB) (registry.Registry, provisioner.Provisioner) {
	r := s.Registry(t)
	return r, s.Open(t, provisioner.Deps{Registry: r, Types: Types()})
}

// contents is all that the registry holds, to be compared.
func contents(t rapid.TB, r registry.Registry) string {
	t.Helper()
	v, err := r.View(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n, err := range v.List(registry.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(data, '\n'))
	}
	for k, err := range v.Keys("", "") {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, k.Key, k.Owner)
	}
	return b.String()
}

func must[T any](t rapid.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func asAsked(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	spec := BoxSpec("b1", Box{Size: 3, Labels: []string{"x", "y"}})
	spec.Name, spec.Tenant, spec.Tags, spec.Keys = "blue", "acme", map[string]string{"room": "7"}, []string{"asset-9"}
	spec.Metadata = must[registry.Document](t)(registry.NewDocument(map[string]any{"bought": 1999}))
	before := contents(t, r)
	plan := must[registry.Draft](t)(p.Plan(ctx, spec))
	if contents(t, r) != before {
		t.Error("Plan wrote something")
	}
	n := must[*registry.Node](t)(p.Provision(ctx, spec))
	if !n.Same(plan) {
		t.Errorf("Provision made %+v, Plan said %+v", n.Draft(), plan)
	}
	if n.ID() != "b1" || n.Name() != "blue" || n.Type() != TypeBox || n.Tenant() != "acme" || n.Parent() != "" ||
		n.Definition() != spec.Definition || n.Metadata() != spec.Metadata || n.Tags()["room"] != "7" {
		t.Errorf("the node is %+v", n.Draft())
	}
	if got := n.Keys(); !slices.Equal(got, []string{"asset-9", "label-x", "label-y"}) {
		t.Errorf("the keys are %v", got)
	}
	if stored := must[*registry.Node](t)(registry.Get(ctx, r, "b1")); !stored.Same(plan) {
		t.Errorf("the registry has %+v", stored.Draft())
	}
	if n := must[*registry.Node](t)(p.Provision(ctx, BoxSpec("b2", Box{Size: 1}))); n.Name() != "b2" {
		t.Errorf("without a name it is called %q", n.Name())
	}
	if spec.Args != nil || len(spec.Keys) != 1 || len(spec.Tags) != 1 {
		t.Error("the spec was changed")
	}
}

func refused(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	before := contents(t, r)
	spec := BoxSpec("b1", Box{Size: -1, Color: "octarine"})
	spec.Name, spec.Tags, spec.Keys, spec.Args = "a b", map[string]string{"?": ""}, []string{"../k"}, map[string]string{"flavour": "mint"}
	_, planErr := p.Plan(t.Context(), spec)
	_, err := p.Provision(t.Context(), spec)
	for _, err := range []error{planErr, err} {
		var se *provisioner.SpecError
		if !errors.Is(err, provisioner.ErrInvalid) || !errors.As(err, &se) || se.ID != "b1" {
			t.Fatalf("refused with %v", err)
		}
		for _, want := range []string{"name: ", "tags: ", "keys: ", "flavour", "size: it is not positive", "color: nobody can see it"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v\ndoes not say %q", err, want)
			}
		}
		if len(se.Problems) != 6 {
			t.Errorf("%d problems, want 6: %q", len(se.Problems), se.Problems)
		}
	}
	spec = BoxSpec("b1", Box{Size: 1})
	spec.Definition = registry.TrustedDocument(`{"size":1,"sise":2}`)
	if _, err := p.Provision(t.Context(), spec); !errors.Is(err, provisioner.ErrInvalid) || !strings.Contains(err.Error(), "sise") {
		t.Errorf("an unknown member of the definition: %v", err)
	}
	many := BoxSpec("b1", Box{Size: 1})
	for i := range registry.MaxKeys + 1 {
		many.Keys = append(many.Keys, fmt.Sprint("k-", i))
	}
	if _, err := p.Provision(t.Context(), many); !errors.Is(err, provisioner.ErrInvalid) {
		t.Errorf("too many keys: %v", err)
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}

// Hostile are names that nothing may be called.
func Hostile() []string {
	return []string{
		"../x", "-o", "--help", ".", "..", "/", "a/b", `a\b`, `"/><disk`, "a b", "a\nb", "a\r\nb", "a\x00b", "a\tb", "\u202eevil", "a\u200fb", "\ufeffa",
		strings.Repeat("x", 10<<10), "", "é", "名前", "a\xff", "a;rm", "$(id)", "a'b", "a%00b", "a:b", "@a", " a", "a ",
	}
}

func names(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	before := contents(t, r)
	for _, name := range Hostile() {
		for what, set := range map[string]func(*provisioner.Spec){
			"id": func(s *provisioner.Spec) { s.ID = name }, "name": func(s *provisioner.Spec) { s.Name = name },
			"type": func(s *provisioner.Spec) { s.Type = name }, "tenant": func(s *provisioner.Spec) { s.Tenant = name },
			"keys": func(s *provisioner.Spec) { s.Keys = []string{name} }, "tags": func(s *provisioner.Spec) { s.Tags = map[string]string{name: ""} },
			"args": func(s *provisioner.Spec) { s.Args = map[string]string{name: ""} },
		} {
			spec := BoxSpec("b1", Box{Size: 1})
			set(&spec)
			if name == "" && (what == "name" || what == "tenant") || what == "keys" && (name == "a/b" || name == "a:b") || what == "tags" && name == "a/b" {
				continue // allowed there
			}
			_, err := p.Provision(t.Context(), spec)
			if !errors.Is(err, provisioner.ErrInvalid) {
				t.Fatalf("%s %.40q: %v", what, name, err)
			}
			if len(err.Error()) > 1000 || strings.ContainsAny(strings.ReplaceAll(err.Error(), "\n  ", ""), "\x00\r\n\t\u202e\u200f") {
				t.Errorf("%s %.40q: the error repeats it raw: %.200q", what, name, err)
			}
		}
		if _, err := p.Redefine(t.Context(), name, BoxDefinition(Box{Size: 1}), false); !errors.Is(err, registry.ErrNotFound) || len(err.Error()) > 1000 {
			t.Errorf("Redefine of %.40q: %.200v", name, err)
		}
		if err := p.Deprovision(t.Context(), name); !errors.Is(err, registry.ErrNotFound) || len(err.Error()) > 1000 {
			t.Errorf("Deprovision of %.40q: %.200v", name, err)
		}
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}

func unknown(t *testing.T, s Subject) {
	_, p := s.fresh(t)
	spec := BoxSpec("b1", Box{Size: 1})
	for typ, want := range map[string]string{"bix": `did you mean "box"?`, "zeppelin": "box, shelf", "": "missing"} {
		spec.Type = typ
		if _, err := p.Provision(t.Context(), spec); !errors.Is(err, provisioner.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("type %q: %v does not say %s", typ, err, want)
		}
	}
	spec.Type, spec.Args = TypeBox, map[string]string{"flavour": "mint"}
	if _, err := p.Provision(t.Context(), spec); !errors.Is(err, provisioner.ErrInvalid) || !strings.Contains(err.Error(), "flavour") {
		t.Errorf("an unknown argument: %v", err)
	}
}

func clash(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	first := BoxSpec("b1", Box{Size: 1, Labels: []string{"x"}})
	first.Name, first.Keys = "blue", []string{"asset-9"}
	must[*registry.Node](t)(p.Provision(ctx, first))
	other := BoxSpec("b3", Box{Size: 1})
	must[*registry.Node](t)(p.Provision(ctx, other))
	before := contents(t, r)
	for key, spec := range map[string]provisioner.Spec{
		"b1":      BoxSpec("b1", Box{Size: 2}),
		"blue":    {ID: "b2", Name: "blue", Type: TypeBox, Definition: BoxDefinition(Box{Size: 1})},
		"asset-9": {ID: "b2", Keys: []string{"asset-9"}, Type: TypeBox, Definition: BoxDefinition(Box{Size: 1})},
		"label-x": BoxSpec("b2", Box{Size: 1, Labels: []string{"w", "x"}}),
	} {
		_, err := p.Provision(ctx, spec)
		var ce *registry.ConflictError
		if !errors.As(err, &ce) || ce.Owner != "b1" || ce.Key != key {
			t.Errorf("%s: %v", key, err)
		}
		if !strings.Contains(fmt.Sprint(err), "b1") {
			t.Errorf("%s: %v does not name the owner", key, err)
		}
	}
	if _, err := p.Redefine(ctx, "b3", BoxDefinition(Box{Size: 1, Labels: []string{"x"}}), false); !errors.Is(err, registry.ErrConflict) || !strings.Contains(err.Error(), "blue") {
		t.Errorf("Redefine with a label of another: %v", err)
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}

func allOrNothing(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	must[*registry.Node](t)(p.Provision(ctx, BoxSpec("b1", Box{Size: 1, Labels: []string{"z"}})))
	before := contents(t, r)
	if _, err := p.Provision(ctx, BoxSpec("b2", Box{Size: 1, Labels: []string{"a", "b", "z"}})); err == nil {
		t.Fatal("a label is owned twice")
	}
	if contents(t, r) != before {
		t.Error("a refused box left something")
	}
	if err := p.Deprovision(ctx, "b1"); err != nil {
		t.Fatal(err)
	}
	must[*registry.Node](t)(p.Provision(ctx, BoxSpec("b2", Box{Size: 1, Labels: []string{"a", "b", "z"}})))
}

func redefine(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	spec := BoxSpec("b1", Box{Size: 1, Labels: []string{"x", "y"}})
	spec.Keys = []string{"asset-9"}
	must[*registry.Node](t)(p.Provision(ctx, spec))
	n := must[*registry.Node](t)(p.Redefine(ctx, "b1", BoxDefinition(Box{Size: 2, Labels: []string{"y", "z"}}), false))
	if got := n.Keys(); !slices.Equal(got, []string{"asset-9", "label-y", "label-z"}) || n.Definition() != BoxDefinition(Box{Size: 2, Labels: []string{"y", "z"}}) {
		t.Errorf("redefined: %v, %s", got, n.Definition())
	}
	must[*registry.Node](t)(p.Provision(ctx, BoxSpec("b2", Box{Size: 1, Labels: []string{"x"}})))
	before := contents(t, r)
	if _, err := p.Redefine(ctx, "b1", BoxDefinition(Box{Size: -2, Color: "octarine"}), false); !errors.Is(err, provisioner.ErrInvalid) ||
		!strings.Contains(err.Error(), "size") || !strings.Contains(err.Error(), "color") || !strings.Contains(err.Error(), "redefine") {
		t.Errorf("an invalid definition: %v", err)
	}
	if _, err := p.Redefine(ctx, "b1", BoxDefinition(Box{Size: 3, Labels: []string{"q", "x"}}), false); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("a label of another: %v", err)
	}
	again := must[*registry.Node](t)(p.Redefine(ctx, "b1", n.Definition(), false))
	if again.Revision() != n.Revision() {
		t.Error("a definition that changes nothing was written")
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}

// place puts child on parent.
func place(t testing.TB, r registry.Registry, child, from, parent string) {
	t.Helper()
	must[*registry.Node](t)(registry.SetParent(t.Context(), r, child, from, parent))
}

func redefineInUse(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	for _, spec := range []provisioner.Spec{{ID: "s1", Type: "shelf"}, BoxSpec("b1", Box{Size: 1, Labels: []string{"x"}})} {
		must[*registry.Node](t)(p.Provision(ctx, spec))
	}
	place(t, r, "b1", "", "s1")
	before := contents(t, r)
	var in *registry.InUseError
	if _, err := p.Redefine(ctx, "b1", BoxDefinition(Box{Size: 2}), false); !errors.As(err, &in) || in.Parent != "s1" {
		t.Errorf("a definition in use: %v", err)
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
	if n := must[*registry.Node](t)(p.Redefine(ctx, "b1", BoxDefinition(Box{Size: 2}), true)); n.Parent() != "s1" || n.NumKeys() != 0 {
		t.Errorf("forced: %+v", n.Draft())
	}
}

func deprovision(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx := t.Context()
	full := BoxSpec("b2", Box{Size: 1})
	full.Metadata = must[registry.Document](t)(registry.NewDocument(map[string]any{"full": true}))
	for _, spec := range []provisioner.Spec{{ID: "s1", Type: "shelf"}, BoxSpec("b1", Box{Size: 1, Labels: []string{"x"}}), full} {
		must[*registry.Node](t)(p.Provision(ctx, spec))
	}
	place(t, r, "b1", "", "s1")
	before := contents(t, r)
	for id, why := range map[string]string{"b1": "s1", "s1": "", "b2": "empty it first"} {
		if err := p.Deprovision(ctx, id); !errors.Is(err, registry.ErrConflict) || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), id) {
			t.Errorf("Deprovision of %s: %v does not say %q", id, err, why)
		}
	}
	if err := p.Deprovision(ctx, "b9"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Deprovision of nothing: %v", err)
	}
	if contents(t, r) != before {
		t.Error("something was deleted")
	}
	place(t, r, "b1", "s1", "")
	for _, id := range []string{"b1", "s1"} {
		if err := p.Deprovision(ctx, id); err != nil {
			t.Error(err)
		}
	}
	must[*registry.Node](t)(p.Provision(ctx, BoxSpec("b1", Box{Size: 1, Labels: []string{"x"}})))
}

func race(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	const callers = 16
	for round := range 5 {
		var wg sync.WaitGroup
		wins := make([]bool, callers)
		for i := range callers {
			wg.Go(func() {
				_, err := p.Provision(t.Context(), BoxSpec(fmt.Sprintf("b%d-%d", round, i), Box{Size: 1, Labels: []string{fmt.Sprint("l", round), fmt.Sprint("own", round, "-", i)}}))
				wins[i] = err == nil
				if err != nil && !errors.Is(err, registry.ErrConflict) {
					t.Errorf("a loser gets %v", err)
				}
			})
		}
		wg.Wait()
		won := 0
		for _, w := range wins {
			if w {
				won++
			}
		}
		if won != 1 {
			t.Errorf("%d callers own one label", won)
		}
	}
	if got := len(must[[]*registry.Node](t)(registry.Collect(t.Context(), r, registry.Query{}))); got != 5 {
		t.Errorf("%d nodes, want 5", got)
	}
}

func cancelled(t *testing.T, s Subject) {
	r, p := s.fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := contents(t, r)
	if _, err := p.Provision(ctx, BoxSpec("b1", Box{Size: 1})); err == nil {
		t.Error("Provision after its context ended")
	}
	if contents(t, r) != before {
		t.Error("something was written")
	}
}
