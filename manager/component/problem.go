package component

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a config.
type Problem struct {
	File    string
	Section string // "" is what stands above the first header
	Key     string // "" if the problem is not one key's
	Line    int    // 0 if it is not one line's

	Reason     string // what is wrong, in words that name the key
	Suggestion string // what to do, such as `did you mean "path"?`

	Missing bool // it is that something required is not there
}

// Error reads like `vagoth.ini:12: [registry] unknown key "pth" (did you mean "path"?)`.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	}
	if p.Section != "" {
		b.WriteString("[" + p.Section + "] ")
	}
	b.WriteString(p.Reason)
	if p.Suggestion != "" {
		b.WriteString(" (" + p.Suggestion + ")")
	}
	return b.String()
}

// SortProblems orders by file, line and section. Problems that are no line's come last in their file, where
// a reader ends up after correcting what is there.
func SortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(uint(a.Line-1), uint(b.Line-1)),
			cmp.Compare(a.Section, b.Section),
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Reason, b.Reason),
		)
	})
}

// KeyError is what a Validate method returns, alone or joined with others, to say which key is wrong.
type KeyError struct {
	Key        string
	Reason     string // what is wrong with the value, without the key
	Suggestion string
}

func (e *KeyError) Error() string {
	s := e.Key + ": " + e.Reason
	if e.Suggestion != "" {
		s += " (" + e.Suggestion + ")"
	}
	return s
}
