package component

import (
	"errors"
	"strings"
	"unicode"
)

// Quote writes a value so that it is read back as it is: in double quotes if anything in it could be taken
// for a comment, a quote or a list. Line ends and invisible characters cannot be written at all; they come out as
// spaces.
func Quote(value string) string {
	value = strings.Map(func(r rune) rune {
		switch {
		case r != '\t' && unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\ufeff',
			r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return ' '
		}
		return r
	}, value)
	plain := value != "" && strings.TrimSpace(value) == value &&
		!strings.ContainsAny(value[:1], "\"'`#;") && !strings.ContainsAny(value, "\"\\") &&
		!strings.Contains(value, " ;") && !strings.Contains(value, " #") &&
		!strings.Contains(value, "\t;") && !strings.Contains(value, "\t#") &&
		!strings.Contains(value, "${") && !strings.Contains(value, "%(") && !strings.HasPrefix(value, "file:")
	if plain {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

var (
	errQuoteOpen   = errors.New(`the quote is not closed (inside quotes, write \" for a quote)`)
	errQuoteTail   = errors.New("there is text after the closing quote (put the whole value in quotes)")
	errQuoteEscape = errors.New(`inside quotes a backslash stands only before " or \ (write \\ for a backslash)`)
)

// Unquote reads a quoted span at the start of s and gives what follows it.
func Unquote(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, errQuoteOpen
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", s, errQuoteEscape
			}
		}
		b.WriteByte(s[i])
	}
	return "", s, errQuoteOpen
}

// SplitList splits a value at its commas. Elements are trimmed; one in double quotes may contain commas.
// The empty value is the empty list; an empty element must be quoted.
func SplitList(raw string) ([]string, error) {
	rest := strings.TrimSpace(raw)
	list := []string{}
	if rest == "" {
		return list, nil
	}
	for {
		var element string
		if strings.HasPrefix(rest, `"`) {
			value, after, err := Unquote(rest)
			if err != nil {
				return nil, err
			}
			element, rest = value, strings.TrimSpace(after)
			if rest != "" && rest[0] != ',' {
				return nil, errQuoteTail
			}
		} else {
			end := strings.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			element, rest = strings.TrimSpace(rest[:end]), rest[end:]
			if element == "" {
				return nil, errors.New(`the list has an empty element (remove the comma, or write "")`)
			}
		}
		list = append(list, element)
		if rest == "" {
			return list, nil
		}
		rest = strings.TrimSpace(rest[1:])
		if rest == "" {
			return nil, errors.New("the list ends with a comma (remove it)")
		}
	}
}

// quoteElement writes one element of a list.
func quoteElement(s string) string {
	if q := Quote(s); strings.HasPrefix(q, `"`) || !strings.Contains(s, ",") {
		return q
	}
	return `"` + s + `"`
}
