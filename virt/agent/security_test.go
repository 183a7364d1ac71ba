package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/virt/mistify"
)

// people is an authenticator whose tokens are the roles that they give, known ones
// or not.
type people struct{}

var errWho = errors.New("who are you")

func (people) Authenticate(r *http.Request) (auth.Identity, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch role := auth.Role(token); role {
	case auth.Operator, anybody:
		return auth.Identity{Name: "the-" + token, Role: role}, nil
	case "none":
		return auth.Identity{Name: "the-" + token}, nil
	}
	return auth.Identity{}, errWho
}

// someTokens is a store with a token for each role, one that has expired and one
// that was revoked; a wrong one is in none.
func someTokens(t *testing.T) (store *auth.Store, secrets map[string]string) {
	t.Helper()
	now := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	store, err := auth.Open(filepath.Join(t.TempDir(), "tokens"), auth.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	secrets = map[string]string{"": "", "wrong": "vagoth_00000000_" + strings.Repeat("A", 43), "garbage": "a b"}
	for who, want := range map[string]auth.Spec{
		"worker": {Role: auth.Worker}, "reader": {Role: auth.Reader}, "operator": {Role: auth.Operator}, "admin": {Role: auth.Admin},
		"expired": {Role: auth.Admin, Expires: now.Add(time.Hour)}, "revoked": {Role: auth.Admin},
	} {
		want.Name = who
		made, secret, err := store.Create(t.Context(), want)
		if err == nil && who == "revoked" {
			_, err = store.Revoke(t.Context(), made.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		secrets[who] = secret
	}
	now = now.Add(2 * time.Hour)
	return store, secrets
}

// Every route, by everybody: with the tokens that operators make, and with an
// identity whose role is none.
func TestRoles(t *testing.T) {
	cfg := testConfig()
	cfg.Profiling = true
	store, secrets := someTokens(t)
	rank := map[string]int{"reader": 1, "operator": 2, "admin": 3} // all others may nothing here
	whoever := []string{"", "wrong", "garbage", "expired", "revoked", "worker", "reader", "operator", "admin"}
	asked := everyRoute(t, newHost(t, hostOptions{cfg: &cfg, deps: Deps{Auth: store}}), secrets, whoever, rank)
	asked += everyRoute(t, newHost(t, hostOptions{cfg: &cfg, deps: Deps{Auth: people{}}}), map[string]string{"none": "none", "anybody": "anybody"}, []string{"none", "anybody"}, rank)
	if asked < 400 {
		t.Errorf("only %d were asked", asked)
	}
}

// everyRoute asks every route as each of these people.
func everyRoute(t *testing.T, h *host, secrets map[string]string, whoever []string, rank map[string]int) (asked int) {
	t.Helper()
	least := map[auth.Role]int{auth.Reader: 1, auth.Operator: 2, auth.Admin: 3}
	for _, r := range (&server{a: h.agent}).routes() {
		path := concrete(r.path, vm1, "0", "one", "img")
		switch {
		case strings.HasSuffix(path, "/profile"):
			continue // it takes a second, and trace shows the same
		case strings.HasSuffix(path, "/trace"):
			path += "?seconds=1"
		}
		for _, who := range whoever {
			var headers []string
			if secret := secrets[who]; secret != "" {
				headers = []string{"Authorization", "Bearer " + secret}
			}
			body := ""
			if r.method == "POST" || r.method == "PATCH" {
				body = "{"
			}
			a := h.do(r.method, path, body, headers...)
			asked++
			known := rank[who] > 0 || who == "worker" || who == "none" || who == "anybody"
			want := "through"
			switch {
			case r.role == anybody:
			case !known:
				want = "401"
			case rank[who] < least[r.role]:
				want = "403"
			}
			got := "through"
			if a.status == 401 || a.status == 403 {
				got = fmt.Sprint(a.status)
			}
			if got != want {
				t.Errorf("%s %s by %q: %d %s, want %s", r.method, r.path, who, a.status, a.body, want)
			}
			if a.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: 401 without WWW-Authenticate", r.method, r.path)
			}
		}
	}
	return asked
}

// The least role of each route, as the manual says it.
func TestRoleTable(t *testing.T) {
	cfg := testConfig()
	cfg.Profiling = true
	s := &server{a: &Agent{cfg: cfg}}
	for _, r := range s.routes() {
		want := auth.Operator
		switch {
		case r.path == "/healthz":
			want = anybody
		case strings.HasPrefix(r.path, "/debug/"), r.method == "DELETE" && strings.HasSuffix(r.path, "/fence"):
			want = auth.Admin
		case r.method == "GET" && !r.changes && !strings.HasSuffix(r.path, "/download"):
			want = auth.Reader
		}
		if r.role != want {
			t.Errorf("%s %s: %q, want %q", r.method, r.path, r.role, want)
		}
		if r.help == "" || r.out == nil {
			t.Errorf("%s %s has no help or answer", r.method, r.path)
		}
	}
}

// Who asks stands in the trail, whoever he says he is.
func TestSigned(t *testing.T) {
	h := newHost(t, hostOptions{deps: Deps{Auth: people{}}})
	id := h.want(202, "POST", "/guests", "{}", "Authorization", "Bearer operator", "Vagoth-Source", "root").job()
	if st := h.agent.store.job(id); st.Trail.Source != "the-operator (root)" {
		t.Errorf("%+v", st.Trail)
	}
}

func TestCheckListen(t *testing.T) {
	for _, c := range []struct {
		address   string
		tls, auth bool
		ok        bool
	}{
		{"127.0.0.1:8080", false, false, true}, {"[::1]:8080", false, false, true}, {"localhost:1", false, false, true}, {"127.9.9.9:1", false, false, true}, {"unix:/run/x", false, false, true},
		{"0.0.0.0:8080", false, false, false}, {":8080", false, false, false}, {"10.0.0.1:1", true, false, false}, {"10.0.0.1:1", false, true, false}, {"10.0.0.1:1", true, true, true},
		{"[::]:1", false, true, false}, {"example.org:1", false, false, false}, {"8080", true, true, false}, {"localhost.example.org:1", false, false, false},
	} {
		if err := CheckListen(c.address, c.tls, c.auth); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A page of another site can neither change anything nor read, whatever name it
// has for this machine.
func TestOtherSites(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	n := len(h.sub.seen())
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"POST", "/guests", []string{"Origin", "http://evil.example"}, 403},
		{"POST", "/guests/" + vm1 + "/start", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"DELETE", "/guests/" + vm1, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"Origin", "http://evil.example"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"Referer", "http://evil.example/page"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"Purpose", "prefetch"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"X-Moz", "prefetch"}, 403},
		{"GET", "/guests/" + vm1 + "/start", []string{"Sec-Purpose", "prefetch;prerender"}, 403},
		{"GET", "/guests", []string{"Host", "evil.example"}, 421},
		{"POST", "/guests", []string{"Host", "evil.example:80"}, 421},
		{"GET", "/guests", []string{"Host", "localhost:80"}, 200},
		{"GET", "/guests", []string{"Host", "[::1]:80"}, 200},
	} {
		if a := h.do(c.method, c.path, "", c.headers...); a.status != c.status {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.path, c.headers, a.status, a.body, c.status)
		}
	}
	if seen := h.sub.seen(); len(seen) != n {
		t.Errorf("sub-agents were asked: %v", seen[n:])
	}
	// A person who types the address, or follows a link of the agent's own.
	h.want(202, "GET", "/guests/"+vm1+"/start", "", "Sec-Fetch-Site", "none")
	h.want(202, "GET", "/guests/"+vm1+"/start", "", "Referer", h.server.URL+"/guests")
}

