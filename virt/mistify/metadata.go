package mistify

import (
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/vagoth/vagoth/virt"
)

// MetadataPatch changes metadata: a null or an empty value removes the key, any
// other sets it.
type MetadataPatch map[string]*string

// Apply returns what the patch makes of metadata, which can be nil and stays as
// it is.
func (p MetadataPatch) Apply(metadata map[string]string) (map[string]string, error) {
	out := maps.Clone(metadata)
	if out == nil {
		out = map[string]string{}
	}
	for key, value := range p {
		if err := CheckMetadataKey(key); err != nil {
			return nil, err
		}
		if value == nil || *value == "" {
			delete(out, key)
		} else {
			out[key] = *value
		}
	}
	return out, CheckMetadata(out)
}

// CheckMetadata checks keys, values and their number.
func CheckMetadata(metadata map[string]string) error {
	if len(metadata) > MaxMetadata {
		return fmt.Errorf("%w metadata: %d entries are too many, at most %d are allowed", virt.ErrInvalid, len(metadata), MaxMetadata)
	}
	total := 0
	for key, value := range metadata {
		if err := CheckMetadataKey(key); err != nil {
			return err
		}
		if len(value) > MaxMetadataValue || !utf8.ValidString(value) {
			return fmt.Errorf("%w metadata: the value of %q has %d bytes and must be UTF-8 of at most %d", virt.ErrInvalid, key, len(value), MaxMetadataValue)
		}
		total += len(key) + len(value)
	}
	if total > MaxMetadataBytes {
		return fmt.Errorf("%w metadata: all of it has %d bytes, at most %d are allowed", virt.ErrInvalid, total, MaxMetadataBytes)
	}
	return nil
}
