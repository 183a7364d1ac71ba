package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/manager/standard"
)

// TestAgentScripts runs agents, and sub-agents, as processes of their own.
func TestAgentScripts(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../../examples/subagents/testservice").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/agent",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "waitfor": waitfor, "port": port, "signal": sendSignal},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("GORACE", "atexit_sleep_ms=10")
			return nil
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") == "1",
	})
}

// TestAgentUnitFile: what docs/vagoth-agent.service types is understood.
func TestAgentUnitFile(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "vagoth-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(words ...string) (string, int) {
		var out, errs bytes.Buffer
		env := cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
		code := cli.Run(t.Context(), standard.Menu(), env, words)
		return out.String() + errs.String(), code
	}
	example, code := run("agent", "example")
	if code != 0 {
		t.Fatal(example)
	}
	dir := t.TempDir()
	ini := filepath.Join(dir, "agent.ini")
	if err := os.WriteFile(ini, []byte("data = "+dir+"\n"+example), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(data)) {
		name, command, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name != "ExecStart" && name != "ExecStartPre" {
			continue
		}
		seen++
		words := strings.Fields(strings.ReplaceAll(command, "/etc/vagoth/agent.ini", ini))
		if words[0] != "/usr/bin/vagoth" || words[1] != "agent" {
			t.Fatalf("%s runs %q", name, words[:2])
		}
		if name == "ExecStart" {
			words = append(words, "--check")
		}
		if out, code := run(words[1:]...); code != 0 || !strings.Contains(out, "is valid") {
			t.Errorf("%s: exit %d: %s", line, code, out)
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
