package cli_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/manager/standard"
)

// TestServeScripts runs the daemon as a process of its own.
func TestServeScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/serve",
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "waitfor": waitfor, "answers": answers, "port": port, "signal": sendSignal},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") == "1",
	})
}

// answers waits until a daemon answers at a socket.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: answers SOCKET")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	transport := serve.Transport(ts.MkAbs(args[0]))
	defer transport.CloseIdleConnections()
	client := api.NewClient("http://vagoth", transport)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := client.Version(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("nobody answers at %s: %v", args[0], err)
		case <-tick.C:
		}
	}
}

// port puts a free port of the loopback into a variable.
func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, number, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Check(l.Close())
	ts.Setenv(args[0], number)
}

// TestUnitFile: what docs/vagoth.service types is understood.
func TestUnitFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "vagoth.service"))
	if err != nil {
		t.Fatal(err)
	}
	ini := filepath.Join(t.TempDir(), "vagoth.ini")
	if err := os.WriteFile(ini, []byte("[drivers.sim]\nuse = sim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(data)) {
		name, command, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name != "ExecStart" && name != "ExecStartPre" {
			continue
		}
		seen++
		words := strings.Fields(strings.ReplaceAll(command, "/etc/vagoth/vagoth.ini", ini))
		if words[0] != "/usr/bin/vagoth" || words[1] != "serve" {
			t.Fatalf("%s runs %q", name, words[:2])
		}
		if name == "ExecStart" {
			words = append(words, "--check")
		}
		var out, errs bytes.Buffer
		env := cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
		if code := cli.Run(t.Context(), standard.Menu(), env, words[1:]); code != 0 || !strings.Contains(out.String(), "is valid") {
			t.Errorf("%s: exit %d: %s%s", line, code, out.String(), errs.String())
		}
	}
	if seen != 2 {
		t.Errorf("the unit has %d commands", seen)
	}
	for _, key := range []string{"Type=notify", "WatchdogSec=", "ExecReload=/bin/kill -HUP $MAINPID"} {
		if !strings.Contains(string(data), "\n"+key) {
			t.Errorf("the unit lacks %s", key)
		}
	}
}

// sendSignal sends a signal to the process whose number is in a file.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME FILE")
	}
	s := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[0]]
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	if s == 0 || pid <= 1 {
		ts.Fatalf("no signal %s to the process %d", args[0], pid)
	}
	ts.Check(syscall.Kill(pid, s))
}
