// Package trail says on whose behalf something is done.
//
// A Trail travels in the context from the person who typed a command, through
// the job, to every driver and agent call, the log and the record of the last
// change of each node. Whoever reads any of these can find the others.
//
// # Why
//
// It stands above every contract because registry, scheduler and virt all carry
// it and none of them may import another only for that.
package trail

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxText bounds Transaction, Source and Reason, in bytes.
const MaxText = 512

// Token fences one hand-out of a job: of two tokens of one queue the later
// hand-out has the greater. The zero Token fences nothing.
type Token struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"number"`
}

// Compare orders tokens by epoch, then by number.
func (t Token) Compare(o Token) int {
	return cmp.Or(cmp.Compare(t.Epoch, o.Epoch), cmp.Compare(t.Number, o.Number))
}

// IsZero reports whether t fences nothing.
func (t Token) IsZero() bool { return t == Token{} }

func (t Token) String() string { return fmt.Sprintf("%d.%d", t.Epoch, t.Number) }

// Trail is the origin of a change. Every field may be empty.
type Trail struct {
	Transaction string `json:"transaction,omitempty"` // one id for all that follows from one request
	Source      string `json:"source,omitempty"`      // who: a person, a script, the monitor
	Reason      string `json:"reason,omitempty"`      // why, in their words
	Job         string `json:"job,omitempty"`
	Attempt     int    `json:"attempt,omitempty"` // counts from 1
	Token       Token  `json:"token,omitzero"`
}

// New returns a trail with a fresh transaction id.
func New(source, reason string) Trail {
	return Trail{Transaction: uuid.NewString(), Source: source, Reason: reason}
}

// Validate refuses texts that are too long or hold control characters, which
// could forge lines in a log.
func (t Trail) Validate() error {
	for _, f := range []struct{ name, text string }{{"transaction", t.Transaction}, {"source", t.Source}, {"reason", t.Reason}} {
		if len(f.text) > MaxText {
			return fmt.Errorf("the trail's %s has %d bytes, at most %d are kept: shorten it", f.name, len(f.text), MaxText)
		}
		if !utf8.ValidString(f.text) || strings.ContainsFunc(f.text, unicode.IsControl) {
			return fmt.Errorf("the trail's %s %q holds control characters or is not UTF-8: use one line of text", f.name, f.text)
		}
	}
	return nil
}

// LogValue groups the fields that are set.
func (t Trail) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 6)
	for _, f := range []struct{ name, text string }{{"transaction", t.Transaction}, {"source", t.Source}, {"reason", t.Reason}, {"job", t.Job}} {
		if f.text != "" {
			attrs = append(attrs, slog.String(f.name, f.text))
		}
	}
	if t.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", t.Attempt))
	}
	if !t.Token.IsZero() {
		attrs = append(attrs, slog.String("token", t.Token.String()))
	}
	return slog.GroupValue(attrs...)
}

type key struct{}

// With returns a context that carries t.
func With(ctx context.Context, t Trail) context.Context { return context.WithValue(ctx, key{}, t) }

// From returns the context's trail, or the zero Trail.
func From(ctx context.Context) Trail {
	t, _ := ctx.Value(key{}).(Trail)
	return t
}

// Ensure returns ctx if it carries a trail with a transaction, and otherwise
// one that does, with source where the trail names none.
func Ensure(ctx context.Context, source string) context.Context {
	t := From(ctx)
	if t.Transaction != "" {
		return ctx
	}
	t.Transaction = uuid.NewString()
	if t.Source == "" {
		t.Source = source
	}
	return With(ctx, t)
}
