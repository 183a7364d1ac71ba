package hostagent_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/internal/testlong"
)

// testService runs examples/subagents/testservice as a process of its own, and
// returns its port.
func testService(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "testservice")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../../examples/subagents/testservice").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	service := exec.CommandContext(t.Context(), path, "-port", "0")
	stdout, err := service.StdoutPipe()
	if err == nil {
		err = service.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait() // how it ends says nothing of the agent
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line[strings.LastIndex(line, ":")+1:])
}

// TestWalk types the walk of docs/agent.md, and compares what is answered.
func TestWalk(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			testlong.Missing(t, "the walk is typed with %s, which is not here", tool)
		}
	}
	page, err := os.ReadFile("../../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, ok := strings.Cut(string(page), "\n## A walk with curl\n")
	if !ok {
		t.Fatal("docs/agent.md has no walk with curl")
	}
	walk, _, _ = strings.Cut(walk, "\n## ")

	config, err := os.ReadFile("../../../examples/subagents/testservice/agent.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.json")
	write(t, path, strings.ReplaceAll(string(config), "9999", testService(t)))
	r, o := prepared(t, dir, "")
	r.source = hostagent.Source{Mistify: path, Listen: "127.0.0.1:0"}
	r.run(o)

	typed := 0
	lines := strings.Split(walk, "\n")
	for i, line := range lines {
		command, ok := strings.CutPrefix(line, "    $ ")
		if !ok {
			continue
		}
		var want []string
		for _, l := range lines[i+1:] {
			if l = strings.TrimPrefix(l, "    "); l == "" || strings.HasPrefix(l, "$ ") {
				break
			}
			want = append(want, l)
		}
		typed++
		bash := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(command, "127.0.0.1:8080", r.address))
		bash.Dir = dir
		got, err := bash.CombinedOutput()
		if err != nil {
			t.Fatalf("$ %s\n%v\n%s", command, err, got)
		}
		parts := strings.Split(strings.Join(want, "\n"), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if !regexp.MustCompile(`^(?s)` + strings.Join(parts, ".*") + `\s*$`).Match(got) {
			t.Errorf("$ %s\nanswers\n%s\nand not\n%s", command, got, strings.Join(want, "\n"))
		}
	}
	if typed < 35 {
		t.Errorf("only %d commands were typed", typed)
	}
}
