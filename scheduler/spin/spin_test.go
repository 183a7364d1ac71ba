package spin_test

import (
	"bytes"
	"context"
	"encoding/json"

	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/spin"
)

// agent is a client of the six verbs, as those of spin-broker are.
type agent struct {
	t *testing.T
	h http.Handler
}

func newAgent(t *testing.T, f *fake) agent {
	return agent{t, spin.New(f, spin.Options{Now: f.clock})}
}

// problem is the body of an error. Clients of spin-broker insist on each field.
type problem struct {
	Name      *string `json:"name"`
	ID        *string `json:"id"`
	Message   *string `json:"message"`
	Temporary *bool   `json:"temporary"`
	Timeout   *bool   `json:"timeout"`
	Fault     *bool   `json:"fault"`
}

func (a agent) do(method, path, body string) *httptest.ResponseRecorder {
	a.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, path, r)
	req.Host = "127.0.0.1:8081"
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, req)
	return w
}

// ok asks, expects a 200, and decodes the answer into v unless that is nil.
func (a agent) ok(method, path, body string, v any) {
	a.t.Helper()
	w := a.do(method, path, body)
	if w.Code != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if v == nil {
		if w.Body.Len() > 0 {
			a.t.Fatalf("%s %s: answered %q, expected no body", method, path, w.Body)
		}
		return
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		a.t.Fatalf("%s %s: the content type is %q", method, path, got)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		a.t.Fatalf("%s %s: %q: %v", method, path, w.Body, err)
	}
}

// refused asks, expects an error, and returns its message.
func (a agent) refused(method, path, body string, status int, name string) string {
	a.t.Helper()
	w := a.do(method, path, body)
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		a.t.Fatalf("%s %s: %d %q: %v", method, path, w.Code, w.Body, err)
	}
	if p.Name == nil || p.ID == nil || p.Message == nil || p.Temporary == nil || p.Timeout == nil || p.Fault == nil {
		a.t.Fatalf("%s %s: the error lacks a field: %s", method, path, w.Body)
	}
	if w.Code != status || *p.Name != name || w.Header().Get("goa-error") != name || *p.ID == "" || *p.Message == "" {
		a.t.Fatalf("%s %s: %d %s (goa-error %q), expected %d %s", method, path, w.Code, w.Body, w.Header().Get("goa-error"), status, name)
	}
	return *p.Message
}

func (a agent) newPackage() (id string) {
	a.t.Helper()
	a.ok("POST", "/new", "", &id)
	return id
}

func (a agent) add(pack, resource, action, more string) (id string) {
	a.t.Helper()
	a.ok("POST", "/add/"+pack, fmt.Sprintf(`{"resource":%q,"action":%q%s}`, resource, action, more), &id)
	return id
}

func (a agent) enqueue(pack string) (ids []string) {
	a.t.Helper()
	a.ok("POST", "/enqueue/"+pack, "", &ids)
	return ids
}

type handedOut struct {
	UUID       string
	Resource   string
	Action     string
	Parameters map[string]json.RawMessage
}

func (a agent) next(resource string) (n handedOut) {
	a.t.Helper()
	a.ok("GET", "/next/"+resource, "", &n)
	return n
}

func (a agent) nothing(resource string) {
	a.t.Helper()
	a.refused("GET", "/next/"+resource, "", http.StatusBadRequest, "record_not_found")
}

