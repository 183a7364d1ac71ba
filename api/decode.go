package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// maxDepth bounds the nesting of a body. A document inside has a bound of its
// own below this.
const maxDepth = 80

// decodeStrict decodes a JSON object into v, a pointer to a struct.
//
// encoding/json alone takes members in any case, lets the second of two win,
// replaces what is not UTF-8 and reads large numbers as floats. Here a member
// must be spelled as it is in v and stand once, and numbers keep their digits.
func decodeStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	w := walk{dec: json.NewDecoder(bytes.NewReader(data))}
	w.dec.UseNumber()
	t, err := w.dec.Token()
	if err != nil {
		return noJSON(err)
	}
	if t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	if err := w.object(reflect.TypeOf(v)); err != nil {
		return err
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err = dec.Decode(v)
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("%s: a %s cannot be given for it", typ.Field, typ.Value)
	}
	return err
}

func noJSON(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("it is not JSON: %w", err)
}

// walk goes through a body beside the type that it is decoded into.
type walk struct {
	dec *json.Decoder
	at  []string
}

func (w *walk) problem(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(w.at) > 0 {
		text = fmt.Sprintf("%.200s: ", strings.TrimPrefix(strings.Join(w.at, ""), ".")) + text
	}
	return errors.New(text)
}

// value reads one value. t is nil where anything may stand.
func (w *walk) value(t reflect.Type) error {
	if len(w.at) > maxDepth {
		w.at = w.at[:3]
		return w.problem("it is nested more than %d levels deep", maxDepth)
	}
	token, err := w.dec.Token()
	if err != nil {
		return noJSON(err)
	}
	switch token {
	case json.Delim('{'):
		return w.object(t)
	case json.Delim('['):
		return w.array(elementOf(t))
	}
	return nil
}

func (w *walk) array(element reflect.Type) error {
	w.at = append(w.at, "")
	for i := 0; w.dec.More(); i++ {
		w.at[len(w.at)-1] = "[" + strconv.Itoa(i) + "]"
		if err := w.value(element); err != nil {
			return err
		}
	}
	return w.end()
}

// object reads the rest of an object whose brace has been read.
func (w *walk) object(t reflect.Type) error {
	members, element := membersOf(t), elementOf(t)
	seen := map[string]bool{}
	w.at = append(w.at, "")
	for w.dec.More() {
		token, err := w.dec.Token()
		if err != nil {
			return noJSON(err)
		}
		name, _ := token.(string)
		below := element
		if members != nil {
			var ok bool
			if below, ok = members[name]; !ok {
				w.at = w.at[:len(w.at)-1]
				return w.problem("unknown member %.64q (%s)", name, suggest(name, members))
			}
		}
		if seen[name] {
			w.at = w.at[:len(w.at)-1]
			return w.problem("member %.64q stands twice", name)
		}
		seen[name] = true
		w.at[len(w.at)-1] = "." + name
		if err := w.value(below); err != nil {
			return err
		}
	}
	return w.end()
}

func (w *walk) end() error {
	if _, err := w.dec.Token(); err != nil {
		return noJSON(err)
	}
	w.at = w.at[:len(w.at)-1]
	return nil
}

func suggest(name string, members map[string]reflect.Type) string {
	if s := component.DidYouMean(name, maps.Keys(members)); s != "" {
		return s
	}
	return "known are " + strings.Join(sorted(members), ", ")
}

// plain is the type that a value is decoded into member by member, or nil for
// one that reads itself.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	return t
}

// membersOf gives the members of a struct; nil if any are allowed.
func membersOf(t reflect.Type) map[string]reflect.Type {
	t = plain(t)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	members := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported(), name == "-", f.Anonymous && name == "":
		case name == "":
			members[f.Name] = f.Type
		default:
			members[name] = f.Type
		}
	}
	return members
}

// elementOf gives the type of what a list or a map holds.
func elementOf(t reflect.Type) reflect.Type {
	if t = plain(t); t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		return t.Elem()
	}
	return nil
}

// badBody is what is wrong with a body, as an error of the table.
func badBody(err error) error {
	if errors.Is(err, registry.ErrTooLarge) {
		return err
	}
	return &registry.InvalidError{Field: "body", Reason: err.Error()}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
