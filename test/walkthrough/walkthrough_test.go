package walkthrough

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/scheduler"
)

const (
	asVagoth = "VAGOTH_TEST_RUN"
	examples = "../../examples"
	patience = time.Minute
)

// TestMain lets this program be vagoth when it starts itself.
func TestMain(m *testing.M) {
	if os.Getenv(asVagoth) == "1" {
		os.Exit(cli.Run(context.Background(), standard.Menu(), cli.System(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// place is a folder as the reader of the manual has it, with a daemon.
type place struct {
	t       *testing.T
	dir     string
	spin    string // address of the six verbs
	scratch string
}

// newPlace copies the example's files, adds more to the configuration, and starts
// the daemon.
func newPlace(t *testing.T, more string) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "vw") // short, as a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p := &place{t: t, dir: dir, spin: freeAddress(t), scratch: filepath.Join(dir, "scratch")}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(examples, "walkthrough"))); err != nil {
		t.Fatal(err)
	}
	ini := filepath.Join(dir, "vagoth.ini")
	text, err := os.ReadFile(ini)
	if err != nil {
		t.Fatal(err)
	}
	const off = "; spin_listen = 127.0.0.1:8081 "
	if !strings.Contains(string(text), off) {
		t.Fatalf("%s does not show how spin_listen is set", ini)
	}
	if err := os.WriteFile(ini, []byte(strings.Replace(string(text), off, "spin_listen = "+p.spin+" ", 1)+more), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := p.command("serve")
	start(t, "the daemon", daemon)
	await(t, "the daemon serves", func() bool {
		_, code := p.vagoth("package", "status")
		return code == 0 && exists(filepath.Join(dir, "vagoth-data", "vagoth.sock"))
	})
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// command is a command line of vagoth.
func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...) //nolint:gosec // this program itself
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), asVagoth+"=1")
	return cmd
}

