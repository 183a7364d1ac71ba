package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/scheduler"
)

// readPackage reads a package from a file, JSON or YAML.
func (a *app) readPackage(name string) (scheduler.Package, error) {
	var p scheduler.Package
	in, shown := a.env.In, "standard input"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return p, usageError{err}
		}
		defer func() { _ = f.Close() }()
		in, shown = f, name
	}
	data, err := io.ReadAll(io.LimitReader(in, api.MaxPackage+1))
	if err != nil {
		return p, fmt.Errorf("cannot read %s: %w", shown, err)
	}
	if len(data) > api.MaxPackage {
		return p, usagef("%s has more than %d bytes: split the package", shown, api.MaxPackage)
	}
	if p, err = parsePackage(data); err != nil {
		return p, usagef("%s: %w", shown, err)
	}
	return p, nil
}

// maxFileProblems bounds what is listed of a file.
const maxFileProblems = 20

// parsePackage decodes a package and refuses what it does not know, each with
// its place.
func parsePackage(data []byte) (p scheduler.Package, err error) {
	if data, err = yaml.YAMLToJSONStrict(data); err != nil {
		return p, fmt.Errorf("it is neither JSON nor YAML: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return p, fmt.Errorf("it is neither JSON nor YAML: %w", err)
	}
	if _, object := v.(map[string]any); !object {
		return p, fmt.Errorf("it holds %s, not a package: write jobs: and the list of jobs below it", kindOf(v))
	}
	var c shapeCheck
	c.look("", v, reflect.TypeFor[scheduler.Package]())
	if len(c.problems) == 0 {
		if err := json.Unmarshal(data, &p); err != nil {
			return p, err
		}
		if len(p.Jobs) == 0 {
			return p, errors.New("the package has no jobs: write a list of them as jobs")
		}
		return p, nil
	}
	if more := len(c.problems) - maxFileProblems; more > 0 {
		c.problems = append(c.problems[:maxFileProblems], fmt.Sprintf("… and %d more", more))
	}
	return p, fmt.Errorf("%s", strings.Join(c.problems, "\n  "))
}

// shapeCheck compares decoded JSON with the type that it is meant for. The
// decoder of the standard library stops at the first problem and does not say
// in which element of a list it is.
type shapeCheck struct{ problems []string }

func (c *shapeCheck) add(place, format string, args ...any) {
	if place == "" {
		place = "the package"
	}
	c.problems = append(c.problems, place+": "+fmt.Sprintf(format, args...))
}

func (c *shapeCheck) look(place string, v any, t reflect.Type) {
	if v == nil {
		return // as if it were not there
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		text, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(text, reflect.New(t).Interface())
		}
		if err != nil {
			c.add(place, "%s", err)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			c.members(place, m, t)
		} else {
			c.add(place, "it is %s, and ought to be an object", kindOf(v))
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			c.add(place, "it is %s, and ought to be a list", kindOf(v))
		}
		for i, e := range list {
			c.look(fmt.Sprintf("%s[%d]", place, i), e, t.Elem())
		}
	default:
		text, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(text, reflect.New(t).Interface())
		}
		if err != nil {
			c.add(place, "it is %s, and ought to be %s", kindOf(v), map[reflect.Kind]string{
				reflect.String: "text (in YAML, put it in quotes)", reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.Float64: "a number",
			}[t.Kind()])
		}
	}
}

func (c *shapeCheck) members(place string, m map[string]any, t reflect.Type) {
	known := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			known[name] = f.Type
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := strings.TrimPrefix(place+"."+name, ".")
		typ, ok := known[name]
		switch {
		case t == reflect.TypeFor[scheduler.Job]() && name == "trail":
			c.add(at, "leave it out: --reason and VAGOTH_SOURCE say it")
		case !ok:
			hint := component.DidYouMean(name, maps.Keys(known))
			if hint == "" {
				hint = "there are " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			}
			c.add(place, "it has an unknown field %.40q (%s)", name, hint)
		default:
			c.look(at, m[name], typ)
		}
	}
}

// kindOf says what a decoded value is.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case string:
		return "text"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}
