package allocatortest

import (
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
)

// Excluded says, in the plainest way there is, which filters keep a request off
// a host: the model that allocators are held against. It reads every child.
func Excluded(h allocator.Host, over allocator.Overcommit, children []*registry.Node, deps allocator.Deps, req allocator.Request) []string {
	var out []string
	rule := func(name string, ruled bool) {
		if ruled {
			out = append(out, name)
		}
	}
	c := req.Constraints
	rule("hint", req.Hint != "" && req.Hint != h.ID && req.Hint != h.Name)
	rule("hosts", len(c.Hosts) > 0 && !slices.Contains(c.Hosts, h.ID))
	rule("exclude", slices.Contains(c.Exclude, h.ID))
	rule("state", h.State != "up")
	rule("maintenance", h.Maintenance)
	rule("type", req.Type != "" && len(h.Types) > 0 && !slices.Contains(h.Types, req.Type))

	used := allocator.Resources{Custom: map[string]int64{}}
	unread := false
	for _, n := range children {
		if n.ID() == req.ID {
			continue
		}
		need, err := deps.Need(n)
		if err != nil {
			unread = true
			continue
		}
		used.CPU += max(need.CPU, 0)
		used.Memory += max(need.Memory, 0)
		used.Disk += max(need.Disk, 0)
		for k, v := range need.Custom {
			used.Custom[k] += max(v, 0)
		}
	}
	room := func(capacity int64, factor, fallback float64) int64 {
		if factor == 0 {
			factor = fallback
		}
		return int64(float64(max(capacity, 0)) * factor)
	}
	full := func(need, used, room int64) bool { return need != 0 && (need < 0 || used+need > room) }
	rule("cpu", full(req.Need.CPU, used.CPU, room(h.Capacity.CPU, h.Overcommit.CPU, over.CPU)))
	rule("memory", full(req.Need.Memory, used.Memory, room(h.Capacity.Memory, h.Overcommit.Memory, over.Memory)))
	rule("disk", full(req.Need.Disk, used.Disk, room(h.Capacity.Disk, h.Overcommit.Disk, over.Disk)))
	for _, k := range slices.Sorted(maps.Keys(req.Need.Custom)) {
		rule(k, full(req.Need.Custom[k], used.Custom[k], h.Capacity.Custom[k]))
	}
	has := func(tags map[string]string, key string, value *string) bool {
		got, ok := tags[key]
		return ok && (value == nil || got == *value)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Require)) {
		rule("require", !has(h.Tags, k, c.Require[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(c.Forbid)) {
		rule("forbid", has(h.Tags, k, c.Forbid[k]))
	}
	for _, t := range c.Apart {
		key, value := splitTag(t)
		rule("apart", slices.ContainsFunc(children, func(n *registry.Node) bool { return n.ID() != req.ID && has(n.Tags(), key, value) }))
	}
	rule("children", unread)
	return out
}

func splitTag(t string) (key string, value *string) {
	key, v, exact := strings.Cut(t, "=")
	if exact {
		value = &v
	}
	return key, value
}

// DrawHost draws the draft of a host.
func DrawHost(t *rapid.T, id string) registry.Draft {
	d := HostDefinition{
		Capacity: allocator.Resources{
			CPU: rapid.Int64Range(0, 4).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 16).Draw(t, "memory"), Disk: rapid.Int64Range(0, 16).Draw(t, "disk"),
		},
		Maintenance: rapid.IntRange(0, 7).Draw(t, "maintenance") == 0,
		Retired:     rapid.IntRange(0, 9).Draw(t, "retired") == 0,
		Types:       rapid.SampledFrom([][]string{nil, {"vm"}, {"vm", "container"}, {"container"}}).Draw(t, "types"),
	}
	if rapid.Bool().Draw(t, "gpus") {
		d.Capacity.Custom = map[string]int64{"gpu": rapid.Int64Range(0, 2).Draw(t, "gpu")}
	}
	if rapid.Bool().Draw(t, "overcommit") {
		d.Overcommit.CPU = rapid.SampledFrom([]float64{0.5, 1, 2}).Draw(t, "factor")
	}
	h := Host(id, d, drawTags(t)...)
	h.State = rapid.SampledFrom([]string{"up", "up", "up", "up", "", "down", "unreachable"}).Draw(t, "state")
	return h
}

// DrawThing draws the draft of something with the parent.
func DrawThing(t *rapid.T, id, parent string) registry.Draft {
	d := Thing(id, parent, drawNeed(t), drawTags(t)...)
	if rapid.IntRange(0, 19).Draw(t, "unreadable") == 0 {
		d.Definition = registry.TrustedDocument(`{"cpu":"many"}`)
	}
	return d
}

func drawNeed(t *rapid.T) allocator.Resources {
	r := allocator.Resources{
		CPU: rapid.Int64Range(0, 3).Draw(t, "need cpu"), Memory: rapid.Int64Range(0, 5).Draw(t, "need memory"), Disk: rapid.Int64Range(0, 5).Draw(t, "need disk"),
	}
	switch rapid.IntRange(0, 9).Draw(t, "special") {
	case 0:
		r.CPU = -1
	case 1, 2:
		r.Custom = map[string]int64{"gpu": rapid.Int64Range(-1, 2).Draw(t, "need gpu")}
	}
	return r
}

func drawTags(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b=1", "c=2", "c"}), 0, 2, func(s string) string { return s[:1] }).Draw(t, "tags")
}

// DrawRequest draws a request in a cluster with the hosts and things.
func DrawRequest(t *rapid.T, hosts, things []string) allocator.Request {
	r := allocator.Request{Need: drawNeed(t), Type: rapid.SampledFrom([]string{"", "vm", "container", "zone"}).Draw(t, "type")}
	if rapid.Bool().Draw(t, "existing") {
		r.ID = rapid.SampledFrom(things).Draw(t, "id")
	}
	rare := func(label string) bool { return rapid.IntRange(0, 4).Draw(t, label) == 0 }
	some := rapid.SliceOfN(rapid.SampledFrom(append([]string{"gone"}, hosts...)), 1, 3)
	tags := func(label string) map[string]*string {
		m := map[string]*string{}
		for _, tag := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b=1", "b", "c=2"}), 1, 2).Draw(t, label) {
			k, v := splitTag(tag)
			m[k] = v
		}
		return m
	}
	list := func(label string) []string {
		return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b=1", "b", "c=2", "none"}), 1, 2).Draw(t, label)
	}
	c := &r.Constraints
	if rare("hint?") {
		r.Hint = rapid.SampledFrom(append([]string{"gone", "name-" + hosts[0]}, hosts...)).Draw(t, "hint")
	}
	if rare("hosts?") {
		c.Hosts = some.Draw(t, "hosts")
	}
	if rare("exclude?") {
		c.Exclude = some.Draw(t, "exclude")
	}
	if rare("require?") {
		c.Require = tags("require")
	}
	if rare("forbid?") {
		c.Forbid = tags("forbid")
	}
	if rare("prefer?") {
		c.Prefer = tags("prefer")
	}
	if rare("apart?") {
		c.Apart = list("apart")
	}
	if rare("prefer apart?") {
		c.PreferApart = list("prefer apart")
	}
	return r
}