// vagoth types a command, and returns all that it printed.
func (p *place) vagoth(args ...string) (output string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is a command that has to succeed.
func (p *place) must(args ...string) string {
	p.t.Helper()
	out, code := p.vagoth(args...)
	if code != 0 {
		p.t.Fatalf("vagoth %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// start starts a program, and ends it with the test, as a person does.
func start(t *testing.T, what string, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timeout := time.NewTimer(patience)
		defer timeout.Stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-timeout.C:
			_ = cmd.Process.Kill()
			t.Errorf("%s does not end by itself: %v", what, <-done)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", what, log.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// workers are the two of the manual.
func workers() map[string]func(t *testing.T, p *place) *exec.Cmd {
	return map[string]func(t *testing.T, p *place) *exec.Cmd{
		"go": func(t *testing.T, p *place) *exec.Cmd {
			program := filepath.Join(p.dir, "worker")
			if out, err := exec.Command("go", "build", "-o", program, examples+"/worker").CombinedOutput(); err != nil { //nolint:gosec // its own arguments
				t.Fatalf("go build: %v\n%s", err, out)
			}
			return exec.Command(program, "-manager", filepath.Join(p.dir, "vagoth-data", "vagoth.sock"), "-scratch", p.scratch) //nolint:gosec // as above
		},
		"python": func(t *testing.T, p *place) *exec.Cmd {
			python, err := exec.LookPath("python3")
			if err != nil {
				testlong.Missing(t, "there is no python3 here")
			}
			return exec.Command(python, examples+"/worker.py", "--manager", filepath.Join(p.dir, "vagoth-data", "vagoth.sock"), "--scratch", p.scratch) //nolint:gosec // as above
		},
	}
}

func TestTheWalkThrough(t *testing.T) {
	t.Parallel()
	for name, worker := range workers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, "")
			cmd := worker(t, p)
			image := filepath.Join(p.scratch, "volumes", "test", "test.raw")
			running := filepath.Join(p.scratch, "running", "1")

			// Without a worker it waits.
			p.must("package", "submit", "-f", "start.yaml", "--no-wait")
			if out := p.must("queue", "list"); !strings.Contains(out, "storage") || !strings.Contains(out, "emulation") {
				t.Fatalf("the queues are\n%s", out)
			}
			stop := start(t, "the worker", cmd)
			await(t, "the VM runs", func() bool { return exists(running) })
			if s, err := os.Stat(image); err != nil || s.Size() != 50<<30 {
				t.Fatalf("the image: %v, %v", s, err)
			}
			var vm struct{ Name string }
			text, err := os.ReadFile(filepath.Join(p.scratch, "vms", "1.json"))
			if err := errors.Join(err, json.Unmarshal(text, &vm)); err != nil || vm.Name != "vm" {
				t.Fatalf("the configuration %s: %v", text, err)
			}

			// Again: all of it is there already, and succeeds.
			p.must("package", "submit", "-f", "start.yaml")
			p.must("package", "submit", "-f", "stop.yaml")
			if exists(running) {
				t.Fatal("the VM still runs")
			}
			p.refused(t, "emulation", "strat", `{"id":1}`, "strat", "start")
			p.refused(t, "emulation", "start", `{"id":"one"}`, "id")
			p.refused(t, "emulation", "start", `{"id":1,"fast":true}`, "fast")
			p.refused(t, "emulation", "start", `{"id":2}`, "there is no VM 2")
			p.refused(t, "storage", "create_image", `{"volume_path":"../..","image_name":"x","image_size":1}`, "no name")
			p.spinVerbs(t, image)
			stop()
			if err := filepath.WalkDir(p.scratch, func(path string, _ fs.DirEntry, err error) error {
				if strings.HasSuffix(path, ".new") {
					t.Errorf("%s was left", path)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// refused submits a job that the worker has to fail, with words.
func (p *place) refused(t *testing.T, queue, action, params string, words ...string) {
	t.Helper()
	file := filepath.Join(p.dir, "refused.json")
	text := fmt.Sprintf(`{"jobs":[{"queue":%q,"action":%q,"params":%s}]}`, queue, action, params)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := p.vagoth("package", "submit", "-f", file)
	if code == 0 {
		t.Fatalf("%s %s succeeded:\n%s", action, params, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			t.Errorf("%s %s: the output lacks %q:\n%s", action, params, word, out)
		}
	}
}

// spinVerbs lets the worker do a package that came over spin-broker's API.
func (p *place) spinVerbs(t *testing.T, image string) {
	t.Helper()
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.spin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(b.String())
	}
	code, id := ask("POST", "/new", "")
	if code != 200 {
		t.Fatalf("new: %d %s", code, id)
	}
	id = strings.Trim(id, `"`)
	if code, answer := ask("POST", "/add/"+id, `{"resource":"storage","action":"create_image","parameters":{"volume_path":"test","image_name":"test.raw","image_size":1}}`); code != 200 {
		t.Fatalf("add: %d %s", code, answer)
	}
	if code, answer := ask("POST", "/enqueue/"+id, ""); code != 200 {
		t.Fatalf("enqueue: %d %s", code, answer)
	}
	await(t, "the package of spin-broker's API is done", func() bool {
		code, answer := ask("GET", "/status/"+id, "")
		if code == 200 && answer != `{"status":true}` {
			t.Fatalf("status: %s", answer)
		}
		return code == 200
	})
	if !exists(image) {
		t.Fatal("the image was not made")
	}
}

// The bodies that the manual shows are those that the daemon takes.
func TestTheBodiesOfTheManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/workers.md")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`/v1/leases/([a-z]+) (?:\\\n +)?-d '(\{[^']*\})'`).FindAllStringSubmatch(string(text), -1)
	if len(calls) < 6 {
		t.Fatalf("only %d calls are found", len(calls))
	}
	for _, call := range calls {
		body, ok := map[string]any{
			"next": &scheduler.Want{}, "heartbeat": &scheduler.Beat{}, "log": &api.LogRequest{},
			"complete": &api.CompleteRequest{}, "return": &api.ReturnRequest{},
		}[call[1]]
		if !ok {
			t.Errorf("there is no call %s", call[1])
			continue
		}
		d := json.NewDecoder(strings.NewReader(call[2]))
		d.DisallowUnknownFields()
		if err := d.Decode(body); err != nil {
			t.Errorf("%s %s: %v", call[1], call[2], err)
		}
	}
}
