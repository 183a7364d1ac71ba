package manual

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/scheduler"
)

// page is one whose blocks are run.
type page struct {
	name  string
	copy  []string // of the repository, into the directory in which the reader types
	skip  int      // blocks that cannot be typed here
	apart bool     // in a network of its own, as its ports may be taken here
}

func pages() []page {
	return []page{
		{name: "README.md", copy: []string{"vagoth.ini"}},
		{name: "docs/agent.md", copy: []string{"examples", "vagoth.ini"}, skip: 2, apart: true},
		{name: "docs/concepts.md"},
		{name: "docs/configuration.md"},
		{name: "docs/daemon.md", skip: 3},
		{name: "docs/etcd.md", apart: true},
		{name: "docs/go.md"},
		{name: "docs/jobs.md"},
		{name: "docs/operations.md"},
		{name: "docs/workers.md", copy: []string{"examples"}, skip: 1},
	}
}

// program builds vagoth, and returns the directory that it is in.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := writeGo(filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "vagoth"), root+"/cmd/vagoth")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// writeGo writes a program that does for `go run` what it does in a copy of the
// repository, where there is only that part of one which the page adds: so that
// what is built already is not built again.
func writeGo(path string) error {
	whole, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	real, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	script := fmt.Sprintf(`#!/bin/sh
set -e
real=%q root=%q
test "$1" = run || exec $real "$@"
dir=${2#./}
shift 2
test $dir != cmd/vagoth || exec vagoth "$@"
out=$(mktemp -d)
trap 'rm -rf $out' EXIT
printf '{"Replace":{"%%s":"%%s"}}' "$root/$dir/main.go" "$PWD/$dir/main.go" >$out/overlay.json
$real -C $root build -overlay $out/overlay.json -o $out/program ./$dir
$out/program "$@"
`, real, whole)
	return os.WriteFile(path, []byte(script), 0o700) //nolint:gosec // it is a program
}

// TestPages types what each page shows.
func TestPages(t *testing.T) {
	t.Parallel()
	bin := program(t)
	for _, p := range pages() {
		t.Run(strings.ReplaceAll(p.name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			r := reader{t: t, page: p, dir: p.place(t), bin: bin}
			for _, b := range blocks(t, p.name) {
				r.read(b)
			}
			if r.skipped > 0 {
				t.Logf("%s: %d commands were typed, and %d blocks were not: they need root or another machine", p.name, r.typed, r.skipped)
			}
			if r.skipped != p.skip {
				t.Errorf("%s: %d blocks cannot be typed here, %d are expected", p.name, r.skipped, p.skip)
			}
		})
	}
}

// place makes the directory in which the reader types.
func (p page) place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vm") // short, as a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, name := range p.copy {
		from := filepath.Join(root, name)
		if info, err := os.Stat(from); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			err = os.CopyFS(filepath.Join(dir, name), os.DirFS(from))
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// reader types one page.
type reader struct {
	t        *testing.T
	page     page
	dir, bin string
	term     *terminal
	typed    int
	skipped  int
}

func (r *reader) read(b block) {
	r.t.Helper()
	first := ""
	if len(b.lines) > 0 {
		first = b.lines[0]
	}
	switch {
	case len(b.lines) == 0:
		r.t.Errorf("%s: a block is empty", b.page)
	case b.language == "yaml" || b.language == "go":
		r.save(b)
	case b.language == "ini" || b.language == "text": // of another test, or nothing to do
	case b.language != "sh" && b.language != "console":
		r.t.Errorf("%s: a block of %q: say sh, console, ini, yaml, go or text", b.page, b.language)
	case first == "# as root" || first == "# on another machine":
		r.skipped++
	case first == "# in a terminal of its own":
		other := newTerminal(r.t, r.page, r.dir, r.bin)
		for _, c := range commands(b.lines) {
			other.typed(c)
		}
		r.await(b.lines)
	case first == "# until Ctrl-C":
		for _, c := range commands(b.lines) {
			r.must(fmt.Sprintf("timeout --preserve-status --foreground -s INT -k 30 %.0f %s", lookTime.Seconds(), c))
		}
	case b.language == "console":
		r.console(b)
	default:
		for _, c := range commands(b.lines) {
			r.must(c)
			r.await([]string{c})
		}
	}
}

