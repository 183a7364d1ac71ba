package registry_test

import (
	"encoding/json"
	"errors"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

func TestParseDocument(t *testing.T) {
	deep := func(n int) string {
		return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
	}
	for _, c := range []struct{ in, want, fault string }{
		{`{}`, `{}`, ""},
		{" {\n\"a\" : [ 1 , 2.50 ] }\n", `{"a":[1,2.50]}`, ""},
		{deep(60), deep(60), ""},
		{deep(70), "", "levels of nesting"},
		{``, "", "not a JSON object"},
		{`[]`, "", "not a JSON object"},
		{`1`, "", "not a JSON object"},
		{`null`, "", "not a JSON object"},
		{`{} {}`, "", "something follows"},
		{`{"a":1,"b":{"c":1,"c":2}}`, "", `"b.c" stands twice`},
		{`{"a":[{"x":1,"x":1}]}`, "", `stands twice`},
		{`{"a":`, "", "not a JSON object"},
		{`{"a":1`, "", "not a JSON object"},
		{`{a:1}`, "", "not a JSON object"},
		{`{"a":"` + strings.Repeat("x", registry.MaxDocument) + `"}`, "", "at most"},
		{strings.Repeat(" ", 5*registry.MaxDocument) + `{}`, "", "at most"},
	} {
		d, err := registry.ParseDocument([]byte(c.in))
		switch {
		case c.fault == "" && (err != nil || d.String() != c.want || d.Len() != len(c.want)):
			t.Errorf("%.40q gives %.40s, %v; want %.40s", c.in, d, err, c.want)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%.40q gives %v, want an error with %q", c.in, err, c.fault)
		}
	}
}

func TestDocumentMerge(t *testing.T) {
	d, err := registry.ParseDocument([]byte(`{"a":1,"b":{"c":2},"big":12345678901234567890}`))
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.Merge(map[string]any{"b": []int{3}, "n": nil}, "a", "none")
	if err != nil || m.String() != `{"b":[3],"big":12345678901234567890,"n":null}` {
		t.Fatalf("merged to %s, %v", m, err)
	}
	if d.String() != `{"a":1,"b":{"c":2},"big":12345678901234567890}` {
		t.Fatalf("the original became %s", d)
	}
	if _, err := d.Merge(map[string]any{"f": func() {}}); err == nil {
		t.Fatal("a function was encoded")
	}
	var v struct{ A int }
	if err := d.DecodeStrict(&v); err == nil {
		t.Fatal("unknown fields were taken")
	}
	if err := d.Decode(&v); err != nil || v.A != 1 {
		t.Fatal(v, err)
	}
}

func TestNodeJSON(t *testing.T) {
	n := registry.NewNode(registry.Draft{ID: "a", Name: "b", Type: "vm", Tags: map[string]string{"z": "1", "y": ""}, Keys: []string{"k2", "k1", "k2"}},
		registry.Stamp{Revision: 7, CreatedAt: time.Unix(1, 2).UTC(), UpdatedAt: time.Unix(3, 4).UTC(), Changed: trail.Trail{Source: "me"}})
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var back registry.Node
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !back.Same(n.Draft()) || !reflect.DeepEqual(back.Stamp(), n.Stamp()) || !reflect.DeepEqual(n.Keys(), []string{"k1", "k2"}) {
		t.Fatalf("%s came back as %+v %+v", b, back.Draft(), back.Stamp())
	}
}

func TestQueryValidate(t *testing.T) {
	for _, q := range []registry.Query{{Name: "["}, {Name: "a/b"}, {Limit: -1}} {
		if err := q.Validate(); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", q, err)
		}
	}
	if !(registry.Query{After: "x", Limit: 3}).IsEmpty() || (registry.Query{Parent: registry.Is("")}).IsEmpty() {
		t.Error("IsEmpty is about what is selected")
	}
}

// What is taken as a word can be an argument, a file name and a path segment.
func FuzzCheckWords(f *testing.F) {
	for _, s := range []string{"web1", "../x", "-o", `"/><disk`, "a\nb", "a\x00", "\u202e", "mac-52:54:00", "a/b", "a//b", "a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if registry.CheckName(s) == nil {
			if len(s) == 0 || len(s) > registry.MaxName || strings.ContainsAny(s, "/\\\"'<>&;$` \n\x00") || s[0] == '-' || s[0] == '.' || path.Base(s) != s {
				t.Fatalf("%q is taken as a name", s)
			}
		}
		if registry.CheckKey(s) == nil {
			if len(s) > registry.MaxKey || path.Clean(s) != s || path.IsAbs(s) || strings.HasPrefix(s, "..") || s[0] == '-' {
				t.Fatalf("%q is taken as a key", s)
			}
		}
		if registry.CheckTag("x", s) == nil && (!utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x00\x1b\u202e\u200b")) {
			t.Fatalf("%q is taken as a tag's value", s)
		}
	})
}

// What is taken as a document is a JSON object, and taken again as it is.
func FuzzParseDocument(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `[`, `{"a":"\ud800"}`, `{"":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := registry.ParseDocument(data)
		if err != nil {
			return
		}
		again, err := registry.ParseDocument([]byte(d.String()))
		if err != nil || again != d {
			t.Fatalf("%q was taken as %q, and that as %q, %v", data, d, again, err)
		}
		if _, err := d.Map(); err != nil {
			t.Fatal(err)
		}
		if m, err := d.Merge(nil); err != nil && !errors.Is(err, registry.ErrTooLarge) {
			t.Fatalf("%q cannot be merged: %q, %v", d, m, err)
		}
	})
}

// A move is only let through for who names the parent that the node has, and no
// error repeats its input without a bound.
func FuzzCheckPut(f *testing.F) {
	f.Add("a", "b", "hv", "", true)
	f.Fuzz(func(t *testing.T, id, name, parent, from string, force bool) {
		old := registry.NewNode(registry.Draft{ID: "a", Name: "a", Type: "vm", Parent: "p"}, registry.Stamp{})
		d := registry.Draft{ID: id, Name: name, Type: "vm", Parent: parent}
		err := registry.CheckPut(old, d, registry.WriteOptions{From: &from, Force: force})
		if err == nil && (from != "p" || registry.CheckName(name) != nil || registry.CheckName(id) != nil) {
			t.Fatalf("%+v from %q was let through", d, from)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Fatalf("the error has %d bytes", len(err.Error()))
		}
	})
}