// Bodies and numbers are bounded.
func TestBounds(t *testing.T) {
	cfg := testConfig()
	cfg.MaxRequests, cfg.MaxGuests, cfg.MaxWaiting = 1, 1, 1
	h := newHost(t, hostOptions{cfg: &cfg})
	h.create(vm1)
	if a := h.want(413, "POST", "/guests", `{"x":"`+strings.Repeat("a", mistify.MaxBody)+`"}`); !strings.Contains(a.body, "bytes") {
		t.Errorf("%s", a.body)
	}
	h.want(400, "PATCH", "/metadata", `{"a":"`+strings.Repeat("a", mistify.MaxMetadataValue+1)+`"}`)
	h.want(429, "POST", "/guests", `{}`)
	// One request waits in its body: no other is let in but those that are not counted.
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", h.server.URL+"/guests", r)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		resp, err := h.http.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	h.until("a second one is refused", func() bool { return h.do("GET", "/guests", "").status == 429 })
	h.want(200, "GET", "/healthz", "")
	h.want(200, "GET", "/v1/status", "") // has a place of its own
	w.CloseWithError(io.EOF)
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.until("the place is free", func() bool { return h.do("GET", "/guests", "").status == 200 })
}

// Where in the agent an error was made is told only when that is asked for.
func TestStack(t *testing.T) {
	for _, debug := range []bool{false, true} {
		cfg := testConfig()
		cfg.Debug = debug
		h := newHost(t, hostOptions{cfg: &cfg})
		if a := h.want(404, "GET", "/guests/"+vm1, ""); strings.Contains(a.body, `"stack":[`) != debug {
			t.Errorf("debug %v: %s", debug, a.body)
		}
	}
}

// Profiles are served only when that is asked for.
func TestProfiling(t *testing.T) {
	for _, on := range []bool{false, true} {
		cfg := testConfig()
		cfg.Profiling = on
		h := newHost(t, hostOptions{cfg: &cfg})
		for _, p := range []string{"", "/cmdline", "/heap", "/symbol", "/goroutine"} {
			status := 404
			if on {
				status = 200
			}
			h.want(status, "GET", "/debug/pprof"+p, "")
		}
	}
}