// CheckVerdicts holds a decision's verdicts against Excluded on the reader's
// snapshot: every host has one, and it is the right one. It returns the hosts
// that fit.
func CheckVerdicts(t rapid.TB, d *allocator.Decision, r registry.Reader) []string {
	t.Helper()
	deps := Deps()
	verdicts := map[string]allocator.Verdict{}
	for _, v := range d.Hosts() {
		if _, twice := verdicts[v.Host]; twice {
			t.Fatalf("two verdicts on %s", v.Host)
		}
		verdicts[v.Host] = v
	}
	var fit []string
	for n, err := range r.List(registry.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		h, ok := deps.Host(n)
		if !ok {
			continue
		}
		v, ok := verdicts[h.ID]
		delete(verdicts, h.ID)
		if !ok {
			t.Fatalf("no verdict on host %s", h.ID)
		}
		children, err := r.Children(h.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := Excluded(h, d.Over, children.Nodes, deps, d.Request)
		var got []string
		for _, ruled := range v.Ruled {
			got = append(got, ruled.Filter)
			if ruled.Required == "" || ruled.Observed == "" {
				t.Errorf("host %s is ruled out by %+v: it does not say what was required and observed", h.ID, ruled)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("host %s is ruled out by %v, want %v", h.ID, got, want)
		}
		if v.Chosen != (d.Host == h.ID) {
			t.Errorf("host %s: chosen is %v, the choice is %q", h.ID, v.Chosen, d.Host)
		}
		if len(want) == 0 {
			fit = append(fit, h.ID)
		}
	}
	for id, v := range verdicts {
		if len(v.Ruled) != 1 || v.Ruled[0].Filter != "exists" {
			t.Errorf("a verdict on %s, which is no host: %+v", id, v)
		}
	}
	if d.Host != "" && !slices.Contains(fit, d.Host) {
		t.Errorf("host %s was chosen and does not fit", d.Host)
	}
	return fit
}
