package spin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/vagoth/vagoth/scheduler"
)

// maxBody bounds a request: parameters of the largest size, and room around.
const maxBody = 256 << 10

// command is the body of "add".
type command struct {
	ID           string          `json:"id"` // repeats the path
	Resource     string          `json:"resource"`
	Action       string          `json:"action"`
	Parameters   json.RawMessage `json:"parameters"`
	Dependencies []string        `json:"dependencies"`
}

// completion is the body of "complete".
type completion struct {
	ID     *string `json:"id"`
	Status *bool   `json:"status"`
	Reason *string `json:"status_reason"`
}

// failure is an error as these clients know it.
type failure struct {
	status    int
	name      string
	message   string
	temporary bool
	fault     bool
	after     int // seconds, for Retry-After
}

func (f failure) Error() string { return f.message }

func notFound(format string, args ...any) failure {
	return failure{status: http.StatusBadRequest, name: "record_not_found", message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) failure {
	return failure{status: http.StatusBadRequest, name: "invalid", message: fmt.Sprintf(format, args...)}
}

func missing(field string) failure {
	return failure{status: http.StatusBadRequest, name: "missing_field", message: strconv.Quote(field) + " is missing from body"}
}

// failureOf says how a client is told of err.
func failureOf(err error) failure {
	var f failure
	if errors.As(err, &f) {
		return f
	}
	f.message = err.Error()
	var many *scheduler.TooManyError
	switch {
	case errors.Is(err, scheduler.ErrNotFound), errors.Is(err, scheduler.ErrStale):
		f.status, f.name = http.StatusBadRequest, "record_not_found"
	case errors.Is(err, scheduler.ErrInvalid):
		f.status, f.name = http.StatusBadRequest, "invalid"
	case errors.Is(err, scheduler.ErrConflict):
		f.status, f.name = http.StatusConflict, "conflict"
	case errors.As(err, &many):
		f.status, f.name, f.temporary, f.after = http.StatusTooManyRequests, "too_many", true, max(1, int(many.After.Seconds()))
	case errors.Is(err, scheduler.ErrTooMany):
		f.status, f.name, f.temporary, f.after = http.StatusTooManyRequests, "too_many", true, 1
	case errors.Is(err, scheduler.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		f.status, f.name, f.temporary, f.after = http.StatusServiceUnavailable, "unavailable", true, 1
	default:
		f.status, f.name, f.fault = http.StatusInternalServerError, "fault", true
	}
	return f
}

// writeError answers with an error. All six fields are always there, as the
// clients insist on them.
func writeError(w http.ResponseWriter, err error) {
	f := failureOf(err)
	w.Header().Set("Goa-Error", f.name)
	if f.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.after))
	}
	writeBody(w, f.status, func(b []byte) []byte {
		b = appendString(append(b, `{"name":`...), f.name)
		b = appendString(append(b, `,"id":`...), errorID())
		b = appendString(append(b, `,"message":`...), f.message)
		b = strconv.AppendBool(append(b, `,"temporary":`...), f.temporary)
		b = append(b, `,"timeout":false,"fault":`...)
		return append(strconv.AppendBool(b, f.fault), '}')
	})
}

// errorID names one occurrence of an error.
func errorID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func writeString(w http.ResponseWriter, s string) {
	writeBody(w, http.StatusOK, func(b []byte) []byte { return appendString(b, s) })
}

// writeBody answers with the JSON that fill appends, in one write.
func writeBody(w http.ResponseWriter, status int, fill func([]byte) []byte) {
	var room [512]byte
	b := append(fill(room[:0]), '\n')
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	header["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(status)
	_, _ = w.Write(b) // who asked may be gone; nothing is left to say to them
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...) // a string always encodes
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// readBody decodes the request into v. Without a content type, or with one that
// is not known, it is JSON: the clients send none, and curl a wrong one.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" && ct != "application/json" {
		if kind, _, err := mime.ParseMediaType(ct); err == nil && (kind == "application/gob" || kind == "application/xml") {
			return failure{status: http.StatusUnsupportedMediaType, name: "unsupported_media_type", message: kind + " is not read here: send JSON"}
		}
	}
	var b bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= maxBody {
		b.Grow(int(n) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return failure{status: http.StatusRequestEntityTooLarge, name: "too_large", message: fmt.Sprintf("the body has more than %d bytes", maxBody)}
		}
		return invalid("the body cannot be read: %v", err)
	}
	if len(bytes.TrimSpace(b.Bytes())) == 0 {
		return failure{status: http.StatusBadRequest, name: "missing_payload", message: "missing required payload"}
	}
	data := b.Bytes()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return failure{status: http.StatusBadRequest, name: "decode_payload", message: "the body is not what is expected: " + err.Error()}
	}
	if len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		return failure{status: http.StatusBadRequest, name: "decode_payload", message: "something follows the object in the body"}
	}
	return nil
}
