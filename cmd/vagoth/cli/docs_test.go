package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/standard"
)

var update = flag.Bool("update", false, "write the generated pages of docs")

// TestDocs keeps the pages of the manual that are made from the program equal
// to it: go test ./cmd/vagoth/cli -update.
func TestDocs(t *testing.T) {
	menu := standard.Menu()
	var components bytes.Buffer
	components.WriteString("# Components\n\nMade from the program; do not edit. `vagoth components` prints the same, `vagoth config example` a whole file.\n\n")
	if err := component.WriteMarkdown(&components, menu.Entries()); err != nil {
		t.Fatal(err)
	}
	var commands bytes.Buffer
	commands.WriteString("# Commands\n\nMade from the program; do not edit.\n")
	root := newRoot(&app{menu: menu, env: Env{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}})
	writeCommands(&commands, root)
	for name, want := range map[string][]byte{"components.md": components.Bytes(), "commands.md": commands.Bytes()} {
		path := filepath.Join("..", "..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("docs/%s is out of date: go test ./cmd/vagoth/cli -update", name)
		}
	}
}

func writeCommands(w io.Writer, c *cobra.Command) {
	if c.Hidden || c.Name() == "help" || c.Name() == "completion" && c.HasParent() && c.Parent().Name() == "completion" {
		return
	}
	text := c.Long
	if text == "" {
		text = strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
	}
	_, _ = fmt.Fprintf(w, "\n## %s\n\n%s\n\n    %s\n", c.CommandPath(), text, c.UseLine())
	if c.Example != "" {
		_, _ = fmt.Fprintf(w, "\nExamples:\n\n%s\n", strings.ReplaceAll("  "+strings.TrimLeft(c.Example, " "), "  vagoth", "    vagoth"))
	}
	flags := c.LocalFlags()
	if c.HasParent() {
		flags = c.NonInheritedFlags()
	}
	if usage := flags.FlagUsages(); usage != "" {
		_, _ = fmt.Fprintf(w, "\n```\n%s```\n", usage)
	}
	for _, sub := range c.Commands() {
		writeCommands(w, sub)
	}
}

// TestManual parses every command line that the manual shows.
func TestManual(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "..", "docs", "*.md"))
	if err != nil || len(pages) < 5 {
		t.Fatalf("found %d pages: %v", len(pages), err)
	}
	seen := 0
	for _, page := range pages {
		if filepath.Base(page) == "commands.md" {
			continue // made from the commands
		}
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile("(?m)^ +(vagoth .*)$|`(vagoth [^`]+)`").FindAllString(string(data), -1) {
			line = strings.Trim(line, " `")
			words := strings.Fields(line)
			seen++
			a := &app{menu: standard.Menu(), env: Env{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}}
			cmd, rest, err := newRoot(a).Find(words[1:])
			if err == nil && !cmd.HasParent() {
				err = fmt.Errorf("there is no such command")
			}
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s shows %q: %v", filepath.Base(page), line, err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands are shown", seen)
	}
}
