package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
)

// Define is done again until it is known to be done, and then is not.
func TestDefineNotesWhatWasDone(t *testing.T) {
	sims := simulated(t)
	f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
	h := f.host("h1")
	defines := func() (n int) {
		for _, asked := range f.asked() {
			if strings.HasSuffix(asked, "/define") {
				n++
			}
		}
		return n
	}
	made(t, d, h, g)
	if err := d.Define(t.Context(), h, g); err != nil || defines() != 1 {
		t.Errorf("defined twice the same way, the agent was asked %d times (%v)", defines(), err)
	}
	// What others noted stays.
	f.mu.Lock()
	f.guests[g.UUID].Metadata["owner"] = "somebody"
	f.mu.Unlock()
	changed := g
	changed.Definition.CPU++
	lose := true
	f.over = func(w http.ResponseWriter, r *http.Request) bool {
		if lose && strings.HasSuffix(r.URL.Path, "/define") {
			answer(w, 500, mistify.ErrorBody{Message: "lost", Code: 500})
			return true
		}
		return false
	}
	if err := d.Define(t.Context(), h, changed); err == nil {
		t.Error("a define that failed was taken for success")
	}
	lose = false
	if err := d.Define(t.Context(), h, changed); err != nil {
		t.Error(err)
	}
	if info, err := d.Info(t.Context(), h, g); err != nil || info.CPU != changed.Definition.CPU {
		t.Errorf("after a define that was tried again the host has %+v (%v)", info, err)
	}
	if err := d.Provision(t.Context(), h, changed); err != nil {
		t.Error(err)
	}
	f.mu.Lock()
	if f.guests[g.UUID].Metadata["owner"] != "somebody" {
		t.Errorf("what others noted is gone: %v", f.guests[g.UUID].Metadata)
	}
	f.mu.Unlock()
	// A host that lost the guest is told again, whatever its agent remembers.
	if err := sims.Remove("h1", g.UUID); err != nil {
		t.Fatal(err)
	}
	if err := d.Define(t.Context(), h, changed); err != nil {
		t.Error(err)
	}
	if _, err := d.Info(t.Context(), h, g); err != nil {
		t.Errorf("the host that lost the guest has it not again: %v", err)
	}
	// A guest is one node's.
	other := g
	other.ID = "db"
	is(t, "define of a guest that belongs to another node", d.Define(t.Context(), h, other), virt.ErrConflict)
}

