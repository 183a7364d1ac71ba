package api

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

//go:generate go test . -run TestManual -update

var update = flag.Bool("update", false, "write docs/api.md")

// manual writes docs/api.md from the tables that the handler runs by.
func manual() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# The management API\n\n<!-- Written by `go generate ./api`. -->\n\n")
	p("Bodies are JSON objects in UTF-8. A member, parameter or condition that is not known is refused, never ignored.\n")
	p("Times are RFC 3339, durations nanoseconds. `:ref` is a node's ID, name or unique key, escaped as one segment of a path.\n")
	p("The types are those of the Go packages; `package api` has a client for all of it.\n\n")
	p("## Requests\n\n| request | what it does | body | answer |\n|---|---|---|---|\n")
	for _, r := range (&server{}).routes() {
		help := r.help
		if len(r.query) > 0 {
			help += "; parameters: `" + strings.Join(r.query, "`, `") + "`"
		}
		p("| `%s %s` | %s | %s | %s |\n", r.method, r.path, help, typeName(r.in), typeName(r.out))
	}
	p("\n`HEAD` is `GET` without the body; `OPTIONS` lists the methods of a path.\n")
	p("\n## On whose behalf\n\nThe headers `%s`, `%s` and `%s` are kept with every change. Their values are\n", HeaderTransaction, HeaderSource, HeaderReason)
	p("escaped as a segment of a URL's path. The handler does not ask who calls: what puts it on a network stands in front of it.\n")
	p("\n## Limits\n\n| what | limit |\n|---|---|\n")
	for _, l := range []struct {
		what  string
		limit any
	}{
		{"bytes of a JSON body", MaxBody}, {"bytes of a package of jobs", MaxPackage}, {"bytes of an import", MaxImport},
		{"nodes of a page, jobs of a list, where no limit is given", PageSize}, {"the same, at most", MaxPage},
		{"bytes of documents after which a page ends early", MaxPageBytes}, {"waiting for the end of a job", MaxWait},
	} {
		p("| %s | %v |\n", l.what, l.limit)
	}
	p("\n## Errors\n\nEvery error is a `Problem` with one of these codes. The last column is the exit code of the command line.\n\n")
	p("| code | status | meaning | exit |\n|---|---|---|---|\n")
	for _, c := range Codes() {
		p("| `%s` | %d | %s | %d |\n", c.Name, c.Status, c.Help, c.Exit)
	}
	return b.Bytes()
}

// typeName is a type as the manual writes it.
func typeName(v any) string {
	switch t := reflect.TypeOf(v); {
	case t == nil:
		return "–"
	case t.Kind() == reflect.String:
		return "bytes"
	case t.Kind() == reflect.Slice:
		return "list of `" + strings.TrimPrefix(t.Elem().String(), "api.") + "`"
	default:
		return "`" + strings.TrimPrefix(t.String(), "api.") + "`"
	}
}

// The manual says what the code does.
func TestManual(t *testing.T) {
	const path = "../docs/api.md"
	if *update {
		if err := os.MkdirAll("../docs", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, manual(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, manual()) {
		t.Errorf("%s is not what the tables say: run go generate ./api", path)
	}
	for _, r := range (&server{}).routes() {
		if r.help == "" || r.out == nil || strings.Contains(r.help, "|") {
			t.Errorf("%s %s is not described", r.method, r.path)
		}
	}
}
