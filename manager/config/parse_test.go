package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

// text renders a file so that tables can compare it: one line for each entry.
func text(f *config.File) string {
	var b strings.Builder
	for _, s := range f.Sections() {
		for _, e := range s.Entries {
			b.WriteString(s.Name + "/" + e.Key + "=" + e.Value + "\n")
		}
	}
	return b.String()
}

func list(problems []component.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Error() + "\n")
	}
	return b.String()
}

// Each row is a form that ini parsers read in more than one way. What is read is in entries, what is refused in
// problems; never is a value silently another.
func TestParse(t *testing.T) {
	for _, tc := range []struct{ name, doc, entries, problems string }{
		{"top and sections", "data = ./d ; here\n[a]\nk=v\n[a.b]\nk = w\n", "/data=./d\na/k=v\na.b/k=w\n", ""},
		{"no fallback to the parent section", "[a]\nk=v\n[a.b]\nj=w\n", "a/k=v\na.b/j=w\n", ""},
		{"empty", "", "", ""},
		{"only comments", "# a = b\n; c = d\n", "", ""},
		{"comment that ends with a backslash", "; c \\\na = b\n", "/a=b\n", ""},
		{"no last line end", "a = b", "/a=b\n", ""},
		{"BOM", "\ufeffa = b\n", "/a=b\n", ""},
		{"CRLF", "a = b\r\n[c]\r\nd = e ; f\r\n", "/a=b\nc/d=e\n", ""},
		{"white space", "[s]\n  a\t= \t b \t\n  c=d\n", "s/a=b\ns/c=d\n", ""},

		{"equal keys", "a = 1\nb = 2\na = 3\n", "/a=1\n/b=2\n", "v.ini:3: key \"a\" is set a second time, the first is on line 1 (remove one of them)\n"},
		{"equal keys in a section", "[x]\na=1\na=1\n", "x/a=1\n", "v.ini:3: [x] key \"a\" is set a second time, the first is on line 2 (remove one of them)\n"},
		{"keys that differ in case", "a = 1\nA = 3\n", "/a=1\n/A=3\n", ""},
		{"equal sections", "[x]\na=1\n[y]\n[x]\nb=2\na=3\n", "x/a=1\nx/b=2\n",
			"v.ini:4: [x] the section stands here a second time, the first is on line 1 (put its keys there)\n" +
				"v.ini:6: [x] key \"a\" is set a second time, the first is on line 2 (remove one of them)\n"},

		{"hash in a value", "p = pass#word\n", "/p=pass#word\n", ""},
		{"semicolon in a value", "p = a;b\n", "/p=a;b\n", ""},
		{"comment after a value", "a = b ; c\nd = e # f\ng = h\t;i\n", "/a=b\n/d=e\n/g=h\n", ""},
		{"the first comment sign counts", "a = b # c ; d\ne = f ; g # h\n", "/a=b\n/e=f\n", ""},
		{"comment sign in quotes", `a = "b ; c # d" ; e` + "\n", "/a=b ; c # d\n", ""},
		{"value that begins with a comment sign", "a = #fff\nb =;c\n", "",
			"v.ini:1: a: the value begins with # (put it in quotes; if it is a comment, write \"\" before it for an empty value)\n" +
				"v.ini:2: b: the value begins with ; (put it in quotes; if it is a comment, write \"\" before it for an empty value)\n"},
		{"empty value", "a =\nb = \"\" ; c\n", "/a=\n/b=\n", ""},

		{"quotes", `a = " b "` + "\n" + `c = "d \"e\" \\f"` + "\n", "/a= b \n/c=d \"e\" \\f\n", ""},
		{"quotes inside of a value", `a = exec:/bin/x "b" 'c'` + "\n", "/a=exec:/bin/x \"b\" 'c'\n", ""},
		{"apostrophe", "a = don't ; stop\n", "/a=don't\n", ""},
		{"json", `a = {"b": ["c", "d"]}` + "\n", "/a={\"b\": [\"c\", \"d\"]}\n", ""},
		{"list with quotes", `a = "b, ; c", d ; e` + "\n" + `f = g, "h ; i" ; j` + "\n", "/a=\"b, ; c\", d\n/f=g, \"h ; i\"\n", ""},
		{"comment inside of quotes", `a = exec:/bin/x "b ; c"` + "\n", "", "v.ini:1: a: a comment begins inside of quotes (put the whole value in quotes)\n"},
		{"open quote", `a = "b` + "\nc = d\n", "/c=d\n", "v.ini:1: a: the quote is not closed (inside quotes, write \\\" for a quote)\n"},
		{"text after quotes", `a = "b" c` + "\n" + `d = "e";f` + "\n", "",
			"v.ini:1: a: there is text after the closing quote (put the whole value in quotes, and a space before a comment)\n" +
				"v.ini:2: d: there is text after the closing quote (put the whole value in quotes, and a space before a comment)\n"},
		{"unknown escape", `a = "b\n"` + "\n", "", "v.ini:1: a: inside quotes a backslash stands only before \" or \\ (write \\\\ for a backslash)\n"},
		{"single quotes", "a = 'b'\n", "", "v.ini:1: a: the value is in single quotes (use double quotes)\n"},
		{"three quotes", "a = \"\"\"b\nc = d\n\"\"\"\n", "/c=d\n",
			"v.ini:1: a: the value begins with \"\"\" (quote it as \"…\"; inside, write \\\" for a quote)\n" +
				"v.ini:3: the line is no header, no comment and no key = value (a value ends with its line; a list goes on one line, with commas)\n"},
		{"backquote", "a = `b\nc = d`\n", "/c=d`\n", "v.ini:1: a: the value begins with ` (quote it as \"…\"; inside, write \\\" for a quote)\n"},

		{"continued line", "a = b \\\nc = d\n", "/c=d\n", "v.ini:1: a: the value ends with a backslash (a value ends with its line; if the backslash is meant, write \"…\\\\\" in quotes)\n"},
		{"backslash in quotes", `a = "b\\"` + "\n", "/a=b\\\n", ""},
		{"backslash inside", `a = b\c` + "\n", "/a=b\\c\n", ""},
		{"indented value", "a = b,\n  c, d\ne = f\n", "/a=b,\n/e=f\n", "v.ini:2: the line is no header, no comment and no key = value (a value ends with its line; a list goes on one line, with commas)\n"},
		{"indented key", "a = b\n  c = d\n", "/a=b\n", "v.ini:2: the line is indented more than the key above (start the keys of a section in one column; a value ends with its line)\n"},
		{"interpolation", "a = %(b)s/c\nd = ${HOME}/e\nf = \"%(b)s ${c}\"\ng = 100%(x)\nh = $x\n", "/f=%(b)s ${c}\n/g=100%(x)\n/h=$x\n",
			"v.ini:1: a: %(name)s and ${name} are not replaced by anything (write the value out; if it is meant as it is, put it in quotes)\n" +
				"v.ini:2: d: %(name)s and ${name} are not replaced by anything (write the value out; if it is meant as it is, put it in quotes)\n"},

		{"colon in a value", "uri = qemu+tls://h:1/?a=b\n", "/uri=qemu+tls://h:1/?a=b\n", ""},
		{"colon for a sign", "notify: x\nuri : http://h/?a=b\n", "",
			"v.ini:1: key \"notify\" is followed by a colon (write notify = …)\n" +
				"v.ini:2: key \"uri\" is followed by a colon (write uri = …)\n"},
		{"key without a value", "[a]\nskip-networking\n", "", "v.ini:2: [a] the line is no header, no comment and no key = value (a value ends with its line; a list goes on one line, with commas)\n"},
		{"no key", "= b\n", "", "v.ini:1: there is no key before the = (write key = value)\n"},
		{"key that counts", "- = b\n", "", "v.ini:1: what stands before the = cannot be a key (use letters, digits, `_`, `-` and `.`)\n"},
		{"quoted key", "\"a\" = b\n`c` = d\n", "",
			"v.ini:1: what stands before the = cannot be a key (use letters, digits, `_`, `-` and `.`)\n" +
				"v.ini:2: what stands before the = cannot be a key (use letters, digits, `_`, `-` and `.`)\n"},
		{"key with spaces", "a b = c\n", "", "v.ini:1: what stands before the = cannot be a key (use letters, digits, `_`, `-` and `.`)\n"},

		{"[DEFAULT]", "a = 1\n[DEFAULT]\na = 2\n[b]\nc = d\n", "/a=1\nb/c=d\n", "v.ini:2: [DEFAULT] has no meaning here (keys for the whole file stand above the first header)\n"},
		{"comment after a header", "[a] ; b\nc = d\n[e]# f\n", "a/c=d\n", ""},
		{"text after a header", "[a] b = c\nd = e\n", "", "v.ini:1: there is text after the header [a] (put it on a line of its own)\n"},
		{"two headers", "[a][b]\n", "", "v.ini:1: there is text after the header [a] (put it on a line of its own)\n"},
		{"open header", "[a\nb = c\n[d]\ne = f\n", "d/e=f\n", "v.ini:1: the section header has no ] (write [name])\n"},
		{"header with spaces", "[ a ]\n", "", "v.ini:1: the header [ a ] has spaces in it (write [a])\n"},
		{"headers that name nothing", "[]\n[a.]\n[a..b]\n[a/b]\n", "",
			"v.ini:1: \"\" cannot be the name of a section (use letters, digits, `_` and `-`, with dots between)\n" +
				"v.ini:2: \"a.\" cannot be the name of a section (use letters, digits, `_` and `-`, with dots between)\n" +
				"v.ini:3: \"a..b\" cannot be the name of a section (use letters, digits, `_` and `-`, with dots between)\n" +
				"v.ini:4: \"a/b\" cannot be the name of a section (use letters, digits, `_` and `-`, with dots between)\n"},

		{"NUL", "a = b\x00c\nd = e\n", "/d=e\n", "v.ini:1: the line contains a NUL (remove it)\n"},
		{"NUL in a comment", "; \x00\n", "", "v.ini:1: the line contains a NUL (remove it)\n"},
		{"not UTF-8", "d = e\na = \xff\n", "/d=e\n", "v.ini:2: the line is not valid UTF-8 (save the file as UTF-8)\n"},
		{"UTF-16", "\xff\xfea\x00", "", "v.ini: the file is UTF-16 (save it as UTF-8)\n"},
		{"carriage return", "a = b\rc = d\n", "", "v.ini:1: the line contains a carriage return (end lines with a line feed)\n"},
		{"escape", "a = \x1b[31m\n", "", "v.ini:1: the line contains the control character U+001B (remove it)\n"},
		{"right to left", "a = \u202eb\n", "", "v.ini:1: the line contains the invisible character U+202E (remove it)\n"},
		{"long line", "a = " + strings.Repeat("b", 17000) + "\nc = d\n", "/c=d\n", "v.ini:1: the line is longer than 16KiB\n"},
		{"large file", strings.Repeat("; comment\n", 110_000), "", "v.ini: the file is larger than 1MiB\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, problems := config.Parse("v.ini", []byte(tc.doc))
			if got := text(f); got != tc.entries {
				t.Errorf("entries\n got %q\nwant %q", got, tc.entries)
			}
			component.SortProblems(problems)
			if got := list(problems); got != tc.problems {
				t.Errorf("problems\n got %s\nwant %s", got, tc.problems)
			}
		})
	}
}

