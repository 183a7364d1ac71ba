package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// plainEncode is json.Marshal for the bodies that a busy daemon and its workers
// exchange most, written out; it is nil for all others.
func plainEncode(v any) []byte {
	switch v := v.(type) {
	case scheduler.Package:
		return packageJSON(&v)
	case scheduler.Want:
		return wantJSON(&v)
	case CompleteRequest:
		if v.Completions != nil && v.Hold == (scheduler.Hold{}) {
			return completionsJSON(v)
		}
	case []scheduler.Status:
		if v != nil {
			return statusesJSON(v)
		}
	case Completed:
		if v.Results != nil {
			return completedJSON(v)
		}
	case scheduler.Status:
		return appendStatus(make([]byte, 0, 512), &v)
	}
	return nil
}

// encode is json.Marshal.
func encode(v any) ([]byte, error) {
	if data := plainEncode(v); data != nil {
		return data, nil
	}
	return json.Marshal(v)
}

// members appends the members of an object, those that are given: the others are
// left out, as omitempty and omitzero do.
type members struct {
	b     []byte
	first bool // nothing stands in it yet
}

// name appends a name, for a value to follow.
func (o *members) name(name string) {
	if !o.first {
		o.b = append(o.b, ',')
	}
	o.first = false
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

func (o *members) text(name, s string) {
	if s != "" {
		o.name(name)
		o.b = appendText(o.b, s)
	}
}

func (o *members) int(name string, n int) {
	if n != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, int64(n), 10)
	}
}

func (o *members) flag(name string, on bool) {
	if on {
		o.name(name)
		o.b = append(o.b, "true"...)
	}
}

func (o *members) time(name string, t time.Time) {
	if !t.IsZero() {
		o.name(name)
		o.b = appendTime(o.b, t)
	}
}

func (o *members) span(name string, s scheduler.Span) {
	if s != 0 {
		o.name(name)
		o.b = appendText(o.b, s.String())
	}
}

func (o *members) token(name string, t trail.Token) {
	if !t.IsZero() {
		o.name(name)
		o.b = appendToken(o.b, t.Epoch, t.Number)
	}
}

func (o *members) document(name string, d registry.Document) {
	if d != (registry.Document{}) {
		o.name(name)
		o.b = appendObject(o.b, d.String())
	}
}

func (o *members) texts(name string, list []string) {
	if len(list) == 0 {
		return
	}
	o.name(name)
	o.b = append(o.b, '[')
	for i, s := range list {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendText(o.b, s)
	}
	o.b = append(o.b, ']')
}

// job appends the members of a job.
func (o *members) job(j *scheduler.Job) {
	o.text("id", j.ID)
	o.name("queue")
	o.b = appendText(o.b, j.Queue)
	o.name("action")
	o.b = appendText(o.b, j.Action)
	o.document("params", j.Params)
	if len(j.After) > 0 {
		o.name("after")
		o.b = append(o.b, '[')
		for i := range j.After {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.b = appendDependency(o.b, &j.After[i])
		}
		o.b = append(o.b, ']')
	}
	o.span("timeout", j.Timeout)
	o.time("expires", j.Expires)
	if j.Retry != (scheduler.Retry{}) {
		o.name("retry")
		o.b = appendAny(o.b, j.Retry)
	}
	o.texts("limits", j.Limits)
	o.flag("urgent", j.Urgent)
	o.flag("keep_queued", j.KeepQueued)
	o.text("key", j.Key)
	if j.Trail != (trail.Trail{}) {
		o.name("trail")
		o.b = appendTrail(o.b, &j.Trail)
	}
}

func appendDependency(b []byte, d *scheduler.Dependency) []byte {
	o := members{b: append(b, '{'), first: true}
	o.text("id", d.ID)
	if d.Index != nil {
		o.name("index")
		o.b = strconv.AppendInt(o.b, int64(*d.Index), 10)
	}
	if len(d.Accept) > 0 {
		o.name("accept")
		o.b = appendAny(o.b, d.Accept)
	}
	return append(o.b, '}')
}

func packageJSON(p *scheduler.Package) []byte {
	o := members{b: append(make([]byte, 0, 64+160*len(p.Jobs)), '{'), first: true}
	o.text("id", p.ID)
	o.name("jobs")
	if p.Jobs == nil {
		return append(o.b, "null}"...)
	}
	b := append(o.b, '[')
	for i := range p.Jobs {
		if i > 0 {
			b = append(b, ',')
		}
		o := members{b: append(b, '{'), first: true}
		o.job(&p.Jobs[i])
		b = append(o.b, '}')
	}
	return append(b, "]}"...)
}

func wantJSON(w *scheduler.Want) []byte {
	o := members{b: append(make([]byte, 0, 128), '{'), first: true}
	o.text("worker", w.Worker)
	o.texts("queues", w.Queues)
	o.texts("actions", w.Actions)
	o.int("max", w.Max)
	o.span("wait", w.Wait)
	o.span("lease", w.Lease)
	return append(o.b, '}')
}

