package mistify

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// The headers that carry the trail and the token of a call, to the agent and on
// to the sub-agents. Texts are escaped as a segment of a URL's path. They are an
// addition, and the same as those of package api and of actions that are URLs.
const (
	HeaderTransaction = "Vagoth-Transaction"
	HeaderSource      = "Vagoth-Source"
	HeaderReason      = "Vagoth-Reason"
	HeaderByJob       = "Vagoth-Job" // the manager's job
	HeaderAttempt     = "Vagoth-Attempt"
	HeaderToken       = "Vagoth-Token" // EPOCH.NUMBER
)

// HeaderError is the header of a sub-agent's answer that names the kind of its
// error, which JSON-RPC has no place for.
const HeaderError = "Vagoth-Error"

// SetTrail writes t into h. What t does not say is left out.
func SetTrail(h http.Header, t trail.Trail) {
	for _, x := range [...]struct{ name, text string }{
		{HeaderTransaction, t.Transaction}, {HeaderSource, t.Source}, {HeaderReason, t.Reason}, {HeaderByJob, t.Job},
	} {
		if x.text != "" {
			h[x.name] = []string{url.PathEscape(x.text)}
		}
	}
	if t.Attempt > 0 {
		h[HeaderAttempt] = []string{strconv.Itoa(t.Attempt)}
	}
	if !t.Token.IsZero() {
		h[HeaderToken] = []string{t.Token.String()}
	}
}

// TrailOf reads what SetTrail wrote. Its errors are a virt.ErrInvalid.
func TrailOf(h http.Header) (t trail.Trail, err error) {
	var attempt, token string
	for _, x := range [...]struct {
		name string
		into *string
	}{
		{HeaderTransaction, &t.Transaction}, {HeaderSource, &t.Source}, {HeaderReason, &t.Reason}, {HeaderByJob, &t.Job},
		{HeaderAttempt, &attempt}, {HeaderToken, &token},
	} {
		given := h[x.name]
		if len(given) == 0 {
			continue
		}
		if len(given) > 1 {
			return trail.Trail{}, badHeader(x.name, "stands twice")
		}
		if *x.into, err = url.PathUnescape(given[0]); err != nil {
			return trail.Trail{}, badHeader(x.name, "is not escaped as a segment of a URL's path")
		}
	}
	if len(t.Job) > 128 || strings.ContainsFunc(t.Job, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return trail.Trail{}, badHeader(HeaderByJob, "is no job's id")
	}
	if attempt != "" {
		if t.Attempt, err = strconv.Atoi(attempt); err != nil || t.Attempt < 0 {
			return trail.Trail{}, badHeader(HeaderAttempt, "is no whole number")
		}
	}
	if token != "" {
		if t.Token, err = ParseToken(token); err != nil {
			return trail.Trail{}, fmt.Errorf("%w header %s: %w", virt.ErrInvalid, HeaderToken, err)
		}
	}
	if err := t.Validate(); err != nil {
		return trail.Trail{}, fmt.Errorf("%w header: %w", virt.ErrInvalid, err)
	}
	return t, nil
}

func badHeader(name, reason string) error {
	return fmt.Errorf("%w request: the header %s %s", virt.ErrInvalid, name, reason)
}

// ParseToken reads a token as trail.Token writes it: EPOCH.NUMBER.
func ParseToken(text string) (trail.Token, error) {
	epoch, number, ok := strings.Cut(text, ".")
	e, errE := strconv.ParseUint(epoch, 10, 64)
	n, errN := strconv.ParseUint(number, 10, 64)
	if !ok || errE != nil || errN != nil || len(text) > 41 {
		return trail.Token{}, fmt.Errorf("%.60q is no token: it must be EPOCH.NUMBER, two whole numbers such as 3.17", text)
	}
	return trail.Token{Epoch: e, Number: n}, nil
}
