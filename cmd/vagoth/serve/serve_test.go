package serve_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func host(t *testing.T, id string) api.CreateRequest {
	t.Helper()
	def, err := registry.NewDocument(virt.HostDefinition{Driver: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	return api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: virt.TypeHypervisor, Definition: def}}
}

// The daemon serves the cluster on its socket, and what it was told is there
// when it is started again.
func TestServe(t *testing.T) {
	dir := tempDir(t)
	s := start(t, dir, small)
	info, err := os.Lstat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has the mode %s", info.Mode())
	}
	v, err := s.client.Version(t.Context())
	if err != nil || v.Version != "test" {
		t.Fatalf("it answers %+v, %v", v, err)
	}
	if _, err := s.client.Create(t.Context(), host(t, "h1")); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.data, "*vagoth.sock*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %q, %v", left, err)
	}
	again := start(t, dir, small)
	if it, err := again.client.Node(t.Context(), "h1"); err != nil || it.Node.Type() != virt.TypeHypervisor {
		t.Errorf("after a restart: %v", err)
	}
}

// The monitor runs by its schedule.
func TestMonitorRuns(t *testing.T) {
	s := start(t, tempDir(t), small+"every = @every 1s\n")
	if _, err := s.client.Create(t.Context(), host(t, "h1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host is up", func() bool {
		it, err := s.client.Node(t.Context(), "h1")
		return err == nil && it.Node.State() == string(virt.Up)
	})
}

// Jobs that ended are in the figures for Prometheus.
func TestMetrics(t *testing.T) {
	s := start(t, tempDir(t), small)
	if _, err := s.client.Create(t.Context(), host(t, "h1")); err != nil {
		t.Fatal(err)
	}
	list, err := s.client.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "vm_poll", Params: scheduler.MustParams(virt.Params{VM: "none"})}}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := s.client.WaitJob(t.Context(), list[0].ID, 10*time.Second); err != nil || st.State != scheduler.Failed {
		t.Fatalf("%+v, %v", st, err)
	}
	eventually(t, "the figures tell of a job that failed", func() bool {
		resp, err := s.http.Get("http://vagoth/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", resp.Status, text, err)
		}
		return strings.Contains(string(text), `action="vm_poll"`) && strings.Contains(string(text), "vagoth_registry_write_seconds_count")
	})
}

// staleSocket leaves a socket at which nobody answers.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSocketThatIsThere(t *testing.T) {
	t.Run("stale", func(t *testing.T) {
		dir := tempDir(t)
		staleSocket(t, filepath.Join(dir, "data", "vagoth.sock"))
		if err := os.MkdirAll(filepath.Join(dir, "data", ".vagoth.sock.new", "x"), 0o755); err != nil { // of a killed daemon
			t.Fatal(err)
		}
		s := start(t, dir, small)
		if _, err := s.client.Version(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("answering", func(t *testing.T) {
		dir := tempDir(t)
		other := filepath.Join(dir, "other.sock")
		l, err := net.Listen("unix", other)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if err := failing(t, dir, small+"[serve]\nsocket = other.sock\n"); err == nil || !strings.Contains(err.Error(), "another process answers") {
			t.Errorf("it says %v", err)
		}
		if _, err := os.Lstat(other); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		dir := tempDir(t)
		write(t, filepath.Join(dir, "notes"), "precious")
		if err := failing(t, dir, small+"[serve]\nsocket = notes\n"); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Errorf("it says %v", err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "notes")); string(data) != "precious" {
			t.Errorf("the file holds %q, %v", data, err)
		}
	})
	t.Run("replaced meanwhile", func(t *testing.T) {
		s := start(t, tempDir(t), small)
		if err := os.Remove(s.socket); err != nil {
			t.Fatal(err)
		}
		staleSocket(t, s.socket)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.socket); err != nil {
			t.Errorf("the socket of another was removed: %v", err)
		}
	})
}

