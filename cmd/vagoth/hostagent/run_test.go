package hostagent_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/mistify"
)

// One file serves the manager and the agent; the agent's sub-agent is inside the
// process, and what was done is there after a restart.
func TestLife(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, small)
	f, err := config.Load(r.source.INI)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := manager.Read(f, standard.Menu()); err != nil {
		t.Errorf("the manager refuses the file: %v", err)
	}
	c := r.mistify("")
	j := r.create(c)
	s, err := c.Status(t.Context())
	if err != nil || !s.Complete || len(s.Guests) != 1 || s.Guests[0].State != virt.Running || s.Capacity.Memory != 16384 || s.Version != "test" {
		t.Errorf("status %+v, %v", s, err)
	}
	r.client.CloseIdleConnections()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir, small)
	if got, err := again.mistify("").Job(t.Context(), j.ID); err != nil || got.Status != mistify.JobComplete {
		t.Errorf("after a restart the job is %+v, %v", got, err)
	}
}

// An agent.json needs nothing beside it; what comes after it in the command line
// comes before what it says.
func TestMistify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.json")
	write(t, path, `{"actions": {"create": {"stages": [{"service": "s", "method": "T.Create"},]}, "dance": {}}, "services": {"s": {"port": 1}}, "dbpath": "db",}`)
	r, o := prepared(t, dir, "")
	r.source = hostagent.Source{Mistify: path, Listen: "127.0.0.1:0"}
	r.run(o)
	if code, body := r.get("http://" + r.address + "/guests"); code != 200 || body != "[]\n" {
		t.Errorf("%d %s", code, body)
	}
	if log := r.log.String(); !strings.Contains(log, "dance") || !strings.Contains(log, filepath.Join(dir, "db")) {
		t.Errorf("neither the warning nor the store is in the log:\n%s", log)
	}
	r.client.CloseIdleConnections()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	write(t, path, `{"services": {}, "actions": {}, "dbpath": "agent.json"}`)
	if err := fails(t, o); err == nil || !strings.Contains(err.Error(), "is a file, and must be a directory") {
		t.Errorf("a dbpath that is a file: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, want string }{
		{"off loopback", strings.Replace(small, "127.0.0.1:0", "0.0.0.0:0", 1), "configure tokens or TLS client certificates"},
		{"every address", strings.Replace(small, "127.0.0.1:0", ":0", 1), "configure tokens or TLS client certificates"},
		{"no port", strings.Replace(small, "127.0.0.1:0", "127.0.0.1", 1), "write HOST:PORT"},
		{"nobody let in", with("tokens = tokens\n"), "vagoth token create"},
		{"half of TLS", with("tls_cert = a.pem\n"), "tls_cert and tls_key go together"},
		{"clients without TLS", with("client_ca = a.pem\n"), "certificates of clients need TLS"},
		{"no certificate", with("tls_cert = a.pem\ntls_key = b.pem\n"), "cannot use"},
		{"unknown key", with("lisen = 1\n"), `did you mean "listen"?`},
		{"key of the sub-agent", small + "memry = 1\n", `did you mean "memory"?`},
		{"section", small + "[agent.servce.x]\nport = 1\n", "[agent.servce.x] unknown section"},
		{"no sub-agent", small + "[agent.service.dance]\n", "no sub-agent of that name"},
		{"kind of sub-agent", small + "[agent.service.dance]\n[subagent.dance]\nuse = sin\n", `did you mean "sim"?`},
		{"nothing known", "[agent.service.mine]\nport = 9\n", "agent.action.NAME"},
		{"log", with("log_level = loud\n"), "log_level"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, o := prepared(t, t.TempDir(), tc.text)
			if err := fails(t, o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// A sub-agent can be called anything, and there can be several of a kind.
func TestTwoInside(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), strings.NewReplacer("stages = sim Sim.Status", "stages = sim Sim.Status, lab Sim.Status").Replace(small)+
		"[agent.service.lab]\n[subagent.lab]\nuse = sim\ncpu = 4\nhost = other\n")
	s, err := r.mistify("").Status(t.Context())
	if err != nil || !s.Complete {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestUnix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	r := start(t, dir, strings.Replace(small, "127.0.0.1:0", "unix:"+path, 1))
	transport := serve.Transport(path)
	defer transport.CloseIdleConnections()
	r.client = &http.Client{Transport: transport}
	if code, _ := r.get("http://localhost/guests"); code != 200 {
		t.Errorf("through the socket: %d", code)
	}
	transport.CloseIdleConnections()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if c, err := serve.Dial(t.Context(), path); err == nil {
		_ = c.Close()
		t.Error("the socket is left")
	}
}

// A client is cut off that takes its time over headers, and one connection too
// many is told so; those that are there go on.
func TestBounds(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), with("header_timeout = 100ms\nmax_connections = 2\n"))
	slow, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := fmt.Fprint(slow, "GET /guests HTTP/1.1\r\nHost: "); err != nil {
		t.Fatal(err)
	}
	_ = slow.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := bufio.NewReader(slow).ReadString(0); errors.Is(err, context.DeadlineExceeded) || strings.Contains(b, "200 OK") {
		t.Errorf("a client that stands still got %q, %v", b, err)
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	// Each connection has asked once, so it is let in and idle before the next.
	ask := func() string {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(c, "GET /guests HTTP/1.1\r\nHost: %s\r\n\r\n", r.address)
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	eventually(t, "the slow client has left", func() bool {
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
		first, second := ask(), ask()
		return strings.Contains(first, "200") && strings.Contains(second, "200")
	})
	if line := ask(); !strings.Contains(line, "429") {
		t.Errorf("the third connection got %q", line)
	}
}

// Who waits for a job is answered when the agent ends, and the job that runs
// comes to its end.
func TestShutdown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := with("max_waiting = 1\n") + "latency = 300ms\n"
	r := start(t, dir, text)
	c := r.mistify("")
	_, job, err := c.CreateGuest(t.Context(), mistify.Guest{ID: guestID, CPU: 1, Memory: 128})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		code := 429
		for code == 429 { // the look below has the one place
			code, _ = r.get("http://" + r.address + "/jobs/" + job + "?wait=60s")
		}
		answered <- code
	}()
	eventually(t, "somebody waits", func() bool {
		code, _ := r.get("http://" + r.address + "/jobs/" + job + "?wait=1ms")
		return code == 429
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-answered:
		if code != 200 {
			t.Errorf("who waits for a job got %d", code)
		}
	case <-time.After(20 * time.Second):
		t.Error("who waits for a job is not answered")
	}
	r.client.CloseIdleConnections()
	again := start(t, dir, text)
	j, err := again.mistify("").WaitJob(t.Context(), job)
	if err != nil || j.Status != mistify.JobComplete {
		t.Errorf("the job that ran is %+v, %v", j, err)
	}
}

// A second agent of the same store waits for the first to end, and is refused
// when that takes too long.
func TestSecond(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, small)
	_, o := prepared(t, dir, small)
	if err := fails(t, o); err == nil || !strings.Contains(err.Error(), "process") {
		t.Errorf("a second agent: %v", err)
	}
	second, o := prepared(t, dir, small)
	o.LockWait = 20 * time.Second
	go func() {
		r.client.CloseIdleConnections()
		r.cancel()
	}()
	second.run(o)
}

// The wish to end at once is heeded while a stage hangs.
func TestAbort(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), with("stop_grace = 1h\n")+"latency = 2s\n")
	_, _, err := r.mistify("").CreateGuest(t.Context(), mistify.Guest{ID: guestID, CPU: 1, Memory: 128})
	if err != nil {
		t.Fatal(err)
	}
	r.client.CloseIdleConnections()
	r.cancel()
	began := time.Now()
	close(r.abort)
	if err := r.stop(); !errors.Is(err, hostagent.ErrAborted) {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	r.err = nil
	eventually(t, "what was left behind has ended too", func() bool { return strings.Contains(r.log.String(), "msg=stopped") })
}

// What a file leaves out of services and actions is filled in.
func TestDefaultSubAgents(t *testing.T) {
	t.Parallel()
	stages := func(text string) map[string]agent.ActionConfig {
		t.Helper()
		path := filepath.Join(t.TempDir(), "vagoth.ini")
		write(t, path, text)
		s, err := hostagent.Read(hostagent.Source{INI: path}, menu())
		if err != nil {
			t.Fatal(err)
		}
		return s.Agent.Actions
	}
	for _, text := range []string{"", "[agent]\nkeep_jobs = 9\n[subagent.libvirt]\ntimeout = 3s\n"} {
		create := stages(text)["create"].Stages
		if len(create) != 2 || create[0].Service != "dir" || create[1].Service != "libvirt" {
			t.Errorf("%q creates a guest with %+v", text, create)
		}
	}
	named := stages("[agent.service.lab]\n[subagent.lab]\nuse = sim\n[agent.service.dir]\nport = 9\n")["create"].Stages
	if len(named) != 2 || named[0].Service != "dir" || named[1].Service != "lab" || named[1].Method != "Sim.Create" {
		t.Errorf("of sub-agents that are named a guest is created with %+v", named)
	}
}
