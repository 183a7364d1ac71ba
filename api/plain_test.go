package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// drawn makes values at random. Plain ones hold nothing but what the decoder
// that is written out takes.
type drawn struct {
	*rapid.T
	plain bool
}

func (d drawn) text(label string) string {
	if d.plain {
		return rapid.StringMatching(`[a-z0-9:ä-]{0,30}`).Draw(d.T, label)
	}
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9:-]{0,30}`), rapid.Just("<b>&\u2028\x00\xff\"\\")).Draw(d.T, label)
}

func (d drawn) number(label string) uint64 {
	if d.plain {
		return rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(1e17)).Draw(d.T, label)
	}
	return rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(d.T, label)
}

func (d drawn) count(label string) int {
	if d.plain {
		return rapid.IntRange(0, 9).Draw(d.T, label)
	}
	return rapid.IntRange(-9, 9).Draw(d.T, label)
}

func (d drawn) token() trail.Token {
	return trail.Token{Epoch: d.number("epoch"), Number: d.number("number")}
}

func (d drawn) moment(label string) time.Time {
	ns := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(d.T, label)
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).In(time.FixedZone("", rapid.IntRange(-14, 14).Draw(d.T, "zone")*1800))
}

func (d drawn) span(label string) scheduler.Span {
	if d.plain {
		return scheduler.Span(rapid.Int64Range(0, int64(time.Hour)).Draw(d.T, label))
	}
	return scheduler.Span(rapid.Int64().Draw(d.T, label))
}

func (d drawn) some(label string) bool { return rapid.Bool().Draw(d.T, label) }

func (d drawn) document(label string) registry.Document {
	switch rapid.IntRange(0, 2).Draw(d.T, label) {
	case 0:
		return registry.Document{}
	case 1:
		return registry.TrustedDocument("{\"a\":\"<b>&\u2028\\u0041}]\\\"\",\"c\":[{\"x\":1},[]]}") // as a client may write it
	}
	doc, err := registry.NewDocument(map[string]any{"a": d.text("param"), "b": []int{1}})
	if err != nil {
		d.Fatal(err)
	}
	return doc
}

func several[T any](d drawn, label string, one func(*T)) []T {
	all := make([]T, rapid.IntRange(0, 3).Draw(d.T, label))
	for i := range all {
		one(&all[i])
	}
	return all
}

func (d drawn) job(j *scheduler.Job) {
	j.ID, j.Queue, j.Action, j.Key = d.text("id"), d.text("queue"), d.text("action"), d.text("key")
	j.Params, j.Timeout = d.document("params"), d.span("timeout")
	j.After = several(d, "after", func(on *scheduler.Dependency) {
		if on.ID = d.text("on"); d.some("by index") {
			n := d.count("index")
			on.Index = &n
		}
		if !d.plain && d.some("accepting") {
			on.Accept = []scheduler.State{scheduler.Failed, scheduler.State(d.text("accept"))}
		}
	})
	if d.plain {
		return
	}
	j.Expires, j.Urgent, j.KeepQueued = d.moment("expires"), d.some("urgent"), d.some("keep queued")
	j.Limits = several(d, "limits", func(s *string) { *s = d.text("limit") })
	if d.some("retried") {
		j.Retry = scheduler.Retry{Attempts: d.count("attempts"), Backoff: d.span("backoff"), Jitter: 0.25, Park: d.some("park")}
	}
	j.Trail = d.trail()
}

func (d drawn) trail() trail.Trail {
	return trail.Trail{
		Transaction: d.text("transaction"), Source: d.text("source"), Reason: d.text("reason"),
		Job: d.text("trail's job"), Attempt: rapid.IntRange(0, 2).Draw(d.T, "trail's attempt"), Token: d.token(),
	}
}

func (d drawn) completion(c *scheduler.Completion) {
	c.Job, c.Token, c.Result = d.text("job"), d.token(), d.document("result")
	c.Error, c.Code, c.Final = d.text("error"), d.text("code"), d.some("final")
}

func (d drawn) lease(l *scheduler.Lease) {
	l.Job, l.Token, l.Queue, l.Action, l.Package = d.text("job"), d.token(), d.text("queue"), d.text("action"), d.text("package")
	l.Params, l.Attempt, l.Length = d.document("params"), d.count("attempt"), d.span("length")
	l.Until, l.Deadline, l.Trail = d.moment("until"), d.moment("deadline"), d.trail()
}

func (d drawn) status(st *scheduler.Status) {
	d.job(&st.Job)
	st.Package, st.State, st.Waiting, st.Overdue = d.text("package"), scheduler.State(d.text("state")), d.text("waiting"), d.some("overdue")
	st.Attempt, st.Failed, st.Lost, st.Token = d.count("attempt"), d.count("failed"), d.count("lost"), d.token()
	st.Worker, st.Until, st.Percent, st.Progress = d.text("worker"), d.moment("until"), d.count("percent"), d.text("progress")
	st.Result, st.Error, st.Code, st.Cause = d.document("result"), d.text("error"), d.text("code"), d.text("cause")
	st.Attempts = several(d, "attempts", func(a *scheduler.Attempt) {
		a.Number, a.Token, a.Worker, a.Began, a.Outcome = d.count("number"), d.token(), d.text("worker"), d.moment("began"), d.text("outcome")
	})
	st.SubmittedAt, st.StartedAt, st.EndedAt, st.ParkedAt = d.moment("submitted"), d.moment("started"), d.moment("ended"), d.moment("parked")
}

func (d drawn) request() CompleteRequest {
	if d.some("single") {
		var r CompleteRequest
		d.completion(&r.Completion)
		return r
	}
	return CompleteRequest{Completions: several(d, "completions", d.completion)}
}

func (d drawn) want() scheduler.Want {
	word := func(s *string) { *s = d.text("name") }
	return scheduler.Want{
		Worker: d.text("worker"), Queues: several(d, "queues", word), Actions: several(d, "actions", word),
		Max: d.count("max"), Wait: d.span("wait"), Lease: d.span("lease"),
	}
}

// TestWrittenAsEver compares the encoders that are written out with the general
// one.
func TestWrittenAsEver(t *testing.T) {
	check := func(t *rapid.T, v any, got []byte) {
		t.Helper()
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("written  %s\nexpected %s", got, want)
		}
	}
	encoded := func(t *rapid.T, v any) {
		t.Helper()
		got, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		check(t, v, got)
	}
	rapid.Check(t, func(t *rapid.T) {
		d := drawn{T: t}
		leases := several(d, "leases", d.lease)
		check(t, leases, leasesJSON(leases))
		statuses := several(d, "statuses", d.status)
		encoded(t, statuses)
		for _, st := range statuses {
			encoded(t, st)
		}
		encoded(t, scheduler.Package{ID: d.text("id"), Jobs: several(d, "jobs", d.job)})
		encoded(t, scheduler.Package{})
		encoded(t, d.want())
		encoded(t, d.request())
		encoded(t, Completed{Results: several(d, "results", func(r *CompleteResult) {
			switch rapid.IntRange(0, 2).Draw(t, "result") {
			case 1:
				r.Status = new(scheduler.Status)
				d.status(r.Status)
			case 2:
				r.Error = &Problem{Message: d.text("message"), Code: "stale"}
			}
		})})
	})
}

// readBoth decodes a body with the decoder that is written out and with the one
// that every other body goes through. What the first takes both must take alike.
func readBoth[T any](t interface {
	Helper()
	Fatalf(string, ...any)
}, data []byte, general func([]byte, any) error) (plain bool) {
	t.Helper()
	var got, want T
	if !plainDecode(data, &got) {
		if !reflect.ValueOf(got).IsZero() {
			t.Fatalf("%s was not taken, and changed %+v", data, got)
		}
		return false
	}
	if err := general(data, &want); err != nil {
		t.Fatalf("%s was taken, and is refused: %v", data, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\nread     %+v\nexpected %+v", data, got, want)
	}
	return true
}

// TestReadAsEver compares the decoders, on plain values and on any.
func TestReadAsEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawn{T: t, plain: rapid.Bool().Draw(t, "plain")}
		data := func(v any) []byte {
			out, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if d.some("indented") {
				var b bytes.Buffer
				if err := json.Indent(&b, out, " ", "\t"); err != nil {
					t.Fatal(err)
				}
				out = b.Bytes()
			}
			return out
		}
		took := []bool{
			readBoth[scheduler.Package](t, data(scheduler.Package{ID: d.text("id"), Jobs: several(d, "jobs", d.job)}), decodeStrict),
			readBoth[scheduler.Want](t, data(d.want()), decodeStrict),
			readBoth[CompleteRequest](t, data(d.request()), decodeStrict),
			readBoth[[]scheduler.Lease](t, data(several(d, "leases", d.lease)), json.Unmarshal),
			readBoth[[]scheduler.Status](t, briefJobs(several(d, "statuses", d.status)), json.Unmarshal),
			readBoth[Completed](t, data(Completed{Results: make([]CompleteResult, d.number("results")%4)}), json.Unmarshal),
		}
		if i := slices.Index(took, false); d.plain && i >= 0 {
			t.Fatalf("plain body %d was not taken", i)
		}
	})
}

// TestPlainBodies sees that what workers send goes past the general decoder, and
// that nothing does which that refuses.
func TestPlainBodies(t *testing.T) {
	for _, c := range []struct {
		into any
		body string
		want bool
	}{
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"copy","params":{"a":{"b":[1,"}"]}},"after":[{"index":0},{"id":"x"}],"timeout":"30s","key":"k"}]}`, true},
		{new(scheduler.Package), " { \"id\" : \"p\" , \"jobs\" : [ ] }\n", true},
		{new(scheduler.Package), `{}`, true},
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"copy","retry":{"attempts":2}}]}`, false}, // read, by the other
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","queue":"r-1","action":"copy"}]}`, false},
		{new(scheduler.Package), `{"jobs":[{"Queue":"r-1","action":"copy"}]}`, false},
		{new(scheduler.Package), `{"jobs":null}`, false},
		{new(scheduler.Package), `{"jobs":[]}{}`, false},
		{new(scheduler.Package), `{"jobs":[],}`, false},
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"a","after":[{"index":1.5}]}]}`, false},
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"a","after":[{"index":01}]}]}`, false},
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"a","params":{"a":1,"a":2}}]}`, false},
		{new(scheduler.Package), `{"jobs":[{"queue":"r-1","action":"a","params":[]}]}`, false},
		{new(scheduler.Package), "{\"id\":\"\xff\"}", false},
		{new(scheduler.Package), "{\"id\":\"a\nb\"}", false},
		{new(scheduler.Want), `{"max":10,"wait":"20ms","queues":["a"],"actions":[],"worker":"w","lease":"1m"}`, true},
		{new(scheduler.Want), `{"max":99999999999999999999}`, false},
		{new(scheduler.Want), `{"wait":20}`, false},
		{new(CompleteRequest), `{"completions":[{"job":"j","token":{"epoch":1,"number":2},"result":{},"error":"e","code":"c","final":true}]}`, true},
		{new(CompleteRequest), `{"job":"j","token":{"epoch":1,"number":2}}`, true},
		{new(CompleteRequest), `{"job":"j","final":truest}`, false},
		{new(Completed), `{"results":[{},{}]}`, true},
		{new(JobRequest), `{}`, false},
	} {
		if got := plainDecode([]byte(c.body), c.into); got != c.want {
			t.Errorf("%T %s: taken %v", c.into, c.body, got)
		}
	}
	var l []scheduler.Lease
	full := leasesJSON([]scheduler.Lease{{Hold: scheduler.Hold{Job: "j", Token: trail.Token{Epoch: 1, Number: 2}}, Queue: "q", Action: "a", Attempt: 1,
		Params: registry.TrustedDocument(`{"a":1}`), Until: time.Unix(1, 2), Deadline: time.Unix(3, 0).UTC(), Trail: trail.Trail{Transaction: "t", Source: "s", Job: "j", Attempt: 1}}})
	if !plainDecode(full, &l) {
		t.Errorf("a lease is not plain: %s", full)
	}
}

// FuzzPlain looks for a body that only one of both decoders takes, or that they
// read differently.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		`{"id":"p","jobs":[{"queue":"r-1","action":"copy","params":{"a":1},"after":[{"index":0}],"timeout":"1s"}]}`,
		`{"worker":"w","queues":["a"],"max":3,"wait":"1m"}`, `{"completions":[{"job":"j","token":{"epoch":1,"number":2}}]}`,
		`[{"job":"j","token":{"epoch":1,"number":2},"queue":"q","action":"a","package":"p","attempt":1,"length":"1m","until":"2026-01-02T03:04:05.6Z","trail":{"source":"s"}}]`,
		`[{"id":"a","package":"p","state":"waiting"}]`, `{"results":[{}]}`, strings.Repeat(`{"params":`, 3) + "{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		readBoth[scheduler.Package](t, data, decodeStrict)
		readBoth[scheduler.Want](t, data, decodeStrict)
		readBoth[CompleteRequest](t, data, decodeStrict)
		readBoth[[]scheduler.Lease](t, data, json.Unmarshal)
		readBoth[[]scheduler.Status](t, data, json.Unmarshal)
		readBoth[Completed](t, data, json.Unmarshal)
	})
}
