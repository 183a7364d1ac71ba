package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// request sends exactly what it is given.
func (c *cluster) request(method, target, body string, headers ...string) (*http.Response, Problem) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.ctx, method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	resp := w.Result()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var p Problem
	if resp.StatusCode >= 400 && method != http.MethodHead {
		if err := json.Unmarshal(data, &p); err != nil || p.Message == "" || p.Code == "" {
			c.t.Errorf("%s %.60s: an error without its problem: %.200s", method, target, data)
		}
	}
	return resp, p
}

// What nobody can mean is refused, with a reason, and nothing is written.
func TestHostileNames(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	before := c.revision()
	for _, name := range []string{
		"../x", "..", ".", "-o", "--help", `"/><disk`, "a\nb", "a\x00b", "a\u202eb", "a\u200bb", strings.Repeat("x", 10_000), " a", "a b", "a/b", `a\b`, "a'b", "$(id)", "a;b", "é", "𝔞", "",
	} {
		ok := provisioner.Spec{ID: "n1", Type: "rack"}
		for field, change := range map[string]func(*provisioner.Spec){
			"id":     func(s *provisioner.Spec) { s.ID = name },
			"type":   func(s *provisioner.Spec) { s.Type = name },
			"name":   func(s *provisioner.Spec) { s.Name = name + "!" },
			"tenant": func(s *provisioner.Spec) { s.Tenant = name + "!" },
			"key":    func(s *provisioner.Spec) { s.Keys = []string{name + "!"} },
			"tag":    func(s *provisioner.Spec) { s.Tags = map[string]string{name + "!": ""} },
		} {
			s := ok
			change(&s)
			_, err := c.Create(c.ctx, CreateRequest{Spec: s})
			var e *Error
			if !errors.As(err, &e) || e.Status != http.StatusBadRequest || len(e.Message) > 600 {
				t.Errorf("%s %.20q: %v", field, name, err)
			}
		}
		bad := name + "!"
		for field, p := range map[string]Patch{"name": {Name: &bad}, "tenant": {Tenant: &bad}, "claim": {Claim: []string{bad}}, "tag": {Tags: map[string]*string{bad: &bad}}} {
			if _, err := c.Patch(c.ctx, "r1", p); CodeOf(err).Status != http.StatusBadRequest {
				t.Errorf("patch of %s %.20q: %v", field, name, err)
			}
		}
		if _, err := c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: bad, Action: "fail"}}}); CodeOf(err).Status != http.StatusBadRequest {
			t.Errorf("queue %.20q: %v", bad, err)
		}
		if _, err := c.PutBlob(c.ctx, "r1", bad, nil); CodeOf(err).Status != http.StatusBadRequest {
			t.Errorf("blob %.20q: %v", bad, err)
		}
	}
	if c.revision() != before {
		t.Error("something was written")
	}
}

func TestHostileBodies(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	before := c.revision()
	deep := func(n int, open, end string) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	for name, r := range map[string]struct {
		method, target, body string
		status               int
		says                 string
	}{
		"no object":         {"POST", "/v1/nodes", `[]`, 400, "not a JSON object"},
		"null":              {"POST", "/v1/nodes", `null`, 400, "not a JSON object"},
		"half":              {"POST", "/v1/nodes", `{"id":"a"`, 400, "not JSON"},
		"two":               {"POST", "/v1/nodes", `{"id":"a","type":"rack"}{}`, 400, "follows"},
		"twice":             {"POST", "/v1/nodes", `{"id":"a","type":"rack","id":"b"}`, 400, `"id" stands twice`},
		"twice below":       {"POST", "/v1/nodes", `{"id":"a","type":"rack","tags":{"x":"","x":"1"}}`, 400, `tags: member "x" stands twice`},
		"twice in document": {"POST", "/v1/nodes", `{"id":"a","type":"rack","definition":{"x":1,"x":2}}`, 400, "twice"},
		"other case":        {"POST", "/v1/nodes", `{"ID":"a","type":"rack"}`, 400, `did you mean "id"?`},
		"unknown":           {"PATCH", "/v1/nodes/r1", `{"nam":"a"}`, 400, `did you mean "name"?`},
		"unknown in a job":  {"POST", "/v1/jobs", `{"jobs":[{"queue":"q","action":"fail"},{"que":"q"}]}`, 400, `jobs[1]: unknown member "que"`},
		"mistyped":          {"PATCH", "/v1/nodes/r1", `{"name":7}`, 400, "name: a number"},
		"mistyped document": {"POST", "/v1/nodes", `{"id":"a","type":"rack","definition":"x"}`, 400, "not a JSON object"},
		"not UTF-8":         {"PATCH", "/v1/nodes/r1", "{\"tenant\":\"\xff\"}", 400, "UTF-8"},
		"deep":              {"POST", "/v1/nodes", `{"id":"a","type":"rack","definition":` + deep(100, `{"a":`, `}`) + `}`, 400, ""},
		"very deep":         {"PATCH", "/v1/nodes/r1", `{"definition":{"a":` + deep(9000, `[`, `]`) + `}}`, 400, "levels deep"},
		"deeper than JSON":  {"PATCH", "/v1/nodes/r1", `{"definition":{"a":` + deep(400_000, `[`, `]`) + `}}`, 400, ""},
		"large":             {"PATCH", "/v1/nodes/r1", `{"tenant":"` + strings.Repeat("x", MaxBody) + `"}`, 413, "1048576 bytes"},
		"large blob":        {"PUT", "/v1/nodes/r1/blobs/b", strings.Repeat("x", registry.MaxBlob+1), 413, "bytes"},
		"large package":     {"POST", "/v1/jobs", `{"id":"` + strings.Repeat("x", MaxPackage) + `"}`, 413, "bytes"},
		"large document":    {"PATCH", "/v1/nodes/r1", `{"definition":{"x":"` + strings.Repeat("x", registry.MaxDocument) + `"}}`, 413, ""},
		"bad number":        {"PATCH", "/v1/nodes/r1", `{"revision":-1}`, 400, "revision"},
	} {
		resp, p := c.request(r.method, r.target, r.body)
		if resp.StatusCode != r.status || !strings.Contains(p.Message, r.says) || len(p.Message) > 1000 {
			t.Errorf("%s: %d %.300s, want %d %s", name, resp.StatusCode, p.Message, r.status, r.says)
		}
	}
	if c.revision() != before {
		t.Error("something was written")
	}
	// As much as a node may hold fits into a request.
	half := strings.Repeat("x", registry.MaxDocument-100)
	resp, p := c.request("POST", "/v1/nodes", `{"id":"a","type":"rack","definition":{"x":"`+half+`"},"metadata":{"x":"`+half+`"}}`)
	if resp.StatusCode != 200 {
		t.Errorf("two documents of the greatest size: %d %s", resp.StatusCode, p.Message)
	}
}

