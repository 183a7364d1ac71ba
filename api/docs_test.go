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
	p("`GET /v1/openapi.json` is all of this as an OpenAPI 3.1 document, with the schema of every type.\n")
	p("Times are RFC 3339; lengths of time are texts such as `30s` in the types of package scheduler, and nanoseconds elsewhere. `:ref` is a node's ID, name or unique key, escaped as one segment of a path.\n")
	p("The types are those of the Go packages; `package api` has a client for all of it.\n\n")
	p("## Requests\n\n| request | what it does | role | body | answer |\n|---|---|---|---|---|\n")
	for _, r := range (&server{}).routes() {
		help := r.help
		if len(r.query) > 0 {
			help += "; parameters: `" + strings.Join(r.query, "`, `") + "`"
		}
		role := string(r.role)
		if r.role == anybody {
			role = "–"
		}
		p("| `%s %s` | %s | %s | %s | %s |\n", r.method, r.path, help, role, typeName(r.in), typeName(r.out))
	}
	p("\n`HEAD` is `GET` without the body; `OPTIONS` lists the methods of a path.\n")
	p("\n## Who may\n\n%s", `Inside a process, and on the unix socket of a daemon, everybody may everything: the socket's file says who gets there.
Over a network each request shows a token, `+"`Authorization: Bearer vagoth_…`"+`, or a TLS client certificate. Each has one role:
`+"`reader` < `operator` < `admin`, and `worker`, which may do the requests under `/v1/leases/` and nothing else; `admin` may those too."+`
Without credentials that are known the answer is 401, with too weak a role 403. `+"`vagoth token`"+` makes, lists and revokes tokens
and lets in certificates by their common name; the role stands in the file of tokens, never in the certificate. A change of that
file counts from the next request on.
`)
	p("\n## On whose behalf\n\nThe headers `%s`, `%s` and `%s` are kept with every change. Their values are\n", HeaderTransaction, HeaderSource, HeaderReason)
	p("%s", `escaped as a segment of a URL's path. Who shows a token or certificate acts under its name: the source is kept as `+"`NAME`, or as\n`NAME (SOURCE)`"+` if the request names one. The same holds for the name of a worker. Idempotency keys are scoped to the source.
`)
	p("\n## What other managers have just acknowledged\n\nWhere several managers share a registry, what one acknowledged another shows a moment later. A request with the\n")
	p("header `%s: true` (the command line's `--consistent`) is answered after the manager that is asked has caught up: with\nall that was acknowledged anywhere before.\n", HeaderConsistent)
	p("\n## Short answers\n\n" +
		"A request with the header `Prefer: return=minimal` that queues jobs is answered with `id`, `package` and `state` of each, and\n" +
		"a list of completions with an entry for each that has `error` if it was refused and nothing else; the answer says so with\n" +
		"`Preference-Applied: return=minimal`. Busy workers do so, since nearly half of what a job costs is telling all about it\n" +
		"(`Client.Brief` in Go).\n")
	p("\n## Events\n\n%s", ``+"`GET /v1/events`"+` is a stream of server-sent events. Each has the cursor behind it as its `+"`id`"+`; whoever sends the last one back, as
the parameter `+"`cursor` or the header `Last-Event-ID`"+`, misses nothing and sees nothing twice. Both kinds are shown unless one is asked for
(`+"`jobs=true`) or left out (`nodes=false`); `type` selects nodes, and `queue`, `action`, `package` and `job`"+` select jobs.

| event | data | meaning |
|---|---|---|
| `+"`begin` | `Begun`"+` | the stream has begun: whoever lists nodes or jobs now misses nothing, as every later change follows |
| `+"`node` | `NodeEvent`"+` | a node was created, updated or deleted |
| `+"`job` | `scheduler.Status`"+` | a job has changed; this is how it stands now |
| `+"`place` | `{}`"+` | nothing of interest has changed; the cursor is newer |
| `+"`end` | `Problem`"+` | the daemon is being shut down: ask again, with this cursor, when it is back |
| `+"`gone` | `Problem`"+` | changes were lost, since the client was too slow or the scheduler was opened again: list, and begin without a cursor |

A cursor that is too old at once is answered with 410 and the code `+"`compacted`"+`. A comment every 15 s keeps the connection alive.
`)
	p("\n## Too much at once\n\n%s", `Requests beyond a bound are refused with 429, the code `+"`overloaded` and the header `Retry-After`"+`, before anything was done. Those that
read a status, and those that stop, cancel, pause, complete or hand back, have places of their own and still pass. Long polls,
streams and waits are counted apart. 429 with the code `+"`too_many`"+` comes from the scheduler: too many jobs are queued.
`)
	p("\n## Limits\n\n| what | limit |\n|---|---|\n")
	for _, l := range []struct {
		what  string
		limit any
	}{
		{"bytes of a JSON body", MaxBody}, {"bytes of a package of jobs", MaxPackage}, {"bytes of an import", MaxImport},
		{"nodes of a page, jobs of a list, where no limit is given", PageSize}, {"the same, at most", MaxPage},
		{"bytes of documents after which a page ends early", MaxPageBytes}, {"waiting for the end of a job", MaxWait},
		{"completions in one request, and jobs of one `next`", MaxComplete}, {"lines of a log in one request", MaxLines},
		{"requests at once, where the daemon says nothing", DefaultMaxRequests}, {"long polls, streams and waits at once, likewise", DefaultMaxWaiting},
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
