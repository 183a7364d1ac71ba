// Package subagents_test runs the examples of sub-agents as they are run: each
// as a process of its own.
package subagents_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const guest = "0f8fad5b-d9cb-469f-a165-70867728950e"

// build makes the program of an example.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil { //nolint:gosec // its own arguments
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// start runs a sub-agent until the test ends, and returns where it listens.
func start(t *testing.T, program string, args ...string) mistify.Endpoint {
	t.Helper()
	cmd := exec.Command(program, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var logs strings.Builder
	cmd.Stderr = &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended: %v\n%s", err, &logs)
		}
		kill.Stop()
		if t.Failed() {
			t.Logf("its log:\n%s", &logs)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	where, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("it says %q, %v", line, err)
	}
	if strings.HasPrefix(where, "/") {
		return mistify.Endpoint{Socket: where}
	}
	port, err := strconv.Atoi(strings.TrimPrefix(where, "127.0.0.1:"))
	if err != nil {
		t.Fatalf("it listens on %q", where)
	}
	return mistify.Endpoint{Port: port}
}

func rpc(t *testing.T, e mistify.Endpoint) *mistify.RPC {
	t.Helper()
	c, err := mistify.NewRPC(e, mistify.RPCOptions{Name: "example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The simple sub-agent does the same in both languages.
func TestSimple(t *testing.T) {
	t.Run("go", func(t *testing.T) { simple(t, start(t, build(t, "simple"), "-port", "0")) })
	t.Run("python", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			testlong.Missing(t, "python3 is not installed")
		}
		simple(t, start(t, python, "simple.py", "--port", "0"))
	})
}

func simple(t *testing.T, e mistify.Endpoint) {
	c := rpc(t, e)
	ctx := trail.With(soon(t), trail.Trail{Source: "jo é", Reason: "to try it"})
	g := &mistify.Guest{ID: guest, Memory: 512, Metadata: map[string]string{"foo": "bar"}}
	for _, greeting := range []string{"", "welcome", "welcome"} {
		want := greeting
		if want == "" {
			want = "hello"
		}
		var r mistify.GuestResponse
		if err := c.Call(ctx, "Simple.Greet", &mistify.GuestRequest{Guest: g, Action: "create", Args: map[string]string{"greeting": greeting}}, &r); err != nil {
			t.Fatal(err)
		}
		if r.Guest == nil || r.Guest.ID != guest || r.Guest.Memory != 512 || r.Guest.Metadata["foo"] != "bar" || r.Guest.Metadata["greeting"] != want || r.Message != "greeted with "+want {
			t.Errorf("it answered %+v", r)
		}
	}
	var remote *mistify.RemoteError
	err := c.Call(ctx, "Simple.Greet", &mistify.GuestRequest{}, &mistify.GuestResponse{})
	if !errors.As(err, &remote) || remote.Status != 200 || !strings.Contains(remote.Message, "it has no guest") {
		t.Errorf("without a guest: %v", err)
	}
	err = c.Call(ctx, "Simple.No", &mistify.GuestRequest{}, &mistify.GuestResponse{})
	if !errors.As(err, &remote) || remote.Status != 400 {
		t.Errorf("a method that is not there: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, x := range []struct {
		path, kind, host, body string
		status                 int
	}{
		{"/", "application/json", "", `{}`, 404},
		{mistify.RPCPath, "text/plain", "", `{}`, 415},
		{mistify.RPCPath, "application/json", "evil.example", `{}`, 403},
		{mistify.RPCPath, "application/json", "", `hello`, 400},
		{mistify.RPCPath, "application/json", "", `[]`, 400},
		{mistify.RPCPath, "application/json", "", `{"method":"Simple.Greet","params":[7],"id":1}`, 400},
		{mistify.RPCPath, "application/json", "", `{"method":["a"],"params":[{}],"id":1}`, 400},
		{mistify.RPCPath, "application/json", "", strings.Repeat("[", 100_000), 400},
		{mistify.RPCPath, "application/json", "", strings.Repeat(" ", 2<<20), 413},
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.String()+x.path, strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", x.kind)
		req.Host = x.host
		resp, err := client.Do(req)
		if err != nil {
			if x.status != 413 { // it may close before all of the request was sent
				t.Errorf("%+.100v: %v", x, err)
			}
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != x.status {
			t.Errorf("%.100q at %s as %s of %q: %s, want %d", x.body, x.path, x.kind, x.host, resp.Status, x.status)
		}
	}
}

func TestWebhook(t *testing.T) {
	posted := make(chan *http.Request, 10)
	bodies := make(chan []byte, 10)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posted <- r
		bodies <- body
		if r.URL.Path == "/no" {
			http.Error(w, "not today", http.StatusTeapot)
		}
	}))
	defer ts.Close()
	program := build(t, "webhook")
	if err := exec.Command(program, "-port", "0").Run(); err == nil { //nolint:gosec // its own arguments
		t.Error("it runs without a URL")
	}
	c := rpc(t, start(t, program, "-port", "0", "-url", ts.URL+"/hook", "-url", ts.URL+"/no"))
	ctx := trail.With(soon(t), trail.Trail{Transaction: "t1"})
	request := &mistify.GuestRequest{Guest: &mistify.Guest{ID: guest}, Action: "shutdown"}
	var r mistify.GuestResponse
	if err := c.Call(ctx, "Webhook.Post", request, &r); err != nil || r.Guest.ID != guest {
		t.Fatalf("%+v, %v", r, err)
	}
	var got mistify.GuestRequest
	if err := json.Unmarshal(<-bodies, &got); err != nil || got.Action != "shutdown" || got.Guest.ID != guest {
		t.Errorf("it posted %+v, %v", got, err)
	}
	if req := <-posted; req.URL.Path != "/hook" || req.Header.Get(mistify.HeaderTransaction) != "t1" {
		t.Errorf("it posted to %s with %v", req.URL, req.Header)
	}
	request.Args = map[string]string{"endpoint": ts.URL + "/no"}
	if err := c.Call(ctx, "Webhook.Post", request, &r); err == nil || !strings.Contains(err.Error(), "418 I'm a teapot: not today") {
		t.Errorf("one that refuses: %v", err)
	}
	request.Args["endpoint"] = ts.URL + "/elsewhere"
	if err := c.Call(ctx, "Webhook.Post", request, &r); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("one that is not allowed: %v", err)
	}
	if len(posted) != 1 {
		t.Errorf("%d posts too many", len(posted)-1)
	}
}

