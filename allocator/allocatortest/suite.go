// Package allocatortest holds what every allocator promises.
//
//	promise                                             subtest of Run
//	the same snapshot and request, the same decision    Deterministic
//	every host has a verdict, the right one             Verdicts, AnyCluster
//	what rules out says required against observed       RequiredAgainstObserved
//	nothing is placed beyond a host's capacity          Capacity
//	only hosts that are up and not in maintenance       State
//	a hint rules out every other host                   Hint
//	where its disks are, and nowhere else               DisksOn
//	tags required and forbidden, siblings kept apart    Constraints
//	the node to be placed does not count against itself OwnDemand
//	a child that cannot be read closes its host         Unreadable
//	what fits nowhere is a NoHostError with Decision    NoHost
//	a decision survives JSON                            JSON
//	a decision explains the snapshot that it was on     Later
//
// RunChoosing is for allocators that choose by themselves: they find a host
// wherever one fits (Finds).
package allocatortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// Open makes the allocator that is tested.
type Open func(t testing.TB, deps allocator.Deps) allocator.Allocator

// Run checks what every allocator promises. Requests name their host wherever
// one is to be chosen, as not every allocator chooses.
func Run(t *testing.T, open Open) {
	for name, f := range map[string]func(*testing.T, Open){
		"Deterministic": deterministic, "Verdicts": everyHost, "AnyCluster": anyCluster, "RequiredAgainstObserved": observed,
		"Capacity": capacity, "State": state, "Hint": hint, "DisksOn": disksOn, "Constraints": constraints, "OwnDemand": ownDemand,
		"Unreadable": unreadable, "NoHost": noHost, "JSON": roundTrip, "Later": later, "Cancelled": cancelled,
	} {
		t.Run(name, func(t *testing.T) { f(t, open) })
	}
}

// RunChoosing checks what allocators promise that choose by themselves.
func RunChoosing(t *testing.T, open Open) {
	Run(t, open)
	t.Run("Finds", func(t *testing.T) { finds(t, open) })
}

var plenty = HostDefinition{Capacity: allocator.Resources{CPU: 8, Memory: 64, Disk: 100}} //nolint:gochecknoglobals // a constant in all but syntax

func decide(t rapid.TB, a allocator.Allocator, r registry.Reader, req allocator.Request) *allocator.Decision {
	t.Helper()
	d, err := a.Decide(context.Background(), r, req)
	var none *allocator.NoHostError
	switch {
	case errors.As(err, &none):
		if d = none.Decision; d == nil || d.Host != "" {
			t.Fatalf("a NoHostError with the decision %+v", d)
		}
	case err != nil:
		t.Fatalf("Decide: %v", err)
	case d.Host == "":
		t.Fatal("Decide returned neither a host nor an error")
	}
	if !reflect.DeepEqual(d.Request, req) {
		t.Errorf("the decision is on %+v, the request was %+v", d.Request, req)
	}
	return d
}

func on(host string, need allocator.Resources) allocator.Request {
	return allocator.Request{ID: "new", Type: "vm", Need: need, Hint: host}
}

// ruled are the names of the filters that a decision has against a host.
func ruled(t rapid.TB, d *allocator.Decision, host string) []string {
	t.Helper()
	for _, v := range d.Hosts() {
		if v.Host == host {
			names := []string{}
			for _, r := range v.Ruled {
				names = append(names, r.Filter)
			}
			return names
		}
	}
	t.Fatalf("no verdict on %s", host)
	return nil
}

func deterministic(t *testing.T, open Open) {
	a, b := open(t, Deps()), open(t, Deps())
	s := NewStore(Host("h2", plenty), Host("h1", plenty), Host("h3", plenty), Thing("t", "h1", allocator.Resources{CPU: 1}))
	for _, req := range []allocator.Request{on("", allocator.Resources{CPU: 1}), on("h3", allocator.Resources{CPU: 1}), on("h3", allocator.Resources{CPU: 1000})} {
		want := ""
		for i, a := range []allocator.Allocator{a, a, b} {
			for j, r := range []registry.Reader{s.View(), s.Plain(), s.View()} {
				d := decide(t, a, r, req)
				got := fmt.Sprint(d.Host, d.Policy, d.Hosts())
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("allocator %d, reader %d: %s, before it was %s", i, j, got, want)
				}
			}
		}
	}
}

