package component

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Field describes one key, or one group of sections, of a config.
type Field struct {
	Key      string // "*" stands for every key that has no field of its own
	Type     string // in words: "duration", "list of text", "spread or pack"
	Default  string // as it would stand in the file; "" if there is none
	Example  string // a value for a key that is required, or has an example tag
	Help     string
	Required bool
	Secret   bool
	Min, Max string // "" if there is no bound
	OneOf    []string

	// Sections is the NAME of a field that takes all sections [NAME.…], and Fields are the keys of each. Such
	// a field has no Key.
	Sections string
	Fields   []Field
}

type shape int

const (
	single   shape = iota // one value
	list                  // a, b, c
	pairs                 // a=1, b=2
	rest                  // all other keys
	sections              // all sections with a prefix
)

// field is a Field with what is needed to decode it.
type field struct {
	Field
	shape    shape
	index    []int
	codec    codec         // of the value, element or map value
	min, max reflect.Value // invalid if there is no bound
	wide     bool          // of sections: NAME is a key or a pattern of keys
	element  reflect.Type  // of list and maps
	nested   *schema       // of sections
}

// schema is what the tags of one config struct say.
type schema struct {
	fields   []field
	defaults reflect.Value // of the struct, not shared with anyone
}

// schemaOf reads the tags of a config struct. It panics if they make no sense.
func schemaOf[C any](defaults C) *schema {
	return newSchema(reflect.ValueOf(&defaults).Elem(), true)
}

func newSchema(defaults reflect.Value, top bool) *schema {
	t := defaults.Type()
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("component: config %s is not a struct", t))
	}
	s := &schema{defaults: defaults}
	s.collect(t, nil, top)
	seen := map[string]bool{}
	for i := range s.fields {
		f := &s.fields[i]
		id := f.Key + "\x00" + f.Sections
		if seen[id] {
			panic(fmt.Sprintf("component: config %s has two fields for %q", t, f.Key+f.Sections))
		}
		seen[id] = true
	}
	return s
}

// collect adds the fields of a struct, and those of the structs embedded in it.
func (s *schema) collect(t reflect.Type, index []int, top bool) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		key, tagged := sf.Tag.Lookup("ini")
		prefix, grouped := sf.Tag.Lookup("sections")
		mistake := func(what string) { panic(fmt.Sprintf("component: field %s.%s %s", t, sf.Name, what)) }
		switch {
		case key == "-":
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct && !tagged && !grouped:
			s.collect(sf.Type, at, top)
		case !sf.IsExported():
			if tagged || grouped {
				mistake("has a tag but is not exported")
			}
		case tagged == grouped:
			mistake(`needs either an "ini" or a "sections" tag (ini:"-" leaves it alone)`)
		case grouped:
			if !top {
				mistake("cannot take sections inside of sections")
			}
			s.addSections(sf, at, prefix, mistake)
		default:
			s.addKey(sf, at, key, mistake)
		}
	}
}

func (s *schema) addSections(sf reflect.StructField, at []int, prefix string, mistake func(string)) {
	if prefix == "" || sf.Type.Kind() != reflect.Map || sf.Type.Key().Kind() != reflect.String || sf.Type.Elem().Kind() != reflect.Struct {
		mistake("with a sections tag must be a map from string to a struct")
	}
	element := sf.Type.Elem()
	defaults := reflect.New(element).Elem()
	if m, ok := reflect.PointerTo(element).MethodByName("Defaults"); ok {
		if m.Type.NumIn() != 1 || m.Type.NumOut() != 1 || m.Type.Out(0) != element {
			mistake(fmt.Sprintf("has elements whose method Defaults does not return %s", element))
		}
		defaults.Set(m.Func.Call([]reflect.Value{reflect.New(element)})[0])
	}
	names, named := sf.Tag.Lookup("names")
	if named && names != "key" {
		mistake(`has a names tag that is not "key"`)
	}
	nested := newSchema(defaults, false)
	s.fields = append(s.fields, field{
		shape: sections, index: at, element: element, nested: nested, wide: named,
		Field: Field{
			Sections: prefix, Type: "sections [" + prefix + ".NAME]", Help: sf.Tag.Get("help"), Fields: nested.describe(),
			Required: flag(sf, "required", mistake),
		},
	})
}

func (s *schema) addKey(sf reflect.StructField, at []int, key string, mistake func(string)) {
	if key == "" {
		mistake("has an empty ini tag")
	}
	if _, ok := sf.Tag.Lookup("names"); ok {
		mistake("has a names tag, which is for sections only")
	}
	f := field{index: at, element: sf.Type, Field: Field{
		Key: key, Help: sf.Tag.Get("help"), Required: flag(sf, "required", mistake), Secret: flag(sf, "secret", mistake),
	}}
	var ok bool
	f.codec, ok = codecOf(sf.Type)
	isMap := sf.Type.Kind() == reflect.Map && sf.Type.Key().Kind() == reflect.String
	switch {
	case ok:
		f.shape, f.Type = single, f.codec.words
	case sf.Type.Kind() == reflect.Slice:
		f.shape, f.element = list, sf.Type.Elem()
	case isMap:
		f.shape, f.element = pairs, sf.Type.Elem()
	default:
		mistake("has a type that cannot stand in a config: " + sf.Type.String())
	}
	if f.shape != single {
		if f.codec, ok = codecOf(f.element); !ok {
			mistake("has a type that cannot stand in a config: " + sf.Type.String())
		}
		f.Type = "list of " + f.codec.words
		if f.shape == pairs {
			f.Type = "list of NAME=" + f.codec.words
		}
	}
	if key == "*" {
		if !isMap {
			mistake("collects keys, so it must be a map from string")
		}
		f.shape, f.Type = rest, f.codec.words
	}
	f.Secret = f.Secret || f.codec.secret
	f.limits(sf, mistake)
	f.Example = sf.Tag.Get("example")
	if f.Example == "" && f.Required {
		f.Example = f.codec.example
	}
	s.addDefault(&f, mistake)
	s.fields = append(s.fields, f)
}

