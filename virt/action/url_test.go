package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// serve starts a server; it ends with the test, with what still hangs in it.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// posted runs one attempt of an action at an address.
func posted(ctx context.Context, t *testing.T, address, token string) (any, error) {
	t.Helper()
	a, err := URL("notify", address, component.NewSecret(token), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	task := &logTask{fakeTask: fakeTask{job: scheduler.Job{ID: "j1", Queue: "web1", Action: "notify", Params: parsed(t, `{"vm":"web1"}`)}}}
	return a.Run(ctx, task)
}

func TestURL(t *testing.T) {
	var header http.Header
	var got call
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost || r.URL.RequestURI() != "/hook?room=7" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("{\"sent\": 3}\n"))
	})
	tr := trail.Trail{Transaction: "t1", Source: "ann", Reason: "ä test", Job: "j1", Attempt: 2, Token: trail.Token{Epoch: 5, Number: 9}}
	res, err := posted(trail.With(t.Context(), tr), t, s.URL+"/hook?room=7", "s3cret")
	doc, _ := res.(registry.Document)
	if err != nil || doc.String() != `{"sent":3}` {
		t.Errorf("it answered %v, %v", res, err)
	}
	if got.Job != "j1" || got.Queue != "web1" || got.Params.String() != `{"vm":"web1"}` || got.Trail.Attempt != 2 {
		t.Errorf("it was told %+v", got)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer s3cret", "Vagoth-Transaction": "t1", "Vagoth-Source": "ann",
		"Vagoth-Reason": "%C3%A4%20test", "Vagoth-Job": "j1", "Vagoth-Attempt": "2", "Vagoth-Token": "5.9",
	} {
		if header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, header.Get(name), want)
		}
	}
}

func TestURLAnswers(t *testing.T) {
	for _, c := range []struct {
		status     int
		kind, body string
		want       string // of the error; "" is none
		final      bool
	}{
		{200, "", "", "", false},
		{204, "", "", "", false},
		{200, "", "[1]", "no result", true},
		{200, "", "fine", "no result", true},
		{200, "", `{"a":"` + strings.Repeat("x", maxAnswer) + `"}`, "more than", true},
		{400, "application/json", `{"message":"no such\u0007 room"}`, "400 Bad Request: no such\uFFFD room", true},
		{404, "text/html", `<h1>lost</h1>`, "404 Not Found", true},
		{409, "text/plain; charset=utf-8", "taken\nby somebody", "409 Conflict: taken", true},
		{408, "", "", "408", false},
		{425, "", "", "425", false},
		{429, "", "", "429", false},
		{500, "application/json", `{"message":"` + strings.Repeat("long ", 1000) + `"}`, "500 Internal Server Error: long", false},
		{503, "", "", "503", false},
		{304, "", "", "304", true},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.kind != "" {
				w.Header().Set("Content-Type", c.kind)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		_, err := posted(t.Context(), t, s.URL+"/x?key=hidden", "s3cret")
		if c.want == "" {
			if err != nil {
				t.Errorf("%d %.20s: %v", c.status, c.body, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || scheduler.IsFinal(err) != c.final || len(err.Error()) > 1000 {
			t.Errorf("%d %.20s: final %t, %v", c.status, c.body, scheduler.IsFinal(err), err)
		}
		if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

func TestURLRedirects(t *testing.T) {
	other := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") })
	var bodies []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got call
		_ = json.NewDecoder(r.Body).Decode(&got)
		bodies = append(bodies, r.URL.Path+" "+got.Job)
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
		case "/see":
			http.Redirect(w, r, "/new", http.StatusSeeOther)
		case "/away":
			http.Redirect(w, r, other.URL+"/?key=hidden", http.StatusTemporaryRedirect)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusTemporaryRedirect)
		}
	})
	if _, err := posted(t.Context(), t, s.URL+"/moved", "x"); err != nil || strings.Join(bodies, ",") != "/moved j1,/new j1" {
		t.Errorf("moved on the same host: %v, %q", err, bodies)
	}
	for path, want := range map[string]string{"/see": "drops the job", "/away": "only the same host", "/round": "more than 5 times"} {
		_, err := posted(t.Context(), t, s.URL+path, "x")
		if err == nil || !strings.Contains(err.Error(), want) || !scheduler.IsFinal(err) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A server that hangs, before or in the middle of its answer, costs the attempt's
// time and no more; the next attempt may try again.
func TestURLThatHangs(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that a client has gone
		if r.URL.Path == "/trickle" {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				if f, ok := w.(http.Flusher); ok {
					f.Flush()
				}
				select {
				case <-r.Context().Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
		<-r.Context().Done()
	})
	late := errors.New("the attempt took too long")
	for _, path := range []string{"/hang", "/trickle"} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, late)
		began := time.Now()
		_, err := posted(ctx, t, s.URL+path, "")
		cancel()
		if !errors.Is(err, late) || scheduler.IsFinal(err) || time.Since(began) > 10*time.Second {
			t.Errorf("%s: %v after %s", path, err, time.Since(began))
		}
		back, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { stop(scheduler.ErrHandedBack) })
		if _, err := posted(back, t, s.URL+path, ""); !errors.Is(err, scheduler.ErrHandedBack) {
			t.Errorf("%s, handed back: %v", path, err)
		}
	}
}

// What is no HTTP, or nobody, is a failure that may pass.
func TestURLWithoutAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.org ready\r\n"))
			_ = c.Close()
		}
	}()
	address := "http://" + l.Addr().String()
	if _, err := posted(t.Context(), t, address, ""); err == nil || scheduler.IsFinal(err) {
		t.Errorf("what is no HTTP: %v", err)
	}
	_ = l.Close()
	<-done
	if _, err := posted(t.Context(), t, address+"/x?key=hidden", ""); err == nil || scheduler.IsFinal(err) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestURLIsChecked(t *testing.T) {
	for _, c := range []struct{ address, token, want string }{
		{"ftp://h/x", "", "use https or http"},
		{"https:///x", "", "names no host"},
		{"https://ann:s3cret@h/x", "", "holds a user"},
		{"https://h/#x", "", "after #"},
		{"http://h\x7f/", "", "cannot be read"},
		{"http://hooks.example.org/x", "s3cret", "use https"},
		{"http://10.0.0.1/x", "s3cret", "use https"},
	} {
		_, err := URL("notify", c.address, component.NewSecret(c.token), 0)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", c.address, err)
		}
	}
	for _, address := range []string{"http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost/x", "https://hooks.example.org"} {
		if a, err := URL("notify", address+"?key=hidden", component.NewSecret("s3cret"), time.Second); err != nil || strings.Contains(fmt.Sprint(a.Help), "hidden") || !a.AnyParams {
			t.Errorf("%s: %+v, %v", address, a, err)
		}
	}
	if _, err := URL("../x", "https://h", component.Secret{}, 0); err == nil {
		t.Error("an action called ../x was accepted")
	}
}
