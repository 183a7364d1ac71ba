package api

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// get asks for a path, as any program would.
func (c *cluster) get(path string) (string, http.Header) {
	c.t.Helper()
	body, err := c.open(c.ctx, "GET", path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data), nil
}

// at goes down a document.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for i, p := range path {
		m, _ := v.(map[string]any)
		if m[p] == nil {
			t.Fatalf("there is no %s", strings.Join(path[:i+1], " > "))
		}
		v = m[p]
	}
	return v
}

// The document has every route with its parameters, role and bodies, and all
// that it refers to is in it.
func TestOpenAPI(t *testing.T) {
	c := newCluster(t, opts{full: true})
	text, _ := c.get("/v1/openapi.json")
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if v := at(t, doc, "openapi"); v != "3.1.0" {
		t.Errorf("openapi: %v", v)
	}
	operations, ids := 0, map[string]bool{}
	for _, item := range at(t, doc, "paths").(map[string]any) {
		operations += len(item.(map[string]any))
	}
	routes := (&server{}).routes()
	if operations != len(routes) {
		t.Errorf("there are %d operations, and %d routes", operations, len(routes))
	}
	for _, r := range routes {
		op := at(t, doc, "paths", braces(r.path), strings.ToLower(r.method))
		id, _ := at(t, op, "operationId").(string)
		if ids[id] || id == "" {
			t.Errorf("the operation %q stands twice", id)
		}
		ids[id] = true
		got := map[string]bool{}
		for _, p := range at(t, op, "parameters").([]any) {
			p := p.(map[string]any)
			if p["in"] == "path" || p["in"] == "query" {
				got[p["name"].(string)] = true
				at(t, p, "schema")
			}
		}
		want := append([]string{}, r.query...)
		for _, p := range strings.Split(r.path, "/") {
			if name, ok := strings.CutPrefix(p, ":"); ok {
				want = append(want, name)
			}
		}
		for _, name := range want {
			if !got[name] {
				t.Errorf("%s lacks the parameter %s", id, name)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s has the parameters %v, want %v", id, got, want)
		}
		prefers := slices.ContainsFunc(at(t, op, "parameters").([]any), func(p any) bool { return p.(map[string]any)["name"] == Preference })
		if prefers != r.brief {
			t.Errorf("%s: tells of Prefer: %v", id, prefers)
		}
		if r.role != anybody && at(t, op, "x-vagoth-role") != string(r.role) {
			t.Errorf("%s: role %v", id, at(t, op, "x-vagoth-role"))
		}
		if _, open := op.(map[string]any)["security"]; open != (r.role == anybody) {
			t.Errorf("%s: security", id)
		}
		at(t, op, "responses", "200", "content")
		if r.in != nil {
			at(t, op, "requestBody", "content")
		}
		if (r.media == "") != (r.out != "" && r.in != "") {
			t.Errorf("%s: a body of bytes has a type, and no other", id)
		}
	}
	refs(t, doc, doc)
	status := at(t, doc, "components", "schemas", "scheduler.Status", "properties")
	for _, member := range []string{"id", "queue", "state", "attempts", "submitted_at"} {
		at(t, status, member)
	}
	at(t, doc, "components", "schemas", "registry.Node", "properties", "revision")
	if list := at(t, status, "state", "enum").([]any); len(list) != 7 {
		t.Errorf("states %v", list)
	}
	again, _ := c.get("/v1/openapi.json")
	if again != text {
		t.Error("the document differs from call to call")
	}
}

// refs checks that every reference leads somewhere, and no schema is empty.
func refs(t *testing.T, doc, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			refs(t, doc, e)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			if sch := at(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...); len(sch.(map[string]any)) == 0 {
				t.Errorf("%s is empty", ref)
			}
		}
		for _, e := range v {
			refs(t, doc, e)
		}
	}
}