func (a agent) complete(uuid string) {
	a.t.Helper()
	a.ok("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":true}`, uuid), nil)
}

type outcome struct {
	Status         *bool
	Reason, Causer *string
}

func (a agent) succeeded(pack string) {
	a.t.Helper()
	var o outcome
	a.ok("GET", "/status/"+pack, "", &o)
	if o.Status == nil || !*o.Status || o.Reason != nil || o.Causer != nil {
		a.t.Fatalf("the status of %s is not that of a success: %+v", pack, o)
	}
}

func TestAPackageFromNewToStatus(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	one := a.add(p, "storage", "add_volume", `,"parameters":{"path":"test","size":50}`)
	two := a.add(p, "emulation", "start", `,"parameters":null,"dependencies":["`+one+`"]`)
	a.refused("GET", "/status/"+p, "", 400, "record_not_found")
	if got := a.enqueue(p); !slices.Equal(got, []string{one, two}) {
		t.Fatalf("enqueue answered %v, expected %v", got, []string{one, two})
	}
	a.nothing("emulation") // blocked
	a.nothing("other")     // regression: a queue name ignored
	n := a.next("storage")
	if n.Resource != "storage" || n.Action != "add_volume" || string(n.Parameters["path"]) != `"test"` || string(n.Parameters["size"]) != "50" {
		t.Fatalf("next answered %+v", n)
	}
	if n.UUID == one {
		t.Fatal("the uuid of next is that of the command, not of the attempt")
	}
	a.refused("GET", "/status/"+p, "", 400, "record_not_found")
	a.complete(n.UUID)
	n = a.next("emulation")
	if n.Parameters != nil {
		t.Fatalf("parameters that were null are %v", n.Parameters)
	}
	a.complete(n.UUID)
	a.succeeded(p)
	a.nothing("storage")
	if w := f.wants[0]; w.Wait != 0 || w.Max != 1 || w.Lease.D() != time.Hour {
		t.Fatalf("next asked for %+v: it must not wait, and lease for an hour", w)
	}
	if f.sources[0] != "spin" {
		t.Fatalf("the source of the package is %q", f.sources[0])
	}
}

// Regression: enqueued twice and handed out twice.
func TestEnqueuedTwiceIsQueuedOnce(t *testing.T) {
	a := newAgent(t, newFake())
	p := a.newPackage()
	a.add(p, "storage", "x", "")
	first := a.enqueue(p)
	if again := a.enqueue(p); !slices.Equal(first, again) {
		t.Fatalf("the second enqueue answered %v, the first %v", again, first)
	}
	a.complete(a.next("storage").UUID)
	a.nothing("storage")
	a.refused("POST", "/add/"+p, `{"resource":"storage","action":"x"}`, http.StatusConflict, "conflict")
}

// Regression: a failure hidden behind an earlier unfinished command.
func TestAFailureIsSeenBeforeEarlierCommandsEnd(t *testing.T) {
	a := newAgent(t, newFake())
	p := a.newPackage()
	a.add(p, "storage", "slow", "")
	bad := a.add(p, "emulation", "bad", "")
	a.add(p, "emulation", "after", `,"dependencies":["`+bad+`"]`)
	a.enqueue(p)
	n := a.next("emulation")
	a.ok("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":false,"status_reason":"no <such> \"image\""}`, n.UUID), nil)
	var o outcome
	a.ok("GET", "/status/"+p, "", &o)
	if o.Status == nil || *o.Status || o.Reason == nil || *o.Reason != `no <such> "image"` || o.Causer == nil || *o.Causer != bad {
		t.Fatalf("the status is %+v, expected the failure of %s", o, bad)
	}
}

