package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

const use = "use"

// Choice is a kind with its decoded config, ready to be opened.
type Choice[D, T any] struct {
	Kind    string                 // the name in the menu
	Section string                 // that chose it
	Line    int                    // of `use` or of the header; 0 if the file does not mention it
	Open    component.Opener[D, T] // nil if the file has a problem with it
	Reload  component.Changer[T]   // for one that is open already; only from Select, nil as Open is
}

// Instance is one of any number of named components, such as [drivers.local].
type Instance[D, T any] struct {
	Name string
	Choice[D, T]
}

// Section takes one section, and those that its struct takes with a sections tag, and decodes it strictly.
// With a problem, which is kept in the File, the result is not to be used.
func Section[C any](f *File, name string, defaults C) C {
	f.claimFields(component.Describe("", defaults).Fields())
	f.Claim(name)
	own, _ := f.find(name)
	cfg, problems := component.Decode(f.source(name, own), defaults)
	f.Report(problems...)
	return cfg
}

// Select takes the sections of a contract, [contract] and [contract.KIND] for every kind of the menu, and decodes the
// kind that `use` names, or else the default. The kinds that are not chosen are checked as far as the file mentions
// them: `use` should be the only line to change. With an empty default, `use` is required.
func Select[D, T any](f *File, contract, defaultKind string, menu map[string]component.Kind[D, T]) Choice[D, T] {
	f.Claim(contract)
	for name, kind := range menu {
		f.Claim(contract + "." + name)
		f.claimFields(kind.Fields())
	}
	own, _ := f.find(contract)
	choice, ok := choose(f, own, defaultKind, menu)
	if ok {
		specific, _ := f.find(contract + "." + choice.Kind)
		src := f.source(contract, own.Without(use), specific)
		open, problems := menu[choice.Kind].Decode(src)
		for i, p := range problems {
			problems[i].Suggestion = elsewhere(p, contract, choice.Kind, menu)
		}
		f.Report(problems...)
		choice.Open = open
		if len(problems) == 0 {
			choice.Reload, _ = menu[choice.Kind].DecodeReload(src)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(menu)) {
		if !ok || name != choice.Kind {
			checkUnused(f, contract+"."+name, menu[name], menu[choice.Kind].Fields())
		}
	}
	return choice
}

// Instances takes every section [prefix.NAME] and decodes it as the kind that its `use` names, or else the default.
// They come in the order of the file, those with problems too.
func Instances[D, T any](f *File, prefix, defaultKind string, menu map[string]component.Kind[D, T]) []Instance[D, T] {
	f.Claim(prefix + ".*")
	for _, kind := range menu {
		f.claimFields(kind.Fields())
	}
	var all []Instance[D, T]
	used := map[string]bool{}
	names, sections := component.Named(f.sections, prefix)
	for i, section := range sections {
		if !component.IsName(names[i]) {
			f.Report(component.Problem{Section: section.Name, Line: section.Line, Reason: fmt.Sprintf("%q cannot be a name", short(names[i]))})
			continue
		}
		choice, ok := choose(f, section, defaultKind, menu)
		if ok {
			used[choice.Kind] = true
			open, problems := menu[choice.Kind].Decode(f.source(section.Name, section.Without(use)))
			f.Report(problems...)
			choice.Open = open
		}
		all = append(all, Instance[D, T]{Name: names[i], Choice: choice})
	}
	for _, name := range slices.Sorted(maps.Keys(menu)) {
		if !used[name] {
			checkUnused(f, "", menu[name], nil)
		}
	}
	return all
}

// choose reads `use`.
func choose[D, T any](f *File, section component.Section, defaultKind string, menu map[string]component.Kind[D, T]) (Choice[D, T], bool) {
	choice := Choice[D, T]{Kind: defaultKind, Section: section.Name, Line: section.Line}
	if f.broken[place{section.Name, use}] {
		return choice, false
	}
	e, given := section.Get(use)
	if given {
		choice.Kind, choice.Line = e.Value, e.Line
	}
	if _, ok := menu[choice.Kind]; ok {
		return choice, true
	}
	kinds := "the kinds are " + strings.Join(slices.Sorted(maps.Keys(menu)), ", ")
	if len(menu) == 0 {
		kinds = "this program has no kinds for it"
	}
	switch {
	case !given && defaultKind == "":
		f.Report(component.Problem{Section: section.Name, Key: use, Line: section.Line, Reason: `required key "use" is missing`, Suggestion: kinds})
	case choice.Kind == "":
		f.ReportAt(section.Name, e, "use: the value is empty", kinds)
	default:
		if hint := component.DidYouMean(choice.Kind, maps.Keys(menu)); hint != "" {
			kinds = hint + " " + kinds
		}
		e.Key = use
		e.Line = choice.Line
		f.ReportAt(section.Name, e, fmt.Sprintf("use: there is no kind %q", short(choice.Kind)), kinds)
	}
	return choice, false
}

// checkUnused decodes what the file says for a kind that is not chosen, and forgets the result. Groups of sections
// that the chosen kind takes too are its business.
func checkUnused[D, T any](f *File, name string, kind component.Kind[D, T], chosen []component.Field) {
	src := f.source(name)
	src.Unused = true
	if own, ok := f.find(name); ok && name != "" {
		src.Own = []component.Section{own}
	}
	src.All = slices.DeleteFunc(slices.Clone(f.sections), func(s component.Section) bool {
		return slices.ContainsFunc(chosen, func(c component.Field) bool {
			return c.Sections != "" && strings.HasPrefix(s.Name, c.Sections+".")
		})
	})
	_, problems := kind.Decode(src)
	f.Report(problems...)
}

// elsewhere improves the suggestion for a key that another kind of the menu, or the contract's section, knows.
func elsewhere[D, T any](p component.Problem, contract, chosen string, menu map[string]component.Kind[D, T]) string {
	has := func(kind string) bool {
		return slices.ContainsFunc(menu[kind].Fields(), func(f component.Field) bool { return f.Key == p.Key || f.Key == "*" })
	}
	if p.Key == "" || p.Section != contract && p.Section != contract+"."+chosen || has(chosen) {
		return p.Suggestion
	}
	if p.Key == use {
		return "it stands in [" + contract + "]"
	}
	for _, name := range slices.Sorted(maps.Keys(menu)) {
		if name != chosen && has(name) && p.Section == contract {
			return fmt.Sprintf("it is a key of %s: put it in [%s.%s]", name, contract, name)
		}
	}
	return p.Suggestion
}

// claimFields takes the groups of sections that a config struct takes.
func (f *File) claimFields(fields []component.Field) {
	for _, field := range fields {
		if field.Sections != "" {
			f.Claim(field.Sections + ".*")
		}
	}
}
