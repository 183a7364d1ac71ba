package api

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestNodes(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	n := c.vm("web1")
	if n.Changed().Source != "tester" || n.Changed().Reason != "to test it: ✓ 100%" || n.Changed().Transaction == "" {
		t.Errorf("the trail of a change: %+v", n.Changed())
	}
	uuid := virt.NodeUUID(n)
	for _, ref := range []string{"web1", "uuid-" + uuid} {
		it, err := c.Node(c.ctx, ref)
		if err != nil || it.Node.ID() != "web1" {
			t.Errorf("%s: %v, %v", ref, it.Node, err)
		}
		if !slices.Contains(it.View, Cell{Column: "memory", Value: "64M"}) {
			t.Errorf("the view is %+v", it.View)
		}
	}
	if _, err := c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "web1", Type: "vm", Definition: n.Definition()}}); !errors.Is(err, registry.ErrConflict) {
		t.Error(err)
	}
	var e *Error
	_, err := c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "web2", Type: "rack", Keys: []string{"uuid-" + uuid}}})
	if !errors.As(err, &e) || e.Owner != "web1" {
		t.Errorf("the owner of a key that is taken: %v", err)
	}
	before := c.revision()
	dry, err := c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "web3", Type: "vm", Definition: n.Definition()}, DryRun: true})
	if err != nil || dry.Node != nil || dry.Draft.ID != "web3" || c.revision() != before {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	if _, err := c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "h2", Type: "hv", Definition: doc(t, `{"driver":"lob"}`)}}); !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), "lab") {
		t.Errorf("a driver that is not there: %v", err)
	}
	if _, err := c.Delete(c.ctx, "web1"); err != nil {
		t.Error(err)
	}
	if _, err := c.Node(c.ctx, "web1"); !errors.Is(err, registry.ErrNotFound) || CodeOf(err).Exit != ExitNotFound {
		t.Error(err)
	}
}

// Unique keys have characters that mean something in a URL.
func TestKeysAsReferences(t *testing.T) {
	c := newCluster(t, opts{})
	keys := []string{"disk/a/b", "a+b@c:d", "a+b/c+d", "x/jobs", "x/blobs/y"}
	must[Created](t)(c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "r1", Type: "rack", Keys: keys}}))
	for _, k := range keys {
		if it, err := c.Node(c.ctx, k); err != nil || it.Node.ID() != "r1" {
			t.Errorf("%s: %v", k, err)
		}
		if _, err := c.PutBlob(c.ctx, k, "notes", []byte(k)); err != nil {
			t.Errorf("%s: %v", k, err)
		}
		if data, err := c.Blob(c.ctx, "r1", "notes"); err != nil || string(data) != k {
			t.Errorf("%s: %q, %v", k, data, err)
		}
	}
	for _, ref := range []string{".", "..", "...", "a b", "%2F", "a%b", "../r1", "r1/", "/r1", "a?b", "a#b", "a;b", "\x00", "é", "\xff", strings.Repeat("x", 10_000), "\u202e"} {
		if _, err := c.Node(c.ctx, ref); !errors.Is(err, registry.ErrNotFound) || len(err.Error()) > 500 {
			t.Errorf("%.20q: %v", ref, err)
		}
	}
	for _, ref := range []string{""} {
		if _, err := c.Node(c.ctx, ref); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestPaging(t *testing.T) {
	c := newCluster(t, opts{})
	const many = PageSize + 37
	for i := range many {
		must[*registry.Node](t)(registry.Create(c.ctx, c.m.Registry, registry.Draft{ID: fmt.Sprintf("n%04d", i), Name: fmt.Sprintf("n%04d", i), Type: "rack"}))
	}
	list := func(q registry.Query) (ids []string) {
		for it, err := range c.Nodes(c.ctx, q) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, it.Node.ID())
		}
		return ids
	}
	for limit, want := range map[int]int{0: many, 1: 1, 99: 99, PageSize: PageSize, PageSize + 1: PageSize + 1, many: many, many + 1: many, 3 * MaxPage: many} {
		ids := list(registry.Query{Limit: limit})
		if len(ids) != want || !slices.IsSorted(ids) || len(slices.Compact(ids)) != want {
			t.Errorf("limit %d gave %d nodes, want %d", limit, len(ids), want)
		}
	}
	if ids := list(registry.Query{After: "n0535"}); len(ids) != 1 {
		t.Errorf("after: %v", ids)
	}
	for _, err := range c.Nodes(c.ctx, registry.Query{}) {
		if err != nil {
			t.Error(err)
		}
		break // must not ask for more
	}
}

