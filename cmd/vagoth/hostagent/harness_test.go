package hostagent_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/internal/syncbuf"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/virt/mistify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const guestID = "0f8fad5b-d9cb-469f-a165-70867728950e"

// small is a file of a manager and of an agent with a simulated host inside.
const small = `data = data
[drivers.lab]
use = sim
[agent]
listen = 127.0.0.1:0
[agent.service.sim]
[agent.action.create]
stages = sim Sim.Create idempotent
[agent.action.shutdown]
stages = sim Sim.Shutdown
[agent.action.status]
stages = sim Sim.Status
[subagent.sim]
memory = 16GiB
`

// with is small with keys in [agent].
func with(keys string) string { return strings.Replace(small, "[agent]\n", "[agent]\n"+keys, 1) }

func menu() hostagent.Menu {
	m := standard.Menu()
	return hostagent.Menu{SubAgents: m.SubAgents, Stages: m.Stages, Default: m.Defaults.SubAgents}
}

// running is an agent that runs in the process.
type running struct {
	t       *testing.T
	dir     string
	source  hostagent.Source
	address string
	client  *http.Client
	log     *syncbuf.Buffer
	reload  chan struct{}
	abort   chan struct{}
	cancel  context.CancelFunc
	ended   chan error
	once    sync.Once
	err     error
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// prepared is an agent that is not started yet.
func prepared(t *testing.T, dir, text string) (*running, hostagent.Options) {
	t.Helper()
	r := &running{
		t: t, dir: dir, source: hostagent.Source{INI: filepath.Join(dir, "vagoth.ini")}, log: new(syncbuf.Buffer), client: &http.Client{},
		reload: make(chan struct{}), abort: make(chan struct{}), ended: make(chan error, 1),
	}
	if text == "" {
		r.source.INI = ""
	} else {
		write(t, r.source.INI, text)
	}
	load := func() (*hostagent.Settings, error) { return hostagent.Read(r.source, menu()) }
	return r, hostagent.Options{Load: load, Version: "test", LogTo: r.log, Reload: r.reload, Abort: r.abort}
}

// start runs an agent until the test ends.
func start(t *testing.T, dir, text string) *running {
	t.Helper()
	r, o := prepared(t, dir, text)
	r.run(o)
	return r
}

func (r *running) run(o hostagent.Options) {
	r.t.Helper()
	ready := make(chan string, 1)
	o.Ready = func(address string) { ready <- address }
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- hostagent.Run(ctx, o) }()
	select {
	case r.address = <-ready:
	case err := <-r.ended:
		cancel()
		r.t.Fatalf("the agent did not start: %v\n%s", err, r.log)
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the agent did not start in time\n%s", r.log)
	}
	transport := &http.Transport{}
	r.client = &http.Client{Transport: transport}
	r.t.Cleanup(func() {
		r.client.CloseIdleConnections()
		if err := r.stop(); err != nil && !r.t.Failed() {
			r.t.Errorf("the agent ended with %v", err)
		}
		if r.t.Failed() {
			r.t.Logf("the agent's log:\n%s", r.log)
		}
	})
}

// stop ends the agent as a signal does, and says how it ended.
func (r *running) stop() error {
	r.once.Do(func() {
		r.cancel()
		r.err = r.end()
	})
	return r.err
}

func (r *running) end() error {
	select {
	case err := <-r.ended:
		return err
	case <-time.After(30 * time.Second):
		return errors.New("it did not end in time")
	}
}

// mistify is a client of the agent.
func (r *running) mistify(token string) *mistify.Client {
	r.t.Helper()
	c, err := mistify.NewClient("http://"+r.address, mistify.ClientOptions{Transport: r.client.Transport, Token: func() string { return token }})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// get asks for a path, and gives status and body.
func (r *running) get(url string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// create makes a guest and waits until it runs.
func (r *running) create(c *mistify.Client) mistify.Job {
	r.t.Helper()
	_, job, err := c.CreateGuest(r.t.Context(), mistify.Guest{ID: guestID, CPU: 1, Memory: 128})
	if err != nil {
		r.t.Fatal(err)
	}
	j, err := c.WaitJob(r.t.Context(), job)
	if err == nil {
		err = j.Err()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// fails runs an agent that is to refuse to start.
func fails(t *testing.T, o hostagent.Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.Ready = func(string) {
		t.Error("the agent started")
		cancel()
	}
	return hostagent.Run(ctx, o)
}
