package fleet

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/etcdtest"
)

const asVagoth = "VAGOTH_TEST_RUN"

// Vagoth lets this program be vagoth when it was started as that: then it is true, and
// the code is to be exited with. A TestMain begins with it.
func Vagoth() (code int, is bool) {
	if os.Getenv(asVagoth) != "1" {
		return 0, false
	}
	return cli.Run(context.Background(), standard.Menu(), cli.System(), os.Args[1:]), true
}

// Program is what the processes run.
type Program struct{ path string }

// Build makes it.
func Build(t testing.TB) Program {
	t.Helper()
	if testlong.Long() {
		return Program{os.Args[0]}
	}
	p := Program{filepath.Join(t.TempDir(), "vagoth")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.path, "github.com/vagoth/vagoth/cmd/vagoth").CombinedOutput(); err != nil {
		t.Fatalf("cannot build vagoth: %v: %s", err, out)
	}
	return p
}

// Patience is how long anything may take on a busy machine. Nothing is measured
// with it.
const Patience = 2 * time.Minute

// Process is a place for vagoth, where processes live one after the other.
type Process struct {
	t     testing.TB
	run   Program
	name  string
	space *etcdtest.Space // nil is that of the test
	verb  string
	dir   string
	lives int

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	how   error         // then
}

// newProcess makes the place, with a configuration.
func newProcess(t testing.TB, run Program, space *etcdtest.Space, name, verb, ini string) *Process {
	t.Helper()
	dir, err := os.MkdirTemp("", "vf") // a short name, for sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, run: run, name: name, space: space, verb: verb, dir: dir}
	t.Cleanup(func() {
		p.Kill()
		for i := range p.lives {
			if text, _ := os.ReadFile(p.path("log." + strconv.Itoa(i))); strings.Contains(string(text), "WARNING: DATA RACE") {
				t.Errorf("%s, life %d: %s", name, i+1, text)
			}
		}
		if t.Failed() {
			p.tell()
		}
		_ = os.RemoveAll(dir)
	})
	p.write("vagoth.ini", "data = data\n"+ini)
	return p
}

// path is that of a file in the place.
func (p *Process) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Process) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// command is vagoth in this place.
func (p *Process) command(args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if p.space != nil {
		cmd = p.space.Command(p.run.path, args...)
	} else {
		cmd = exec.Command(p.run.path, args...) //nolint:noctx // it ends with the test
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	cmd.Env = append(os.Environ(), asVagoth+"=1", "VAGOTH_CONFIG="+p.path("vagoth.ini"))
	cmd.Dir = p.dir
	return cmd
}

// Start begins a life. It does not wait for it to serve.
func (p *Process) Start() {
	p.t.Helper()
	out, err := os.Create(p.path("log." + strconv.Itoa(p.lives)))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p.lives++
	p.cmd, p.ended = p.command(p.verb), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		p.how = cmd.Wait()
		close(ended)
	}(p.cmd, p.ended)
}

func (p *Process) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

// Kill ends it as a power failure would. It may have ended, or not have begun.
func (p *Process) Kill() {
	if p.cmd != nil {
		p.signal(syscall.SIGKILL)
		<-p.ended
		p.cmd = nil
	}
}

// End ends it in good order.
func (p *Process) End() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.signal(syscall.SIGQUIT) // it tells what it was at
		<-p.ended
	}
	if p.how != nil {
		p.t.Errorf("%s ended with %v", p.name, p.how)
	}
	p.cmd = nil
}

// Stop holds it, as a machine does that is suspended, until Continue.
func (p *Process) Stop() { p.signal(syscall.SIGSTOP) }

// Continue lets it go on.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

// Log is what it has said in this life.
func (p *Process) Log() string {
	text, _ := os.ReadFile(p.path("log." + strconv.Itoa(p.lives-1)))
	return string(text)
}

// tell shows the ends of its logs.
func (p *Process) tell() {
	for i := max(0, p.lives-2); i < p.lives; i++ {
		text, _ := os.ReadFile(p.path("log." + strconv.Itoa(i)))
		p.t.Logf("%s, life %d of %d, ends:\n%s", p.name, i+1, p.lives, text[max(0, len(text)-6000):])
	}
}

// Manager is a place for `vagoth serve`.
type Manager struct {
	*Process
	Client *api.Client // asks it over its socket, which no network cuts
}

// NewManager makes one that is not started.
func NewManager(t testing.TB, run Program, space *etcdtest.Space, name, ini string) *Manager {
	t.Helper()
	p := newProcess(t, run, space, name, "serve", ini)
	transport := serve.Transport(p.path("data/vagoth.sock"))
	transport.DisableKeepAlives = true
	return &Manager{Process: p, Client: api.NewClient("http://vagoth", transport)}
}

// Ready waits until it serves and knows who leads.
func (m *Manager) Ready() {
	m.t.Helper()
	Until(m.t, m.name+" is ready", func(ctx context.Context) bool {
		select {
		case <-m.ended:
			m.t.Fatalf("%s has ended: %v: %s", m.name, m.how, m.Log())
		default:
		}
		_, err := m.Client.Ready(ctx)
		return err == nil
	})
}

// Agent is a place for `vagoth agent`.
type Agent struct {
	*Process
	Address string
	Token   string // that lets a manager in
}

// NewAgent makes an agent that serves at the address, and starts it. Off loopback it needs
// a certificate; with one it lets in only who has its token.
func NewAgent(t testing.TB, run Program, space *etcdtest.Space, name, address string, c *Certificate, ini string) *Agent {
	t.Helper()
	text := "[agent]\nlisten = " + address + "\nrequire_token = yes\n"
	if c != nil {
		text += "tls_cert = " + c.Cert + "\ntls_key = " + c.Key + "\n"
	}
	a := &Agent{Process: newProcess(t, run, space, name, "agent", text+ini), Address: address}
	if c != nil {
		a.Token = a.newToken()
	}
	a.Start()
	Until(t, name+" serves", func(ctx context.Context) bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return a
}

// newToken makes a token of a manager.
func (a *Agent) newToken() string {
	a.t.Helper()
	out, err := a.command("token", "create", "manager", "--role", "operator").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) == 0 {
		a.t.Fatalf("cannot make a token: %v: %s", err, out)
	}
	return fields[len(fields)-1]
}

// Until waits for a condition.
func Until(t testing.TB, what string, ok func(context.Context) bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		done := ok(ctx)
		cancel()
		switch {
		case done:
			return
		case time.Now().After(deadline):
			t.Fatalf("never within %s: %s", Patience, what)
		}
		<-tick.C
	}
}