// The causer is the command that failed, also if it is in another package.
func TestTheCauserIsTheFirstToFail(t *testing.T) {
	a := newAgent(t, newFake())
	first, second := a.newPackage(), a.newPackage()
	bad := a.add(first, "storage", "bad", "")
	a.add(second, "emulation", "after", `,"dependencies":["`+bad+`"]`)
	a.enqueue(first)
	a.enqueue(second)
	a.ok("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":false}`, a.next("storage").UUID), nil)
	var o outcome
	a.ok("GET", "/status/"+second, "", &o)
	if o.Causer == nil || *o.Causer != bad || o.Reason == nil || *o.Reason != "its dependency failed" {
		t.Fatalf("the status is %+v, expected the failure of %s", o, bad)
	}
}

// Regression: completion by a worker that lost its lease or never had one.
func TestLateAndForeignCompletionsAreRefused(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	id := a.add(p, "storage", "x", "")
	a.enqueue(p)
	late := a.next("storage").UUID
	f.pass(time.Hour)
	again := a.next("storage").UUID
	if late == again {
		t.Fatal("two attempts have the same uuid")
	}
	for _, foreign := range []string{late, id, "00000000-0000-4000-8000-000000000000", "", "../x"} {
		a.refused("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":true}`, foreign), 400, "record_not_found")
	}
	a.refused("GET", "/status/"+p, "", 400, "record_not_found")
	a.complete(again)
	a.succeeded(p)
	a.refused("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":false}`, again), 400, "record_not_found")
	a.succeeded(p)
}

func TestAnAttemptSurvivesARestart(t *testing.T) {
	f := newFake()
	before := newAgent(t, f)
	p := before.newPackage()
	before.add(p, "storage", "x", "")
	before.add(p, "emulation", "y", "")
	before.enqueue(p)
	one, two := before.next("storage").UUID, before.next("emulation").UUID

	after := newAgent(t, f)
	after.complete(two)
	after.complete(one)
	after.succeeded(p)
	after.refused("POST", "/complete", `{"id":"00000000-0000-4000-8000-000000000000","status":true}`, 400, "record_not_found")
	if f.lists != 1 {
		t.Fatalf("the running jobs were listed %d times, once is enough", f.lists)
	}
}

// The memory for attempts is bounded by what runs, whatever their order and
// however they end.
func TestEndedAttemptsAreForgotten(t *testing.T) {
	f := newFake()
	h := spin.New(f, spin.Options{Now: f.clock})
	a := agent{t, h}
	p := a.newPackage()
	a.add(p, "long", "x", "")
	for range 1_500 {
		a.add(p, "short", "x", "")
	}
	a.enqueue(p)
	a.next("long")
	for range 1_500 {
		a.complete(a.next("short").UUID)
	}
	if known, queued := spin.Remembered(h); known != 1 || queued > 1_100 {
		t.Fatalf("%d attempts and %d entries are remembered, one command runs", known, queued)
	}
	// The lost one goes, when the next is handed out.
	f.pass(2 * time.Hour)
	p = a.newPackage()
	a.add(p, "short", "x", "")
	a.enqueue(p)
	a.complete(a.next("short").UUID)
	if known, _ := spin.Remembered(h); known != 0 {
		t.Fatalf("%d attempts are remembered, none runs", known)
	}
}

// A lease that was prolonged is not forgotten at its first end.
func TestAProlongedAttemptIsKept(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	a.add(p, "storage", "x", "")
	a.add(p, "emulation", "y", "")
	a.enqueue(p)
	a.refused("POST", "/complete", `{"id":"00000000-0000-4000-8000-000000000000","status":true}`, 400, "record_not_found") // the one time of looking
	n := a.next("storage")
	f.mu.Lock()
	for _, j := range f.jobs {
		j.Until = j.Until.Add(time.Hour)
	}
	f.mu.Unlock()
	f.pass(90 * time.Minute)
	a.complete(a.next("emulation").UUID)
	a.complete(n.UUID)
	a.succeeded(p)
}

func TestRefusals(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	long := `{"resource":"r","action":"x","parameters":{"a":"` + strings.Repeat("x", 300<<10) + `"}}`
	for _, test := range []struct {
		method, path, body string
		status             int
		name, message      string
	}{
		{"POST", "/add/" + p, ``, 400, "missing_payload", "missing required payload"},
		{"POST", "/add/" + p, `{"action":"x"}`, 400, "missing_field", `"resource" is missing from body`},
		{"POST", "/add/" + p, `{"resource":"r"}`, 400, "missing_field", `"action" is missing from body`},
		{"POST", "/add/" + p, `{"resource":"r","action":"x","parameters":[]}`, 400, "invalid", "parameters"},
		{"POST", "/add/" + p, `{"resource":"r","action":"x","parameters":{"a":1,"a":2}}`, 400, "invalid", "twice"},
		{"POST", "/add/" + p, `{"resource":"r","action":"x","resorce":1}`, 400, "decode_payload", "resorce"},
		{"POST", "/add/" + p, `{"resource":"r","action":"x"}{}`, 400, "decode_payload", "follows"},
		{"POST", "/add/" + p, `{"resource":1,"action":"x"}`, 400, "decode_payload", "resource"},
		{"POST", "/add/" + p, `{"id":"other","resource":"r","action":"x"}`, 400, "invalid", "other"},
		{"POST", "/add/" + p, `{"resource":"r","action":"unknown"}`, 400, "invalid", "remote = yes in [queue.r]"},
		{"POST", "/add/" + p, long, http.StatusRequestEntityTooLarge, "too_large", "262144"},
		{"POST", "/add/none", `{"resource":"r","action":"x"}`, 400, "record_not_found", "none"},
		{"POST", "/enqueue/none", ``, 400, "record_not_found", "none"},
		{"GET", "/status/none", ``, 400, "record_not_found", "none"},
		{"POST", "/complete", `{"status":true}`, 400, "missing_field", `"id" is missing from body`},
		{"POST", "/complete", `{"id":"x"}`, 400, "missing_field", `"status" is missing from body`},
		{"POST", "/complete", `not json`, 400, "decode_payload", "invalid character"},
		{"GET", "/new", ``, 405, "method_not_allowed", "POST"},
		{"HEAD", "/next/r", ``, 405, "method_not_allowed", "GET"},
		{"POST", "/next/r", ``, 405, "method_not_allowed", "GET"},
		{"GET", "/next/", ``, 400, "missing_field", "RESOURCE"},
		{"GET", "/next", ``, 404, "not_found", "/next/RESOURCE"},
		{"POST", "/new/x", ``, 404, "not_found", "POST /new"},
		{"GET", "/", ``, 404, "not_found", "POST /new"},
	} {
		if got := a.refused(test.method, test.path, test.body, test.status, test.name); !strings.Contains(got, test.message) {
			t.Errorf("%s %s %.80s: the message is %q, expected %q in it", test.method, test.path, test.body, got, test.message)
		}
	}
	if len(f.wants) > 0 {
		t.Errorf("a refused request reached Next: %+v", f.wants)
	}
}

func TestErrorsOfTheScheduler(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		name   string
		after  string
	}{
		{&scheduler.TooManyError{Queued: 9, Max: 8, After: 3 * time.Second}, 429, "too_many", "3"},
		{scheduler.ErrClosed, 503, "unavailable", "1"},
		{fmt.Errorf("disk: %w", io.ErrShortWrite), 500, "fault", ""},
		{scheduler.ErrInvalid, 400, "invalid", ""},
		{context.Canceled, 503, "unavailable", "1"},
	} {
		f := newFake()
		f.fail = test.err
		a := newAgent(t, f)
		a.refused("GET", "/next/x", "", test.status, test.name)
		a.refused("POST", "/new", "", test.status, test.name)
		if got := a.do("POST", "/new", "").Header().Get("Retry-After"); got != test.after {
			t.Errorf("%v: Retry-After is %q, expected %q", test.err, got, test.after)
		}
	}
}

func TestOnlyThisMachineAndNoBrowser(t *testing.T) {
	f := newFake()
	h := spin.New(f, spin.Options{})
	for _, test := range []struct {
		host   string
		header []string
		ok     bool
	}{
		{"127.0.0.1:8081", nil, true},
		{"127.8.9.1", nil, true},
		{"localhost:8081", nil, true},
		{"LOCALHOST", nil, true},
		{"[::1]:8081", nil, true},
		{"[::1]", nil, true},
		{"[::ffff:127.0.0.1]:80", nil, true},
		{"", nil, false},
		{"evil.example", nil, false},
		{"evil.example:8081", nil, false},
		{"localhost.evil.example", nil, false},
		{"192.168.0.7:8081", nil, false},
		{"0.0.0.0:8081", nil, false},
		{"127.0.0.1:8081", []string{"Origin", "http://evil.example"}, false},
		{"127.0.0.1:8081", []string{"Origin", "null"}, false},
		{"127.0.0.1:8081", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"127.0.0.1:8081", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"127.0.0.1:8081", []string{"Sec-Fetch-Site", "none"}, true},
		{"127.0.0.1:8081", []string{"Sec-Purpose", "prefetch"}, false},
	} {
		r := httptest.NewRequest("GET", "/next/x", nil)
		r.Host = test.host
		if test.header != nil {
			r.Header.Set(test.header[0], test.header[1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Code != http.StatusForbidden; got != test.ok {
			t.Errorf("host %q %v: %d %s", test.host, test.header, w.Code, w.Body)
		}
	}
}

func TestContentTypes(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	for kind, status := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "application/x-www-form-urlencoded": 200,
		"application/xml": 415, "application/gob": 415,
	} {
		r := httptest.NewRequest("POST", "/add/"+p, strings.NewReader(`{"resource":"r","action":"x"}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		a.h.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%q: %d %s, expected %d", kind, w.Code, w.Body, status)
		}
	}
}

