package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Document is an immutable JSON object, held encoded. The zero Document is {}.
type Document struct{ s string }

// maxDepth bounds the nesting of a document, so that decoding it costs little.
const maxDepth = 64

// ParseDocument takes a JSON object, compacts it and checks its size, its depth
// and that no object names a key twice.
func ParseDocument(data []byte) (Document, error) {
	if len(data) > 4*MaxDocument {
		return Document{}, &LimitError{What: "document", Unit: "bytes", Got: len(data), Max: MaxDocument}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil {
		return Document{}, fmt.Errorf("not a JSON object: %w", err)
	} else if t != json.Delim('{') {
		return Document{}, fmt.Errorf("not a JSON object: it begins with %v", t)
	}
	if err := checkObject(dec, "", 1); err != nil {
		return Document{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Document{}, errors.New("not a JSON object: something follows it")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return Document{}, fmt.Errorf("not a JSON object: %w", err)
	}
	return stored(b.String())
}

// checkObject reads the rest of an object whose brace has been read.
func checkObject(dec *json.Decoder, path string, depth int) error {
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fmt.Errorf("not a JSON object: %w", err)
		}
		key, _ := t.(string)
		if seen[key] {
			return fmt.Errorf("key %q stands twice", path+key)
		}
		seen[key] = true
		if err := checkValue(dec, path+key, depth); err != nil {
			return err
		}
	}
	return checkClosed(dec)
}

// checkClosed reads the bracket that ends an object or an array.
func checkClosed(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	return nil
}

func checkValue(dec *json.Decoder, path string, depth int) error {
	if depth > maxDepth {
		return &LimitError{What: "document", Unit: "levels of nesting", Got: depth, Max: maxDepth}
	}
	t, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	switch t {
	case json.Delim('{'):
		return checkObject(dec, path+".", depth+1)
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			if err := checkValue(dec, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
		return checkClosed(dec)
	}
	return nil
}

func stored(s string) (Document, error) {
	if len(s) > MaxDocument {
		return Document{}, &LimitError{What: "document", Unit: "bytes", Got: len(s), Max: MaxDocument}
	}
	if s == "{}" {
		s = ""
	}
	return Document{s}, nil
}

// NewDocument encodes v, which must make a JSON object.
func NewDocument(v any) (Document, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Document{}, fmt.Errorf("cannot encode document: %w", err)
	}
	return ParseDocument(data)
}

// TrustedDocument wraps an encoded object that ParseDocument returned earlier,
// as a store reads it back; it checks nothing.
func TrustedDocument(s string) Document {
	if s == "{}" {
		s = ""
	}
	return Document{s}
}

// String returns the encoded object.
func (d Document) String() string {
	if d.s == "" {
		return "{}"
	}
	return d.s
}

// IsEmpty reports whether d is {}.
func (d Document) IsEmpty() bool { return d.s == "" }

// Len is the size of the encoded object in bytes.
func (d Document) Len() int { return len(d.String()) }

// Decode decodes d into v. Unknown fields are kept out, not refused: who writes
// a document checks it.
func (d Document) Decode(v any) error {
	if err := json.Unmarshal([]byte(d.String()), v); err != nil {
		return fmt.Errorf("cannot decode document: %w", err)
	}
	return nil
}

// DecodeStrict decodes d into v and refuses fields that v does not have.
func (d Document) DecodeStrict(v any) error {
	dec := json.NewDecoder(strings.NewReader(d.String()))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// Map returns the object's members, as fresh values. Numbers are json.Number.
func (d Document) Map() (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(d.String()))
	dec.UseNumber()
	m := map[string]any{}
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("cannot decode document: %w", err)
	}
	return m, nil
}

// Merge returns d with the members of set added or replaced and those in
// remove taken out. Only the top level is merged.
func (d Document) Merge(set map[string]any, remove ...string) (Document, error) {
	m := map[string]json.RawMessage{}
	if err := d.Decode(&m); err != nil {
		return Document{}, err
	}
	for _, k := range remove {
		delete(m, k)
	}
	for k, v := range set {
		raw, err := json.Marshal(v)
		if err != nil {
			return Document{}, fmt.Errorf("cannot encode %q: %w", k, err)
		}
		m[k] = raw
	}
	return NewDocument(m)
}

// MarshalJSON returns the object itself.
func (d Document) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalJSON is ParseDocument; null is {}.
func (d *Document) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*d = Document{}
		return nil
	}
	doc, err := ParseDocument(data)
	if err == nil {
		*d = doc
	}
	return err
}