func TestHostileRequests(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	before := c.revision()
	for _, r := range []struct {
		method, target string
		headers        []string
		status         int
		code           string
	}{
		{"GET", "/", nil, 404, noEndpoint},
		{"GET", "/v1/nodes/", nil, 404, noEndpoint},
		{"GET", "/v1/node", nil, 404, noEndpoint},
		{"GET", "/v1/nodes/../version", nil, 404, noEndpoint},
		{"GET", "/v1/nodes/r1/blobs/a/b", nil, 404, noEndpoint},
		{"GET", "/v1/nodes//info", nil, 404, "not_found"},
		{"TRACE", "/v1/nodes", nil, 405, methodNotAllowed},
		{"PUT", "/v1/nodes/r1", nil, 405, methodNotAllowed},
		{"POST", "/v1/version", nil, 405, methodNotAllowed},
		{"GET", "/v1/nodes?tpe=vm", nil, 400, "invalid"},
		{"GET", "/v1/nodes?type=vm&type=hv", nil, 400, "invalid"},
		{"GET", "/v1/nodes?consistent=true", nil, 400, "invalid"},
		{"GET", "/v1/nodes?type=%zz", nil, 400, "invalid"},
		{"GET", "/v1/nodes?type=a;b", nil, 400, "invalid"},
		{"GET", "/v1/version?x", nil, 400, "invalid"},
		{"DELETE", "/v1/nodes/r1?dry_run=1", nil, 400, "invalid"},
		{"POST", "/v1/registry/import?dry_run=perhaps", nil, 400, "invalid"},
		{"POST", "/v1/registry/import?dryrun=1", nil, 400, "invalid"},
		{"GET", "/v1/jobs?limit=0", nil, 400, "invalid"},
		{"GET", "/v1/jobs/x?wait=1", nil, 400, "invalid"},
		{"DELETE", "/v1/nodes/r1", []string{"If-Match", `"1"`}, 400, "invalid"},
		{"PATCH", "/v1/nodes/r1", []string{"If-Match", `*`}, 400, "invalid"},
		{"PATCH", "/v1/nodes/r1", []string{"If-Match", `"999"`}, 409, "conflict"},
		{"PATCH", "/v1/nodes/r1", []string{HeaderReason, "%zz"}, 400, "invalid"},
		{"PATCH", "/v1/nodes/r1", []string{HeaderReason, "a%0Ab"}, 400, "invalid"},
		{"PATCH", "/v1/nodes/r1", []string{HeaderReason, "a", HeaderReason, "b"}, 400, "invalid"},
		{"DELETE", "/v1/nodes/r1", []string{"Sec-Fetch-Site", "cross-site"}, 403, crossOrigin},
		{"DELETE", "/v1/nodes/r1", []string{"Origin", "https://elsewhere.example"}, 403, crossOrigin},
	} {
		resp, p := c.request(r.method, r.target, "", r.headers...)
		if resp.StatusCode != r.status || p.Code != r.code {
			t.Errorf("%s %s %q: %d %s (%s), want %d %s", r.method, r.target, r.headers, resp.StatusCode, p.Code, p.Message, r.status, r.code)
		}
	}
	if c.revision() != before {
		t.Error("something was written")
	}
	if _, p := c.request("GET", "/v1/nodes?tpe=vm", ""); !strings.Contains(p.Message, `did you mean "type"?`) {
		t.Error(p.Message)
	}
}

