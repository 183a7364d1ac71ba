package hosts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWalk types the walk of docs/subagents.md, and compares what is answered.
func TestWalk(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host")
	folder, url := web(t)
	image(t, filepath.Join(folder, "debian.img"), 4, 0)
	here := strings.NewReplacer("http://127.0.0.1:8080", h.url, "https://images.example.org", url, "/srv/vmlinuz", h.kernel, "/srv/initrd.gz", h.initrd)
	if n := h.walk("A guest's life with curl", folder, here); n < 20 {
		t.Errorf("only %d commands were typed", n)
	}
}

// walk types the commands of a section of docs/subagents.md, and says how many.
func (h *host) walk(section, folder string, here *strings.Replacer) (typed int) {
	h.Helper()
	page, err := os.ReadFile("../../docs/subagents.md")
	h.must("read the page", err)
	_, walk, _ := strings.Cut(string(page), "\n## "+section+"\n")
	walk, _, _ = strings.Cut(walk, "\n## ")
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
		bash := exec.CommandContext(h.Context(), "bash", "-c", here.Replace(command))
		bash.Dir = folder
		got, err := bash.CombinedOutput()
		if err != nil {
			h.Fatalf("$ %s\n%v\n%s", command, err, got)
		}
		parts := strings.Split(here.Replace(strings.Join(want, "\n")), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if !regexp.MustCompile(`^(?s)` + strings.Join(parts, ".*") + `\s*$`).Match(got) {
			h.Fatalf("$ %s\nanswers\n%s\nand not\n%s", command, got, strings.Join(want, "\n"))
		}
	}
	return typed
}