func TestAnEmptyPackageIsDone(t *testing.T) {
	a := newAgent(t, newFake())
	p := a.newPackage()
	if got := a.do("POST", "/enqueue/"+p, ""); got.Code != 200 || strings.TrimSpace(got.Body.String()) != "[]" {
		t.Fatalf("enqueue answered %d %s", got.Code, got.Body)
	}
	a.succeeded(p)
}

// Regression: a command handed out to somebody who is gone stays in their hands.
func TestACommandForSomebodyGoneIsHandedBack(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	p := a.newPackage()
	a.add(p, "storage", "x", "")
	a.enqueue(p)
	ctx, cancel := context.WithCancel(t.Context())
	f.onNext = cancel
	r := httptest.NewRequestWithContext(ctx, "GET", "/next/storage", nil)
	r.Host = "localhost"
	a.h.ServeHTTP(httptest.NewRecorder(), r)
	if f.handed != 1 {
		t.Fatal("the command was not handed back")
	}
	f.onNext = nil
	a.complete(a.next("storage").UUID)
}

func TestAReasonIsCut(t *testing.T) {
	a := newAgent(t, newFake())
	for _, reason := range []string{`""`, `" "`, `null`, `"` + strings.Repeat("€", 5_000) + `"`} {
		p := a.newPackage()
		a.add(p, "storage", "x", "")
		a.enqueue(p)
		a.ok("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":false,"status_reason":%s}`, a.next("storage").UUID, reason), nil)
		var o outcome
		a.ok("GET", "/status/"+p, "", &o)
		if o.Reason == nil || *o.Reason == "" || len(*o.Reason) > 4<<10+3 || strings.ContainsRune(*o.Reason, '�') {
			t.Errorf("the reason %.20s became %v", reason, o.Reason)
		}
	}
}

// The answers are those bytes that Go's encoder writes, as the original's do.
func TestTheBytesOfTheAnswers(t *testing.T) {
	f := newFake()
	a := newAgent(t, f)
	for _, test := range [][3]string{
		{"POST /new", "", "\"p1\"\n"},
		{"POST /add/p1", `{"resource":"st<r>","action":"x","parameters":{"path": "t<e>st"}}`, "\"j2\"\n"},
		{"POST /enqueue/p1", "", "[\"j2\"]\n"},
		{"GET /next/st%3Cr%3E", "", "{\"uuid\":\"" + uuidOfJ2 + "\",\"resource\":\"st\\u003cr\\u003e\",\"action\":\"x\",\"parameters\":{\"path\":\"t<e>st\"}}\n"},
		{"POST /complete", `{"id":"` + uuidOfJ2 + `","status":true,"status_reason":null}`, ""},
		{"GET /status/p1", "", "{\"status\":true}\n"},
	} {
		method, path, _ := strings.Cut(test[0], " ")
		if got := a.do(method, path, test[1]); got.Code != 200 || got.Body.String() != test[2] {
			t.Fatalf("%s: %d %q, expected %q", test[0], got.Code, got.Body, test[2])
		}
	}
}

// uuidOfJ2 is that of the job j2 with the token 1.1: it never changes, as agents
// hold it across restarts and releases.
const uuidOfJ2 = "2342cabf-a407-5ed6-8944-341867f8bde4"

func FuzzRequests(f *testing.F) {
	f.Add("POST", "/add/p1", `{"resource":"r","action":"x","parameters":{"a":1}}`)
	f.Add("POST", "/complete", `{"id":"00000000-0000-4000-8000-000000000000","status":true}`)
	f.Add("GET", "/next/%2e%2e", "")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequest(method, "http://localhost"+path, bytes.NewReader([]byte(body)))
		if err != nil || r.Host != "localhost" {
			return
		}
		fake := newFake()
		h := spin.New(fake, spin.Options{Now: fake.clock})
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "http://localhost/new", nil))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s %q: the answer is no JSON: %q", method, path, body, w.Body)
		}
	})
}