// The socket works however long its path is, which the kernel bounds at 107.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(tempDir(t), strings.Repeat("a-long-name/", 15))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, small)
	if _, err := s.client.Version(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestSocketGroup(t *testing.T) {
	g, err := user.LookupGroupId("0")
	if os.Getgid() != 0 || err != nil {
		if g, err = user.LookupGroupId(strings.TrimSpace(userGroup(t))); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, tempDir(t), small+"[serve]\nsocket_group = "+g.Name+"\n")
	info, err := os.Lstat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != uint32(os.Getgid()) {
		t.Errorf("the socket has the mode %s and the group %d", info.Mode(), info.Sys().(*syscall.Stat_t).Gid)
	}
	s.waitFor("cannot enter") // the data directory is the user's alone
	if err := failing(t, tempDir(t), small+"[serve]\nsocket_group = no-such-group\n"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("an unknown group: %v", err)
	}
}

func userGroup(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Gid
}

// Two daemons never serve one directory.
func TestLock(t *testing.T) {
	dir := tempDir(t)
	s := start(t, dir, small)
	before, err := os.Lstat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	err = failing(t, dir, small)
	var held *lockfile.HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || filepath.Base(held.Path) != "serve.lock" {
		t.Errorf("the second daemon says %v", err)
	}
	if after, err := os.Lstat(s.socket); err != nil || !os.SameFile(before, after) {
		t.Errorf("the first one's socket was touched: %v", err)
	}
}

// One that is stopped while it still waits ends well.
func TestStoppedBeforeItBegan(t *testing.T) {
	dir := tempDir(t)
	s := start(t, dir, small)
	_, o := prepared(t, dir, small, standard.Menu())
	o.LockWait = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, o) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := s.client.Version(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestCheck(t *testing.T) {
	dir := tempDir(t)
	ini := filepath.Join(dir, "vagoth.ini")
	check := func(text string) error {
		write(t, ini, text)
		s, err := load(ini, standard.Menu())()
		if err != nil {
			t.Fatal(err)
		}
		return serve.Check(s)
	}
	if err := check(small + "[serve]\n"); err != nil {
		t.Error(err)
	}
	if err := check(small + "[serve]\nlisten = 127.0.0.1:0\n"); err == nil || !strings.Contains(err.Error(), "vagoth token create") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("checking opened something: %v", err)
	}
}

func TestEndedByItself(t *testing.T) {
	broken := errors.New("the clock stands still")
	menu := standard.Menu()
	menu.Monitor["poll"] = failingMonitor(broken)
	s, o := prepared(t, tempDir(t), small, menu)
	s.run(o)
	err := s.end()
	s.once.Do(func() {})
	if !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Lstat(s.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A job that ends when it is told to is handed back, and the daemon ends in time.
func TestShutdownHandsBack(t *testing.T) {
	work := newWork()
	s, o := prepared(t, tempDir(t), small, work.menu())
	s.run(o)
	<-work.began
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if !work.handedBack.Load() {
		t.Error("the job was not handed back")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A job that does not end does not keep the daemon for ever.
func TestShutdownTimeout(t *testing.T) {
	work := newWork()
	work.deaf = make(chan struct{})
	s, o := prepared(t, tempDir(t), small+"[serve]\nshutdown_timeout = 300ms\n", work.menu())
	s.run(o)
	<-work.began
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "did not end within") {
		t.Errorf("it ended with %v", err)
	}
	s.err = nil
	close(work.deaf)
}

func TestAbort(t *testing.T) {
	work := newWork()
	work.deaf = make(chan struct{})
	s, o := prepared(t, tempDir(t), small, work.menu())
	s.run(o)
	<-work.began
	s.cancel()
	s.waitFor("stopping")
	close(s.abort)
	if err := s.end(); !errors.Is(err, serve.ErrAborted) {
		t.Errorf("it ended with %v", err)
	}
	s.once.Do(func() {})
	close(work.deaf) // what the process's end would do
	s.waitFor("stopped")
}

// Requests that are under way when the daemon is stopped come to their end.
func TestShutdownAnswers(t *testing.T) {
	s, o := prepared(t, tempDir(t), small, standard.Menu())
	s.run(o)
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	body := `{"id":"h1","type":"hv","definition":{"driver":"lab"}}`
	if _, err := c.Write([]byte("POST /v1/nodes HTTP/1.1\r\nHost: vagoth\r\nContent-Length: 53\r\n\r\n" + body[:20])); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	// The request is under way once another on the same server has been answered.
	if _, err := s.client.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.stop() }()
	s.waitFor("stopping")
	if _, err := c.Write([]byte(body[20:])); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
		t.Errorf("it was answered with %q, %v", answer[:n], err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := s.http.Get("http://vagoth/v1/version"); err == nil {
		t.Error("a request after the end was answered")
	}
}