type config struct {
	Actions map[string]struct {
		Stages []struct{ Method, Service string }
	}
	Services map[string]struct {
		Port int
		Path string
	}
}

// The test service answers every action that there is, at the method that its
// config names.
func TestEveryAction(t *testing.T) {
	data, err := os.ReadFile("testservice/agent.json")
	if err != nil {
		t.Fatal(err)
	}
	var conf config
	if err := json.Unmarshal(data, &conf); err != nil {
		t.Fatal(err)
	}
	e := start(t, build(t, "testservice"), "-socket", filepath.Join(t.TempDir(), "s"), "-download-size", "100000")
	c := rpc(t, e)
	e.Path = conf.Services["testDownload"].Path
	downloads := rpc(t, e)
	ctx := soon(t)
	snapshot := mistify.SnapshotID{Guest: guest, Disk: "0"}
	named := snapshot
	named.Name = "s1"
	// What an action needs is there once those before it in the list were done, but for these.
	if err := c.Call(ctx, "Test.CreateSnapshot", &mistify.SnapshotRequest{ID: snapshot.String(), Dest: "s1"}, &mistify.SnapshotResponse{}); err != nil {
		t.Fatal(err)
	}
	const session = "9b2f7a52-6d0e-4b1c-8d53-0a1f5b7c9e11"
	var console *mistify.Download
	for _, a := range mistify.Actions() {
		stages := conf.Actions[a.Name].Stages
		if len(stages) != 1 {
			t.Errorf("%s has %d stages", a.Name, len(stages))
			continue
		}
		method := stages[0].Method
		var err error
		ok := true
		switch {
		case a.Base == mistify.ActionConsole: // it stays attached until what is typed next has come back
			console, err = c.Stream(ctx, method, &mistify.ConsoleRequest{Guest: &mistify.Guest{ID: guest}, Session: session})
		case a.Base == mistify.ActionTypeConsole:
			err = c.Call(ctx, method, &mistify.ConsoleRequest{Guest: &mistify.Guest{ID: guest}, Session: session, Data: []byte("hello")}, &mistify.ConsoleResponse{})
			if err == nil {
				typed := make([]byte, len("hello"))
				_, err = io.ReadFull(console, typed)
				ok = string(typed) == "hello" && errors.Is(console.Close(), nil)
			}
		case a.Type == mistify.Stream:
			var d *mistify.Download
			d, err = downloads.Stream(ctx, method, mistify.SnapshotRequest{ID: named.String()})
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, d)
				ok = n == 100_000 && d.Length == n && errors.Is(d.Close(), nil)
			}
		case a.Type == mistify.Upload:
			var r mistify.ImageResponse
			err = c.Upload(ctx, method, &mistify.ImageRequest{ID: "289120e4-ed12-431d-8d18-48f8a94bb05b"}, io.NopCloser(strings.NewReader("content")), &r)
			ok = len(r.Images) == 1 && r.Images[0].ID == "289120e4-ed12-431d-8d18-48f8a94bb05b"
		case a.On == mistify.OnGuest:
			var r mistify.GuestResponse
			err = c.Call(ctx, method, &mistify.GuestRequest{Guest: &mistify.Guest{ID: guest, State: "stopped"}, Action: a.Name}, &r)
			ok = r.Guest != nil && r.Guest.ID == guest && r.Guest.State != "" && r.Message == "done by "+method && strings.HasSuffix(method, "Container") == a.Container
			if a.Base == mistify.ActionMigrate { // it is not there any more
				err = errors.Join(err, c.Call(ctx, "Test.Start", &mistify.GuestRequest{Guest: &mistify.Guest{ID: guest}, Action: "start"}, &r))
			}
		case a.On == mistify.OnMetrics:
			var r mistify.GuestMetricsResponse
			err = c.Call(ctx, method, &mistify.GuestMetricsRequest{Guest: &mistify.Guest{ID: guest, CPU: 1}, Type: a.Name[:strings.Index(a.Name, "M")]}, &r)
			ok = len(r.CPU)+len(r.Disk)+len(r.NIC) == 1 && a.Name == r.Type+"Metrics"
		case a.On == mistify.OnImage:
			id := "289120e4-ed12-431d-8d18-48f8a94bb05a"
			if a.Container {
				id = "busybox"
			}
			var r mistify.ImageResponse
			err = c.Call(ctx, method, &mistify.ImageRequest{ID: id}, &r)
			ok = len(r.Images) == 1 && r.Images[0].ID == id && (r.Images[0].Type == mistify.TypeContainer) == a.Container
		case a.On == mistify.OnSave:
			var r mistify.ImageResponse
			err = c.Call(ctx, method, &mistify.SaveRequest{ID: guest, Dest: "saved:1"}, &r)
			ok = len(r.Images) == 1 && r.Images[0].ID == "saved:1" && r.Images[0].Type == mistify.TypeContainer
		case a.On == mistify.OnSnapshot:
			request := named.Request()
			if a.Name == "createSnapshot" || a.Name == "listSnapshots" {
				request = snapshot.Request()
				request.Dest = "s2"
			}
			if a.Name == "rollbackSnapshot" { // its snapshot was deleted just before
				request.ID = snapshot.String() + "@s2"
			}
			var r mistify.SnapshotResponse
			err = c.Call(ctx, method, &request, &r)
			ok = len(r.Snapshots) == 1 && strings.HasPrefix(r.Snapshots[0].ID, "mistify/"+snapshot.String()+"@")
			if a.Name == "rollbackSnapshot" {
				err = errors.Join(err, c.Call(ctx, "Test.CreateSnapshot", &mistify.SnapshotRequest{ID: snapshot.String(), Dest: "s1"}, &r))
			}
		case a.On == mistify.OnHost:
			var r mistify.StatusResponse
			err = c.Call(ctx, method, &mistify.StatusRequest{}, &r)
			ok = r.Complete && len(r.Guests) == 1 && r.Guests[0].State == virt.Running
		}
		if err != nil || !ok {
			t.Errorf("%s by %s: %v, answered well: %v", a.Name, method, err, ok)
		}
	}
}

