package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// byHeader believes a header.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (Identity, error) {
	name, role, ok := strings.Cut(r.Header.Get("X-Who"), ":")
	if !ok {
		return Identity{}, auth.ErrNoCredentials
	}
	return Identity{Name: name, Role: Role(role)}, nil
}

// needed is what a route needs by the rules of the manual, which the table of
// routes must come to as well.
func needed(method, path string) Role {
	switch {
	case path == "/healthz" || path == "/readyz":
		return anybody
	case strings.HasPrefix(path, "/v1/leases/"):
		return auth.Worker
	case path == "/v1/registry/import":
		return auth.Admin
	case strings.HasSuffix(path, "/download"):
		return auth.Operator // what a disk holds is more than what is known of it
	case method == "GET", path == "/v1/nodes/:ref/decision":
		return auth.Reader
	}
	return auth.Operator
}

// Every route, asked by every role: who may not is told so before anything is
// looked at.
func TestRolesOfRoutes(t *testing.T) {
	c := newCluster(t, opts{full: true, api: Options{Auth: byHeader{}}})
	allowed := map[Role]string{anybody: "worker reader operator admin", auth.Worker: "worker admin", auth.Reader: "reader operator admin", auth.Operator: "operator admin", auth.Admin: "admin"}
	before := c.revision()
	for _, r := range (&server{}).routes() {
		path := strings.NewReplacer(":ref", "none", ":id", "none", ":name", "none", ":key", "none").Replace(r.path)
		if r.path == "/v1/events" {
			path += "?cursor=none" // it would not end
		}
		for _, role := range []Role{"", "root", auth.Worker, auth.Reader, auth.Operator, auth.Admin} {
			for _, method := range []string{r.method, http.MethodHead} {
				if method == http.MethodHead && r.method != http.MethodGet {
					continue
				}
				resp, p := c.request(method, path, "no JSON", "X-Who", "bob:"+string(role))
				may := needed(r.method, r.path) == anybody || role != "" && strings.Contains(allowed[needed(r.method, r.path)], string(role)) && role != "root"
				if may == (resp.StatusCode == http.StatusForbidden) {
					t.Errorf("%s %s as %q: %d %s", method, r.path, role, resp.StatusCode, p.Message)
				}
				if !may && method != http.MethodHead && (p.Code != forbidden || !strings.Contains(p.Message, "needs the role "+string(needed(r.method, r.path)))) {
					t.Errorf("%s %s as %q: %+v", method, r.path, role, p)
				}
			}
		}
		resp, p := c.request(r.method, path, "no JSON")
		if anonymous := needed(r.method, r.path) == anybody; anonymous == (resp.StatusCode == http.StatusUnauthorized) {
			t.Errorf("%s %s without credentials: %d %s", r.method, r.path, resp.StatusCode, p.Message)
		} else if !anonymous && (p.Code != unauthenticated || resp.Header.Get("WWW-Authenticate") != `Bearer realm="vagoth"`) {
			t.Errorf("%s %s without credentials: %+v, %v", r.method, r.path, p, resp.Header)
		}
	}
	if c.revision() != before {
		t.Error("something was written")
	}
	for _, call := range c.fake().calls {
		if !strings.Contains(call.trail.Source, "bob") {
			t.Errorf("%s was done by %q", call.what, call.trail.Source)
		}
	}
}

// What is dangerous within a request that an operator may send is not.
func TestRolesWithinRequests(t *testing.T) {
	c := newCluster(t, opts{full: true, api: Options{Auth: byHeader{}}})
	for _, r := range []struct{ method, path, body string }{
		{"PATCH", "/v1/nodes/h1", `{"definition":{"driver":"lab"},"force":true}`},
		{"POST", "/v1/nodes/h1/confirm-down", `{"abandon_disks":true}`},
	} {
		if resp, _ := c.request("POST", "/v1/nodes", `{"id":"h1","type":"hv","definition":{"driver":"lab"}}`, "X-Who", "a:admin"); resp.StatusCode != 200 && resp.StatusCode != 409 {
			t.Fatal(resp.Status)
		}
		if resp, p := c.request(r.method, r.path, r.body, "X-Who", "bob:operator"); resp.StatusCode != http.StatusForbidden || !strings.Contains(p.Message, "bob is operator") {
			t.Errorf("%s %s: %d %s", r.method, r.path, resp.StatusCode, p.Message)
		}
		if resp, p := c.request(r.method, r.path, r.body, "X-Who", "a:admin"); resp.StatusCode == http.StatusForbidden {
			t.Errorf("%s %s: %d %s", r.method, r.path, resp.StatusCode, p.Message)
		}
	}
}

