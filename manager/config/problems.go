package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

// Error is everything that is wrong with a file, in the order of its lines.
type Error struct {
	File     string
	Problems []component.Problem
}

// shown bounds the text of an Error; Problems has them all.
const shown = 50

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s has %d problems:", e.File, len(e.Problems))
	for i, p := range e.Problems {
		if i == shown {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Problems)-shown)
			break
		}
		b.WriteString("\n  " + p.Error())
	}
	return b.String()
}

// Unwrap gives the problems one by one.
func (e *Error) Unwrap() []error {
	all := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p
	}
	return all
}

// Report adds problems that were found by whoever reads the file. The same problem is kept once.
func (f *File) Report(problems ...component.Problem) {
	for _, p := range problems {
		if p.File == "" {
			p.File = f.name
		}
		if !f.followsFromBroken(p) && !f.seen[p] {
			f.seen[p] = true
			f.problems = append(f.problems, p)
		}
	}
}

// ReportAt adds a problem with one key. The reason is in words that name the key.
func (f *File) ReportAt(section string, e component.Entry, reason, suggestion string) {
	f.Report(component.Problem{File: f.name, Section: section, Key: e.Key, Line: e.Line, Reason: reason, Suggestion: suggestion})
}

// followsFromBroken says whether a key is called missing only because its line was refused.
func (f *File) followsFromBroken(p component.Problem) bool {
	if p.Key == "" || !p.Missing {
		return false
	}
	for at := range f.broken {
		if at.key == p.Key && (at.section == p.Section || strings.HasPrefix(at.section, p.Section+".")) {
			return true
		}
	}
	return false
}

// Unclaimed are the sections that nobody has taken. It is complete after everybody has.
func (f *File) Unclaimed() []component.Problem {
	var problems []component.Problem
	for _, s := range f.sections {
		switch {
		case f.taken[s.Name], f.inGroup(s.Name):
		case s.Name == "":
			for _, e := range s.Entries {
				problems = append(problems, component.Problem{File: f.name, Key: e.Key, Line: e.Line,
					Reason: fmt.Sprintf("unknown key %q above the first section", e.Key)})
			}
		default:
			problems = append(problems, component.Problem{File: f.name, Section: s.Name, Line: s.Line,
				Reason: "unknown section", Suggestion: f.suggestSection(s.Name)})
		}
	}
	return problems
}

// Err gives an *[Error] with all problems, or nil. Call it after everything has been read and before anything is opened.
func (f *File) Err() error {
	all := append(slices.Clone(f.problems), f.Unclaimed()...)
	if len(all) == 0 {
		return nil
	}
	component.SortProblems(all)
	return &Error{File: f.name, Problems: all}
}

func (f *File) inGroup(name string) bool {
	for prefix := range f.prefixes {
		if rest, ok := strings.CutPrefix(name, prefix+"."); ok && rest != "" {
			return true
		}
	}
	return false
}

func (f *File) suggestSection(name string) string {
	if f.prefixes[name] {
		return fmt.Sprintf("give it a name, as in [%s.NAME]", name)
	}
	if s := component.Suggest(name, maps.Keys(f.taken)); s != "" {
		return fmt.Sprintf("did you mean [%s]?", s)
	}
	if head, tail, ok := strings.Cut(name, "."); ok {
		if s := component.Suggest(head, maps.Keys(f.prefixes)); s != "" {
			return fmt.Sprintf("did you mean [%s.%s]?", s, tail)
		}
		if kinds := f.below(head); len(kinds) > 0 {
			return fmt.Sprintf("there are %s", strings.Join(kinds, ", "))
		}
	}
	if s := component.Suggest(name, maps.Keys(f.prefixes)); s != "" {
		return fmt.Sprintf("did you mean [%s.NAME]?", s)
	}
	return "`vagoth config example` shows the sections"
}

// below are the known sections [contract.KIND].
func (f *File) below(contract string) []string {
	var names []string
	for name := range f.taken {
		if strings.HasPrefix(name, contract+".") {
			names = append(names, "["+name+"]")
		}
	}
	slices.Sort(names)
	return names
}
