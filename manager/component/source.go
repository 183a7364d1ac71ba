package component

import "strings"

// Source is a parsed document, as far as one component is concerned.
type Source struct {
	File string // the name shown in problems
	Dir  string // relative paths start here

	// Name is the section that a missing key is reported for; if empty, that of the first of Own.
	Name string
	// Own are the sections with the component's keys. A key may stand in any of them, but in one only.
	Own []Section
	// All are all sections of the document; fields tagged `sections` take theirs from here.
	All []Section

	// Unused says that the config is only checked, for a component that is not chosen: the files of secrets are
	// not read, and what is required may still be missing.
	Unused bool
}

// Section is a named list of keys in the order of the document.
type Section struct {
	Name    string // "registry.etcd", or "" for what stands above the first header
	Line    int    // of the header, 0 if there is none
	Entries []Entry
}

// Entry is one key with its value.
type Entry struct {
	Key   string
	Value string // without comment and quotes
	Raw   string // without comment, quotes as written; if empty, Value stands for it
	Line  int
}

// Get finds a key.
func (s Section) Get(key string) (Entry, bool) {
	for _, e := range s.Entries {
		if e.Key == key {
			return e, true
		}
	}
	return Entry{}, false
}

// Without gives a copy of the section that lacks the keys, such as `use`, which belong to another reader.
func (s Section) Without(keys ...string) Section {
	kept := make([]Entry, 0, len(s.Entries))
	for _, e := range s.Entries {
		if !contains(keys, e.Key) {
			kept = append(kept, e)
		}
	}
	s.Entries = kept
	return s
}

// Named gives the sections [prefix.NAME] and their NAME, in the order of the document.
func Named(sections []Section, prefix string) (names []string, found []Section) {
	for _, s := range sections {
		if name, ok := strings.CutPrefix(s.Name, prefix+"."); ok {
			names, found = append(names, name), append(found, s)
		}
	}
	return names, found
}

func (e Entry) raw() string {
	if e.Raw != "" {
		return e.Raw
	}
	return e.Value
}

func (s Source) name() string {
	if s.Name != "" || len(s.Own) == 0 {
		return s.Name
	}
	return s.Own[0].Name
}

func (s Source) line() int {
	for _, own := range s.Own {
		if own.Line > 0 {
			return own.Line
		}
	}
	return 0
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}