// Nobody acts under the name of another, whatever he writes.
func TestNobodyIsAnother(t *testing.T) {
	c := newCluster(t, opts{full: true, api: Options{Auth: byHeader{}}})
	f := c.fake()
	for given, want := range map[string]string{"": "bob", "bob": "bob", "alice": "bob (alice)", "alice (x)": "bob (alice (x))", "bob (alice)": "bob (bob (alice))"} {
		headers := []string{"X-Who", "bob:admin"}
		if given != "" {
			headers = append(headers, HeaderSource, strings.ReplaceAll(given, " ", "%20"))
		}
		if resp, p := c.request("POST", "/v1/queues/q/pause", "", headers...); resp.StatusCode != 200 || f.last().trail.Source != want {
			t.Errorf("%q: %d %s, kept as %q, want %q", given, resp.StatusCode, p.Message, f.last().trail.Source, want)
		}
		body := `{}`
		if given != "" {
			body = fmt.Sprintf(`{"worker":%q}`, given)
		}
		if resp, p := c.request("POST", "/v1/leases/next", body, headers...); resp.StatusCode != 200 || f.last().what != "next "+want {
			t.Errorf("%q: %d %s, %s", given, resp.StatusCode, p.Message, f.last().what)
		}
	}
	if resp, p := c.request("POST", "/v1/queues/q/pause", "", "X-Who", "bob:admin", HeaderSource, strings.Repeat("x", 510)); resp.StatusCode != 400 {
		t.Errorf("a name that gets too long: %d %s", resp.StatusCode, p.Message)
	}
	// The node says so too, and an idempotency key of one is not another's.
	if resp, p := c.request("POST", "/v1/nodes", `{"id":"r1","type":"rack"}`, "X-Who", "bob:operator", HeaderSource, "alice"); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, p.Message)
	}
	n := must[*registry.Node](t)(registry.Get(c.ctx, c.m.Registry, "r1"))
	if n.Changed().Source != "bob (alice)" {
		t.Errorf("changed by %q", n.Changed().Source)
	}
}

// Tokens let in over a network, the socket's file over a unix socket.
func TestTokensOverSockets(t *testing.T) {
	store, err := auth.Open(filepath.Join(t.TempDir(), "tokens"), auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	made, secret, err := store.Create(t.Context(), auth.Spec{Name: "ci", Role: auth.Operator})
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, opts{api: Options{Auth: auth.Local(store)}})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	if _, err := NewClient(srv.URL, srv.Client().Transport).Version(ctx); CodeOf(err).Name != unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	remote := NewClient(srv.URL, Bearer(secret, srv.Client().Transport))
	it := must[Created](t)(remote.Create(ctx, CreateRequest{Spec: provisioner.Spec{ID: "r1", Type: "rack"}}))
	if it.Node.Changed().Source != "ci (tester)" {
		t.Errorf("created by %q", it.Node.Changed().Source)
	}
	if _, err := remote.Import(ctx, strings.NewReader(""), true); CodeOf(err).Name != forbidden || !strings.Contains(err.Error(), "needs the role admin, and ci is operator") {
		t.Errorf("an import: %v", err)
	}
	if _, err := remote.Ready(ctx); err != nil {
		t.Error(err)
	}
	if _, err := store.Revoke(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Version(ctx); CodeOf(err).Name != unauthenticated {
		t.Errorf("with a token that was revoked: %v", err)
	}

	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix := &http.Server{Handler: c.h, ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- unix.Serve(l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	changed := must[*registry.Node](t)(NewClient("http://vagoth", tr).PutBlob(ctx, "r1", "b", []byte("x")))
	if changed.Changed().Source != "tester" {
		t.Errorf("over the unix socket it was changed by %q", changed.Changed().Source)
	}
	tr.CloseIdleConnections()
	if err := unix.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	// In the process there is no address to go by.
	if _, err := c.Version(ctx); CodeOf(err).Name != unauthenticated {
		t.Errorf("in process: %v", err)
	}
	if _, err := auth.Local(nil).Authenticate(httptest.NewRequestWithContext(ctx, "GET", "/", nil)); !errors.Is(err, auth.ErrRefused) {
		t.Error(err)
	}
}