func TestParseBoundsItsWork(t *testing.T) {
	var keys strings.Builder
	for i := range 300_000 {
		keys.WriteString(strings.Repeat("x", 1+i%3) + "\n")
	}
	_, problems := config.Parse("v.ini", []byte(keys.String()))
	if len(problems) == 0 || len(problems) > 1100 {
		t.Errorf("got %d problems", len(problems))
	}
	keys.Reset()
	for i := range 100_000 {
		keys.WriteString(string(rune('a'+i%26)) + itoa(i) + "=\n")
	}
	if f, problems := config.Parse("v.ini", []byte(keys.String())); len(problems) != 1 || len(f.Sections()[0].Entries) > 10_000 {
		t.Errorf("got %d problems", len(problems))
	}
}

func itoa(n int) string {
	if n == 0 {
		return ""
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func TestLinesAreThoseOfTheFile(t *testing.T) {
	f, _ := config.Parse("v.ini", []byte("; one\n\na = b\n\n[c]\n# six\nd = e\nbroken\nf = g\n"))
	got := map[string]int{}
	for _, s := range f.Sections() {
		got[s.Name] = s.Line
		for _, e := range s.Entries {
			got[e.Key] = e.Line
		}
	}
	for name, line := range map[string]int{"": 0, "a": 3, "c": 5, "d": 7, "f": 9} {
		if got[name] != line {
			t.Errorf("%q: got line %d, want %d", name, got[name], line)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vagoth.ini")
	if _, err := config.Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: got %v", err)
	}
	if err := os.WriteFile(path, []byte("a = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil || text(f) != "/a=b\n" || f.Dir() != filepath.Dir(path) || f.Name() != path {
		t.Errorf("got %v, %v", f, err)
	}
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = config.Load(path); err != nil || f.Err() == nil {
		t.Errorf("large file: got %v", err)
	}
	if _, err = config.Load(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
}

// A problem must never repeat a value that was refused before anyone knew whether it is a secret.
func TestParseDoesNotRepeatValues(t *testing.T) {
	for _, doc := range []string{
		"p: hunter2", "p = 'hunter2'", "p = #hunter2", "p = \"hunter2", "p = \"a\" hunter2", "p = ${hunter2}", "p = hunter2\\",
		"p = x \"a ; hunter2", "p = `hunter2", "p = \"\"\"hunter2", "p = a\n  hunter2", "p = a\n hunter2==", "p = hunter2\x00",
		"p = hunter2\np = hunter2\n", "[x] p = hunter2", `p = "hunter\2"`,
	} {
		_, problems := config.Parse("v.ini", []byte(doc))
		if len(problems) == 0 || strings.Contains(list(problems), "hunter") {
			t.Errorf("%q: got %s", doc, list(problems))
		}
	}
}