func everyHost(t *testing.T, open Open) {
	down := Host("h4", plenty)
	down.State = "down"
	s := NewStore(Host("h1", plenty), Host("h2", plenty), Host("h3", HostDefinition{}), down, Thing("t", "h2", allocator.Resources{Memory: 60}))
	d := decide(t, open(t, Deps()), s.View(), on("h1", allocator.Resources{CPU: 1, Memory: 10}))
	if d.Host != "h1" || d.Revision == 0 || d.Policy == "" || d.At.IsZero() {
		t.Errorf("the decision: %+v", d)
	}
	verdicts := d.Hosts()
	if len(verdicts) != 4 {
		t.Errorf("%d verdicts on 4 hosts: %+v", len(verdicts), verdicts)
	}
	if v := verdicts[0]; v.Host != "h1" || !v.Chosen || v.Name != "name-h1" || len(v.Terms) == 0 {
		t.Errorf("the first verdict is %+v, h1 was chosen", v)
	}
	sum := 0.0
	for _, term := range verdicts[0].Terms {
		sum += term.Weight * term.Value
		if term.Value < 0 || term.Value > 1 {
			t.Errorf("term %+v is not between 0 and 1", term)
		}
	}
	if diff := sum - verdicts[0].Score; diff > 1e-9 || diff < -1e-9 {
		t.Errorf("the terms add up to %v, the score is %v", sum, verdicts[0].Score)
	}
	for i, v := range verdicts[1:] {
		if v.Chosen || len(v.Ruled) == 0 || v.Host != fmt.Sprint("h", i+2) {
			t.Errorf("verdict %d is %+v", i+1, v)
		}
	}
}

// anyCluster draws clusters and names a host in each request.
func anyCluster(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		s, hosts, things := drawCluster(rt)
		a := open(t, Deps())
		for range 3 {
			req := DrawRequest(rt, hosts, things)
			if req.Hint == "" {
				req.Hint = rapid.SampledFrom(hosts).Draw(rt, "host")
			}
			d := decide(rt, a, s.View(), req)
			fits := false
			for n, err := range s.Plain().List(registry.Query{}) {
				if err != nil {
					rt.Fatal(err)
				}
				if h, ok := Deps().Host(n); ok && (h.ID == req.Hint || h.Name == req.Hint) {
					children, _ := s.Plain().Children(h.ID)
					want := Excluded(h, d.Over, children.Nodes, Deps(), req)
					if got := ruled(rt, d, h.ID); !slices.Equal(got, want) && len(got)+len(want) > 0 {
						rt.Errorf("%s is ruled out by %v, want %v", h.ID, got, want)
					}
					fits = len(want) == 0
				}
			}
			if fits != (d.Host != "") {
				rt.Errorf("the hint fits: %v, the choice is %q", fits, d.Host)
			}
		}
	})
}

func drawCluster(t *rapid.T) (s *Store, hosts, things []string) {
	s = NewStore()
	for i := range rapid.IntRange(1, 5).Draw(t, "hosts") {
		hosts = append(hosts, fmt.Sprint("h", i))
		s.Put(DrawHost(t, hosts[i]))
	}
	for i := range rapid.IntRange(1, 8).Draw(t, "things") {
		things = append(things, fmt.Sprint("t", i))
		s.Put(DrawThing(t, things[i], rapid.SampledFrom(append([]string{""}, hosts...)).Draw(t, "parent")))
	}
	return s, hosts, things
}

