// Package manual holds the README, the manual and the example configurations
// against the program: what they show is run.
//
// A fenced block of a page is what its language says: `sh` is typed as it
// stands, each page in a directory of its own; of `console` that which stands
// behind $ is typed, and the rest has to be printed, but for what varies (…
// stands for any text); `ini` and `yaml` are loaded strictly; `go` is a program
// that is built, or a part of one that can be parsed; `text` is only read. The first line
// of a block of `sh` can say how it is typed:
//
//	# as root, # on another machine   not at all; how many there are is noted in pages
//	# in a terminal of its own        beside the others, until the end of the page
//	# until Ctrl-C                    each line is interrupted after a while
//
// A block of yaml or go whose first line is a comment with the name of a file
// is saved there.
package manual

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	shown := 0
	for _, page := range pages() {
		for _, b := range blocks(t, page.name) {
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
