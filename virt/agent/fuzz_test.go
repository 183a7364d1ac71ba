package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// concrete is a route's path with these parameters, escaped as they are sent.
func concrete(path, guest, disk, name, image string) string {
	return strings.NewReplacer(":guest", guest, ":disk", disk, ":name", name, ":image", image, ":job", guest).Replace(path)
}

// Whatever a body holds, it is taken or refused, and what was taken is stored as
// JSON that is read again.
func FuzzBodies(f *testing.F) {
	a, do := fuzzHost(f)
	var routes []string
	for _, r := range (&server{a: a}).routes() {
		if r.in != nil {
			routes = append(routes, r.method+" "+concrete(r.path, vm1, "0", "one", "img"), r.method+" "+concrete(r.path, ct1, "0", "one", "img"))
		}
	}
	for _, body := range []string{`{"a":null,"b":"c"}`, `{"id":"x","type":"container","source":"http://a"}`, `{"id":"a/b"}`, `{"id":"` + ct1 + `","nics":[{"vlans":[1]}],"disks":[null]}`, `{}`, `null`, `[]`, `{"dest":"../x"}`, ``, `{"metadata":{"\u0000":"x"}}`, `{"destroyMoreRecent":true}`} {
		for n := range routes {
			f.Add(n, body)
		}
	}
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

// asked is a sub-agent that refuses everything, and notes what it should never
// have been asked.
type asked struct{ wrong []string }

func (a *asked) Close() {}

func (a *asked) Stream(_ context.Context, _ string, request any) (*mistify.Download, error) {
	a.look(request)
	return nil, errNo
}

func (a *asked) Call(_ context.Context, _ string, request, _ any) error {
	a.look(request)
	return errNo
}

func (a *asked) Upload(_ context.Context, _ string, request any, content io.ReadCloser, _ any) error {
	a.look(request)
	return errors.Join(errNo, content.Close())
}

func (a *asked) look(request any) {
	var err error
	switch r := request.(type) {
	case *measure:
		if !strings.Contains(string(r.Guest), vm1) {
			err = fmt.Errorf("the guest %s", r.Guest)
		}
	case *mistify.SnapshotRequest:
		var id mistify.SnapshotID
		if id, err = mistify.ParseSnapshotID(r.ID); err == nil && id.Guest != vm1 {
			err = fmt.Errorf("the snapshot %q", r.ID)
		}
		if r.From != "" && err == nil {
			err = mistify.CheckSnapshotName(r.From)
		}
	case *mistify.ImageRequest:
		if err = mistify.CheckType(r.Type); err == nil && r.ID != "" {
			err = mistify.CheckImageID(mistify.TypeContainer, r.ID)
		}
	case *mistify.StatusRequest:
		if r.ID != "" {
			_, err = mistify.ParseGuestID(r.ID)
		}
	default:
		err = fmt.Errorf("a %T", request)
	}
	if err != nil {
		a.wrong = append(a.wrong, err.Error())
	}
}

// Whatever stands where a route has a parameter, and in its query, a sub-agent is
// asked for nothing but what is allowed, and so is what is queued for it.
func FuzzParameters(f *testing.F) {
	a, do := fuzzHost(f)
	sub := &asked{}
	for _, s := range a.services {
		s.caller.Close()
		s.caller = sub
	}
	routes := (&server{a: a}).routes()
	for _, p := range []string{"one", "..", "../../etc", "a@b", "a%2Fb", "-rf", "\x00", "lib/busybox:1", strings.Repeat("x", 300), "\xff", "0", "?", "#"} {
		for n, r := range routes {
			if strings.Contains(r.path, ":") || len(r.query) > 0 {
				f.Add(n, true, p, p, p)
			}
		}
		f.Add(0, false, p, p, p)
	}
	f.Fuzz(func(t *testing.T, n int, known bool, part, other, query string) {
		r := routes[uint(n)%uint(len(routes))]
		guest := url.PathEscape(part)
		if known {
			guest = vm1
		}
		path := concrete(r.path, guest, url.PathEscape(part), url.PathEscape(other), url.PathEscape(part))
		values := url.Values{}
		for _, q := range r.query {
			if q != "wait" {
				values.Set(q, query)
			}
		}
		w := do(r.method, path+"?"+values.Encode(), "", nil)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), errNo.Error()) {
			sound(t, w)
		}
		if len(sub.wrong) > 0 {
			t.Fatalf("%s %s: a sub-agent is asked for what is not allowed: %q", r.method, path, sub.wrong)
		}
		for _, st := range a.store.unended() {
			if _, err := mistify.ParseGuestID(st.GuestID); err != nil && st.GuestID != hostQueue {
				t.Fatalf("a job is of the guest %q", st.GuestID)
			}
			if st.Snapshot != nil {
				if _, err := mistify.ParseSnapshotID(st.Snapshot.ID); err != nil {
					t.Fatalf("a job is queued for a snapshot that is not allowed: %+v", st.Snapshot)
				}
			}
			if st.Image != nil && mistify.CheckImageID(mistify.TypeContainer, st.Image.ID) != nil {
				t.Fatalf("a job is queued for an image that is not allowed: %+v", st.Image)
			}
			end := *st
			end.end(mistify.JobComplete)
			a.store.apply(&change{jobs: []*state{&end}})
		}
	})
}
