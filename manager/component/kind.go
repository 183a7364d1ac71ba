package component

import (
	"context"
	"errors"
	"slices"
)

// Kind is one implementation of a contract. D is what it is given, T what it makes.
// The zero Kind is no kind: it decodes to a problem.
type Kind[D, T any] struct {
	help   string
	fields []Field
	decode func(Source) (Opener[D, T], []Problem)
	reload func(Source) (Changer[T], []Problem)
}

// Opener makes the component from its decoded config. It may be called more than once.
type Opener[D, T any] func(ctx context.Context, deps D) (T, error)

// Changer gives an open component another config. Its error is ErrNoReload if the
// component takes none while it is open.
type Changer[T any] func(ctx context.Context, open T) error

// ErrNoReload: a component takes another config only when it is opened again.
var ErrNoReload = errors.New("it takes another configuration only when it is opened again")

// reloader is what a component with the config C implements that can take another
// config while it is open. It keeps the old one if it refuses the new.
type reloader[C any] interface {
	Reload(ctx context.Context, cfg C) error
}

// Describer is what there is to tell about a component without knowing its types.
type Describer interface {
	Help() string
	Fields() []Field
}

// Define makes a Kind from one line of help, the default config and the function that opens it. What it opens may
// have the method Reload(ctx context.Context, cfg C) error, with which it takes another config while it is open.
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
		reload: func(src Source) (Changer[T], []Problem) {
			cfg, problems := Decode(src, defaults)
			if len(problems) > 0 {
				return nil, problems
			}
			return func(ctx context.Context, open T) error {
				if r, ok := any(open).(reloader[C]); ok {
					return r.Reload(ctx, cfg)
				}
				return ErrNoReload
			}, nil
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

// DecodeReload reads the config as Decode does, for a component that is open already.
func (k Kind[D, T]) DecodeReload(src Source) (Changer[T], []Problem) {
	if k.reload == nil {
		_, problems := k.Decode(src)
		return nil, problems
	}
	return k.reload(src)
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
