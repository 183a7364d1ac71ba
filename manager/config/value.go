package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

// No error here repeats any of the value: it may be a secret.

// readValue takes the comment off a value and reads its quotes. The raw text still has the quotes, for lists.
func readValue(text string) (value, raw string, err error) {
	raw, err = stripComment(text)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(raw, `"`) {
		if value, rest, err := component.Unquote(raw); err == nil && rest == "" {
			return value, raw, nil
		}
		return raw, raw, nil // a list whose first element is quoted
	}
	switch {
	case len(raw) > 1 && raw[0] == '\'' && raw[len(raw)-1] == '\'':
		return "", "", errors.New("the value is in single quotes (use double quotes)")
	case strings.HasSuffix(raw, `\`):
		return "", "", errors.New(`the value ends with a backslash (a value ends with its line; if the backslash is meant, write "…\\" in quotes)`)
	}
	if interpolates(raw) {
		return "", "", errors.New("%(name)s and ${name} are not replaced by anything (write the value out; if it is meant as it is, put it in quotes)")
	}
	return raw, raw, nil
}

// stripComment cuts at the first ; or # that has white space before it and is not in quotes. Quotes count where an
// element of a list begins, which the start of the value is.
func stripComment(s string) (string, error) {
	if s != "" && (s[0] == ';' || s[0] == '#') {
		return "", fmt.Errorf(`the value begins with %c (put it in quotes; if it is a comment, write "" before it for an empty value)`, s[0])
	}
	elementStart, loose := true, 0 // loose counts quotes that are part of the text
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '"' && elementStart {
			_, rest, err := component.Unquote(s[i:])
			if err == nil && endsElement(rest) {
				i = len(s) - len(rest) - 1
				elementStart = false
				continue
			}
			if i == 0 {
				if err == nil {
					err = errors.New("there is text after the closing quote (put the whole value in quotes, and a space before a comment)")
				}
				return "", err
			}
		}
		switch {
		case c == '"':
			loose++
			elementStart = false
		case (c == ';' || c == '#') && (s[i-1] == ' ' || s[i-1] == '\t'):
			if loose%2 == 1 {
				return "", errors.New("a comment begins inside of quotes (put the whole value in quotes)")
			}
			return strings.TrimSpace(s[:i]), nil
		case c == ',':
			elementStart = true
		case c != ' ' && c != '\t':
			elementStart = false
		}
	}
	return strings.TrimSpace(s), nil
}

// endsElement says whether what follows a closing quote lets it close the element.
func endsElement(rest string) bool {
	after := strings.TrimLeft(rest, " \t")
	if after == "" || after[0] == ',' {
		return true
	}
	return len(after) < len(rest) && (after[0] == ';' || after[0] == '#')
}

// interpolates finds %(name)s and ${name}, which other readers of such files replace.
func interpolates(s string) bool {
	for _, form := range [][2]string{{"%(", ")s"}, {"${", "}"}} {
		if _, after, found := strings.Cut(s, form[0]); found && strings.Contains(after, form[1]) {
			return true
		}
	}
	return false
}