func observed(t *testing.T, open Open) {
	s := NewStore(Host("h1", plenty, "zone=b"), Host("h2", plenty), Thing("t", "h1", allocator.Resources{Memory: 60, CPU: 1}, "group=web"))
	req := on("h1", allocator.Resources{CPU: 1, Memory: 10})
	req.Constraints.Require = map[string]*string{"zone": registry.Is("a")}
	req.Constraints.Apart = []string{"group=web"}
	d := decide(t, open(t, Deps()), s.View(), req)
	for _, v := range d.Hosts() {
		if v.Host != "h1" {
			continue
		}
		text := fmt.Sprint(v.Ruled)
		for _, want := range []string{"memory", "10 MB", "4 MB", "zone=a", "zone=b", "group=web"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q", text, want)
			}
		}
	}
}

// capacity places until nothing fits any more, and adds up.
func capacity(t *testing.T, open Open) {
	s := NewStore(Host("h1", HostDefinition{
		Capacity:   allocator.Resources{CPU: 4, Memory: 64, Disk: 100, Custom: map[string]int64{"gpu": 50}},
		Overcommit: allocator.Overcommit{CPU: 2, Memory: 1, Disk: 1},
	}))
	a := open(t, Deps())
	for _, c := range []struct {
		need  allocator.Resources
		want  int
		short string
	}{
		{allocator.Resources{CPU: 1, Memory: 1}, 8, "cpu"}, {allocator.Resources{Memory: 10}, 5, "memory"},
		{allocator.Resources{Disk: 50}, 2, "disk"}, {allocator.Resources{Custom: map[string]int64{"gpu": 20}}, 2, "gpu"},
	} {
		placed := 0
		for ; placed < 100; placed++ {
			req := on("h1", c.need)
			req.ID = fmt.Sprint(c.short, placed)
			d := decide(t, a, s.View(), req)
			if d.Host == "" {
				if got := ruled(t, d, "h1"); !slices.Contains(got, c.short) {
					t.Errorf("ruled out by %v, want %s", got, c.short)
				}
				break
			}
			s.Put(Thing(req.ID, d.Host, c.need))
		}
		if placed != c.want {
			t.Errorf("placed %d times %+v, want %d", placed, c.need, c.want)
		}
	}
	for _, need := range []allocator.Resources{{CPU: -1}, {Memory: -1 << 63}, {Disk: 1<<63 - 1}, {Custom: map[string]int64{"gpu": -1}}} {
		if d := decide(t, a, s.View(), on("h1", need)); d.Host != "" {
			t.Errorf("%+v was placed", need)
		}
	}
}

func state(t *testing.T, open Open) {
	a := open(t, Deps())
	for _, st := range []string{"", "down", "unreachable", "unknown", "UP"} {
		h := Host("h1", plenty)
		h.State = st
		d := decide(t, a, NewStore(h).View(), on("h1", allocator.Resources{CPU: 1}))
		if got := ruled(t, d, "h1"); d.Host != "" || !slices.Equal(got, []string{"state"}) {
			t.Errorf("a host in state %q: chosen %q, ruled out by %v", st, d.Host, got)
		}
	}
	maintained := plenty
	maintained.Maintenance = true
	d := decide(t, a, NewStore(Host("h1", maintained)).View(), on("h1", allocator.Resources{CPU: 1}))
	if got := ruled(t, d, "h1"); d.Host != "" || !slices.Equal(got, []string{"maintenance"}) {
		t.Errorf("a host in maintenance: chosen %q, ruled out by %v", d.Host, got)
	}
}

func hint(t *testing.T, open Open) {
	a := open(t, Deps())
	s := NewStore(Host("h1", plenty), Host("h2", plenty), Host("h3", plenty))
	for _, name := range []string{"h2", "name-h2"} {
		d := decide(t, a, s.View(), on(name, allocator.Resources{CPU: 1}))
		if d.Host != "h2" {
			t.Errorf("the hint was %s, the choice is %q", name, d.Host)
		}
		for _, h := range []string{"h1", "h3"} {
			if got := ruled(t, d, h); !slices.Equal(got, []string{"hint"}) {
				t.Errorf("%s is ruled out by %v, want hint", h, got)
			}
		}
	}
	if d := decide(t, a, s.View(), on("h2", allocator.Resources{CPU: 1000})); d.Host != "" {
		t.Errorf("the hint is full, and %s was chosen", d.Host)
	}
	d := decide(t, a, s.View(), on("h9", allocator.Resources{CPU: 1}))
	if got := ruled(t, d, "h9"); d.Host != "" || !slices.Equal(got, []string{"exists"}) {
		t.Errorf("the hint does not exist: chosen %q, ruled out by %v", d.Host, got)
	}
}

