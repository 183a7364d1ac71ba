package component

import (
	"context"
	"slices"
)

// Kind is one implementation of a contract. D is what it is given, T what it makes.
// The zero Kind is no kind: it decodes to a problem.
type Kind[D, T any] struct {
	help   string
	fields []Field
	decode func(Source) (Opener[D, T], []Problem)
}

// Opener makes the component from its decoded config. It may be called more than once.
type Opener[D, T any] func(ctx context.Context, deps D) (T, error)

// Describer is what there is to tell about a component without knowing its types.
type Describer interface {
	Help() string
	Fields() []Field
}

// Define makes a Kind from one line of help, the default config and the function that opens it.
//
// It panics if C is not a struct whose tags make sense: that is a mistake in the program, found by the first
// test that touches the Kind.
func Define[C, D, T any](help string, defaults C, open func(ctx context.Context, cfg C, deps D) (T, error)) Kind[D, T] {
	described := Describe(help, defaults)
	return Kind[D, T]{
		help:   help,
		fields: described.Fields(),
		decode: func(src Source) (Opener[D, T], []Problem) {
			cfg, problems := Decode(src, defaults)
			if len(problems) > 0 {
				return nil, problems
			}
			return func(ctx context.Context, deps D) (T, error) { return open(ctx, cfg, deps) }, nil
		},
	}
}

// Help is one line for people.
func (k Kind[D, T]) Help() string { return k.help }

// Fields lists the keys in the order of the config struct.
func (k Kind[D, T]) Fields() []Field { return slices.Clone(k.fields) }

// Decode reads the config strictly. It opens nothing; with any problem there is no Opener.
func (k Kind[D, T]) Decode(src Source) (Opener[D, T], []Problem) {
	if k.decode == nil {
		return nil, []Problem{{File: src.File, Section: src.name(), Line: src.line(), Reason: "this component has no definition in the program"}}
	}
	return k.decode(src)
}

// Describe gives the description of a config struct that belongs to no Kind, such as the manager's own keys.
// It panics as [Define] does.
func Describe[C any](help string, defaults C) Describer {
	return description{help: help, fields: schemaOf(defaults).describe()}
}

type description struct {
	help   string
	fields []Field
}

func (d description) Help() string    { return d.help }
func (d description) Fields() []Field { return slices.Clone(d.fields) }