// A page of great nodes ends early.
func TestPageBytes(t *testing.T) {
	s := &server{m: &manager.Manager{}}
	big := doc(t, fmt.Sprintf(`{"x":%q}`, strings.Repeat("x", 250<<10)))
	var nodes list
	for i := range 60 {
		nodes = append(nodes, registry.NewNode(registry.Draft{ID: fmt.Sprintf("n%02d", i), Definition: big}, registry.Stamp{}))
	}
	page, err := s.page(nodes, registry.Query{})
	if n := len(page.Items); err != nil || n != MaxPageBytes/(252<<10)+1 || page.Next != page.Items[n-1].Node.ID() {
		t.Errorf("%d nodes, next %s, %v", len(page.Items), page.Next, err)
	}
}

// list is a reader that can list only.
type list []*registry.Node

func (list) Get(string) (*registry.Node, error)         { return nil, registry.ErrNotFound }
func (list) ByName(string) (*registry.Node, error)      { return nil, registry.ErrNotFound }
func (list) ByKey(string) (*registry.Node, error)       { return nil, registry.ErrNotFound }
func (list) Children(string) (registry.Children, error) { return registry.Children{}, nil }
func (list) Keys(string, string) iter.Seq2[registry.Key, error] {
	return func(func(registry.Key, error) bool) {}
}
func (list) Blob(string, string) ([]byte, error) { return nil, registry.ErrNotFound }

func (l list) List(registry.Query) iter.Seq2[*registry.Node, error] {
	return func(yield func(*registry.Node, error) bool) {
		for _, n := range l {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func TestListQueries(t *testing.T) {
	c := newCluster(t, opts{})
	c.host("h1")
	n := c.vm("web1")
	if _, err := registry.SetParent(c.ctx, c.m.Registry, n.ID(), "", "h1"); err != nil {
		t.Fatal(err)
	}
	must[Created](t)(c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "r1", Type: "rack", Tags: map[string]string{"a": "", "b": "x=y"}}}))
	must[*registry.Node](t)(c.Patch(c.ctx, "h1", Patch{Name: registry.Is("first")}))
	for i, q := range []struct {
		q    registry.Query
		want string
	}{
		{registry.Query{}, "h1 r1 web1"}, {registry.Query{Type: "vm"}, "web1"}, {registry.Query{Name: "w*"}, "web1"},
		{registry.Query{Parent: registry.Is("first")}, "web1"}, {registry.Query{Parent: registry.Is("")}, "h1 r1"},
		{registry.Query{Tags: map[string]*string{"a": nil}}, "r1"}, {registry.Query{Tags: map[string]*string{"a": registry.Is("")}}, "r1"},
		{registry.Query{Tags: map[string]*string{"b": registry.Is("x=y")}}, "r1"}, {registry.Query{Tags: map[string]*string{"b": registry.Is("x")}}, ""},
	} {
		var ids []string
		for it, err := range c.Nodes(c.ctx, q.q) {
			if err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, it.Node.ID()); it.Node.ID() == "web1" && it.ParentName != "first" {
				t.Errorf("the parent's name is %q", it.ParentName)
			}
		}
		if got := strings.Join(ids, " "); got != q.want {
			t.Errorf("query %d: %s, want %s", i, got, q.want)
		}
	}
	for _, q := range []registry.Query{{Name: "["}, {Name: "a/b"}, {Parent: registry.Is("nobody")}} {
		for _, err := range c.Nodes(c.ctx, q) {
			if err == nil {
				t.Errorf("%+v was answered", q)
			}
		}
	}
}

