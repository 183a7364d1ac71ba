package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vagoth/vagoth/manager/component"
)

const (
	maxFile     = 1 << 20
	maxLine     = 16 << 10
	maxName     = 128
	maxKeys     = 10_000 // keys and sections together; the parser's time grows with their square
	maxProblems = 1000
)

// scan finds the sections and keys of a document with their lines, and the text that is safe to parse: the
// same lines, those refused left empty.
type scan struct {
	file     string
	sections []component.Section // entries without values
	clean    bytes.Buffer
	problems []component.Problem
	broken   map[place]bool // keys whose line was refused

	index   map[string]int // of sections by name
	lines   map[place]int  // of keys
	current int            // index of the section that keys belong to; -1 after a refused header
	indent  int            // of the last key of the section, -1 if there is none yet
}

// place is a key of a section.
type place struct{ section, key string }

func scanDocument(file string, data []byte) *scan {
	s := &scan{file: file, broken: map[place]bool{}, index: map[string]int{"": 0}, lines: map[place]int{}, indent: -1}
	s.sections = []component.Section{{}}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case len(data) > maxFile:
		s.refuse(0, "", "", fmt.Sprintf("the file is larger than %s", component.Size(maxFile)), "")
		return s
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		s.refuse(0, "", "", "the file is UTF-16", "save it as UTF-8")
		return s
	}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if len(s.lines)+len(s.sections) > maxKeys {
			s.refuse(number, "", "", fmt.Sprintf("the file has more than %d keys and sections", maxKeys), "")
			break
		}
		if len(s.problems) > maxProblems {
			s.refuse(number, "", "", "there are too many problems to go on", "is it an ini file?")
			break
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if s.line(number, string(line)) {
			s.clean.Write(line)
		}
		s.clean.WriteByte('\n')
	}
	return s
}

// line looks at one line and says whether the parser may see it.
func (s *scan) line(number int, line string) bool {
	if reason, hint := badText(line); reason != "" {
		s.refuse(number, s.here(), "", reason, hint)
		s.breakKey(line)
		return false
	}
	trimmed := strings.TrimSpace(line)
	switch {
	case trimmed == "" || trimmed[0] == ';' || trimmed[0] == '#':
		return false
	case trimmed[0] == '[':
		return s.header(number, trimmed)
	}
	return s.key(number, line, trimmed)
}

// header reads `[name]`, after which only a comment may follow.
func (s *scan) header(number int, line string) bool {
	bad := func(reason, hint string) bool {
		s.refuse(number, "", "", reason, hint)
		s.current = -1
		return false
	}
	name, after, closed := strings.Cut(line[1:], "]")
	after = strings.TrimSpace(after)
	switch {
	case !closed:
		return bad("the section header has no ]", "write [name]")
	case after != "" && after[0] != ';' && after[0] != '#':
		return bad(fmt.Sprintf("there is text after the header [%s]", short(name)), "put it on a line of its own")
	case name == "DEFAULT":
		return bad("[DEFAULT] has no meaning here", "keys for the whole file stand above the first header")
	case strings.TrimSpace(name) != name && validSection(strings.TrimSpace(name)):
		return bad(fmt.Sprintf("the header [%s] has spaces in it", short(name)), "write ["+strings.TrimSpace(name)+"]")
	case !validSection(name):
		return bad(fmt.Sprintf("%q cannot be the name of a section", short(name)), "use letters, digits, `_` and `-`, with dots between")
	}
	s.indent = -1
	if first, twice := s.index[name]; twice {
		s.current = first
		s.refuse(number, name, "", fmt.Sprintf("the section stands here a second time, the first is on line %d", s.sections[first].Line), "put its keys there")
		return true
	}
	s.current = len(s.sections)
	s.index[name] = s.current
	s.sections = append(s.sections, component.Section{Name: name, Line: number})
	return true
}

