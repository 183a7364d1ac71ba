package template_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/provisionertest"
	"github.com/vagoth/vagoth/provisioner/template"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// listener is a hook behind a URL that remembers what it heard.
type listener struct {
	*httptest.Server
	mu     sync.Mutex
	events []template.Event
	answer func(template.Event) (int, string) // nil says yes
}

func listen(t testing.TB) *listener {
	l := &listener{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e template.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("the hook got %s %v, %v", r.Method, r.Header, err)
		}
		l.mu.Lock()
		l.events = append(l.events, e)
		answer := l.answer
		l.mu.Unlock()
		if answer != nil {
			code, text := answer(e)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// heard lists the events since the last call.
func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, e := range l.events {
		list = append(list, e.Event+" "+e.Phase+" "+e.Node.ID)
	}
	l.events = nil
	return list
}

func hooked(before, after *listener) template.Config {
	cfg := with(template.Network{CIDR: "192.0.2.0/24"})
	cfg.Token = component.NewSecret("s3cret")
	if before != nil {
		cfg.Before = before.URL
	}
	if after != nil {
		cfg.After = after.URL
	}
	return cfg
}

const oneNIC = `{"cpu":1,"memory":64,"nics":[{"network":"lan"}]}`

func TestHooksHear(t *testing.T) {
	before, after := listen(t), listen(t)
	r := memory(t)
	p := open(t, hooked(before, after), provisioner.Deps{Registry: r, Types: vmTypes()})
	ctx := trail.With(t.Context(), trail.New("alice", "because"))
	n, err := p.Provision(ctx, vm(t, "web1", oneNIC))
	if err != nil {
		t.Fatal(err)
	}
	e := before.events[0]
	if !n.Same(e.Node) || e.Trail.Source != "alice" {
		t.Errorf("the before hook heard %+v, the node is %+v", e, n.Draft())
	}
	if !n.Same(after.events[0].Node) {
		t.Errorf("the after hook heard %+v", after.events[0])
	}
	if _, err := p.Redefine(ctx, "web1", vm(t, "", `{"cpu":2,"memory":64,"nics":[{"network":"lan"}]}`).Definition, false); err != nil {
		t.Fatal(err)
	}
	if old := before.events[1].Old; old == nil || !n.Same(*old) {
		t.Errorf("the old node: %+v", old)
	}
	if err := p.Deprovision(ctx, "web1"); err != nil {
		t.Fatal(err)
	}
	want := []string{"provision before web1", "redefine before web1", "deprovision before web1"}
	if got := before.heard(); !slices.Equal(got, want) {
		t.Errorf("the before hook heard %q", got)
	}
	want = []string{"provision after web1", "redefine after web1", "deprovision after web1"}
	if got := after.heard(); !slices.Equal(got, want) {
		t.Errorf("the after hook heard %q", got)
	}
}

func TestVeto(t *testing.T) {
	before := listen(t)
	r := memory(t)
	p := open(t, hooked(before, nil), provisioner.Deps{Registry: r, Types: vmTypes()})
	if _, err := p.Provision(t.Context(), vm(t, "web1", oneNIC)); err != nil {
		t.Fatal(err)
	}
	n, _ := registry.Get(t.Context(), r, "web1")
	before.answer = func(template.Event) (int, string) {
		return http.StatusForbidden, "the zone is\nfrozen\x00\u202e" + strings.Repeat("!", 10<<10)
	}
	_, provision := p.Provision(t.Context(), vm(t, "web2", oneNIC))
	_, redefine := p.Redefine(t.Context(), "web1", vm(t, "", `{"cpu":2,"memory":64}`).Definition, false)
	for _, err := range []error{provision, redefine, p.Deprovision(t.Context(), "web1")} {
		if !errors.Is(err, provisioner.ErrVetoed) || !strings.Contains(err.Error(), "the zone is frozen") || len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x00\u202e") {
			t.Errorf("vetoed with %.900q", err)
		}
	}
	all, err := registry.Collect(t.Context(), r, registry.Query{})
	if err != nil || len(all) != 1 || all[0].Revision() != n.Revision() {
		t.Errorf("after vetoes there are %d nodes, %v", len(all), err)
	}
	for code, veto := range map[int]bool{301: false, 400: true, 500: false, 503: false} {
		before.answer = func(template.Event) (int, string) { return code, "" }
		if err := p.Deprovision(t.Context(), "web1"); err == nil || errors.Is(err, provisioner.ErrVetoed) != veto {
			t.Errorf("answer %d: %v", code, err)
		}
	}
}

