package component

import (
	"crypto/subtle"
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Path is a file or directory. A relative one starts at the directory of the ini file, defaults included.
type Path string

// Size is a number of bytes. It is written with a unit, `64MiB` or `10G`; K, M, G, T and P are powers of 1024,
// as for qemu-img and libvirt, and KB, MB, GB, TB and PB are powers of 1000.
type Size int64

// Secret is a text that no print, log or encoding shows. It may be written as `file:/path`, and is then read
// from that file, without its last line end, when the config is decoded.
//
// It holds a pointer because fmt does not call the methods of a value in an unexported field: there a secret
// kept as a string would be printed.
type Secret struct{ text *string }

// NewSecret hides a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

const hidden = "***"

// Reveal gives the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Equal compares in a time that does not depend on where the texts differ.
func (s Secret) Equal(text string) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(text)) == 1
}

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String is what fmt prints: nothing of the secret.
func (s Secret) String() string { return hidden }

// GoString is what %#v prints: nothing of the secret.
func (s Secret) GoString() string { return hidden }

// Format prints nothing of the secret with any verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText encodes nothing of the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON encodes nothing of the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// LogValue logs nothing of the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

var (
	_ fmt.Formatter          = Secret{}
	_ slog.LogValuer         = Secret{}
	_ encoding.TextMarshaler = Secret{}
)

const maxSecretFile = 64 << 10

// readSecret reads a secret from a file, which must be regular so that a fifo cannot hold up the start.
func readSecret(name string) (Secret, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Secret{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("%s is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return Secret{}, err
	}
	if len(data) > maxSecretFile {
		return Secret{}, fmt.Errorf("%s is larger than %s", name, Size(maxSecretFile))
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return Secret{}, fmt.Errorf("%s is empty", name)
	}
	return NewSecret(text), nil
}

func (p Path) resolve(dir string) Path {
	if p == "" || filepath.IsAbs(string(p)) {
		return p
	}
	return Path(filepath.Join(dir, string(p)))
}

type unit struct {
	name  string
	bytes int64
}

// units of a size, the largest first.
func units() []unit {
	return []unit{
		{"PiB", 1 << 50}, {"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
		{"P", 1 << 50}, {"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10},
		{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	}
}

// ParseSize reads a size. A bare number is refused, except 0.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	name := s[len(digits):]
	digits = strings.TrimSpace(digits)
	if !isDecimal(digits) || len(digits) > 24 {
		return 0, errors.New("is not a size such as 64MiB or 10G")
	}
	if name == "" {
		if strings.Trim(digits, "0.") == "" {
			return 0, nil
		}
		return 0, fmt.Errorf("needs a unit, such as %sMiB, or %sB for bytes", digits, digits)
	}
	for _, u := range units() {
		if !strings.EqualFold(u.name, name) {
			continue
		}
		n, ok := new(big.Rat).SetString(digits)
		if !ok {
			break
		}
		n.Mul(n, new(big.Rat).SetInt64(u.bytes))
		if !n.IsInt() {
			return 0, errors.New("is not a whole number of bytes")
		}
		if !n.Num().IsInt64() {
			return 0, fmt.Errorf("is larger than %s", Size(math.MaxInt64))
		}
		return Size(n.Num().Int64()), nil
	}
	return 0, fmt.Errorf("has the unknown unit %q (use B, KiB, MiB, GiB, TiB or PiB)", short(name))
}

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	if err != nil {
		return fmt.Errorf("%q %w", short(string(text)), err)
	}
	*s = n
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes the size in the largest unit that divides it, so that nothing is rounded.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range units() {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// ParseDuration reads a duration as Go writes it, with `d` for days (24 hours) in front: `1d12h`. A bare number
// is refused, except 0.
func ParseDuration(s string) (time.Duration, error) {
	if isDecimal(strings.TrimPrefix(s, "-")) && strings.Trim(s, "-0.") != "" {
		return 0, fmt.Errorf("needs a unit, such as %ss", s)
	}
	const day = 24 * time.Hour
	if number, rest, ok := strings.Cut(s, "d"); ok && isDecimal(number) {
		days, err := strconv.ParseInt(number, 10, 64)
		if err != nil || days > int64(math.MaxInt64/day) {
			return 0, errors.New("is not a duration such as 30s, 5m or 7d")
		}
		d := time.Duration(days) * day
		if rest != "" {
			more, err := time.ParseDuration(rest)
			if err != nil || more < 0 || d+more < d {
				return 0, errors.New("is not a duration such as 30s, 5m or 1d12h")
			}
			d += more
		}
		return d, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("is not a duration such as 500ms, 30s, 5m, 2h or 7d")
	}
	return d, nil
}

// FormatDuration writes a duration as a person would: `1h`, not `1h0m0s`, and `7d`, not `168h0m0s`.
func FormatDuration(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// isDecimal says whether s is digits with at most one point between them.
func isDecimal(s string) bool {
	point := false
	for i := range len(s) {
		switch {
		case s[i] >= '0' && s[i] <= '9':
		case s[i] == '.' && !point && i > 0 && i < len(s)-1:
			point = true
		default:
			return false
		}
	}
	return s != ""
}

// short bounds what a message repeats of a value.
func short(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
