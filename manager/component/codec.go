package component

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// codec reads and writes the text of one type.
type codec struct {
	words   string // the type, for people
	example string // a value, for the example of a required key
	parse   func(text string) (reflect.Value, error)
	format  func(reflect.Value) string
	compare func(a, b reflect.Value) int // nil if the type has no order
	path    bool
	secret  bool
	text    bool // any text is allowed, so that a wrongly quoted value must be looked for
}

// codecOf finds the codec of a type; ok is false for a type that no text stands for.
func codecOf(t reflect.Type) (codec, bool) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return codec{
			words: "duration", example: "30s", compare: compareInt,
			parse:  parser(ParseDuration),
			format: func(v reflect.Value) string { return FormatDuration(time.Duration(v.Int())) },
		}, true
	case reflect.TypeFor[Size]():
		return codec{
			words: "size", example: "64MiB", compare: compareInt,
			parse:  parser(ParseSize),
			format: func(v reflect.Value) string { return Size(v.Int()).String() },
		}, true
	case reflect.TypeFor[Secret]():
		return codec{
			words: "secret, or file:/path", example: "file:/etc/vagoth/secret", secret: true, text: true,
			parse:  func(s string) (reflect.Value, error) { return reflect.ValueOf(NewSecret(s)), nil },
			format: func(reflect.Value) string { return "" },
		}, true
	case reflect.TypeFor[Path]():
		return codec{
			words: "path", example: "./path", path: true, text: true,
			parse: parser(func(s string) (Path, error) {
				if s == "~" || strings.HasPrefix(s, "~/") {
					return "", errors.New("begins with ~, which only a shell knows; write the whole path, or one relative to this file")
				}
				return Path(s), nil
			}),
			format: func(v reflect.Value) string { return v.String() },
		}, true
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return textCodec(t), true
	}
	switch t.Kind() {
	case reflect.String:
		return codec{
			words: "text", example: "text", text: true,
			parse:  func(s string) (reflect.Value, error) { return reflect.ValueOf(s).Convert(t), nil },
			format: func(v reflect.Value) string { return v.String() },
		}, true
	case reflect.Bool:
		return codec{
			words: "yes or no", example: "yes",
			parse: func(s string) (reflect.Value, error) {
				b, err := parseBool(s)
				return reflect.ValueOf(b).Convert(t), err
			},
			format: func(v reflect.Value) string {
				if v.Bool() {
					return "yes"
				}
				return "no"
			},
		}, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return codec{
			words: "whole number", example: "1", compare: compareInt,
			parse: func(s string) (reflect.Value, error) {
				n, err := strconv.ParseInt(s, 10, t.Bits())
				return reflect.ValueOf(n).Convert(t), numberError(err, "whole number")
			},
			format: func(v reflect.Value) string { return strconv.FormatInt(v.Int(), 10) },
		}, true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return codec{
			words: "whole number", example: "1",
			compare: func(a, b reflect.Value) int { return cmp.Compare(a.Uint(), b.Uint()) },
			parse: func(s string) (reflect.Value, error) {
				n, err := strconv.ParseUint(s, 10, t.Bits())
				if err != nil && strings.HasPrefix(s, "-") {
					err = errors.New("must not be negative")
				} else {
					err = numberError(err, "whole number")
				}
				return reflect.ValueOf(n).Convert(t), err
			},
			format: func(v reflect.Value) string { return strconv.FormatUint(v.Uint(), 10) },
		}, true
	case reflect.Float32, reflect.Float64:
		return codec{
			words: "number", example: "1.5",
			compare: func(a, b reflect.Value) int { return cmp.Compare(a.Float(), b.Float()) },
			parse: func(s string) (reflect.Value, error) {
				n, err := strconv.ParseFloat(s, t.Bits())
				// ParseFloat also takes NaN, Inf, hexadecimal and underscores, none of which a person means.
				if err == nil && strings.Trim(s, "0123456789+-.eE") != "" {
					err = strconv.ErrSyntax
				}
				return reflect.ValueOf(n).Convert(t), numberError(err, "number")
			},
			format: func(v reflect.Value) string { return strconv.FormatFloat(v.Float(), 'g', -1, t.Bits()) },
		}, true
	}
	return codec{}, false
}

// textCodec serves the types that read themselves.
func textCodec(t reflect.Type) codec {
	return codec{
		words: typeWords(t),
		parse: func(s string) (reflect.Value, error) {
			p := reflect.New(t)
			if err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				return p.Elem(), fmt.Errorf("is not a valid %s: %w", typeWords(t), err)
			}
			return p.Elem(), nil
		},
		format: func(v reflect.Value) string {
			p := reflect.New(t)
			p.Elem().Set(v)
			m, ok := p.Interface().(encoding.TextMarshaler)
			if !ok {
				return ""
			}
			text, err := m.MarshalText()
			if err != nil {
				return ""
			}
			return string(text)
		},
	}
}

// typeWords are the words for a type that reads itself: those it gives with ConfigWords, or its name.
func typeWords(t reflect.Type) string {
	if w, ok := reflect.New(t).Interface().(interface{ ConfigWords() string }); ok {
		return w.ConfigWords()
	}
	switch t.PkgPath() + "." + t.Name() {
	case "net/netip.Addr":
		return "address"
	case "net/netip.Prefix":
		return "network like 10.0.0.0/24"
	case "net/netip.AddrPort":
		return "address:port"
	}
	return strings.ToLower(t.Name())
}

func parser[V any](parse func(string) (V, error)) func(string) (reflect.Value, error) {
	return func(s string) (reflect.Value, error) {
		v, err := parse(s)
		return reflect.ValueOf(v), err
	}
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "on":
		return true, nil
	case "no", "false", "off":
		return false, nil
	}
	return false, errors.New("must be yes or no")
}

func numberError(err error, words string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return errors.New("is out of range")
	}
	return errors.New("is not a " + words)
}

func compareInt(a, b reflect.Value) int { return cmp.Compare(a.Int(), b.Int()) }