// The test service misbehaves as it is told, and notes what it is asked.
func TestMisbehaves(t *testing.T) {
	record := filepath.Join(t.TempDir(), "calls")
	c := rpc(t, start(t, build(t, "testservice"), "-port", "0", "-record", record))
	ask := func(ctx context.Context, args map[string]string) (r mistify.GuestResponse, err error) {
		return r, c.Call(ctx, "Test.Start", &mistify.GuestRequest{Guest: &mistify.Guest{ID: guest}, Action: "start", Args: args}, &r)
	}
	ctx := trail.With(soon(t), trail.Trail{Job: "j1", Attempt: 2, Token: trail.Token{Epoch: 1, Number: 2}})
	if _, err := ask(ctx, map[string]string{"fail": "no luck", "kind": "busy"}); !errors.Is(err, virt.ErrBusy) || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("fail: %v", err)
	}
	if _, err := ask(ctx, map[string]string{"panic": "oh"}); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("panic: %v", err)
	}
	if r, err := ask(ctx, map[string]string{"noguest": "yes"}); err != nil || r.Guest != nil {
		t.Errorf("noguest: %+v, %v", r, err)
	}
	for _, want := range []int{1, 1, 0} {
		if r, err := ask(ctx, map[string]string{"retry": "2"}); err != nil || r.Retry != want {
			t.Errorf("retry: %+v, %v, want %d", r, err, want)
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := ask(short, map[string]string{"delay": "1h"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delay: %v", err)
	}
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	const want = `{"Method":"Test.Start","Guest":"` + guest + `","Job":"j1","Transaction":"","Source":"","Reason":"","Token":"1.2","Attempt":2}`
	if len(lines) != 7 || lines[0] != want {
		t.Errorf("%d calls were noted, the first as %s", len(lines), lines[0])
	}
}
