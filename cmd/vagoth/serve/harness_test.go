package serve_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/syncbuf"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/manager/standard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const small = `data = data
[drivers.lab]
use = sim
path = hosts
[provisioner]
use = basic
[monitor]
use = poll
`

// served is a daemon that runs in the process.
type served struct {
	t      *testing.T
	ini    string
	data   string
	socket string
	client *api.Client
	http   *http.Client
	log    *syncbuf.Buffer
	reload chan struct{}
	abort  chan struct{}

	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
	err    error
}

// waitFor waits until the log says it.
func (s *served) waitFor(text string) {
	s.t.Helper()
	eventually(s.t, "the log says "+text, func() bool { return strings.Contains(s.log.String(), text) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// tempDir is a directory whose path is short enough for a socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// load reads the file with the standard menu, or another.
func load(path string, menu manager.Menu) func() (*manager.Settings, error) {
	return func() (*manager.Settings, error) {
		f, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		return manager.Read(f, menu)
	}
}

// prepared is a daemon that is not started yet.
func prepared(t *testing.T, dir, text string, menu manager.Menu) (*served, serve.Options) {
	t.Helper()
	s := &served{
		t: t, ini: filepath.Join(dir, "vagoth.ini"), data: filepath.Join(dir, "data"), log: new(syncbuf.Buffer),
		reload: make(chan struct{}), abort: make(chan struct{}), ended: make(chan error, 1),
	}
	s.socket = filepath.Join(s.data, "vagoth.sock")
	write(t, s.ini, text)
	return s, serve.Options{Load: load(s.ini, menu), Version: "test", LogTo: s.log, Reload: s.reload, Abort: s.abort}
}

// start runs a daemon until the test ends.
func start(t *testing.T, dir, text string) *served {
	t.Helper()
	s, o := prepared(t, dir, text, standard.Menu())
	s.run(o)
	return s
}

func (s *served) run(o serve.Options) {
	s.t.Helper()
	ready := make(chan struct{})
	o.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- serve.Run(ctx, o) }()
	select {
	case <-ready:
	case err := <-s.ended:
		cancel()
		s.t.Fatalf("the daemon did not start: %v\n%s", err, s.log)
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the daemon did not start in time\n%s", s.log)
	}
	transport := serve.Transport(s.socket)
	s.http = &http.Client{Transport: transport}
	s.client = api.NewClient("http://vagoth", transport)
	s.t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.stop(); err != nil && !s.t.Failed() {
			s.t.Errorf("the daemon ended with %v", err)
		}
		if s.t.Failed() {
			s.t.Logf("the daemon's log:\n%s", s.log)
		}
	})
}

// stop ends the daemon as a signal does, and says how it ended.
func (s *served) stop() error {
	s.once.Do(func() {
		s.cancel()
		s.err = s.end()
	})
	return s.err
}

// end waits for the daemon's own end.
func (s *served) end() error {
	select {
	case err := <-s.ended:
		return err
	case <-time.After(30 * time.Second):
		return errors.New("it did not end in time")
	}
}

// failing runs a daemon that is to refuse to start.
func failing(t *testing.T, dir, text string) error {
	t.Helper()
	_, o := prepared(t, dir, text, standard.Menu())
	return runFails(t, o)
}

func runFails(t *testing.T, o serve.Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.Ready = func() {
		t.Error("the daemon started")
		cancel()
	}
	return serve.Run(ctx, o)
}
