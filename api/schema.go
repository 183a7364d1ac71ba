package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// schemas writes Go types as JSON schemas, each named type once.
type schemas struct{ known object }

// words are the values of types that have few.
func words() map[reflect.Type][]string {
	return map[reflect.Type][]string{
		reflect.TypeFor[scheduler.State](): {
			string(scheduler.Waiting), string(scheduler.Running), string(scheduler.Parked), string(scheduler.Succeeded),
			string(scheduler.Failed), string(scheduler.Cancelled), string(scheduler.Expired),
		},
		reflect.TypeFor[scheduler.ParamType](): {
			string(scheduler.String), string(scheduler.Integer), string(scheduler.Number), string(scheduler.Boolean),
			string(scheduler.Object), string(scheduler.Array), string(scheduler.Duration),
		},
		reflect.TypeFor[scheduler.QueueMode]():    {string(scheduler.Open), string(scheduler.Paused), string(scheduler.Draining)},
		reflect.TypeFor[scheduler.PackageState](): {string(scheduler.Building), string(scheduler.Queued), string(scheduler.Ended)},
		reflect.TypeFor[registry.ChangeKind]():    {string(registry.Created), string(registry.Updated), string(registry.Deleted)},
		reflect.TypeFor[virt.HostState]():         {string(virt.Up), string(virt.Unreachable), string(virt.Down)},
	}
}

// own are the types that write themselves.
func (b *schemas) own(t reflect.Type) (object, bool) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}, true
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "description": "nanoseconds"}, true
	case reflect.TypeFor[scheduler.Span]():
		return object{"type": "string", "description": "a length of time", "examples": []string{"30s", "1h30m"}}, true
	case reflect.TypeFor[registry.Document]():
		return object{"type": "object", "description": "any JSON object"}, true
	case reflect.TypeFor[registry.Node]():
		return b.members(reflect.TypeFor[registry.Draft](), reflect.TypeFor[registry.Stamp]()), true
	case reflect.TypeFor[allocator.Decision]():
		return object{"type": "object", "description": "where, and for every host what ruled it out or its score by term"}, true
	}
	return nil, false
}

// ref is the schema of v's type: a reference if the type has a name.
func (b *schemas) ref(v any) object { return b.of(reflect.TypeOf(v)) }

func (b *schemas) of(t reflect.Type) object {
	nullable := false
	for t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	sch, own := b.own(t)
	switch {
	case own && t.Kind() != reflect.Struct, t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[registry.Document]():
	case own:
		sch = b.named(t, func() object { return sch })
	case writesItself(t):
		panic(fmt.Sprintf("%s writes its own JSON: describe it in own", t))
	default:
		sch = b.kind(t)
	}
	if kind, ok := sch["type"].(string); ok && nullable {
		sch["type"] = []string{kind, "null"}
	}
	return sch
}

func writesItself(t reflect.Type) bool {
	m := reflect.TypeFor[json.Marshaler]()
	return t.Implements(m) || reflect.PointerTo(t).Implements(m)
}

func (b *schemas) kind(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Struct:
		return b.named(t, func() object { return b.members(t) })
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": b.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": b.of(t.Elem())}
	case reflect.String:
		sch := object{"type": "string"}
		if list, ok := words()[t]; ok {
			sch["enum"] = list
		}
		return sch
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Interface:
		return object{}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	}
	panic(fmt.Sprintf("%s has no place in JSON", t))
}

// named keeps the schema of a type under its name, and refers to it there.
func (b *schemas) named(t reflect.Type, make func() object) object {
	name := strings.TrimPrefix(t.String(), "api.")
	if _, ok := b.known[name]; !ok {
		b.known[name] = object{} // a type may hold itself
		b.known[name] = make()
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// members is the schema of structs that make one object together.
func (b *schemas) members(types ...reflect.Type) object {
	props, required := object{}, []string{}
	for _, t := range types {
		for _, f := range reflect.VisibleFields(t) {
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || tag == "-" || f.Anonymous && tag == "" {
				continue
			}
			if tag == "" {
				tag = f.Name
			}
			props[tag] = b.of(f.Type)
			if !strings.Contains(options, "omit") && f.Type.Kind() != reflect.Pointer {
				required = append(required, tag)
			}
		}
	}
	sch := object{"type": "object", "properties": props}
	if len(required) > 0 {
		slices.Sort(required)
		sch["required"] = required
	}
	return sch
}
