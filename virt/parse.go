package virt

import (
	"bytes"
	_ "embed" // the schemas
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

//go:embed schema.json
var vmSchema []byte

//go:embed hypervisor.schema.json
var hostSchema []byte

// Schema returns the JSON Schema of Definition.
func Schema() []byte { return slices.Clone(vmSchema) }

// HostSchema returns the JSON Schema of HostDefinition.
func HostSchema() []byte { return slices.Clone(hostSchema) }

// maxProblems bounds how many problems of one document are listed.
const maxProblems = 50

// DefinitionError is an ErrInvalid: all that is wrong with a definition, each
// problem with its path, such as `disks[1].bus: …`.
type DefinitionError struct{ Problems []string }

func (e *DefinitionError) Error() string {
	if len(e.Problems) == 1 {
		return "the definition is not valid: " + e.Problems[0]
	}
	return fmt.Sprintf("the definition has %d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// Is makes the error an ErrInvalid.
func (e *DefinitionError) Is(target error) bool { return target == ErrInvalid }

// ParseDefinition decodes and checks a VM's definition. The error is a
// *DefinitionError.
func ParseDefinition(doc registry.Document) (Definition, error) {
	var d Definition
	return d, parse(doc, vmValidator(), &d, func() []string { return d.problems() })
}

// ParseHost decodes and checks a hypervisor's definition. The error is a
// *DefinitionError.
func ParseHost(doc registry.Document) (HostDefinition, error) {
	var d HostDefinition
	return d, parse(doc, hostValidator(), &d, func() []string { return d.problems() })
}

// validator is a compiled schema with what it takes to explain a refusal.
type validator struct {
	schema *jsonschema.Schema
	known  map[string][]string // an object's place in the schema to its members
}

var (
	vmValidator   = sync.OnceValue(func() *validator { return compile("vm.json", vmSchema) })
	hostValidator = sync.OnceValue(func() *validator { return compile("hypervisor.json", hostSchema) })
)

// compile panics on a schema that is none: it is a part of the program.
func compile(name string, text []byte) *validator {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(fmt.Sprintf("schema %s: %v", name, err))
	}
	c := jsonschema.NewCompiler()
	url := "https://vagoth.github.io/schema/" + name
	if err := c.AddResource(url, doc); err != nil {
		panic(fmt.Sprintf("schema %s: %v", name, err))
	}
	v := &validator{schema: c.MustCompile(url), known: map[string][]string{}}
	v.learn(v.schema)
	return v
}

func (v *validator) learn(s *jsonschema.Schema) {
	for ; s.Ref != nil; s = s.Ref {
	}
	if _, ok := v.known[s.Location]; ok {
		return
	}
	v.known[s.Location] = slices.Sorted(maps.Keys(s.Properties))
	for _, p := range s.Properties {
		v.learn(p)
	}
	if s.Items2020 != nil {
		v.learn(s.Items2020)
	}
}

// parse fills into and lists every problem that the schema and check find.
func parse(doc registry.Document, v *validator, into any, check func() []string) error {
	dec := json.NewDecoder(strings.NewReader(doc.String()))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return &DefinitionError{Problems: []string{fmt.Sprintf("it is not JSON: %v", err)}}
	}
	var problems []string
	if err := v.schema.Validate(value); err != nil {
		var ve *jsonschema.ValidationError
		if !errors.As(err, &ve) {
			return &DefinitionError{Problems: []string{err.Error()}}
		}
		problems = v.explain(problems, ve)
	}
	if err := doc.Decode(into); err == nil {
		problems = append(problems, check()...)
	} else if len(problems) == 0 {
		problems = []string{err.Error()}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	problems = slices.Compact(problems)
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems], fmt.Sprintf("… and %d more", more))
	}
	return &DefinitionError{Problems: problems}
}

// explain turns the leaves of a schema error into lines.
func (v *validator) explain(out []string, e *jsonschema.ValidationError) []string {
	for _, c := range e.Causes {
		out = v.explain(out, c)
	}
	at := jsonPath(e.InstanceLocation)
	add := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if at != "" {
			line = at + ": " + line
		}
		out = append(out, line)
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		known := v.known[e.SchemaURL]
		slices.Sort(k.Properties)
		for _, p := range k.Properties {
			hint := component.DidYouMean(p, slices.Values(known))
			if hint == "" {
				hint = "known are " + strings.Join(known, ", ")
			}
			add("unknown field %.64q (%s)", p, hint)
		}
	case *kind.Required:
		for _, p := range k.Missing {
			add("%q is missing", p)
		}
	case *kind.Enum:
		add("%s is not one of %s", shown(k.Got), wanted(k.Want))
	case *kind.Type:
		add("it is %s and must be %s", article(k.Got), article(strings.Join(k.Want, " or ")))
	case *kind.Minimum:
		add("%s is less than %s", k.Got.RatString(), k.Want.RatString())
	case *kind.Maximum:
		add("%s is more than %s", shown(k.Got.RatString()), k.Want.RatString())
	case *kind.MaxItems:
		add("it has %d entries, at most %d are allowed", k.Got, k.Want)
	case *kind.MaxLength:
		add("it has %d characters, at most %d are allowed", k.Got, k.Want)
	case *kind.Pattern:
		add("%s is not of the form %s", shown(k.Got), k.Want)
	default:
		if len(e.Causes) == 0 {
			add("it does not satisfy %s", strings.Join(e.ErrorKind.KeywordPath(), "/"))
		}
	}
	return out
}

// jsonPath writes a place as disks[1].bus.
func jsonPath(location []string) string {
	var b strings.Builder
	for _, l := range location {
		switch {
		case strings.Trim(l, "0123456789") == "":
			b.WriteString("[" + l + "]")
		case b.Len() > 0:
			b.WriteString("." + l)
		default:
			b.WriteString(l)
		}
	}
	return b.String()
}

func shown(v any) string {
	s := fmt.Sprint(v)
	if _, ok := v.(string); ok {
		return fmt.Sprintf("%.64q", s)
	}
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

func wanted(values []any) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, ", ")
}

func article(t string) string {
	switch {
	case t == "null":
		return t
	case strings.HasPrefix(t, "a"), strings.HasPrefix(t, "o"), strings.HasPrefix(t, "i"):
		return "an " + t
	}
	return "a " + t
}
