package mistify

import (
	"encoding/json"
	"strings"
)

// parts are the members of a call's or an answer's envelope, as they stand in it.
type parts struct {
	method, params, id, result, problem json.RawMessage
}

// split takes an envelope apart without reading what is in it. It knows the
// envelopes that are written as everybody writes them; of all others, and of what
// is no JSON, it says so, and they are read the slow way. Its parts are yet to be
// checked: if each of them is JSON, the whole is.
//
// The guest in a call is most of its bytes, and reading it is most of the time
// that a call takes. This spares reading it twice.
func split(data []byte) (p parts, ok bool) {
	ok = members(data, func(name string, value json.RawMessage) bool {
		into := p.member(name)
		if into == nil || *into != nil {
			return false
		}
		*into = value
		return true
	})
	if !ok {
		return parts{}, false
	}
	return p, true
}

// members calls take with every member of an object, its name still quoted, until
// take is false. It is false if that is so, or if data is no object as everybody
// writes it.
func members(data []byte, take func(name string, value json.RawMessage) bool) bool {
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return false
	}
	for {
		i = space(data, i+1)
		end := skip(data, i)
		if end < 0 || data[i] != '"' {
			return false
		}
		name := string(data[i:end])
		i = space(data, end)
		if i == len(data) || data[i] != ':' {
			return false
		}
		i = space(data, i+1)
		if end = skip(data, i); end < 0 || !take(name, data[i:end:end]) {
			return false
		}
		i = space(data, end)
		switch {
		case i == len(data):
			return false
		case data[i] == '}':
			return space(data, i+1) == len(data)
		case data[i] != ',':
			return false
		}
	}
}

// Picker is an answer of which some members are read. The others are passed over,
// without looking whether they are JSON.
type Picker interface {
	// Pick returns where a member goes, nil for one that is passed over.
	Pick(name string) any
}

// pick reads the members that p wants. It is false if one is not what p wants, or
// the whole has to be read as JSON to tell.
func pick(data []byte, p Picker) bool {
	return members(data, func(name string, value json.RawMessage) bool {
		name = name[1 : len(name)-1]
		if strings.ContainsRune(name, '\\') {
			return false
		}
		into := p.Pick(name)
		return into == nil || json.Unmarshal(value, into) == nil
	})
}

func (p *parts) member(name string) *json.RawMessage {
	switch name {
	case `"method"`:
		return &p.method
	case `"params"`:
		return &p.params
	case `"id"`:
		return &p.id
	case `"result"`:
		return &p.result
	case `"error"`:
		return &p.problem
	}
	return nil
}

// space returns where the white space at i ends.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// skip returns where the value at i ends if it is one, -1 if it cannot be.
func skip(data []byte, i int) int {
	depth := 0
	for start := i; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if i >= len(data) {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return end(start, i)
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return end(start, i)
			}
		}
	}
	return -1
}

func end(start, i int) int {
	if i == start {
		return -1
	}
	return i
}