// Nothing that somebody shows to be let in is kept or logged.
func TestNoSecrets(t *testing.T) {
	data := t.TempDir()
	h := newHost(t, hostOptions{data: data, deps: Deps{Auth: secretKeeper{}}})
	const secret = "very-secret-1234"
	for _, r := range []string{"POST /guests", "GET /nothing", "PATCH /metadata", "GET /guests"} {
		method, path, _ := strings.Cut(r, " ")
		body := ""
		if method != "GET" {
			body = "{}"
		}
		a := h.do(method, path, body, "Authorization", "Bearer "+secret)
		if strings.Contains(a.body, secret) {
			t.Errorf("%s answers it: %s", r, a.body)
		}
		if a.job() != "" {
			h.until("it has ended", func() bool { return h.agent.store.job(a.job()).Status.Ended() })
		}
	}
	h.stop()
	if strings.Contains(h.log.String(), secret) {
		t.Error("it is in the log")
	}
	if !strings.Contains(h.log.String(), "keeper") {
		t.Error("the log says nothing")
	}
	err := filepath.Walk(data, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), secret) {
			t.Errorf("it is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

type secretKeeper struct{}

func (secretKeeper) Authenticate(*http.Request) (auth.Identity, error) {
	return auth.Identity{Name: "keeper", Role: auth.Admin}, nil
}

// The fence of a guest outlives the guest, a restart and a snapshot, and only an
// operator's reset lowers it.
func TestFenceOutlives(t *testing.T) {
	data := t.TempDir()
	h := newHost(t, hostOptions{data: data})
	h.ended(h.want(202, "POST", "/guests", `{"id":"`+vm1+`"}`, "Vagoth-Token", "5.1").job())
	h.ended(h.want(202, "DELETE", "/guests/"+vm1, "", "Vagoth-Token", "5.2").job())
	h.want(412, "POST", "/guests", `{"id":"`+vm1+`"}`, "Vagoth-Token", "5.1")
	h.stop()
	h = newHost(t, hostOptions{data: data})
	h.want(412, "POST", "/guests", `{"id":"`+vm1+`"}`, "Vagoth-Token", "4.9")
	h.want(412, "POST", "/guests/"+vm1+"/provision", `{"id":"`+vm1+`"}`, "Vagoth-Token", "5.1")
	h.ended(h.want(202, "POST", "/guests", `{"id":"`+vm1+`"}`, "Vagoth-Token", "5.2").job())
	h.want(412, "PATCH", "/guests/"+vm1+"/metadata", `{"a":"b"}`, "Vagoth-Token", "5.1")
	h.want(200, "PATCH", "/guests/"+vm1+"/metadata", `{"a":"b"}`, "Vagoth-Token", "6.0")
	h.want(412, "POST", "/guests/"+vm1+"/start", "", "Vagoth-Token", "5.9")
	if err := h.agent.FenceReset(t.Context(), vm1); err != nil {
		t.Fatal(err)
	}
	h.want(202, "POST", "/guests/"+vm1+"/start", "", "Vagoth-Token", "1.0")
}

// The trail goes down to the sub-agent.
func TestTrailGoesDown(t *testing.T) {
	seen := make(chan http.Header, 8)
	s := newSub()
	h := newHost(t, hostOptions{subs: map[string]http.Handler{"test": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		s.ServeHTTP(w, r)
	})}})
	headers := []string{"Vagoth-Transaction", "t-1", "Vagoth-Source", "a%20person", "Vagoth-Reason", "because", "Vagoth-Job", "j-7", "Vagoth-Attempt", "2", "Vagoth-Token", "3.4"}
	h.ended(h.want(202, "POST", "/guests", `{"id":"`+vm1+`"}`, headers...).job())
	h.want(200, "GET", "/guests/"+vm1+"/metrics/cpu", "", headers...)
	for range 2 {
		got := <-seen
		for i := 0; i < len(headers); i += 2 {
			if got.Get(headers[i]) != headers[i+1] {
				t.Errorf("%s is %q, want %q", headers[i], got.Get(headers[i]), headers[i+1])
			}
		}
	}
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/start", "").job())
	if got := <-seen; got.Get("Vagoth-Transaction") == "" || got.Get("Vagoth-Job") == "" {
		t.Errorf("%v", got)
	}
	h.stop()
	if !strings.Contains(h.log.String(), "trail.transaction=t-1") || !strings.Contains(h.log.String(), "trail.token=3.4") {
		t.Errorf("the log does not say on whose behalf:\n%s", h.log)
	}
}

// A waiting client is answered when the server begins to stop.
func TestDraining(t *testing.T) {
	draining := make(chan struct{})
	h := newHost(t, hostOptions{idle: true, deps: Deps{Draining: draining, Log: slog.New(slog.DiscardHandler)}})
	id := h.want(202, "POST", "/guests", "{}").job()
	begin := time.Now()
	time.AfterFunc(20*time.Millisecond, func() { close(draining) })
	if a := h.want(200, "GET", "/jobs/"+id+"?wait=20s", ""); !strings.Contains(a.body, `"Queued"`) || time.Since(begin) > 10*time.Second {
		t.Errorf("%s after %v", a.body, time.Since(begin))
	}
}