// What the after hook refuses is taken back, and the before hook hears that.
func TestAfterFails(t *testing.T) {
	before, after := listen(t), listen(t)
	after.answer = func(template.Event) (int, string) { return http.StatusConflict, "no lease left" }
	r := memory(t)
	p := open(t, hooked(before, after), provisioner.Deps{Registry: r, Types: vmTypes()})
	_, err := p.Provision(t.Context(), vm(t, "web1", oneNIC))
	if err == nil || !strings.Contains(err.Error(), "no lease left") || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("%v", err)
	}
	for k, err := range view(t, r).Keys("", "") {
		t.Errorf("%s is left (%v)", k.Key, err)
	}
	if got := before.heard(); !slices.Equal(got, []string{"provision before web1", "provision cancel web1"}) {
		t.Errorf("the before hook heard %q", got)
	}

	// If somebody uses the node by then, it stays, and the error says both.
	after.answer = func(e template.Event) (int, string) {
		if _, err := registry.Create(context.Background(), r, registry.Draft{ID: "below", Name: "below", Type: "vm", Parent: e.Node.ID}); err != nil {
			t.Error(err)
		}
		return http.StatusConflict, "no lease left"
	}
	_, err = p.Provision(t.Context(), vm(t, "web1", oneNIC))
	if err == nil || !strings.Contains(err.Error(), "no lease left") || !strings.Contains(err.Error(), "cannot be taken back") {
		t.Errorf("%v", err)
	}
	if _, err := registry.Get(t.Context(), r, "web1"); err != nil {
		t.Error(err)
	}

	after.answer = func(template.Event) (int, string) { return http.StatusConflict, "too late" }
	if _, err := registry.Modify(t.Context(), r, "below", func(d *registry.Draft) error { d.Parent = ""; return nil }, registry.MovingFrom("web1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Deprovision(t.Context(), "web1"); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Errorf("%v", err)
	}
	if _, err := registry.Get(t.Context(), r, "web1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the node is still there: %v", err)
	}
}

// An address that is taken while the hook thinks costs a new plan, of which the
// hook hears as well.
func TestPlanLost(t *testing.T) {
	before := listen(t)
	r := memory(t)
	p := open(t, hooked(before, nil), provisioner.Deps{Registry: r, Types: vmTypes()})
	stolen := ""
	before.answer = func(e template.Event) (int, string) {
		if e.Phase == "before" && stolen == "" {
			for _, k := range e.Node.Keys {
				if strings.HasPrefix(k, "ip-") {
					stolen = k
				}
			}
			if _, err := registry.Create(context.Background(), r, registry.Draft{ID: "thief", Name: "thief", Type: "vm", Keys: []string{stolen}}); err != nil {
				t.Error(err)
			}
		}
		return http.StatusOK, ""
	}
	n, err := p.Provision(t.Context(), vm(t, "web1", oneNIC))
	if err != nil || n.HasKey(stolen) {
		t.Fatalf("%+v, %v", n, err)
	}
	last := before.events[len(before.events)-1]
	if !n.Same(last.Node) {
		t.Errorf("the node is %+v, the hook last heard %+v", n.Draft(), last.Node)
	}
	if got := before.heard(); !slices.Equal(got, []string{"provision before web1", "provision cancel web1", "provision before web1"}) {
		t.Errorf("the hook heard %q", got)
	}

	// What was asked for by name is no plan of ours: it is a conflict.
	before.answer = nil
	_, err = p.Provision(t.Context(), vm(t, "web2", `{"cpu":1,"memory":64,"nics":[{"network":"lan","address":"`+strings.TrimPrefix(stolen, "ip-")+`"}]}`))
	if !errors.Is(err, registry.ErrConflict) {
		t.Errorf("%v", err)
	}
	if got := before.heard(); !slices.Equal(got, []string{"provision before web2", "provision cancel web2"}) {
		t.Errorf("the hook heard %q", got)
	}
}

