package component

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Decode reads a config struct strictly: every key of the source's own sections must have a field, every value
// must be of its field's type and within its bounds, and a key that is there overrides the default even if its
// value is zero or empty. It reports all problems, not the first.
//
// It panics as [Define] does if C is not a config struct.
func Decode[C any](src Source, defaults C) (C, []Problem) {
	d := decoder{src: src}
	v := d.structure(schemaOf(defaults), src.name(), src.line(), src.Own, src.Unused)
	SortProblems(d.problems)
	return v.Interface().(C), d.problems
}

type decoder struct {
	src      Source
	problems []Problem
}

// missing reports that something required is not there.
func (d *decoder) missing(section, key string, line int, reason, suggestion string) {
	d.report(section, key, line, reason, suggestion)
	d.problems[len(d.problems)-1].Missing = true
}

func (d *decoder) report(section, key string, line int, reason, suggestion string) {
	d.problems = append(d.problems, Problem{
		File: d.src.File, Section: section, Key: key, Line: line, Reason: reason, Suggestion: suggestion,
	})
}

// structure decodes one struct from the sections that make it up. If partial, required keys may be missing.
func (d *decoder) structure(s *schema, name string, line int, own []Section, partial bool) reflect.Value {
	before, complete := len(d.problems), true
	v := s.fresh()
	places := map[string]place{}
	for _, section := range own {
		for _, e := range section.Entries {
			if first, twice := places[e.Key]; twice {
				d.report(section.Name, e.Key, e.Line,
					fmt.Sprintf("key %q is also set in [%s], line %d", e.Key, first.section, first.line), "remove one of them")
				continue
			}
			places[e.Key] = place{section.Name, e.Line, true}
			f := s.fieldFor(e.Key)
			if f == nil {
				d.report(section.Name, e.Key, e.Line, fmt.Sprintf("unknown key %q", short(e.Key)), d.unknownHint(e.Key, s))
				continue
			}
			d.key(f, v.FieldByIndex(f.index), section.Name, e)
		}
	}
	for i := range s.fields {
		f := &s.fields[i]
		at := v.FieldByIndex(f.index)
		switch {
		case f.shape == sections:
			d.sections(f, at, name, partial)
		case !f.Required:
		case f.shape == rest && at.Len() == 0:
			complete = false
			if !partial {
				d.missing(name, "", line, "the section is empty", f.Help)
			}
		case f.shape != rest && places[f.Key] == place{}:
			complete = false
			if !partial {
				d.missing(name, f.Key, line, fmt.Sprintf("required key %q is missing", f.Key), f.wanted())
			}
		}
		if f.codec.path {
			d.resolve(f, at)
		}
	}
	if len(d.problems) == before && complete && (!partial || len(places) > 0) {
		d.validate(v, name, line, places)
	}
	return v
}

// resolve makes the paths of a field absolute, or at least relative to where the program runs. It is done once,
// at the end, so that defaults are treated as what is written.
func (d *decoder) resolve(f *field, at reflect.Value) {
	resolved := func(v reflect.Value) reflect.Value {
		return reflect.ValueOf(v.Interface().(Path).resolve(d.src.Dir))
	}
	switch f.shape {
	case single:
		at.Set(resolved(at))
	case list:
		for i := range at.Len() {
			at.Index(i).Set(resolved(at.Index(i)))
		}
	case pairs, rest:
		for _, key := range at.MapKeys() {
			at.SetMapIndex(key, resolved(at.MapIndex(key)))
		}
	}
}

// place is where a key was found; the zero place is nowhere.
type place struct {
	section string
	line    int
	found   bool
}

// fieldFor finds the field of a key, or the one that collects all others.
func (s *schema) fieldFor(key string) *field {
	var other *field
	for i := range s.fields {
		switch f := &s.fields[i]; {
		case f.shape == rest:
			other = f
		case f.shape != sections && f.Key == key:
			return f
		}
	}
	return other
}

// keys are the keys that may be written, for suggestions and lists.
func (s *schema) keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, f := range s.fields {
			if f.shape != sections && f.shape != rest && !yield(f.Key) {
				return
			}
		}
	}
}

func (d *decoder) unknownHint(key string, s *schema) string {
	if hint := DidYouMean(key, s.keys()); hint != "" {
		return hint
	}
	known := slices.Collect(s.keys())
	switch {
	case len(known) == 0:
		return "there are no keys here"
	case len(known) <= 8:
		return "the keys here are " + strings.Join(known, ", ")
	}
	return "`vagoth components` lists the keys"
}

// wanted says what a missing key is for.
func (f *field) wanted() string {
	if f.Help == "" {
		return f.Type
	}
	return f.Help
}