// limits reads the tags that bound a value.
func (f *field) limits(sf reflect.StructField, mistake func(string)) {
	if words := sf.Tag.Get("oneof"); words != "" {
		if !f.codec.text || f.codec.path || f.codec.secret {
			mistake("has oneof, which is for text only")
		}
		f.OneOf = strings.Split(words, ",")
		choice := either(f.OneOf)
		f.Type = strings.Replace(f.Type, f.codec.words, choice, 1)
		f.codec.example = f.OneOf[0]
	}
	bound := func(tag string) (text string, v reflect.Value) {
		text, ok := sf.Tag.Lookup(tag)
		if !ok {
			return "", reflect.Value{}
		}
		if f.codec.compare == nil {
			mistake("has a " + tag + ", but its type has no order")
		}
		v, err := f.codec.parse(text)
		if err != nil {
			mistake("has a " + tag + " that is not of its type: " + err.Error())
		}
		return text, v
	}
	f.Min, f.min = bound("min")
	f.Max, f.max = bound("max")
}

// addDefault writes down the default and makes sure that it keeps to the field's own limits.
func (s *schema) addDefault(f *field, mistake func(string)) {
	v := s.defaults.FieldByIndex(f.index)
	if f.Required {
		if !v.IsZero() {
			mistake("is required and has a default: it can only be one of these")
		}
		return
	}
	var elements []reflect.Value
	switch f.shape {
	case single:
		elements = []reflect.Value{v}
		if text := f.codec.format(v); text != "" {
			f.Default = Quote(text)
		}
	case list:
		words := []string{}
		for i := range v.Len() {
			elements = append(elements, v.Index(i))
			words = append(words, quoteElement(f.codec.format(v.Index(i))))
		}
		f.Default = strings.Join(words, ", ")
	case pairs, rest:
		words := []string{}
		for _, k := range sortedKeys(v) {
			e := v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key()))
			elements = append(elements, e)
			words = append(words, quoteElement(k+"="+f.codec.format(e)))
		}
		f.Default = strings.Join(words, ", ")
	}
	for _, e := range elements {
		// The zero value may be outside of the bounds: as a default it says that nothing is set.
		if err := f.check(e); err != nil && !e.IsZero() {
			mistake("has a default that its own tags refuse: it " + err.Error())
		}
	}
	if f.Secret {
		f.Default = ""
	}
}

// check holds a value against the bounds.
func (f *field) check(v reflect.Value) error {
	if f.min.IsValid() && f.codec.compare(v, f.min) < 0 {
		return fmt.Errorf("must be at least %s", f.Min)
	}
	if f.max.IsValid() && f.codec.compare(v, f.max) > 0 {
		return fmt.Errorf("must be at most %s", f.Max)
	}
	if f.codec.words == "duration" && !f.min.IsValid() && v.Int() < 0 {
		return fmt.Errorf("must not be negative")
	}
	if f.OneOf != nil && !slices.Contains(f.OneOf, v.String()) {
		suggestion := ""
		if s := Suggest(v.String(), slices.Values(f.OneOf)); s != "" {
			suggestion = "; did you mean " + strconv.Quote(s) + "?"
		}
		return fmt.Errorf("must be %s%s", either(f.OneOf), suggestion)
	}
	return nil
}

func (s *schema) describe() []Field {
	all := make([]Field, len(s.fields))
	for i, f := range s.fields {
		all[i] = f.Field
	}
	return all
}

// fresh gives a copy of the defaults whose maps and slices belong to the caller.
func (s *schema) fresh() reflect.Value {
	v := reflect.New(s.defaults.Type()).Elem()
	v.Set(s.defaults)
	for _, f := range s.fields {
		at := v.FieldByIndex(f.index)
		switch {
		case f.shape == list && !at.IsNil():
			c := reflect.MakeSlice(at.Type(), at.Len(), at.Len())
			reflect.Copy(c, at)
			at.Set(c)
		case (f.shape == pairs || f.shape == rest || f.shape == sections) && !at.IsNil():
			c := reflect.MakeMapWithSize(at.Type(), at.Len())
			for it := at.MapRange(); it.Next(); {
				c.SetMapIndex(it.Key(), it.Value())
			}
			at.Set(c)
		}
	}
	return v
}

func flag(sf reflect.StructField, tag string, mistake func(string)) bool {
	switch sf.Tag.Get(tag) {
	case "":
		return false
	case "true":
		return true
	}
	mistake(tag + `, if it is there, must be "true"`)
	return false
}

// either writes "a, b or c".
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func sortedKeys(m reflect.Value) []string {
	keys := map[string]bool{}
	for _, k := range m.MapKeys() {
		keys[k.String()] = true
	}
	return slices.Sorted(maps.Keys(keys))
}
