package config_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

// FuzzParse promises that no document makes the parser panic or lose a key: every line that has a = and is no
// comment is in the result with its own line and value, or a problem names the line, or it stands below a header
// that a problem names.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "a = b\n", "data = ./d ; c\n[registry]\nuse = memdb\n[registry.etcd]\nendpoints = https://h:1, \"x, y\" # z\n",
		"a = \"b\nc = d\n", "a = `b\nc = d`\n", "a = \"\"\"b\nc\n\"\"\"\n", "a=b\\\nc=d\n", "[a]\n[a]\nb=c\nb=d\n", "[DEFAULT]\na=b\n",
		"\ufeffa=b\r\n", "a: b=c\n", "-=x\n-=y\n", "[a]b=c\n", " a=b\n  c=d\n", "a=%(b)s\n", "a\x00=b\n", "a=\xff\n", "\xff\xfea", "a=b\rc=d", "\u00a0a=b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, problems := config.Parse("v.ini", data)
		blamed := map[int]bool{}
		for _, p := range problems {
			blamed[p.Line] = true
			_ = p.Error()
		}
		if blamed[0] { // the whole document is refused
			return
		}
		if len(problems) > 900 || bytes.Count(data, []byte("\n")) > 9000 {
			return // the bounds of TestParseBoundsItsWork
		}
		found := map[int]component.Entry{}
		for _, s := range file.Sections() {
			for _, e := range s.Entries {
				found[e.Line] = e
			}
		}
		below := false // a refused header
		for i, line := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
			number := i + 1
			line = strings.TrimSpace(line)
			switch {
			case line == "" || line[0] == '#' || line[0] == ';':
				if _, ok := found[number]; ok {
					t.Fatalf("line %d is a comment and was read as a key", number)
				}
				continue
			case line[0] == '[':
				below = blamed[number]
				continue
			}
			e, ok := found[number]
			if !ok {
				if !blamed[number] && !below {
					t.Fatalf("line %d, %q, is neither in the result nor in a problem", number, line)
				}
				continue
			}
			key, value, _ := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); e.Key != key {
				t.Fatalf("line %d: got key %q from %q", number, e.Key, line)
			}
			// Nothing but a comment after white space may be missing from the value as written.
			rest, ok := strings.CutPrefix(strings.TrimSpace(value), e.Raw)
			if rest = strings.TrimLeft(rest, " \t"); !ok || rest != "" && rest[0] != ';' && rest[0] != '#' {
				t.Fatalf("line %d: got raw value %q from %q", number, e.Raw, line)
			}
		}
		_ = file.Err()
	})
}

// FuzzQuote promises that a quoted value is read back as it was, alone and in a list.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a", " a ", "a;b", "a ; b", "a # b", "#a", `"a"`, `a\`, "'a'", "`a`", "a, b", "%(a)s", "${a}", "file:x", `"""`, "a\tb", "ä"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		quoted := component.Quote(value)
		if len(quoted) > 16000 {
			return
		}
		file, problems := config.Parse("v.ini", []byte("a = "+quoted+" ; comment\n"))
		if len(problems) > 0 {
			t.Fatalf("%q is written as %q, which is refused: %v", value, quoted, problems)
		}
		// What cannot be written at all comes out as something else; written again, it must stay.
		if again := component.Quote(file.Sections()[0].Entries[0].Value); again != quoted {
			t.Fatalf("%q is written as %q and read as %q", value, quoted, file.Sections()[0].Entries[0].Value)
		}
	})
}