// The token and the trail go to the agent with every request, and the trail on
// to the sub-agent and into the agent's log.
func TestTrailAndTokens(t *testing.T) {
	sims := simulated(t)
	var bearers, tokens atomic.Int64
	var requests atomic.Int64
	r := newReal(t, sims, "h1", nil, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			if r.Header.Get("Authorization") == "Bearer geheim" {
				bearers.Add(1)
			}
			if r.Header.Get(mistify.HeaderToken) == "3.17" {
				tokens.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	d, g := open(t, func(c *Config) { c.Token = component.NewSecret("geheim") }), vm("web")
	h := virt.Host{ID: "h1", Address: r.URL}
	want := trail.Trail{Transaction: "tx1", Source: "mary", Reason: "new web server", Job: "job-1", Attempt: 2, Token: trail.Token{Epoch: 3, Number: 17}}
	ctx := trail.With(t.Context(), want)
	if err := errors.Join(d.Provision(ctx, h, g), d.Define(ctx, h, g), d.Power(ctx, h, g, virt.PowerStart)); err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n == 0 || bearers.Load() != n || tokens.Load() != n {
		t.Errorf("of %d requests %d had the bearer token and %d the fencing token", n, bearers.Load(), tokens.Load())
	}
	for _, c := range sims.Calls() {
		if c.Trail != want {
			t.Errorf("the host was asked to %s with the trail %+v, want %+v", c.Op, c.Trail, want)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "new web server") || strings.Contains(log, "geheim") {
		t.Errorf("the agent's log has not the reason, or has the token:\n%s", log)
	}
	// Somebody who was given the guest before is fenced off.
	late := trail.With(t.Context(), trail.Trail{Token: trail.Token{Epoch: 3, Number: 16}})
	err := d.Power(late, h, g, virt.PowerStop)
	is(t, "stop with a token that is lower", err, virt.ErrConflict)
	if info, err := d.Info(t.Context(), h, g); err != nil || info.State != virt.Running {
		t.Errorf("the guest is %s (%v), want it running", info.State, err)
	}
	if err := d.Power(trail.With(t.Context(), trail.Trail{Token: trail.Token{Epoch: 4, Number: 1}}), h, g, virt.PowerStop); err != nil {
		t.Errorf("stop with a token of a later epoch: %v", err)
	}
}

// A sub-agent that is gone makes the listing incomplete, and its guests are not
// taken for missing; the agent answers all the same.
func TestDeadSubAgent(t *testing.T) {
	sims := simulated(t)
	r := newReal(t, sims, "h1", func(c *agent.Config) { c.InfoTimeout = 200 * time.Millisecond }, nil)
	d, g, h := open(t, nil), vm("web"), virt.Host{ID: "h1", Address: r.URL}
	made(t, d, h, g)
	for name, break_ := range map[string]func(string){"fails": sims.Unreachable, "hangs": sims.Hang} {
		break_("h1")
		l, err := d.Status(t.Context(), h)
		if err != nil || l.Complete || len(l.Guests) != 0 {
			t.Errorf("the listing of a host that %s is %+v (%v), want an incomplete one", name, l, err)
		}
		_, err = d.Info(t.Context(), h, g)
		is(t, "info of a host that "+name, err, virt.ErrUnreachable)
		sims.Heal("h1")
		if l, err := d.Status(t.Context(), h); err != nil || !l.Complete || len(l.Guests) != 1 {
			t.Errorf("healed, the listing is %+v (%v)", l, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	secret := component.NewSecret("geheim")
	for _, c := range []struct {
		url, address string
		token        component.Secret
		want         string // "" is refused
	}{
		{"https://{host}:8080", "", component.Secret{}, "https://h1:8080"},
		{"https://{host}:8080", "10.0.0.7", secret, "https://10.0.0.7:8080"},
		{"https://{host}:8080", "fe80::1", secret, "https://[fe80::1]:8080"},
		{"https://{host}", "h7:9090", secret, "https://h7:9090"},
		{"https://{host}:8080", "https://h7/agent/", secret, "https://h7/agent"},
		{"https://{host}:8080", "http://127.0.0.1:1", secret, "http://127.0.0.1:1"},
		{"https://{host}:8080", "http://h7", component.Secret{}, "http://h7"},
		{"https://one", "", component.Secret{}, "https://one"},
		{"https://{host}:8080", "http://h7", secret, ""}, // the token in the clear
		{"http://{host}", "h7", secret, ""},
		{"https://one", "h7", component.Secret{}, ""}, // nowhere to put it
		{"https://{host}:8080", "h7:9", component.Secret{}, ""},
		{"https://{host}:8080", "h7/../x", component.Secret{}, ""},
		{"https://{host}:8080", "h7@evil", component.Secret{}, ""},
		{"https://{host}:8080", "evil#", component.Secret{}, ""},
		{"https://{host}:8080", "h7?x", component.Secret{}, ""},
		{"https://{host}:8080", "a b", component.Secret{}, ""},
		{"https://{host}:8080", "file:///etc/passwd", component.Secret{}, ""},
		{"https://{host}:8080", "https://u:p@h7", component.Secret{}, ""},
		{"https://{host}:8080", "https://h7?x=y", component.Secret{}, ""},
		{"https://{host}:8080", "https://h7:", component.Secret{}, ""},
		{"https://{host}:8080", "https://", component.Secret{}, ""},
		{"https://{host}:8080", "https://h7/" + strings.Repeat("a", 2000), component.Secret{}, ""},
	} {
		d := open(t, func(cfg *Config) { cfg.URL, cfg.Token = c.url, c.token })
		u, err := d.address(virt.Host{ID: "h1", Address: c.address})
		switch {
		case c.want == "" && !errors.Is(err, virt.ErrInvalid):
			t.Errorf("%s with %.50q: got %v, error %v, want one that is ErrInvalid", c.url, c.address, u, err)
		case c.want != "" && (err != nil || u.String() != c.want):
			t.Errorf("%s with %q: got %v (%v), want %s", c.url, c.address, u, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), ":p@")) {
			t.Errorf("an error has a secret: %v", err)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no url":               func(c *Config) { c.URL = "" },
		"another scheme":       func(c *Config) { c.URL = "ftp://{host}" },
		"a user":               func(c *Config) { c.URL = "https://u@{host}" },
		"a cert without a key": func(c *Config) { c.Cert = "/x" },
		"a token of two lines": func(c *Config) { c.Token = component.NewSecret("a\nb") },
	} {
		cfg := Defaults()
		change(&cfg)
		var key *component.KeyError
		if err := cfg.Validate(); !errors.As(err, &key) {
			t.Errorf("%s: got error %v, want one that names its key", name, err)
		}
	}
	cfg := Defaults()
	cfg.CA = "/no/such/file"
	if _, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "x"}); err == nil || !strings.Contains(err.Error(), "cannot read ca") {
		t.Errorf("a certificate authority that is not there: %v", err)
	}
}

// A sub-agent that says no to what is done already, or yes to what it should not
// do, is made up for where that can be seen.
func TestSubAgentsThatAreNotIdempotent(t *testing.T) {
	sims := simulated(t)
	f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
	h := f.host("h1")
	made(t, d, h, g)
	grumpy := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/guests/") {
			answer(w, 500, mistify.ErrorBody{Message: "Requested operation is not valid: domain is already so", Code: 500})
			return true
		}
		return false
	}
	try := func(what string, call func(context.Context, virt.Host, virt.Guest) error, want bool) {
		t.Helper()
		if err := call(t.Context(), h, g); (err == nil) != want {
			t.Errorf("%s: got error %v, want success: %v", what, err, want)
		}
	}
	calls := every(d)
	f.mu.Lock()
	f.over = grumpy
	f.mu.Unlock()
	for what, fine := range map[string]bool{"stop": true, "shutdown": true, "start": false, "reboot": false, "suspend": false, "resume": false} {
		try(what+" of what is off", calls[what], fine)
	}
	f.mu.Lock()
	f.over = nil
	f.mu.Unlock()
	try("start", calls["start"], true)
	f.mu.Lock()
	f.over = grumpy
	f.mu.Unlock()
	for what, fine := range map[string]bool{"start": true, "resume": true, "stop": false, "shutdown": false, "reboot": false, "suspend": false} {
		try(what+" of what runs", calls[what], fine)
	}
	// Nobody is asked to wipe the disks of what runs.
	f.mu.Lock()
	f.over = nil
	f.mu.Unlock()
	f.forget()
	is(t, "deprovision of what runs", d.Deprovision(t.Context(), h, g), virt.ErrBusy)
	if asked := f.asked(); len(asked) != 1 || !strings.HasPrefix(asked[0], "GET ") {
		t.Errorf("for that the agent was asked %v, want it only to be looked at", asked)
	}
}

// Whoever looks at a host, or stops a guest, does not stand behind those who
// wait for long jobs.
func TestLongJobsHoldUpNobody(t *testing.T) {
	sims := simulated(t)
	f, d := newFake(t, sims, "h1"), open(t, func(c *Config) { c.Connections, c.Timeout = 2, 2*time.Second })
	h := f.host("h1")
	var guests []virt.Guest
	for i := range 6 {
		guests = append(guests, vm(fmt.Sprintf("web%d", i)))
		made(t, d, h, guests[i])
	}
	release := make(chan struct{})
	sims.Intercept("h1", func(ctx context.Context, c host.Call) error {
		if c.Op == "start" {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	})
	done := make(chan error, len(guests))
	for _, g := range guests[1:] {
		go func() { done <- d.Power(t.Context(), h, g, virt.PowerStart) }()
	}
	started := func() (n int) {
		for _, asked := range f.asked() {
			if strings.HasSuffix(asked, "/start") {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(10 * time.Second); started() < len(guests)-1 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	_, err := d.Status(t.Context(), h)
	_, err2 := d.Info(t.Context(), h, guests[0])
	if err := errors.Join(err, err2); err != nil || time.Since(began) > time.Second {
		t.Errorf("to look beside %d long jobs took %v (%v)", started(), time.Since(began), err)
	}
	close(release)
	for range guests[1:] {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A definition of which the agent stored something before it failed is not taken
// for done.
func TestDefineThatFailsHalfWay(t *testing.T) {
	sims := simulated(t)
	r := newReal(t, sims, "h1", func(c *agent.Config) {
		define := c.Actions["define"]
		first := agent.Stage{Service: "sim", Method: "Sim.Provision", Idempotent: true} // what it answers is stored
		c.Actions["define"] = agent.ActionConfig{Stages: append([]agent.Stage{first}, define.Stages...)}
	}, nil)
	d, g, h := open(t, nil), vm("web"), virt.Host{ID: "h1", Address: r.URL}
	made(t, d, h, g)
	changed := g
	changed.Definition.CPU++
	sims.Intercept("h1", func(_ context.Context, c host.Call) error {
		if c.Op == "define" {
			return errors.New("no room for the description")
		}
		return nil
	})
	if err := d.Define(t.Context(), h, changed); err == nil || !strings.Contains(err.Error(), "no room for the description") {
		t.Errorf("a define that failed half-way: %v", err)
	}
	sims.Heal("h1")
	if err := d.Define(t.Context(), h, changed); err != nil {
		t.Error(err)
	}
	if info, err := d.Info(t.Context(), h, g); err != nil || info.CPU != changed.Definition.CPU {
		t.Errorf("defined again the host has %+v (%v)", info, err)
	}
}

// What is no UUID never becomes a part of a request.
func TestHostileIDsAreNotAsked(t *testing.T) {
	f, d := newFake(t, simulated(t), "h1"), open(t, nil)
	calls := every(d)
	delete(calls, "status")
	for _, name := range append(drivertest.HostileNames(), strings.ToUpper(vm("web").UUID)) {
		g := vm("web")
		g.UUID, g.Definition.UUID = name, name
		for what, call := range calls {
			is(t, fmt.Sprintf("%s of the UUID %.40q", what, name), call(t.Context(), f.host("h1"), g), virt.ErrInvalid)
		}
	}
	if asked := f.asked(); len(asked) > 0 {
		t.Errorf("the agent was asked %d requests, such as %.100q", len(asked), asked[0])
	}
}

// What is done to disks does not depend on whether the agent knows the guest, nor
// on when it forgets it.
func TestDisksOfAGuestThatIsForgottenMeanwhile(t *testing.T) {
	sims := simulated(t)
	f, d, g := newFake(t, sims, "h1"), open(t, nil), vm("web")
	h := f.host("h1")
	made(t, d, h, g)
	f.mu.Lock()
	f.over = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/deprovision") {
			f.mu.Lock()
			delete(f.guests, g.UUID)
			f.mu.Unlock()
		}
		return false
	}
	f.mu.Unlock()
	if err := d.Deprovision(t.Context(), h, g); err != nil {
		t.Error(err)
	}
	if _, ok, err := sims.Disk("h1", g.Definition.Disks[0].Volume); ok || err != nil {
		t.Errorf("the disk is there after Deprovision (%v)", err)
	}
}
