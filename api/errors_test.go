package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// sentinels are those of the contract packages, by the name in the source.
func sentinels() map[string]error {
	return map[string]error{
		"registry.ErrNotFound": registry.ErrNotFound, "registry.ErrConflict": registry.ErrConflict, "registry.ErrInvalid": registry.ErrInvalid,
		"registry.ErrTooLarge": registry.ErrTooLarge, "registry.ErrCompacted": registry.ErrCompacted, "registry.ErrCursor": registry.ErrCursor,
		"registry.ErrClosed": registry.ErrClosed, "registry.ErrUnavailable": registry.ErrUnavailable,
		"registry.ErrUnknownOutcome": registry.ErrUnknownOutcome, "registry.ErrCorrupt": registry.ErrCorrupt,
		"scheduler.ErrInvalid": scheduler.ErrInvalid, "scheduler.ErrNotFound": scheduler.ErrNotFound, "scheduler.ErrConflict": scheduler.ErrConflict,
		"scheduler.ErrClosed": scheduler.ErrClosed, "scheduler.ErrUnsupported": scheduler.ErrUnsupported,
		"scheduler.ErrStale": scheduler.ErrStale, "scheduler.ErrTooMany": scheduler.ErrTooMany, "scheduler.ErrCompacted": scheduler.ErrCompacted,
		"scheduler.ErrHandedBack": scheduler.ErrHandedBack,
		"provisioner.ErrInvalid":  provisioner.ErrInvalid, "provisioner.ErrExhausted": provisioner.ErrExhausted, "provisioner.ErrVetoed": provisioner.ErrVetoed,
		"allocator.ErrNoHost": allocator.ErrNoHost,
		"virt.ErrNotFound":    virt.ErrNotFound, "virt.ErrUnreachable": virt.ErrUnreachable, "virt.ErrUnsupported": virt.ErrUnsupported,
		"virt.ErrBusy": virt.ErrBusy, "virt.ErrConflict": virt.ErrConflict, "virt.ErrInvalid": virt.ErrInvalid, "virt.ErrAnswers": virt.ErrAnswers,
	}
}

// sourceSentinels reads the names of exported error variables from the source.
func sourceSentinels(t *testing.T, pkg string) (names []string) {
	t.Helper()
	parsed, err := parser.ParseDir(token.NewFileSet(), "../"+pkg, func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0) //nolint:staticcheck // one package, no build tags
	if err != nil || parsed[pkg] == nil {
		t.Fatalf("cannot read package %s: %v", pkg, err)
	}
	for _, f := range parsed[pkg].Files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, n := range spec.(*ast.ValueSpec).Names { //nolint:forcetypeassert // of a var
					if strings.HasPrefix(n.Name, "Err") {
						names = append(names, pkg+"."+n.Name)
					}
				}
			}
		}
	}
	return names
}

// Each sentinel of a contract belongs to exactly one code.
func TestEverySentinelHasOneCode(t *testing.T) {
	known := sentinels()
	for _, pkg := range []string{"registry", "scheduler", "provisioner", "allocator", "virt", "monitor"} {
		for _, name := range sourceSentinels(t, pkg) {
			if _, ok := known[name]; !ok {
				t.Errorf("%s is not in the table of this test: give it a code", name)
			}
		}
	}
	known["context.Canceled"], known["context.DeadlineExceeded"] = context.Canceled, context.DeadlineExceeded
	used := map[error]string{}
	names := map[string]bool{}
	for _, c := range Codes() {
		if names[c.Name] || c.Help == "" || c.Status < 400 || c.Exit < 1 || c.Exit > 4 {
			t.Errorf("code %+v", c)
		}
		names[c.Name] = true
		for _, e := range c.Errors {
			if other, twice := used[e]; twice {
				t.Errorf("%q is in the codes %s and %s", e, other, c.Name)
			}
			used[e] = c.Name
		}
	}
	for name, e := range known {
		if used[e] == "" {
			t.Errorf("%s has no code", name)
		}
		delete(used, e)
	}
	for e, code := range used {
		t.Errorf("code %s has %q, which no contract has", code, e)
	}
}