func TestMethods(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.create("r1", "rack", `{}`)
	resp, _ := c.request("OPTIONS", "/v1/nodes/r1", "")
	if allow := resp.Header.Get("Allow"); resp.StatusCode != 204 || allow != "DELETE, GET, HEAD, PATCH, OPTIONS" {
		t.Errorf("OPTIONS: %d, %s", resp.StatusCode, allow)
	}
	resp, _ = c.request("PUT", "/v1/nodes/r1", "")
	if allow := resp.Header.Get("Allow"); resp.StatusCode != 405 || allow != "DELETE, GET, HEAD, PATCH, OPTIONS" {
		t.Errorf("PUT: %d, %s", resp.StatusCode, allow)
	}
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	for _, r := range (&server{}).routes() {
		if r.method != "GET" || strings.Contains(r.path, ":") {
			continue
		}
		resp, err := srv.Client().Head(srv.URL + r.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("HEAD %s: %s", r.path, resp.Status)
		}
	}
}

// ETag and If-Match carry the revision.
func TestETag(t *testing.T) {
	c := newCluster(t, opts{})
	c.create("r1", "rack", `{}`)
	resp, _ := c.request("GET", "/v1/nodes/r1", "")
	tag := resp.Header.Get("ETag")
	resp, p := c.request("PATCH", "/v1/nodes/r1", `{"tenant":"a"}`, "If-Match", tag)
	if resp.StatusCode != 200 || resp.Header.Get("ETag") == tag {
		t.Errorf("the first change: %d %s", resp.StatusCode, p.Message)
	}
	if resp, p := c.request("PATCH", "/v1/nodes/r1", `{"tenant":"b"}`, "If-Match", tag); resp.StatusCode != 409 || !strings.Contains(p.Message, "read it again") {
		t.Errorf("the second change: %d %s", resp.StatusCode, p.Message)
	}
	if resp, _ := c.request("PATCH", "/v1/nodes/r1", `{"tenant":"b","revision":77}`, "If-Match", tag); resp.StatusCode != 400 {
		t.Errorf("two conditions: %d", resp.StatusCode)
	}
}

// A panic costs one request, and an answer that has begun is broken off.
func TestPanics(t *testing.T) {
	c := newCluster(t, opts{})
	must[*registry.Node](t)(registry.Create(c.ctx, c.m.Registry, registry.Draft{ID: "b1", Name: "b1", Type: "bad"}))
	if _, err := c.Node(c.ctx, "b1"); CodeOf(err).Name != Internal || strings.Contains(err.Error(), "a column") {
		t.Error(err)
	}
	if _, err := c.Version(c.ctx); err != nil {
		t.Error(err)
	}
}

// Every request gets the same from a socket.
func TestOverASocket(t *testing.T) {
	c := newCluster(t, opts{})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	remote := NewClient(srv.URL+"/", srv.Client().Transport)
	if _, err := remote.Create(c.ctx, CreateRequest{Spec: provisioner.Spec{ID: "r1", Type: "rack", Keys: []string{"a/b+c"}}}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"r1", "a/b+c"} {
		if it, err := remote.Node(c.ctx, ref); err != nil || it.Node.Changed().Source != "tester" {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"..", ".", "x/../r1", "r1/"} {
		if _, err := remote.Node(c.ctx, ref); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := remote.PutBlob(c.ctx, "r1", "b", make([]byte, 4*registry.MaxBlob)); err == nil {
		t.Error("a blob that is too large was stored")
	}
	if _, err := remote.Import(c.ctx, io.LimitReader(zeros{}, 8<<20), false); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("an import of zeros: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The client says what the server is if it is none.
func TestClientNames(t *testing.T) {
	c := newCluster(t, opts{})
	for name, call := range map[string]func() error{
		"blob": func() error { _, err := c.Blob(c.ctx, "r1", ""); return err },
		"job":  func() error { _, err := c.Job(c.ctx, ""); return err },
		"log":  func() error { _, err := c.JobLog(c.ctx, ""); return err },
	} {
		if err := call(); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeStrict(f *testing.F) {
	for _, s := range []string{`{}`, `{"id":"a","tags":{"x":"y"},"definition":{"a":[1,{}]}}`, `{"id":1}`, `{"id":"a","id":"b"}`, `[]`, `{"keys":["a"`, "{\"id\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req CreateRequest
		if decodeStrict(data, &req) != nil {
			return
		}
		// What is accepted means the same when it is written out again.
		out, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var again CreateRequest
		if err := decodeStrict(out, &again); err != nil {
			t.Fatalf("%s became %s: %v", data, out, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%s became %s (%v)", out, twice, err)
		}
	})
}

func ExampleHandler() {
	// In a program of its own: m, err := standard.Open(ctx, "vagoth.ini")
	fmt.Println(QueryValues(registry.Query{Type: "vm", Tags: map[string]*string{"env": registry.Is("prod")}}).Encode())
	// Output: tag=env%3Dprod&type=vm
}