// completionsJSON is a request that completes a list.
func completionsJSON(r CompleteRequest) []byte {
	o := members{b: append(make([]byte, 0, 96+128*len(r.Completions)), '{'), first: true}
	o.completion(&r.Completion)
	if len(r.Completions) == 0 {
		return append(o.b, '}')
	}
	o.name("completions")
	b := append(o.b, '[')
	for i := range r.Completions {
		if i > 0 {
			b = append(b, ',')
		}
		o := members{b: append(b, '{'), first: true}
		o.completion(&r.Completions[i])
		b = append(o.b, '}')
	}
	return append(b, "]}"...)
}

func (o *members) completion(c *scheduler.Completion) {
	o.name("job")
	o.b = appendText(o.b, c.Job)
	o.name("token")
	o.b = appendToken(o.b, c.Token.Epoch, c.Token.Number)
	o.document("result", c.Result)
	o.text("error", c.Error)
	o.text("code", c.Code)
	o.flag("final", c.Final)
}

func completedJSON(c Completed) []byte {
	b := append(make([]byte, 0, 16+4*len(c.Results)), `{"results":[`...)
	for i := range c.Results {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		r := &c.Results[i]
		if r.Status != nil {
			b = appendStatus(append(b, `"status":`...), r.Status)
		}
		if r.Error != nil {
			if r.Status != nil {
				b = append(b, ',')
			}
			b = appendAny(append(b, `"error":`...), r.Error)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

func statusesJSON(list []scheduler.Status) []byte {
	b := make([]byte, 0, 2+512*len(list))
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendStatus(b, &list[i])
	}
	return append(b, ']')
}

func appendStatus(b []byte, st *scheduler.Status) []byte {
	o := members{b: append(b, '{'), first: true}
	o.job(&st.Job)
	o.name("package")
	o.b = appendText(o.b, st.Package)
	o.name("state")
	o.b = appendText(o.b, string(st.State))
	o.text("waiting", st.Waiting)
	o.flag("overdue", st.Overdue)
	o.int("attempt", st.Attempt)
	o.int("failed", st.Failed)
	o.int("lost", st.Lost)
	o.token("token", st.Token)
	o.text("worker", st.Worker)
	o.time("until", st.Until)
	o.int("percent", st.Percent)
	o.text("progress", st.Progress)
	o.document("result", st.Result)
	o.text("error", st.Error)
	o.text("code", st.Code)
	o.text("cause", st.Cause)
	if len(st.Attempts) > 0 {
		o.name("attempts")
		o.b = appendAny(o.b, st.Attempts)
	}
	o.name("submitted_at")
	o.b = appendTime(o.b, st.SubmittedAt)
	o.time("started_at", st.StartedAt)
	o.time("ended_at", st.EndedAt)
	o.time("parked_at", st.ParkedAt)
	return append(o.b, '}')
}

// leasesJSON is json.Marshal for leases, written out, since they are what is
// encoded most.
func leasesJSON(list []scheduler.Lease) []byte {
	b := make([]byte, 0, 2+512*len(list))
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLease(b, &list[i])
	}
	return append(b, ']')
}

func appendLease(b []byte, l *scheduler.Lease) []byte {
	b = appendText(append(b, `{"job":`...), l.Job)
	b = appendToken(append(b, `,"token":`...), l.Token.Epoch, l.Token.Number)
	b = appendText(append(b, `,"queue":`...), l.Queue)
	b = appendText(append(b, `,"action":`...), l.Action)
	if l.Params != (registry.Document{}) {
		b = appendObject(append(b, `,"params":`...), l.Params.String())
	}
	b = appendText(append(b, `,"package":`...), l.Package)
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(l.Attempt), 10)
	b = appendText(append(b, `,"length":`...), l.Length.String())
	b = appendTime(append(b, `,"until":`...), l.Until)
	if !l.Deadline.IsZero() {
		b = appendTime(append(b, `,"deadline":`...), l.Deadline)
	}
	b = appendTrail(append(b, `,"trail":`...), &l.Trail)
	return append(b, '}')
}

func appendTrail(b []byte, t *trail.Trail) []byte {
	o := members{b: append(b, '{'), first: true}
	o.text("transaction", t.Transaction)
	o.text("source", t.Source)
	o.text("reason", t.Reason)
	o.text("job", t.Job)
	o.int("attempt", t.Attempt)
	o.token("token", t.Token)
	return append(o.b, '}')
}

func appendToken(b []byte, epoch, number uint64) []byte {
	b = strconv.AppendUint(append(b, `{"epoch":`...), epoch, 10)
	b = strconv.AppendUint(append(b, `,"number":`...), number, 10)
	return append(b, '}')
}

// plain reports whether a text stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func appendText(b []byte, s string) []byte {
	if !plain(s) {
		return appendAny(b, s)
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendObject appends an object that is encoded and compact.
func appendObject(b []byte, s string) []byte {
	if strings.ContainsAny(s, "<>&\u2028\u2029") {
		return appendAny(b, json.RawMessage(s))
	}
	return append(b, s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if y := t.Year(); y < 0 || y > 9999 {
		return appendAny(b, t)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendAny appends what needs more than a look.
func appendAny(b []byte, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...) // such a time is no time
	}
	return append(b, data...)
}
