package mistify

import "encoding/json"

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
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return parts{}, false
	}
	for {
		i = space(data, i+1)
		end := skip(data, i)
		if end < 0 || data[i] != '"' {
			return parts{}, false
		}
		into := p.member(string(data[i:end]))
		i = space(data, end)
		if into == nil || *into != nil || i == len(data) || data[i] != ':' {
			return parts{}, false
		}
		i = space(data, i+1)
		if end = skip(data, i); end < 0 {
			return parts{}, false
		}
		*into = data[i:end:end]
		i = space(data, end)
		switch {
		case i == len(data):
			return parts{}, false
		case data[i] == '}':
			return p, space(data, i+1) == len(data)
		case data[i] != ',':
			return parts{}, false
		}
	}
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
