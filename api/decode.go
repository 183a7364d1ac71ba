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
	"sync"
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
// After an error v may hold a part of it.
func decodeStrict(data []byte, v any) error { return new(shapes).decode(data, v) }

// decode is decodeStrict for one who decodes often.
func (s *shapes) decode(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] != '{' {
		return errors.New("it is not a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := dec.Decode(v)
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch mistyped := errors.As(err, &typ); {
	case err != nil && !mistyped && (errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return noJSON(err)
	case err != nil && !mistyped:
		return err
	case len(bytes.TrimSpace(data[dec.InputOffset():])) > 0:
		return errors.New("something follows the JSON object")
	}
	w := walk{shapes: s, data: data}
	if err := w.value(reflect.TypeOf(v)); err != nil {
		return err
	}
	if typ != nil {
		return fmt.Errorf("%s: a %s cannot be given for it", typ.Field, typ.Value)
	}
	return nil
}

func noJSON(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("it is not JSON: %w", err)
}

// walk goes through a body, which is JSON, beside the type that it is decoded
// into.
type walk struct {
	shapes *shapes
	data   []byte
	i      int
	depth  int
}

// misplaced is a problem and where it is.
type misplaced struct{ at, text string }

func (m *misplaced) Error() string {
	if at := strings.TrimPrefix(m.at, "."); at != "" {
		return fmt.Sprintf("%.200s: %s", at, m.text)
	}
	return m.text
}

func problemAt(format string, args ...any) error {
	return &misplaced{text: fmt.Sprintf(format, args...)}
}

// within puts the place before that of the error.
func within(place string, err error) error {
	var m *misplaced
	if errors.As(err, &m) && len(m.at) < 1000 {
		m.at = place + m.at
	}
	return err
}

// space skips white space, commas and colons.
func (w *walk) space() {
	for w.i < len(w.data) && strings.IndexByte(" \t\r\n,:", w.data[w.i]) >= 0 {
		w.i++
	}
}

// value goes past one value. t is nil where anything may stand.
func (w *walk) value(t reflect.Type) error {
	w.space()
	if w.i >= len(w.data) {
		return nil // cannot be: it was decoded
	}
	if w.depth++; w.depth > maxDepth {
		return problemAt("it is nested more than %d levels deep", maxDepth)
	}
	defer func() { w.depth-- }()
	switch w.data[w.i] {
	case '{':
		return w.object(w.shapes.of(t))
	case '[':
		return w.array(w.shapes.of(t).element)
	case '"':
		w.text()
	default:
		for w.i < len(w.data) && strings.IndexByte(",]} \t\r\n", w.data[w.i]) < 0 {
			w.i++
		}
	}
	return nil
}

// text goes past a string and returns it with its quotes.
func (w *walk) text() []byte {
	from := w.i
	for w.i++; w.i < len(w.data) && w.data[w.i] != '"'; w.i++ {
		if w.data[w.i] == '\\' {
			w.i++
		}
	}
	w.i++
	return w.data[from:min(w.i, len(w.data))]
}

// more reports whether a list or an object goes on, and otherwise goes past its
// end.
func (w *walk) more(end byte) bool {
	if w.space(); w.i < len(w.data) && w.data[w.i] != end {
		return true
	}
	w.i++
	return false
}

func (w *walk) array(element reflect.Type) error {
	w.i++
	for i := 0; w.more(']'); i++ {
		if err := w.value(element); err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return nil
}

func (w *walk) object(s *shape) error {
	w.i++
	var seen uint64            // members of a struct, by number
	var others map[string]bool // those of a map, and of a very large struct
	for w.more('}') {
		quoted := w.text()
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			var plain string
			if err := json.Unmarshal(quoted, &plain); err != nil {
				return noJSON(err)
			}
			name = []byte(plain)
		}
		below, number := s.element, -1
		if s.members != nil {
			m, ok := s.members[string(name)]
			if !ok {
				return problemAt("unknown member %.64q (%s)", name, suggest(string(name), s.members))
			}
			below, number = m.t, m.number
		}
		twice := number >= 0 && seen&(1<<number) != 0 || number < 0 && others[string(name)]
		switch {
		case twice:
			return problemAt("member %.64q stands twice", name)
		case number >= 0:
			seen |= 1 << number
		default:
			if others == nil {
				others = map[string]bool{}
			}
			others[string(name)] = true
		}
		if err := w.value(below); err != nil {
			return within("."+string(name), err)
		}
	}
	return nil
}

func suggest(name string, members map[string]member) string {
	if s := component.DidYouMean(name, maps.Keys(members)); s != "" {
		return s
	}
	return "known are " + strings.Join(sorted(members), ", ")
}

// shapes remembers what may stand in the types that were decoded.
type shapes struct {
	known    sync.Map // reflect.Type to *shape
	anything shape
}

// shape is what may stand in a value of a type.
type shape struct {
	members map[string]member // of a struct; nil if any may
	element reflect.Type      // of a list or a map; nil if anything
}

type member struct {
	t      reflect.Type
	number int // below 64, or -1
}

func (s *shapes) of(t reflect.Type) *shape {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return &s.anything
	}
	if known, ok := s.known.Load(t); ok {
		return known.(*shape) //nolint:forcetypeassert // nothing else is stored
	}
	made := &shape{members: membersOf(t), element: elementOf(t)}
	s.known.Store(t, made)
	return made
}

// readsItself reports whether a type decodes itself.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// membersOf gives the members of a struct; nil if any are allowed.
func membersOf(t reflect.Type) map[string]member {
	if t.Kind() != reflect.Struct || readsItself(t) {
		return nil
	}
	members := map[string]member{}
	for i, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if i > 63 {
			i = -1
		}
		switch {
		case !f.IsExported(), name == "-", f.Anonymous && name == "":
		case name == "":
			members[f.Name] = member{f.Type, i}
		default:
			members[name] = member{f.Type, i}
		}
	}
	return members
}

// elementOf gives the type of what a list or a map holds.
func elementOf(t reflect.Type) reflect.Type {
	if !readsItself(t) {
		switch t.Kind() {
		case reflect.Slice, reflect.Array, reflect.Map:
			return t.Elem()
		}
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
