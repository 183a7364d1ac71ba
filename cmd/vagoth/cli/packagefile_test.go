package cli

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

const wholePackage = `
id: p1
jobs:
- id: a
  queue: storage
  action: create_volume
  params: {name: v1, size: 10}
  retry: {attempts: 5, backoff: 10s, max: 5m, jitter: 0.5, park: true}
  expires: 2026-01-31T12:00:00Z
- queue: web1
  action: vm_start
  after: [{id: a}, {index: 0, accept: [succeeded, failed]}]
  timeout: 5m
  limits: [backup]
  urgent: true
  keep_queued: true
  key: once
`

// TestPackageFile: every field is read, as YAML and as the JSON of it.
func TestPackageFile(t *testing.T) {
	t.Parallel()
	p, err := parsePackage([]byte(wholePackage))
	if err != nil {
		t.Fatal(err)
	}
	zero := 0
	b := p.Jobs[1]
	want := []scheduler.Dependency{{ID: "a"}, {Index: &zero, Accept: []scheduler.State{scheduler.Succeeded, scheduler.Failed}}}
	if p.ID != "p1" || len(p.Jobs) != 2 || p.Jobs[0].Retry.Jitter != 0.5 || p.Jobs[0].Expires.Year() != 2026 || !reflect.DeepEqual(b.After, want) || b.Timeout.D() != 5*time.Minute || !b.Urgent || b.Key != "once" {
		t.Errorf("it was read as %+v", p)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsePackage(text)
	if err != nil {
		t.Fatal(err)
	}
	if text2, _ := json.Marshal(again); string(text2) != string(text) {
		t.Errorf("as JSON it was read as %s, not %s", text2, text)
	}
}

// TestPackageFileRefused: each problem is told with its place.
func TestPackageFileRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"jobs: []", "has no jobs"},
		{"{}", "has no jobs"},
		{"[]", "it holds a list, not a package"},
		{"", "it holds nothing, not a package"},
		{"jobs: {a: 1}", "jobs: it is an object, and ought to be a list"},
		{"job: []", `the package: it has an unknown field "job" (did you mean "jobs"?)`},
		{"jobs: [3]", "jobs[0]: it is a number, and ought to be an object"},
		{"jobs: [{queue: a, acton: b}]", `jobs[0]: it has an unknown field "acton" (did you mean "action"?)`},
		{"jobs: [{queue: a, wibble: b}]", "there are action, after"},
		{"jobs: [{queue: 7}]", "jobs[0].queue: it is a number, and ought to be text (in YAML, put it in quotes)"},
		{"jobs: [{queue: a}, {retry: {attempts: 1.5}}]", "jobs[1].retry.attempts: it is a number, and ought to be a whole number"},
		{"jobs: [{urgent: 1}]", "jobs[0].urgent: it is a number, and ought to be true or false"},
		{"jobs: [{timeout: 30}]", `jobs[0].timeout: 30 is no length of time: write "30s"`},
		{"jobs: [{after: [{index: 0}, {idx: 1}]}]", `jobs[0].after[1]: it has an unknown field "idx"`},
		{"jobs: [{trail: {source: me}}]", "jobs[0].trail: leave it out"},
		{"jobs: [{params: [1]}]", "jobs[0].params:"},
		{"jobs: [{queue: a, queue: b}]", "already set in map"},
		{"jobs: [{qeue: a, acton: b}]", "\n"},
		{"{", "neither JSON nor YAML"},
	} {
		_, err := parsePackage([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, without %q", c.text, err, c.want)
		}
	}
	_, err := parsePackage([]byte("jobs:\n" + strings.Repeat("- {queu: a}\n", 50)))
	if err == nil || strings.Count(err.Error(), "\n") != maxFileProblems || !strings.Contains(err.Error(), "and 30 more") {
		t.Errorf("of 50 problems it tells %v", err)
	}
}

// FuzzPackageFile: whatever stands in a file is refused, or is what a package
// can be written as.
func FuzzPackageFile(f *testing.F) {
	f.Add([]byte(wholePackage))
	f.Add([]byte(`{"jobs":[{"queue":"a","action":"b","params":null}]}`))
	f.Add([]byte("jobs: [{retry: {attempts: 1e9}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePackage(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := parsePackage(text); err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, text)
		}
	})
}

// TestJobFlags: what --after and --retry take, and what they refuse.
func TestJobFlags(t *testing.T) {
	t.Parallel()
	three := 3
	for text, want := range map[string]scheduler.Dependency{
		"3":                  {Index: &three},
		"job-1":              {ID: "job-1"},
		"3=succeeded,failed": {Index: &three, Accept: []scheduler.State{scheduler.Succeeded, scheduler.Failed}},
		"job-1=expired":      {ID: "job-1", Accept: []scheduler.State{scheduler.Expired}},
	} {
		if got, err := parseAfter(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("--after %s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "neither", "-1": "neither", "a b": "neither", "3=": "no end", "3=faild": `did you mean "failed"`, "3=running": "no end"} {
		if got, err := parseAfter(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--after %s: %+v, %v", text, got, err)
		}
	}
	span := func(d time.Duration) scheduler.Span { return scheduler.Span(d) }
	for text, want := range map[string]scheduler.Retry{
		"":                     {},
		"5":                    {Attempts: 5},
		"attempts=5,park":      {Attempts: 5, Park: true},
		"park":                 {Park: true},
		"5,backoff=10s,max=5m": {Attempts: 5, Backoff: span(10 * time.Second), Max: span(5 * time.Minute)},
		"2,jitter=0.25,max=1h": {Attempts: 2, Jitter: 0.25, Max: span(time.Hour)},
	} {
		if got, err := parseRetry(text); err != nil || got != want {
			t.Errorf("--retry %s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"x": "not KEY=VALUE", "5,6": "not KEY=VALUE", "5,bakoff=1s": `did you mean "backoff"`, "backoff=5": "length of time", "attempts=many": "invalid syntax"} {
		if got, err := parseRetry(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--retry %s: %+v, %v", text, got, err)
		}
	}
}
