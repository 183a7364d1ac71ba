package registry

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits that every backend keeps.
const (
	MaxName     = 128            // bytes of an ID or a name
	MaxKey      = 255            // bytes of a unique key
	MaxKeys     = 32             // unique keys of a node
	MaxTags     = 64             // tags of a node
	MaxTagValue = 255            // bytes of a tag's value
	MaxBlobs    = 16             // blobs of a node
	MaxBlob     = 1 << 20        // bytes of a blob
	MaxDocument = 256 << 10      // bytes of a definition or of metadata, encoded
	MaxTouched  = 100            // keys that an Update touches: nodes, names, unique keys, blobs, sets of children
	MaxUpdate   = 1<<20 + 64<<10 // bytes that an Update writes: a blob of the greatest size and its node
)

// CheckName reports why s is no ID, name, type or tenant: letters, digits and
// . _ - after a letter or a digit, at most MaxName bytes. Such a word is safe as
// a file name, an argument, an XML attribute and a URL path segment.
func CheckName(s string) error { return checkWord(s, "._-", MaxName) }

// CheckKey reports why s is no unique key: as a name, and : / @ + beside, at
// most MaxKey bytes, without "..", "//" and a slash at the end.
func CheckKey(s string) error {
	if err := checkWord(s, "._-:/@+", MaxKey); err != nil {
		return err
	}
	return checkPath(s)
}

// checkPath refuses a word that, taken as a path, would lead elsewhere.
func checkPath(s string) error {
	if strings.Contains(s, "..") || strings.Contains(s, "//") || strings.HasSuffix(s, "/") {
		return fmt.Errorf(`%q holds "..", "//" or ends with "/"`, s)
	}
	return nil
}

// CheckTag reports why key=value is no tag.
func CheckTag(key, value string) error {
	if err := checkWord(key, "._-/", MaxName); err != nil {
		return err
	}
	if err := checkPath(key); err != nil {
		return err
	}
	if len(value) > MaxTagValue {
		return fmt.Errorf("the value of %q has %d bytes, at most %d are allowed", key, len(value), MaxTagValue)
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("the value of %q is not UTF-8", key)
	}
	for _, r := range value {
		if !printable(r) {
			return fmt.Errorf("the value of %q holds %U: use printable characters", key, r)
		}
	}
	return nil
}

// printable refuses control characters and those that reorder or hide text.
func printable(r rune) bool {
	switch {
	case r < ' ', r == 0x7f, 0x80 <= r && r < 0xa0:
		return false
	case 0x200b <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, r == 0xfeff, r == 0x061c:
		return false
	}
	return true
}

func checkWord(s, punctuation string, limit int) error {
	if s == "" {
		return fmt.Errorf("it is empty")
	}
	if len(s) > limit {
		return fmt.Errorf("it has %d bytes, at most %d are allowed: %.32q…", len(s), limit, s)
	}
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune(punctuation, r)) {
			return fmt.Errorf("%q has %q at byte %d: use letters, digits and %s, beginning with a letter or a digit",
				s, r, i, strings.Join(strings.Split(punctuation, ""), " "))
		}
	}
	return nil
}

// Validate checks all of d that can be checked without the store. The error is
// an *InvalidError or a *LimitError that names the node and the field.
func (d Draft) Validate() error {
	for _, f := range []struct {
		field, text string
		optional    bool
	}{{"id", d.ID, false}, {"name", d.Name, false}, {"type", d.Type, false}, {"tenant", d.Tenant, true}, {"parent", d.Parent, true}, {"state", d.State, true}} {
		if f.optional && f.text == "" {
			continue
		}
		if err := CheckName(f.text); err != nil {
			return &InvalidError{ID: d.ID, Field: f.field, Reason: err.Error()}
		}
	}
	if len(d.Keys) > MaxKeys {
		return &LimitError{What: "node " + d.ID, Unit: "unique keys", Got: len(d.Keys), Max: MaxKeys}
	}
	for _, k := range d.Keys {
		if err := CheckKey(k); err != nil {
			return &InvalidError{ID: d.ID, Field: "keys", Reason: err.Error()}
		}
	}
	if len(d.Tags) > MaxTags {
		return &LimitError{What: "node " + d.ID, Unit: "tags", Got: len(d.Tags), Max: MaxTags}
	}
	for k, v := range d.Tags {
		if err := CheckTag(k, v); err != nil {
			return &InvalidError{ID: d.ID, Field: "tags", Reason: err.Error()}
		}
	}
	for _, doc := range []struct {
		field string
		doc   Document
	}{{"definition", d.Definition}, {"metadata", d.Metadata}} {
		if doc.doc.Len() > MaxDocument {
			return &LimitError{What: "node " + d.ID + ": " + doc.field, Unit: "bytes", Got: doc.doc.Len(), Max: MaxDocument}
		}
	}
	return nil
}

// CheckPut checks the move from old to d: what is fixed stays, the parent only
// changes as o expects it, a definition stays while its node has a parent.
// Whether a new parent exists and makes no loop is for the store to find out.
func CheckPut(old *Node, d Draft, o WriteOptions) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if d.Type != old.typ {
		return &InvalidError{ID: d.ID, Field: "type", Reason: fmt.Sprintf("it is %s and cannot become %s: create another node", old.typ, d.Type)}
	}
	if o.From != nil && *o.From != old.parent {
		return &ParentError{ID: d.ID, Parent: d.Parent, Actual: old.parent,
			Reason: fmt.Sprintf("its parent was expected to be %q and is %q: look again", *o.From, old.parent)}
	}
	if d.Parent != old.parent && old.parent != "" && o.From == nil {
		return &ParentError{ID: d.ID, Parent: d.Parent, Actual: old.parent,
			Reason: fmt.Sprintf("it already has the parent %s: name it to move or clear it", old.parent)}
	}
	if d.Definition != old.definition && old.parent != "" && !o.Force {
		return &InUseError{ID: d.ID, Parent: old.parent,
			Reason: fmt.Sprintf("its definition is in use on %s: undefine it first, or force the change", old.parent)}
	}
	return nil
}

// CheckBlob checks a blob of a node that has others.
func CheckBlob(n *Node, key string, data []byte) error {
	if err := CheckName(key); err != nil {
		return &InvalidError{ID: n.id, Field: "blob", Reason: err.Error()}
	}
	if len(data) > MaxBlob {
		return &LimitError{What: "node " + n.id + ": blob " + key, Unit: "bytes", Got: len(data), Max: MaxBlob}
	}
	for _, b := range n.stamp.Blobs {
		if b.Key == key {
			return nil
		}
	}
	if data != nil && len(n.stamp.Blobs) >= MaxBlobs {
		return &LimitError{What: "node " + n.id, Unit: "blobs", Got: len(n.stamp.Blobs) + 1, Max: MaxBlobs}
	}
	return nil
}
