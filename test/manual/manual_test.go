// Package manual holds the README, the manual and the example configurations
// against the program: what they show is run.
package manual

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/manager/standard"
)

const root = "../.."

// block is a fenced block of a page.
type block struct {
	page, language string
	lines          []string
}

func blocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	open := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			all = append(all, block{page: page, language: language})
			open = true
		case fence:
			open = false
		case open:
			b := &all[len(all)-1]
			b.lines = append(b.lines, line)
		}
	}
	return all
}

// TestReadme runs what stands behind $ in the README, in a directory with the
// repository's vagoth.ini, and compares what it prints.
func TestReadme(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ini, err := os.ReadFile(filepath.Join(root, "vagoth.ini"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vagoth.ini"), ini, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "vagoth")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, root+"/cmd/vagoth").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ran := 0
	for _, b := range blocks(t, "README.md") {
		if b.language != "console" {
			continue
		}
		var command string
		var want []string
		check := func() {
			if command == "" {
				return
			}
			ran++
			got := run(t, dir, bin, command)
			if text := strings.Join(want, "\n"); strings.TrimSpace(text) != strings.TrimSpace(got) {
				t.Errorf("README.md shows for %q:\n%s\n\nit prints:\n%s", command, text, got)
			}
		}
		for _, line := range b.lines {
			if next, ok := strings.CutPrefix(line, "$ "); ok {
				check()
				command, want = next, nil
			} else {
				want = append(want, line)
			}
		}
		check()
	}
	if ran < 3 {
		t.Errorf("README.md shows %d commands, this test expects at least 3", ran)
	}
}

// run runs one command of the README, which begins with the program.
func run(t *testing.T, dir, bin, command string) string {
	t.Helper()
	args, ok := strings.CutPrefix(command, "go run ./cmd/vagoth ")
	if !ok {
		if args, ok = strings.CutPrefix(command, "vagoth "); !ok {
			t.Fatalf("README.md runs %q, this test knows only vagoth", command)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, bin, strings.Fields(args)...)
	c.Dir = dir
	c.Env = append(os.Environ(), "VAGOTH_CONFIG=", "VAGOTH_SOURCE=", "NO_COLOR=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	lines := strings.Split(string(out), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// TestConfigurations loads every ini file of the repository, and every ini
// block of its pages.
func TestConfigurations(t *testing.T) {
	t.Parallel()
	check := func(name string, data []byte) {
		f, _ := config.Parse(name, data)
		if _, err := manager.Read(f, standard.Menu()); err != nil {
			t.Errorf("%v", err)
		}
	}
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			if d.IsDir() && err == nil {
				return fs.SkipDir
			}
			return err
		}
		if filepath.Ext(path) != ".ini" {
			return nil
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		check(path, data)
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("found %d ini files, expected at least 3 (%v)", files, err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	shown := 0
	for _, page := range pages {
		for _, b := range blocks(t, filepath.Join("docs", filepath.Base(page))) {
			if b.language == "ini" {
				shown++
				check(b.page, []byte(strings.Join(b.lines, "\n")))
			}
		}
	}
	if shown == 0 {
		t.Error("no page shows an ini block")
	}
}

// TestOneExample keeps the repository's vagoth.ini what quickstart writes.
func TestOneExample(t *testing.T) {
	t.Parallel()
	a, err := os.ReadFile(filepath.Join(root, "vagoth.ini"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "cmd/vagoth/cli/quickstart/sim.ini"))
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Error("vagoth.ini and cmd/vagoth/cli/quickstart/sim.ini differ: copy one to the other")
	}
}

// TestGoExample builds the program that docs/go.md shows.
func TestGoExample(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t, "docs/go.md") {
		if b.language != "go" || len(b.lines) == 0 || b.lines[0] != "package main" {
			continue
		}
		dir, err := os.MkdirTemp(".", "example") // inside the module, so that it finds its imports
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(strings.Join(b.lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "vet", "./"+dir).CombinedOutput(); err != nil {
			t.Errorf("docs/go.md: %v\n%s", err, out)
		}
		return
	}
	t.Error("docs/go.md shows no program")
}
