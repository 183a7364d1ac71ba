package agent

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt/mistify"
)

// fuzzHost is an agent that keeps nothing on disk and runs no jobs, with a guest.
func fuzzHost(f *testing.F) (*Agent, func(method, path, body string, headers map[string]string) *httptest.ResponseRecorder) {
	cfg := testConfig()
	for name, s := range cfg.Services {
		s.Port = 1 // nobody listens there
		cfg.Services[name] = s
	}
	cfg.MaxJobs, cfg.QueueJobs, cfg.MaxGuests = 1000, 1000, 1000
	a, err := Open(f.Context(), cfg, Deps{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = a.Close() })
	g, err := newGuest(&mistify.Guest{ID: vm1, Type: "vm"})
	if err != nil {
		f.Fatal(err)
	}
	a.store.apply(&change{put: g})
	h := a.Handler()
	return a, func(method, path, body string, headers map[string]string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.URL.RawPath, r.URL.RawQuery, _ = strings.Cut(path, "?")
		r.URL.Path, _ = url.PathUnescape(r.URL.RawPath)
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
}

// sound fails unless an answer is one that the agent means to give.
func sound(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code == 500 || w.Code == 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w.Code >= 400 && w.Body.Len() > 0 {
		var b mistify.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil || b.Code != w.Code || b.Message == "" {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
	}
}

// Whatever a body holds, it is taken or refused, and what was taken is stored as
// JSON that is read again.
func FuzzBodies(f *testing.F) {
	routes := []string{
		"PATCH /metadata", "POST /images", "POST /container_images", "POST /guests", "PATCH /guests/" + vm1 + "/metadata", "POST /guests/" + vm1 + "/define", "POST /guests/" + ct1 + "/provision",
		"POST /guests/" + vm1 + "/deprovision", "POST /guests/" + vm1 + "/snapshots", "POST /guests/" + vm1 + "/disks/0/snapshots", "POST /guests/" + vm1 + "/snapshots/one/rollback",
	}
	for n, body := range []string{`{"a":null,"b":"c"}`, `{"id":"x","type":"container","source":"http://a"}`, `{"id":"a/b"}`, `{"id":"` + ct1 + `","nics":[{"vlans":[1]}],"disks":[null]}`, `{}`, `null`, `[]`, `{"dest":"../x"}`, ``, `{"metadata":{"\u0000":"x"}}`, `{"destroyMoreRecent":true}`} {
		f.Add(n, body)
	}
	a, do := fuzzHost(f)
	f.Fuzz(func(t *testing.T, n int, body string) {
		method, path, _ := strings.Cut(routes[uint(n)%uint(len(routes))], " ")
		w := do(method, path, body, nil)
		sound(t, w)
		if !json.Valid(a.store.guestList()) {
			t.Fatalf("the store holds what is not JSON: %s", a.store.guestList())
		}
		if id := w.Header().Get(mistify.HeaderJob); id != "" {
			st := a.store.job(id)
			if st == nil {
				t.Fatal("the job is not there")
			}
			if st.Snapshot != nil {
				if _, err := mistify.ParseSnapshotID(st.Snapshot.ID); err != nil || mistify.CheckSnapshotName(st.Snapshot.Dest) != nil && st.Snapshot.Dest != "" {
					t.Fatalf("a snapshot is asked for that is not allowed: %+v", st.Snapshot)
				}
			}
			if st.Image != nil && mistify.CheckImageID(st.Image.Type, st.Image.ID) != nil {
				t.Fatalf("an image is asked for that is not allowed: %+v", st.Image)
			}
			end := *st
			end.end(mistify.JobComplete)
			a.store.apply(&change{jobs: []*state{&end}})
		}
		// Nothing grows from one body to the next.
		for _, id := range append([]string(nil), a.store.order...) {
			if id != vm1 {
				a.store.apply(&change{drop: id})
			}
		}
	})
}

// Whatever stands in a path, a query or a header, it is served or refused.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{
		"/guests/" + vm1, "/guests/..%2f..%2fetc/jobs", "/guests/" + vm1 + "/disks/%2e%2e/snapshots", "/guests/" + vm1 + "/snapshots/a%00b", "/images/%2e%2e", "/container_images/a%2Fb", "/jobs/x?wait=-1s",
		"/jobs?limit=99999999999999999999", "/guests/" + vm1 + "/snapshots/a@b/download", "/v1/status?id=%ff", "/v1/guests/x/fence", "//guests//", "/guests/" + strings.ToUpper(vm1) + "/start", "/images?type=%0a",
	} {
		for _, m := range []string{"GET", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"} {
			f.Add(m, p, "1.2", "a%20b")
		}
	}
	a, do := fuzzHost(f)
	f.Fuzz(func(t *testing.T, method, path, token, reason string) {
		switch method {
		case "GET", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "PUT":
		default:
			return
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "wait=") && strings.Contains(path, "jobs/") && len(a.store.jobs) > 0 {
			return
		}
		w := do(method, path, "", map[string]string{"Vagoth-Token": token, "Vagoth-Reason": reason})
		if w.Code == 502 { // a sub-agent, of which there is none, was to be asked
			return
		}
		sound(t, w)
		for _, st := range a.store.unended() {
			if _, err := mistify.ParseGuestID(st.GuestID); err != nil && st.GuestID != hostQueue {
				t.Fatalf("a job is of the guest %q", st.GuestID)
			}
			end := *st
			end.end(mistify.JobComplete)
			a.store.apply(&change{jobs: []*state{&end}, fence: &fence{guest: st.GuestID}})
		}
	})
}
