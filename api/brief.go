package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Preference is the header with which a client says that it will not read the
// jobs in full: then the answer to a package names only ID, package and state of
// its jobs, and the answer to completions only what was refused. Nearly
// half of the time that a job costs goes into these answers.
const (
	Preference        = "Prefer"
	PreferBrief       = "return=minimal"
	preferenceApplied = "Preference-Applied"
)

// brief reports whether the client wants a short answer, and says that it is one.
func brief(c *gin.Context) bool {
	for _, line := range c.Request.Header[Preference] {
		for p := range strings.SplitSeq(line, ",") {
			p, _, _ = strings.Cut(p, ";")
			if strings.EqualFold(strings.TrimSpace(p), PreferBrief) {
				c.Header(preferenceApplied, PreferBrief)
				return true
			}
		}
	}
	return false
}

// briefJobs is the short answer to a package.
func briefJobs(list []scheduler.Status) []byte {
	b := make([]byte, 0, 2+128*len(list))
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		st := &list[i]
		b = appendText(append(b, `{"id":`...), st.ID)
		b = appendText(append(b, `,"package":`...), st.Package)
		b = appendText(append(b, `,"state":`...), string(st.State))
		b = append(b, '}')
	}
	return append(b, ']')
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
	b = append(b, `,"trail":{`...)
	before := len(b)
	member := func(name, text string) {
		if text == "" {
			return
		}
		if len(b) > before {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), `":`...)
		b = appendText(b, text)
	}
	t := &l.Trail
	member("transaction", t.Transaction)
	member("source", t.Source)
	member("reason", t.Reason)
	member("job", t.Job)
	if t.Attempt != 0 {
		if len(b) > before {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `"attempt":`...), int64(t.Attempt), 10)
	}
	if !t.Token.IsZero() {
		if len(b) > before {
			b = append(b, ',')
		}
		b = appendToken(append(b, `"token":`...), t.Token.Epoch, t.Token.Number)
	}
	return append(b, "}}"...)
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