// key reads `key = value` as far as the sign; the value is the parser's.
func (s *scan) key(number int, line, trimmed string) bool {
	if s.current < 0 {
		return false // below a refused header, which is the problem to solve first
	}
	bad := func(key, reason, hint string) bool {
		s.refuse(number, s.here(), key, reason, hint)
		s.breakKey(line)
		return false
	}
	key, value, found := strings.Cut(trimmed, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	name, _, colon := strings.Cut(key, ":")
	name = strings.TrimSpace(name)
	// What is not a key is not repeated: it may be the second line of a secret.
	switch {
	case colon && validKey(name):
		return bad(name, fmt.Sprintf("key %q is followed by a colon", name), "write "+name+" = …")
	case !found:
		return bad("", "the line is no header, no comment and no key = value", "a value ends with its line; a list goes on one line, with commas")
	case key == "":
		return bad("", "there is no key before the =", "write key = value")
	case !validKey(key):
		return bad("", "what stands before the = cannot be a key", "use letters, digits, `_`, `-` and `.`")
	}
	// Deeper than the key above is where Python's parser, and the reader's eye, sees a value that goes on.
	indent := len(line) - len(strings.TrimLeftFunc(line, unicode.IsSpace))
	if s.indent >= 0 && indent > s.indent {
		return bad("", "the line is indented more than the key above", "start the keys of a section in one column; a value ends with its line")
	}
	s.indent = indent
	// These begin values over several lines, so the parser must not see them.
	if strings.HasPrefix(value, "`") || strings.HasPrefix(value, `"""`) {
		return bad(key, key+": the value begins with "+value[:1+2*strings.Count(value[:1], `"`)], `quote it as "…"; inside, write \" for a quote`)
	}
	section := &s.sections[s.current]
	at := place{section.Name, key}
	if first, twice := s.lines[at]; twice {
		return bad(key, fmt.Sprintf("key %q is set a second time, the first is on line %d", key, first), "remove one of them")
	}
	s.lines[at] = number
	section.Entries = append(section.Entries, component.Entry{Key: key, Line: number})
	return true
}

func (s *scan) here() string {
	if s.current < 0 {
		return ""
	}
	return s.sections[s.current].Name
}

func (s *scan) refuse(line int, section, key, reason, hint string) {
	s.problems = append(s.problems, component.Problem{
		File: s.file, Section: section, Key: key, Line: line, Reason: reason, Suggestion: hint,
	})
}

// breakKey remembers the key that a refused line was probably meant to set, so that it is not called missing.
func (s *scan) breakKey(line string) {
	if s.current < 0 {
		return
	}
	end := strings.IndexAny(line, "=:")
	if end < 0 {
		end = len(line)
	}
	if key := strings.TrimSpace(line[:end]); validKey(key) {
		s.broken[place{s.here(), key}] = true
	}
}

// badText finds what must not stand in any line, comments included: an editor may show it as something else.
func badText(line string) (reason, hint string) {
	switch {
	case len(line) > maxLine:
		return fmt.Sprintf("the line is longer than %s", component.Size(maxLine)), ""
	case !utf8.ValidString(line):
		return "the line is not valid UTF-8", "save the file as UTF-8"
	}
	for _, r := range line {
		switch {
		case r == 0:
			return "the line contains a NUL", "remove it"
		case r == '\r':
			return "the line contains a carriage return", "end lines with a line feed"
		case r != '\t' && unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return fmt.Sprintf("the line contains the control character %U", r), "remove it"
		case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\ufeff':
			return fmt.Sprintf("the line contains the invisible character %U", r), "remove it"
		}
	}
	return "", ""
}

func validSection(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	head, rest, more := strings.Cut(name, ".")
	if !validKey(head) {
		return false
	}
	if !more {
		return true
	}
	// What follows the first dot may be the name of a queue or a limit, or a pattern of them. Whoever takes the
	// section says whether it may be that here.
	for part := range strings.SplitSeq(rest, ".") {
		if part == "" || part[0] == '-' {
			return false
		}
		for _, r := range part {
			alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
			if !alnum && !strings.ContainsRune("_-:/@+*", r) {
				return false
			}
		}
	}
	return true
}

// validKey allows what can stand on a command line and in a message without quotes. It begins with a letter, a
// digit or `_`, which leaves out `-`, for which the parser would invent a name.
func validKey(key string) bool {
	if key == "" || len(key) > maxName {
		return false
	}
	for i, r := range key {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
		if !alnum && (i == 0 || r != '-' && r != '.') {
			return false
		}
	}
	return true
}

func short(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