// key decodes one entry into its field.
func (d *decoder) key(f *field, at reflect.Value, section string, e Entry) {
	fail := func(value string, err error) {
		shown := strconv.Quote(short(value)) + " "
		switch {
		case value == "":
			shown = "the empty value "
		case f.Secret:
			shown = "the value "
		}
		if f.Secret && !f.codec.secret {
			// The error of a type that reads itself may repeat what it read.
			err = errors.New("is not a valid " + f.codec.words)
		}
		d.report(section, e.Key, e.Line, e.Key+": "+shown+err.Error(), "")
	}
	if f.Required && e.Value == "" {
		d.report(section, e.Key, e.Line, fmt.Sprintf("required key %q is empty", e.Key), f.wanted())
		return
	}
	switch f.shape {
	case single:
		v, err := d.scalar(f, e.raw(), e.Value)
		if err != nil {
			fail(e.Value, err)
			return
		}
		at.Set(v)
	case rest:
		v, err := d.scalar(f, e.raw(), e.Value)
		if err != nil {
			fail(e.Value, err)
			return
		}
		put(at, e.Key, v)
	case list, pairs:
		words, err := SplitList(e.raw())
		if err != nil {
			d.report(section, e.Key, e.Line, e.Key+": "+err.Error(), "")
			return
		}
		if f.shape == list {
			at.Set(reflect.MakeSlice(at.Type(), 0, len(words)))
		} else {
			at.Set(reflect.MakeMapWithSize(at.Type(), len(words)))
		}
		for _, word := range words {
			name, value := "", word
			if f.shape == pairs {
				var ok bool
				name, value, ok = strings.Cut(word, "=")
				name, value = strings.TrimSpace(name), strings.TrimSpace(value)
				if !ok || name == "" {
					fail(word, errors.New("is not of the form NAME="+f.codec.words))
					continue
				}
				if at.MapIndex(reflect.ValueOf(name).Convert(at.Type().Key())).IsValid() {
					fail(word, fmt.Errorf("gives %q a second time", short(name)))
					continue
				}
			}
			v, err := d.scalar(f, "", value)
			switch {
			case err != nil:
				fail(value, err)
			case f.shape == list:
				at.Set(reflect.Append(at, v))
			default:
				put(at, name, v)
			}
		}
	}
}

// scalar reads one value and holds it against the field's bounds. The raw text tells a quoted value from
// one that is not; for an element of a list it is empty.
func (d *decoder) scalar(f *field, raw, value string) (reflect.Value, error) {
	if f.codec.text && strings.HasPrefix(raw, `"`) && raw == value {
		return reflect.Value{}, errors.New("is a list, where one value is expected")
	}
	if file, ok := strings.CutPrefix(value, "file:"); ok && f.codec.secret && !strings.HasPrefix(raw, `"`) {
		if d.src.Unused {
			return reflect.ValueOf(Secret{}), nil
		}
		secret, err := readSecret(string(Path(file).resolve(d.src.Dir)))
		if err != nil {
			return reflect.Value{}, fmt.Errorf("cannot be read: %w", err)
		}
		return reflect.ValueOf(secret), nil
	}
	v, err := f.codec.parse(value)
	if err != nil {
		return v, err
	}
	return v, f.check(v)
}

// sections decodes every section with the field's prefix.
func (d *decoder) sections(f *field, at reflect.Value, from string, partial bool) {
	names, found := Named(d.src.All, f.Sections)
	if f.Required && len(found) == 0 && !partial {
		d.missing(from, "", 0, fmt.Sprintf("there is no section [%s.NAME]", f.Sections), f.Help)
	}
	for i, section := range found {
		valid, rule := IsName, nameRule
		if f.wide {
			valid, rule = IsKeyPattern, keyRule
		}
		if !valid(names[i]) {
			d.report(section.Name, "", section.Line, fmt.Sprintf("%q cannot be a name", short(names[i])), rule)
			continue
		}
		put(at, names[i], d.structure(f.nested, section.Name, section.Line, []Section{section}, false))
	}
}

const nameRule = "use letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit"

// IsName says whether s can be the NAME of a section [something.NAME].
func IsName(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || r != '-' && r != '_' && r != '.') {
			return false
		}
	}
	return true
}

const (
	keyRule = "use letters, digits, `-`, `_`, `.`, `:`, `/`, `@` and `+`, at most 100, the first a letter or digit; a `*` at the end matches what follows"
	// maxKeyPattern leaves room for the first part of a section's name, which a file bounds to 128.
	maxKeyPattern = 100
)

// IsKeyPattern says whether s can be the NAME of a section whose field is tagged names:"key": a key as queues and
// limits are named, or the beginning of such keys followed by `*`. A `*` alone is all of them.
func IsKeyPattern(s string) bool {
	if s == "*" {
		return true
	}
	begin, pattern := strings.CutSuffix(s, "*")
	if begin == "" || len(s) > maxKeyPattern || strings.Contains(begin, "..") || strings.Contains(begin, "//") || !pattern && strings.HasSuffix(begin, "/") {
		return false
	}
	for i, r := range begin {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("-_.:/@+", r)) {
			return false
		}
	}
	return true
}

// put sets an element of a map that may still be nil.
func put(m reflect.Value, key string, v reflect.Value) {
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(reflect.ValueOf(key).Convert(m.Type().Key()), v)
}

// validate runs the struct's own check and gives each error the place of its key.
func (d *decoder) validate(v reflect.Value, name string, line int, places map[string]place) {
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	check, ok := p.Interface().(interface{ Validate() error })
	if !ok {
		return
	}
	err := check.Validate()
	v.Set(p.Elem())
	for _, err := range flatten(err) {
		var at *KeyError
		if !errors.As(err, &at) {
			d.report(name, "", line, err.Error(), "")
			continue
		}
		section, keyLine := name, line
		if p, ok := places[at.Key]; ok {
			section, keyLine = p.section, p.line
		}
		d.report(section, at.Key, keyLine, at.Key+": "+at.Reason, at.Suggestion)
	}
}

// flatten undoes errors.Join.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