// save writes a block that says where it belongs.
func (r *reader) save(b block) {
	r.t.Helper()
	name := regexp.MustCompile(`^(?:#|//) ([a-z./-]+\.(?:yaml|go))$`).FindStringSubmatch(b.lines[0])
	if name == nil {
		return
	}
	path := filepath.Join(r.dir, filepath.FromSlash(name[1]))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(b.lines, "\n")+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// await waits for the daemon that was just started.
func (r *reader) await(lines []string) {
	r.t.Helper()
	for _, line := range lines {
		if strings.HasPrefix(line, "vagoth serve") && !strings.Contains(line, "--check") {
			awaitDaemon(r.t, r.dir)
		}
	}
}

func (r *reader) run(command string) ([]string, int) {
	r.t.Helper()
	if r.term == nil {
		r.term = newTerminal(r.t, r.page, r.dir, r.bin)
	}
	r.typed++
	return r.term.run(command)
}

// must types what has to succeed.
func (r *reader) must(command string) {
	r.t.Helper()
	if out, code := r.run(command); code != 0 {
		r.t.Fatalf("%s: %q exits with %d:\n%s", r.page.name, command, code, strings.Join(out, "\n"))
	}
}

// console types what stands behind $ and compares what follows.
func (r *reader) console(b block) {
	r.t.Helper()
	var command string
	var want []string
	check := func() {
		if command == "" {
			return
		}
		got, _ := r.run(command) // a failure shows in what it prints
		if !alike(want, got) {
			r.t.Errorf("%s shows for %q:\n%s\n\nit prints:\n%s", b.page, command, strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
		r.await([]string{command})
	}
	for _, line := range b.lines {
		if next, ok := strings.CutPrefix(line, "$ "); ok {
			check()
			command, want = next, nil
		} else if more, ok := strings.CutPrefix(line, "> "); ok && len(want) == 0 {
			command += "\n" + more
		} else {
			want = append(want, line)
		}
	}
	check()
}

// TestNothingEscapes: a command that is only indented would not be typed.
func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	indented := regexp.MustCompile(`^( {4,}|\t)(vagoth|curl|go run|python3|systemctl) `)
	for _, p := range pages() {
		data, err := os.ReadFile(filepath.Join(root, p.name))
		if err != nil {
			t.Fatal(err)
		}
		fenced := false
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			} else if !fenced && indented.MatchString(line) {
				t.Errorf("%s: put this into a block of sh: %s", p.name, line)
			}
		}
	}
}

// TestPackages reads every package of jobs that the repository shows.
func TestPackages(t *testing.T) {
	t.Parallel()
	check := func(name string, data []byte) {
		var p scheduler.Package
		if err := yaml.UnmarshalStrict(data, &p); err != nil || len(p.Jobs) == 0 {
			t.Errorf("%s: %d jobs, %v", name, len(p.Jobs), err)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "examples", "walkthrough", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("found %d packages: %v", len(files), err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		check(name, data)
	}
	shown := 0
	for _, p := range pages() {
		for _, b := range blocks(t, p.name) {
			if b.language == "yaml" {
				shown++
				check(b.page, []byte(strings.Join(b.lines, "\n")))
			}
		}
	}
	if shown == 0 {
		t.Error("no page shows a package")
	}
}

// TestGoParts: what is no whole program can be parsed, and is formatted.
func TestGoParts(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range pages() {
		for _, b := range blocks(t, p.name) {
			if b.language != "go" {
				continue
			}
			seen++
			text := strings.Join(b.lines, "\n")
			even, err := format.Source([]byte(text))
			if err != nil || strings.TrimSpace(string(even)) != strings.TrimSpace(text) {
				t.Errorf("%s: it is not formatted (%v):\n%s", b.page, err, text)
			}
		}
	}
	if seen < 3 {
		t.Errorf("only %d blocks are shown", seen)
	}
}
