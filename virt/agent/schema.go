package agent

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// schemas writes Go types as JSON schemas, each named struct once.
type schemas struct{ known object }

// words are the values of types that have few.
func words() map[reflect.Type][]string {
	return map[reflect.Type][]string{
		reflect.TypeFor[mistify.JobStatus](): {string(mistify.JobQueued), string(mistify.JobRunning), string(mistify.JobComplete), string(mistify.JobError)},
		reflect.TypeFor[virt.State]():        {string(virt.Running), string(virt.Paused), string(virt.Stopped), string(virt.Crashed)},
	}
}

func (b *schemas) ref(v any) object { return b.of(reflect.TypeOf(v)) }

func (b *schemas) of(t reflect.Type) object {
	if t == reflect.TypeFor[time.Time]() {
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		sch := b.of(t.Elem())
		if kind, ok := sch["type"].(string); ok {
			sch["type"] = []string{kind, "null"}
		}
		return sch
	case reflect.Struct:
		return b.named(t)
	case reflect.Slice:
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
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	}
	panic(fmt.Sprintf("%s has no place in JSON here: describe it", t))
}

// named keeps the schema of a struct under its name, and refers to it there.
func (b *schemas) named(t reflect.Type) object {
	if t.Name() == "" {
		return b.members(t)
	}
	name := t.String()
	if _, ok := b.known[name]; !ok {
		b.known[name] = object{} // a type may hold itself
		b.known[name] = b.members(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (b *schemas) members(t reflect.Type) object {
	props, required := object{}, []string{}
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
	sch := object{"type": "object", "properties": props}
	if len(required) > 0 {
		slices.Sort(required)
		sch["required"] = required
	}
	return sch
}
