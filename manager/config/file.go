package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/ini.v1"

	"github.com/vagoth/vagoth/manager/component"
)

// File is a parsed document, with what has been taken from it and what was found wrong. It is for one goroutine.
type File struct {
	name, dir string
	sections  []component.Section
	problems  []component.Problem
	seen      map[component.Problem]bool // problems, so that each is kept once
	broken    map[place]bool

	taken    map[string]bool // sections that somebody reads, by name
	prefixes map[string]bool // groups [prefix.NAME] that somebody reads
}

// Load reads a file. The error says that there is nothing to parse; what is wrong inside comes from [File.Err].
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the config: %w (`vagoth config example` shows one)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the config: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+4))
	if err != nil {
		return nil, fmt.Errorf("cannot read the config: %w", err)
	}
	file, _ := Parse(path, data)
	return file, nil
}

// Parse reads a document. The name is shown in problems, and relative paths start at its directory. The problems
// are also kept for [File.Err]; the File holds everything that could be read nevertheless.
func Parse(name string, data []byte) (*File, []component.Problem) {
	dir := filepath.Dir(name)
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	s := scanDocument(name, data)
	f := &File{name: name, dir: dir, broken: s.broken, seen: map[component.Problem]bool{}, taken: map[string]bool{}, prefixes: map[string]bool{}}
	f.Report(s.problems...)
	f.fill(s)
	return f, slices.Clone(f.problems)
}

// fill parses the scanned text and joins its values with the scan's lines.
func (f *File) fill(s *scan) {
	parsed, err := ini.LoadSources(ini.LoadOptions{
		IgnoreContinuation:      true,
		IgnoreInlineComment:     true,
		PreserveSurroundedQuote: true,
		KeyValueDelimiters:      "=",
	}, s.clean.Bytes())
	if err != nil {
		f.Report(component.Problem{File: f.name, Reason: "cannot parse: " + err.Error()})
		return
	}
	values := map[place]string{}
	for _, section := range parsed.Sections() {
		name := section.Name()
		if name == ini.DefaultSection {
			name = ""
		}
		// Keys and Value, because GetKey falls back to the parent section and String interpolates.
		for _, key := range section.Keys() {
			values[place{name, key.Name()}] = key.Value()
		}
	}
	for _, section := range s.sections {
		entries := make([]component.Entry, 0, len(section.Entries))
		for _, e := range section.Entries {
			at := place{section.Name, e.Key}
			text, ok := values[at]
			delete(values, at)
			if !ok {
				f.ReportAt(section.Name, e, "the parser does not see this key", "write the line in a simpler way")
				continue
			}
			value, raw, err := readValue(text)
			if err != nil {
				f.broken[at] = true
				f.ReportAt(section.Name, e, e.Key+": "+err.Error(), "")
				continue
			}
			entries = append(entries, component.Entry{Key: e.Key, Value: value, Raw: raw, Line: e.Line})
		}
		section.Entries = entries
		if section.Name != "" || len(entries) > 0 {
			f.sections = append(f.sections, section)
		}
	}
	for at := range values {
		f.Report(component.Problem{File: f.name, Section: at.section, Key: at.key, Reason: fmt.Sprintf("the parser sees a key %q whose line cannot be found", at.key)})
	}
}

// Name is the name of the file as it was given.
func (f *File) Name() string { return f.name }

// Dir is where relative paths start.
func (f *File) Dir() string { return f.dir }

// Sections are all sections in the order of the file; the first is named "" if there are keys above the first header.
func (f *File) Sections() []component.Section { return slices.Clone(f.sections) }

// Has says whether the file has the section. It does not take it.
func (f *File) Has(section string) bool {
	_, ok := f.find(section)
	return ok
}

// Entries takes a section whose keys are names of something, such as [actions], and gives its keys in the order of
// the file. For a problem with one of them there is [File.ReportAt].
func (f *File) Entries(section string) []component.Entry {
	f.Claim(section)
	s, _ := f.find(section)
	return slices.Clone(s.Entries)
}

// Claim says that a section is known although nothing is read from it here, for example because it belongs to
// another program. "limit.*" stands for every section [limit.NAME].
func (f *File) Claim(sections ...string) {
	for _, name := range sections {
		if prefix, ok := strings.CutSuffix(name, ".*"); ok {
			f.prefixes[prefix] = true
		} else {
			f.taken[name] = true
		}
	}
}

func (f *File) find(name string) (component.Section, bool) {
	for _, s := range f.sections {
		if s.Name == name {
			return s, true
		}
	}
	return component.Section{Name: name}, false
}

// source gives a component its own sections, whether or not the file has them.
func (f *File) source(name string, own ...component.Section) component.Source {
	return component.Source{File: f.name, Dir: f.dir, Name: name, Own: own, All: f.sections}
}