func disksOn(t *testing.T, open Open) {
	a := open(t, Deps())
	s := NewStore(Host("h1", plenty), Host("h2", plenty))
	req := on("h1", allocator.Resources{CPU: 1})
	req.Constraints.Hosts = []string{"h2"}
	d := decide(t, a, s.View(), req)
	if got := ruled(t, d, "h1"); d.Host != "" || !slices.Contains(got, "hosts") {
		t.Errorf("its disks are on h2: chosen %q, h1 ruled out by %v", d.Host, got)
	}
	req.Hint = "h2"
	if d := decide(t, a, s.View(), req); d.Host != "h2" {
		t.Errorf("its disks are on h2: chosen %q", d.Host)
	}
	req.Hint, req.Constraints.Hosts = "", []string{"h9"}
	if d := decide(t, a, s.View(), req); d.Host != "" {
		t.Errorf("its disks are on a host that does not exist, and %s was chosen", d.Host)
	}
}

func constraints(t *testing.T, open Open) {
	a := open(t, Deps())
	s := NewStore(Host("h1", plenty, "zone=a", "ssd"), Thing("t1", "h1", allocator.Resources{CPU: 1}, "group=web", "shy"))
	is := registry.Is
	for _, c := range []struct {
		name string
		c    allocator.Constraints
		want string
	}{
		{"nothing", allocator.Constraints{}, ""},
		{"required", allocator.Constraints{Require: map[string]*string{"zone": is("a"), "ssd": nil}}, ""},
		{"required, other value", allocator.Constraints{Require: map[string]*string{"zone": is("b")}}, "require"},
		{"required, bare tag", allocator.Constraints{Require: map[string]*string{"ssd": is("")}}, ""},
		{"required, not there", allocator.Constraints{Require: map[string]*string{"gpu": nil}}, "require"},
		{"forbidden", allocator.Constraints{Forbid: map[string]*string{"zone": nil}}, "forbid"},
		{"forbidden, other value", allocator.Constraints{Forbid: map[string]*string{"zone": is("b")}}, ""},
		{"apart", allocator.Constraints{Apart: []string{"group=web"}}, "apart"},
		{"apart by key", allocator.Constraints{Apart: []string{"group"}}, "apart"},
		{"apart, bare tag", allocator.Constraints{Apart: []string{"shy"}}, "apart"},
		{"apart, other value", allocator.Constraints{Apart: []string{"group=db"}}, ""},
		{"apart is about children", allocator.Constraints{Apart: []string{"ssd"}}, ""},
		{"wishes", allocator.Constraints{PreferApart: []string{"group=web"}, Prefer: map[string]*string{"gpu": nil}}, ""},
		{"excluded", allocator.Constraints{Exclude: []string{"h1"}}, "exclude"},
	} {
		req := on("h1", allocator.Resources{CPU: 1})
		req.Constraints = c.c
		d := decide(t, a, s.View(), req)
		got := strings.Join(ruled(t, d, "h1"), " ")
		if got != c.want || (d.Host == "h1") != (c.want == "") {
			t.Errorf("%s: chosen %q, ruled out by %q, want %q", c.name, d.Host, got, c.want)
		}
	}
}

func ownDemand(t *testing.T, open Open) {
	s := NewStore(Host("h1", plenty), Thing("me", "h1", allocator.Resources{Memory: 60}, "group=web"))
	req := on("h1", allocator.Resources{Memory: 60})
	req.Constraints.Apart = []string{"group"}
	a := open(t, Deps())
	if d := decide(t, a, s.View(), req); d.Host != "" {
		t.Error("another fits beside a full host's child")
	}
	req.ID = "me"
	if d := decide(t, a, s.View(), req); d.Host != "h1" {
		t.Errorf("what stands there already does not fit: %v", ruled(t, d, "h1"))
	}
}

