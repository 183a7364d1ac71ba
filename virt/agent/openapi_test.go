package agent

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt/mistify"
)

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

// The document has every route that is served, with its parameters, bodies,
// status and role, and all that it refers to is in it.
func TestOpenAPI(t *testing.T) {
	cfg := testConfig()
	cfg.Profiling = true
	h := newHost(t, hostOptions{cfg: &cfg})
	text := h.want(200, "GET", "/v1/openapi.json", "").body
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, r := range h.agent.Handler().(*gin.Engine).Routes() {
		if r.Method != "HEAD" {
			served[r.Method+" "+braces(r.Path)] = true
		}
	}
	ids := map[string]bool{}
	s := &server{a: h.agent}
	for _, r := range s.routes() {
		if !served[r.method+" "+braces(r.path)] {
			t.Errorf("%s %s is not served", r.method, r.path)
		}
		op := at(t, doc, "paths", braces(r.path), strings.ToLower(r.method))
		id := at(t, op, "operationId").(string)
		if ids[id] {
			t.Errorf("the operation %s stands twice", id)
		}
		ids[id] = true
		status := r.status
		if status == 0 {
			status = 200
		}
		at(t, op, "responses", strconv.Itoa(status), "content")
		at(t, op, "responses", "default")
		if status == 202 {
			at(t, op, "responses", "202", "headers", mistify.HeaderJob)
		}
		if r.in != nil {
			at(t, op, "requestBody", "content")
		}
		if r.role != anybody && at(t, op, "x-vagoth-role") != string(r.role) {
			t.Errorf("%s: role", id)
		}
		want := len(trailHeaders()) + len(r.query) + strings.Count(r.path, ":")
		if got := len(at(t, op, "parameters").([]any)); got != want {
			t.Errorf("%s has %d parameters, want %d", id, got, want)
		}
	}
	operations := 0
	for _, item := range at(t, doc, "paths").(map[string]any) {
		operations += len(item.(map[string]any))
	}
	if operations != len(served) || operations != len(ids) {
		t.Errorf("%d operations, %d routes are served, %d in the table", operations, len(served), len(ids))
	}
	refs(t, doc, doc)
	for _, m := range []string{"id", "type", "image", "nics", "disks", "state", "memory", "cpu", "vnc", "metadata"} {
		at(t, doc, "components", "schemas", "mistify.Guest", "properties", m)
	}
	if again := h.want(200, "GET", "/v1/openapi.json", "").body; again != text {
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