// failing answers every request with an error.
func failing(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status, p := problemOf(err)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"message":%q,"code":%q}`, p.Message, p.Code)
	})
}

// What an error is, it is on the other side of the wire too, wrapped or not.
func TestErrorsCrossTheWire(t *testing.T) {
	all := sentinels()
	all["context.Canceled"], all["context.DeadlineExceeded"] = context.Canceled, context.DeadlineExceeded
	for name, sentinel := range all {
		srv := httptest.NewServer(failing(fmt.Errorf("cannot do it: %w", sentinel)))
		_, err := NewClient(srv.URL, srv.Client().Transport).Version(t.Context())
		srv.CloseClientConnections()
		srv.Close()
		want := CodeOf(sentinel)
		var e *Error
		if !errors.Is(err, sentinel) || !errors.As(err, &e) || e.Code != want.Name || e.Status != want.Status || !strings.Contains(e.Error(), "cannot do it") {
			t.Errorf("%s arrives as %#v", name, err)
		}
		if got := CodeOf(fmt.Errorf("wrapped: %w", err)); got.Name != want.Name || got.Exit != want.Exit {
			t.Errorf("%s has the code %s at the client, want %s", name, got.Name, want.Name)
		}
		for other, s := range all {
			if CodeOf(s).Name != want.Name && errors.Is(err, s) {
				t.Errorf("%s arrives as %s too", name, other)
			}
		}
	}
}

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   string
		status int
		exit   int
	}{
		{&registry.NotFoundError{What: "node", Ref: "x"}, "not_found", 404, ExitNotFound},
		{&registry.ConflictError{Key: "k", Owner: "o"}, "conflict", 409, ExitConflict},
		{&registry.ParentError{}, "conflict", 409, ExitConflict},
		{&registry.InUseError{}, "conflict", 409, ExitConflict},
		{&registry.InvalidError{}, "invalid", 400, ExitFailed},
		{&registry.LimitError{}, "too_large", 413, ExitFailed},
		{&provisioner.SpecError{}, "invalid", 400, ExitFailed},
		{&virt.DefinitionError{}, "invalid", 400, ExitFailed},
		{&scheduler.CheckError{}, "invalid", 400, ExitFailed},
		{&allocator.NoHostError{Decision: &allocator.Decision{}}, "no_host", 409, ExitFailed},
		{provisioner.ErrExhausted, "exhausted", 409, ExitFailed},
		{virt.ErrBusy, "busy", 409, ExitConflict},
		{virt.ErrUnreachable, "unreachable", 502, ExitFailed},
		{registry.ErrCursor, "cursor", 400, ExitFailed},
		{registry.ErrClosed, "closed", 503, ExitFailed},
		{registry.ErrUnavailable, "unavailable", 503, ExitFailed},
		// An error that says more than what it wraps.
		{fmt.Errorf("%w, if only with an error: %w", virt.ErrAnswers, virt.ErrNotFound), "host_answers", 409, ExitConflict},
		{fmt.Errorf("%w: %w", registry.ErrUnknownOutcome, context.Canceled), "unknown_outcome", 500, ExitFailed},
		{fmt.Errorf("%w: too slow: %w", virt.ErrUnreachable, context.DeadlineExceeded), "unreachable", 502, ExitFailed},
		{scheduler.Status{State: scheduler.Failed}.WithErr(virt.ErrBusy).Err(), "busy", 409, ExitConflict},
		{scheduler.Status{State: scheduler.Failed, Error: "x"}.Err(), Internal, 500, ExitFailed},
		{errors.New("anything"), Internal, 500, ExitFailed},
		{&Error{Problem: Problem{Code: "of_the_future"}}, Internal, 500, ExitFailed},
	} {
		if got := CodeOf(c.err); got.Name != c.code || got.Status != c.status || got.Exit != c.exit {
			t.Errorf("%T %v is %s, %d, exit %d; want %s, %d, exit %d", c.err, c.err, got.Name, got.Status, got.Exit, c.code, c.status, c.exit)
		}
	}
}

func TestJobError(t *testing.T) {
	if err := JobError(scheduler.Status{State: scheduler.Succeeded}); err != nil {
		t.Error(err)
	}
	st := scheduler.Status{State: scheduler.Failed, Error: "it runs", Code: "busy"}
	st.ID = "j1"
	err := JobError(st)
	var job *scheduler.JobError
	if !errors.Is(err, virt.ErrBusy) || CodeOf(err).Exit != ExitConflict || !errors.As(err, &job) || job.Status.ID != "j1" || !strings.Contains(err.Error(), "it runs") {
		t.Errorf("%#v", err)
	}
	st.Code = ""
	if err := JobError(st); !errors.As(err, &job) || errors.Is(err, virt.ErrBusy) {
		t.Errorf("%#v", err)
	}
}

// An answer that is no vagoth's is an error all the same.
func TestStrangeServers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"proxy": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>"))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"nothing":  func(http.ResponseWriter, *http.Request) {},
		"no nodes": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"items":[{}]}`)) },
		"a circle": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"items":[{"node":{"id":"a"}}],"next":"a"}`))
		},
	} {
		srv := httptest.NewServer(h)
		c := NewClient(srv.URL, srv.Client().Transport)
		var err error
		for _, err = range c.Nodes(t.Context(), registry.Query{}) {
			if err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("%s: nodes were listed", name)
		}
		if _, err := c.Node(t.Context(), "a"); err == nil && name != "a circle" {
			t.Errorf("%s: a node was read", name)
		}
		srv.CloseClientConnections()
		srv.Close()
	}
}