func unreadable(t *testing.T, open Open) {
	bad := Thing("bad", "h1", allocator.Resources{})
	bad.Definition = registry.TrustedDocument(`{"memory":"lots"}`)
	s := NewStore(Host("h1", plenty), bad)
	a := open(t, Deps())
	d := decide(t, a, s.View(), on("h1", allocator.Resources{CPU: 1}))
	if got := ruled(t, d, "h1"); d.Host != "" || !slices.Equal(got, []string{"children"}) || !strings.Contains(fmt.Sprint(d.Hosts()), "bad") {
		t.Errorf("chosen %q, ruled out by %v: %+v", d.Host, got, d.Hosts())
	}
	s.Put(Thing("bad", "h1", allocator.Resources{CPU: 1}))
	if d := decide(t, a, s.View(), on("h1", allocator.Resources{CPU: 1})); d.Host != "h1" {
		t.Errorf("the child can be read again, and the host is ruled out by %v", ruled(t, d, "h1"))
	}
}

func noHost(t *testing.T, open Open) {
	a := open(t, Deps())
	for name, s := range map[string]*Store{"none": NewStore(), "full": NewStore(Host("h1", HostDefinition{}))} {
		_, err := a.Decide(t.Context(), s.View(), on("", allocator.Resources{CPU: 1}))
		var none *allocator.NoHostError
		if !errors.Is(err, allocator.ErrNoHost) || !errors.As(err, &none) {
			t.Fatalf("%s: %v", name, err)
		}
		if d := none.Decision; d == nil || d.Host != "" || len(d.Hosts()) > 1 || !strings.Contains(err.Error(), "new") {
			t.Errorf("%s: %v with %+v", name, err, d)
		}
	}
}

func roundTrip(t *testing.T, open Open) {
	a := open(t, Deps())
	s := NewStore(Host("h1", plenty), Host("h2", plenty), Thing("t", "h1", allocator.Resources{CPU: 1}))
	for _, host := range []string{"h1", "h9"} {
		d := decide(t, a, s.View(), on(host, allocator.Resources{CPU: 1}))
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back allocator.Decision
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if got, want := back.Hosts(), d.Hosts(); !reflect.DeepEqual(got, want) {
			t.Errorf("the verdicts were %+v and came back as %+v", want, got)
		}
		if back.Host != d.Host || back.Policy != d.Policy || back.Revision != d.Revision || back.Over != d.Over || !back.At.Equal(d.At) {
			t.Errorf("%+v came back as %+v", d, back)
		}
	}
}

func later(t *testing.T, open Open) {
	a := open(t, Deps())
	s := NewStore(Host("h1", plenty), Host("h2", plenty))
	d := decide(t, a, s.View(), on("h1", allocator.Resources{CPU: 1}))
	before := fmt.Sprint(d.Hosts())
	s.Put(Thing("t", "h1", allocator.Resources{CPU: 100}, "x"))
	s.Put(Host("h3", plenty))
	s.Delete("h2")
	if now := decide(t, a, s.View(), on("h1", allocator.Resources{CPU: 1})); now.Host != "" || len(now.Hosts()) != 2 {
		t.Errorf("h1 is full and h2 gone: %+v", now.Hosts())
	}
	if after := fmt.Sprint(d.Hosts()); after != before {
		t.Errorf("the decision said %s and says %s", before, after)
	}
}

func cancelled(t *testing.T, open Open) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := open(t, Deps()).Decide(ctx, NewStore(Host("h1", plenty)).View(), on("h1", allocator.Resources{})); !errors.Is(err, context.Canceled) {
		t.Errorf("Decide after its context ended: %+v, %v", d, err)
	}
}

// finds draws clusters and leaves the choice to the allocator.
func finds(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		s, hosts, things := drawCluster(rt)
		a := open(t, Deps())
		for range 3 {
			d := decide(rt, a, s.View(), DrawRequest(rt, hosts, things))
			if fit := CheckVerdicts(rt, d, s.Plain()); len(fit) > 0 && d.Host == "" {
				rt.Errorf("none was chosen, these fit: %v", fit)
			}
		}
	})
}