func TestSuiteWithHooks(t *testing.T) {
	cfg := template.Defaults()
	cfg.Before, cfg.After = "exec:/bin/true", "exec:/bin/true"
	provisionertest.Run(t, provisionertest.Subject{Registry: memory, Slow: true, Open: func(t testing.TB, deps provisioner.Deps) provisioner.Provisioner {
		return open(t, cfg, deps)
	}})
}

// script is a program that can be run as a hook.
func script(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	r := memory(t)
	provision := func(hook string, timeout time.Duration) error {
		cfg := template.Defaults()
		cfg.Before, cfg.Timeout = hook, timeout
		p := open(t, cfg, provisioner.Deps{Registry: r, Types: vmTypes()})
		_, err := p.Provision(t.Context(), vm(t, "web1", `{"cpu":1,"memory":64}`))
		return err
	}
	out := filepath.Join(dir, "out")
	err := provision("exec:"+script(t, `cat > "$1"; echo "$# $2 $VAGOTH_EVENT $VAGOTH_PHASE $VAGOTH_NODE" >> "$1"; echo 'name "bad"; $(x)' >&2; exit 3`)+" "+out+" ;id", time.Minute)
	if !errors.Is(err, provisioner.ErrVetoed) || !strings.Contains(err.Error(), `name "bad"; $(x)`) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a veto: %v", err)
	}
	got, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(got), `{"event":"provision","phase":"before","node":{"id":"web1"`) || !strings.HasSuffix(string(got), "2 ;id provision before web1\n") {
		t.Errorf("the program got %s, %v", got, err)
	}
	if err := provision("exec:"+filepath.Join(dir, "none"), time.Minute); err == nil || errors.Is(err, provisioner.ErrVetoed) || !strings.Contains(err.Error(), "cannot run") {
		t.Errorf("a program that is not there: %v", err)
	}

	// What hangs is ended with all that it started, and costs no more than its time.
	began := time.Now()
	pid := filepath.Join(dir, "pid")
	err = provision("exec:"+script(t, `sleep 1000 & echo $! > "$1"; sleep 1000`)+" "+pid, 300*time.Millisecond)
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("a program that hangs: %v after %s", err, time.Since(began))
	}
	child, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		status, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(child)), "stat"))
		return err != nil || strings.Contains(string(status), ") Z ")
	}
	for deadline := time.Now().Add(10 * time.Second); !gone(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the hook started still runs")
		}
	}
	if err := provision("exec:"+script(t, `yes too much | head -c 10000000; exit 1`), time.Minute); !errors.Is(err, provisioner.ErrVetoed) || len(err.Error()) > 1000 {
		t.Errorf("a program that talks: %.200v", err)
	}
	if _, err := registry.Get(t.Context(), r, "web1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("web1 exists: %v", err)
	}
	if err := provision("exec:"+script(t, "exit 0"), time.Minute); err != nil {
		t.Error(err)
	}
}

func TestSlowURL(t *testing.T) {
	before := listen(t)
	release := make(chan struct{})
	defer close(release)
	before.answer = func(template.Event) (int, string) { <-release; return http.StatusOK, "" }
	cfg := hooked(before, nil)
	cfg.Timeout = 200 * time.Millisecond
	r := memory(t)
	p := open(t, cfg, provisioner.Deps{Registry: r, Types: vmTypes()})
	_, err := p.Provision(t.Context(), vm(t, "web1", oneNIC))
	if err == nil || errors.Is(err, provisioner.ErrVetoed) {
		t.Errorf("a hook that does not answer: %v", err)
	}
	if _, err := registry.Get(t.Context(), r, "web1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("web1 exists: %v", err)
	}
}

func TestHookConfig(t *testing.T) {
	for hook, want := range map[string]string{
		"": "", "exec:/bin/true": "", "exec:/bin/true -x": "", "https://dns.example/x": "", "http://127.0.0.1:1/x": "", "http://localhost/x": "", "http://[::1]/": "",
		"exec:true": "absolute path", "exec:": "absolute path", "/bin/true": "neither", "ftp://x/": "neither", "http://dns.example/": "https",
		"https://bob:pw@dns.example/": "hook_token", "https://": "neither",
	} {
		cfg := template.Defaults()
		cfg.Before = hook
		err := cfg.Validate()
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "before")) {
			t.Errorf("%q: %v", hook, err)
		}
		if strings.Contains(fmt.Sprint(err), "pw") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