func TestParseQuery(t *testing.T) {
	for _, text := range []string{"nme=x", "type=", "type=a&type=b", "limit=0", "limit=-1", "limit=x", "limit=99999999999999999999", "tag=", "tag=%3Dx", "tag=a&tag=a%3Db", "tag=a%00b", "name=[", "state="} {
		v := must[url.Values](t)(url.ParseQuery(text))
		if q, err := ParseQuery(v); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %+v, %v", text, q, err)
		}
	}
	if _, err := ParseQuery(url.Values{"tenat": {"x"}}); !strings.Contains(err.Error(), `did you mean "tenant"?`) {
		t.Error(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z][a-z0-9_-]{0,8}`)
		q := registry.Query{
			Type: rapid.SampledFrom([]string{"", "vm"}).Draw(t, "type"), Tenant: rapid.SampledFrom([]string{"", "a b&c"}).Draw(t, "tenant"),
			Key: rapid.SampledFrom([]string{"", "a+b/c@d"}).Draw(t, "key"), Limit: rapid.IntRange(0, 9).Draw(t, "limit"),
		}
		if rapid.Bool().Draw(t, "parent") {
			q.Parent = registry.Is(rapid.SampledFrom([]string{"", "h1"}).Draw(t, "on"))
		}
		tags := rapid.MapOfN(word, rapid.Ptr(rapid.SampledFrom([]string{"", "x", "x=y", "ü &"}), true), 0, 3).Draw(t, "tags")
		if len(tags) > 0 {
			q.Tags = tags
		}
		back, err := ParseQuery(must2(url.ParseQuery(QueryValues(q).Encode())))
		same := err == nil && back.Type == q.Type && back.Tenant == q.Tenant && back.Key == q.Key && back.Limit == q.Limit &&
			(back.Parent == nil) == (q.Parent == nil) && (q.Parent == nil || *q.Parent == *back.Parent) &&
			maps.EqualFunc(q.Tags, back.Tags, func(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) })
		if !same {
			t.Fatalf("%+v became %+v, %v", q, back, err)
		}
	})
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPatch(t *testing.T) {
	c := newCluster(t, opts{})
	n := c.vm("web1")
	p := Patch{
		Name: registry.Is("www"), Tenant: registry.Is("acme"), Claim: []string{"dns-www"}, Tags: map[string]*string{"env": registry.Is("prod"), "none": nil},
		Metadata: map[string]any{"note": map[string]any{"n": 12345678901234567}, "gone": nil}, Revision: n.Revision(),
	}
	n, err := c.Patch(c.ctx, "web1", p)
	if err != nil {
		t.Fatal(err)
	}
	if n.Name() != "www" || n.Tenant() != "acme" || !n.HasKey("dns-www") || n.Metadata().String() != `{"note":{"n":12345678901234567}}` || n.Tags()["env"] != "prod" {
		t.Errorf("the node is %+v", n.Draft())
	}
	if _, err := c.Patch(c.ctx, "web1", p); !errors.Is(err, registry.ErrConflict) || CodeOf(err).Exit != ExitConflict {
		t.Errorf("a change of another revision: %v", err)
	}
	n = must[*registry.Node](t)(c.Patch(c.ctx, "www", Patch{Release: []string{"dns-www"}, Tags: map[string]*string{"env": nil}, Metadata: map[string]any{"note": nil}}))
	if n.HasKey("dns-www") || n.NumTags() != 0 || !n.Metadata().IsEmpty() {
		t.Errorf("the node is %+v", n.Draft())
	}
	must[*registry.Node](t)(c.Patch(c.ctx, "www", Patch{Definition: map[string]any{"memory": 128, "boot": map[string]any{"kernel": "/k", "cmdline": "a"}}}))
	n = must[*registry.Node](t)(c.Patch(c.ctx, "www", Patch{Definition: map[string]any{"boot": map[string]any{"cmdline": nil}}}))
	if got := n.Definition().String(); got != `{"boot":{"kernel":"/k"},"cpu":1,"memory":128}` {
		t.Errorf("the definition is %s", got)
	}
	before := c.revision()
	for name, p := range map[string]Patch{
		"definition and more":     {Definition: map[string]any{"cpu": 2}, Name: registry.Is("x")},
		"definition and revision": {Definition: map[string]any{"cpu": 2}, Revision: n.Revision()},
		"unknown member":          {Definition: map[string]any{"cpuu": 2}},
		"where the disks are":     {Metadata: map[string]any{virt.MetaDisksOn: "h9"}},
		"that it migrates":        {Metadata: map[string]any{virt.MetaMigrate: nil}},
		"a derived key":           {Release: []string{"uuid-" + virt.NodeUUID(n)}},
		"a bad name":              {Name: registry.Is("../x")},
		"a bad tag":               {Tags: map[string]*string{"a\nb": registry.Is("")}},
		"a bad key":               {Claim: []string{"a//b"}},
	} {
		if _, err := c.Patch(c.ctx, "web1", p); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "w9", Type: "vm", Definition: n.Definition(), Metadata: doc(t, `{"disks_on":"h1"}`)}}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a new node with disks: %v", err)
	}
	if c.revision() != before {
		t.Error("a refused change was written")
	}
	if n, err := c.Patch(c.ctx, "web1", Patch{Metadata: map[string]any{virt.MetaDisksOn: "h9"}, Force: true}); err != nil || virt.DisksOn(n) != "h9" {
		t.Errorf("by force: %v", err)
	}
}

// Of many changes at once that expect one revision, one wins; of many merges
// into a definition none is lost.
func TestPatchRaces(t *testing.T) {
	c := newCluster(t, opts{})
	n := c.create("r1", "rack", `{}`)
	const many = 8
	var wg sync.WaitGroup
	won := make([]error, many)
	for i := range many {
		wg.Go(func() {
			_, won[i] = c.Patch(c.ctx, "r1", Patch{Tags: map[string]*string{fmt.Sprint("t", i): registry.Is("")}, Revision: n.Revision()})
			if _, err := c.Patch(c.ctx, "r1", Patch{Definition: map[string]any{fmt.Sprint("m", i): i}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	winners := 0
	for _, err := range won {
		switch {
		case err == nil:
			winners++
		case !errors.Is(err, registry.ErrConflict):
			t.Error(err)
		}
	}
	it := must[Item](t)(c.Node(c.ctx, "r1"))
	// A merge may have come before all tags: then none of them won.
	if m := must[map[string]any](t)(it.Node.Definition().Map()); len(m) != many || winners > 1 || it.Node.NumTags() != winners {
		t.Errorf("%d members, %d winners, %d tags", len(m), winners, it.Node.NumTags())
	}
}

func TestBlobs(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	for _, data := range [][]byte{{}, {0, 1, 255}, make([]byte, registry.MaxBlob)} {
		if _, err := c.PutBlob(c.ctx, "r1", "b", data); err != nil {
			t.Fatal(err)
		}
		got, err := c.Blob(c.ctx, "r1", "b")
		if err != nil || !slices.Equal(got, data) {
			t.Errorf("%d bytes came back as %d, %v", len(data), len(got), err)
		}
	}
	before := c.revision()
	if _, err := c.PutBlob(c.ctx, "r1", "b", make([]byte, registry.MaxBlob+1)); !errors.Is(err, registry.ErrTooLarge) {
		t.Error(err)
	}
	for _, key := range []string{"../x", "a/b", "", "-o", "a b", strings.Repeat("k", 10_000)} {
		if _, err := c.PutBlob(c.ctx, "r1", key, nil); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%.20q: %v", key, err)
		}
	}
	if c.revision() != before {
		t.Error("a refused blob was written")
	}
	n := must[*registry.Node](t)(c.DeleteBlob(c.ctx, "r1", "b"))
	if len(n.Blobs()) != 0 {
		t.Errorf("blobs: %v", n.Blobs())
	}
	if _, err := c.DeleteBlob(c.ctx, "r1", "b"); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
	if _, err := c.Blob(c.ctx, "r1", "b"); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
}

// The trail's texts survive the headers.
func TestTrailCrosses(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	for i, reason := range []string{"plain", "100% sure? yes/no; +1", "größer ✓ 日本", strings.Repeat("ü", trail.MaxText/2)} {
		tr := trail.New("someone@host", reason)
		n := must[*registry.Node](t)(c.Patch(trail.With(c.ctx, tr), "r1", Patch{Tenant: registry.Is(fmt.Sprint("t", i))}))
		if n.Changed() != tr {
			t.Errorf("%+v became %+v", tr, n.Changed())
		}
	}
	before := c.revision()
	for _, tr := range []trail.Trail{{Reason: "a\nb"}, {Source: "\x1b[31m"}, {Transaction: strings.Repeat("x", trail.MaxText+1)}, {Reason: "\xff"}} {
		if _, err := c.Patch(trail.With(c.ctx, tr), "r1", Patch{Tenant: registry.Is("bad")}); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%+v: %v", tr, err)
		}
	}
	if c.revision() != before {
		t.Error("a refused trail was written")
	}
}
