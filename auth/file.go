package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/registry"
)

// Limits of the file.
const (
	MaxFile    = 4 << 20 // bytes
	MaxEntries = 10_000
	maxLine    = 1024
)

// Kind says how somebody shows who he is.
type Kind string

// The kinds.
const (
	Bearer      Kind = "token"       // by a secret
	Certificate Kind = "certificate" // by a TLS client certificate with Name as its common name
)

// Token is one that is let in.
type Token struct {
	ID      string // names it to people; it stands in the secret too
	Kind    Kind
	Name    string // on whose behalf
	Role    Role
	Created time.Time
	Expires time.Time // zero is never
	Last    string    // the last four characters of the secret, to tell tokens apart

	hash [32]byte // of the secret's random bytes
}

// Expired reports whether t is over.
func (t Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// line is one line of the file: an entry, or a comment that is kept as it is.
type line struct {
	comment string
	entry   Token
}

// header begins a file that is made.
const header = "# Who may ask this vagoth over a network. Written by `vagoth token`; a line that begins with # is kept."

const never = "never"

// format writes the lines as parse reads them.
func format(lines []line) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		if l.entry.ID == "" {
			b.WriteString(l.comment + "\n")
			continue
		}
		e, expires := l.entry, never
		if !e.Expires.IsZero() {
			expires = e.Expires.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(&b, "%s id=%s name=%s role=%s created=%s expires=%s", e.Kind, e.ID, e.Name, e.Role, e.Created.UTC().Format(time.RFC3339), expires)
		if e.Kind == Bearer {
			fmt.Fprintf(&b, " last4=%s sha256=%s", e.Last, hex.EncodeToString(e.hash[:]))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// parse reads a file. Its errors name file and line.
func parse(path string, data []byte) ([]line, error) {
	var lines []line
	ids, names := map[string]int{}, map[string]int{}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return nil, fmt.Errorf("%s:%d: the last line does not end: the file was cut off", path, bytes.Count(data, []byte("\n"))+1)
	}
	for n, text := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		if len(data) == 0 {
			break
		}
		refuse := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: "+format, append([]any{path, n + 1}, args...)...)
		}
		switch {
		case len(text) > maxLine:
			return nil, refuse("the line has more than %d bytes", maxLine)
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return nil, refuse("the line holds control characters or is not UTF-8")
		case text == "" || strings.HasPrefix(text, "#"):
			lines = append(lines, line{comment: text})
			continue
		}
		e, err := parseEntry(text)
		if err != nil {
			return nil, refuse("%w", err)
		}
		if first, twice := ids[e.ID]; twice {
			return nil, refuse("the id %s stands in line %d already", e.ID, first)
		}
		ids[e.ID] = n + 1
		if e.Kind == Certificate {
			if first, twice := names[e.Name]; twice {
				return nil, refuse("the certificate of %s stands in line %d already", e.Name, first)
			}
			names[e.Name] = n + 1
		}
		if len(ids) > MaxEntries {
			return nil, refuse("there are more than %d entries", MaxEntries)
		}
		lines = append(lines, line{entry: e})
	}
	return lines, nil
}

// parseEntry reads a line that is no comment. Its fields stand in one order,
// all of them, once.
func parseEntry(text string) (e Token, err error) {
	fields := strings.Split(text, " ")
	keys := []string{"id", "name", "role", "created", "expires"}
	switch e.Kind = Kind(fields[0]); e.Kind {
	case Bearer:
		keys = append(keys, "last4", "sha256")
	case Certificate:
	default:
		return e, fmt.Errorf(`it begins with %.32q: write "token" or "certificate"`, fields[0])
	}
	if len(fields) != len(keys)+1 {
		return e, fmt.Errorf("it has %d fields: a %s has %s, with one space between", len(fields)-1, e.Kind, strings.Join(keys, ", "))
	}
	for i, key := range keys {
		value, ok := strings.CutPrefix(fields[i+1], key+"=")
		if !ok {
			return e, fmt.Errorf("field %d is %.32q: %s=… belongs there", i+1, fields[i+1], key)
		}
		if err := e.set(key, value); err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
	}
	return e, nil
}

func (t *Token) set(key, value string) (err error) {
	switch key {
	case "id":
		if t.ID = value; len(value) != idBytes*2 || !isHex(value) {
			err = fmt.Errorf("%.32q is not %d hexadecimal digits", value, idBytes*2)
		}
	case "name":
		t.Name, err = value, registry.CheckName(value)
	case "role":
		t.Role, err = ParseRole(value)
	case "created":
		t.Created, err = parseTime(value)
	case "expires":
		if value != never {
			t.Expires, err = parseTime(value)
		}
	case "last4":
		if t.Last = value; len(value) != lastChars || strings.Trim(value, alphabet) != "" {
			err = fmt.Errorf("%.16q is not the last %d characters of a token", value, lastChars)
		}
	case "sha256":
		if len(value) != 2*len(t.hash) || !isHex(value) {
			return fmt.Errorf("it is not %d hexadecimal digits", 2*len(t.hash))
		}
		_, err = hex.Decode(t.hash[:], []byte(value))
	}
	return err
}

// isHex takes lower case only, so that what is read is written the same again.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.UTC().Format(time.RFC3339) != text || t.IsZero() {
		return t, fmt.Errorf("%.40q is no time such as 2026-01-31T12:00:00Z", text)
	}
	return t.UTC(), nil
}

// read reads the file. One that is not there is empty.
func read(path string) ([]line, os.FileInfo, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the tokens: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the tokens: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, info, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, info, fmt.Errorf("%s may be read or written by others (%04o): chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() > MaxFile:
		return nil, info, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), MaxFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, info, fmt.Errorf("cannot read the tokens: %w", err)
	}
	lines, err := parse(path, data)
	return lines, info, err
}

// write replaces the file as a whole. When it returns nil the new one is on
// disk; when it fails the old one is as it was, or the new one is complete.
func write(path string, lines []line) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // made with 0600
	if err != nil {
		return fmt.Errorf("cannot write the tokens: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(format(lines))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write the tokens: %w", err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("cannot replace the tokens: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the path is the operator's
	if err != nil {
		return fmt.Errorf("cannot sync the tokens: %w", err)
	}
	err = d.Sync()
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("cannot sync the tokens: %w", err)
	}
	return nil
}
