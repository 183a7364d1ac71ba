package mistify

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseGuestID checks a guest's id, a UUID of 36 characters, and returns it in
// lower case: the two spellings are one guest.
func ParseGuestID(id string) (string, error) {
	if len(id) != 36 {
		return "", badUUID(id)
	}
	for i := range len(id) {
		c := id[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return "", badUUID(id)
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return "", badUUID(id)
			}
		}
	}
	return strings.ToLower(id), nil
}

func badUUID(id string) error {
	return &NameError{What: "guest's id", Given: id, Want: "a UUID such as 0f8fad5b-d9cb-469f-a165-70867728950e"}
}

// ParseJobID checks a job's id, which is a UUID too.
func ParseJobID(id string) (string, error) {
	lower, err := ParseGuestID(id)
	if err != nil {
		return "", &NameError{What: "job's id", Given: id, Want: "a UUID, as the header " + HeaderJob + " gives it"}
	}
	return lower, nil
}

// CheckDiskID checks the id of a guest's disk, such as 0 or vda.
func CheckDiskID(id string) error {
	if plain(id, 32, "_-") {
		return nil
	}
	return &NameError{What: "disk's id", Given: id, Want: "1 to 32 letters, digits, - and _, a letter or digit first"}
}

// CheckSnapshotName checks the name of a snapshot.
func CheckSnapshotName(name string) error {
	if plain(name, 128, "_-.:") && !strings.Contains(name, "..") {
		return nil
	}
	return &NameError{What: "snapshot's name", Given: name, Want: "1 to 128 letters, digits, -, _, : and single dots, a letter or digit first"}
}

// CheckImageID checks the id of an image. That of a container's image can be a
// reference with slashes, such as library/busybox:1.36.
func CheckImageID(imageType, id string) error {
	parts := []string{id}
	if imageType == TypeContainer {
		parts = strings.Split(id, "/")
	}
	ok := len(id) <= 255
	for _, part := range parts {
		ok = ok && plain(part, 255, "_-.:@") && !strings.Contains(part, "..")
	}
	if ok {
		return nil
	}
	return &NameError{What: "image's id", Given: id, Want: "1 to 255 letters, digits, -, _, :, @ and single dots, a letter or digit first (and slashes between such words in a container's)"}
}

// CheckType checks the type of a guest or image. "" is allowed.
func CheckType(text string) error {
	if text == "" || plain(text, 32, "_-") {
		return nil
	}
	return &NameError{What: "type", Given: text, Want: `"vm", "container", or another word of letters, digits, - and _`}
}

// CheckMethod checks the name of a method, SERVICE.METHOD.
func CheckMethod(method string) error {
	service, name, _ := strings.Cut(method, ".")
	if plain(service, 64, "_-") && plain(name, 64, "_-") {
		return nil
	}
	return &NameError{What: "method", Given: method, Want: "SERVICE.METHOD, two words of letters and digits such as Libvirt.Create"}
}

// CheckPath checks the path at which a service is asked.
func CheckPath(path string) error {
	ok := strings.HasPrefix(path, "/") && len(path) <= 255
	for _, part := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		ok = ok && part != "" && part != "." && part != ".." && !strings.ContainsFunc(part, func(r rune) bool { return !wordRune(r, "_-.") })
	}
	if ok {
		return nil
	}
	return &NameError{What: "path", Given: path, Want: "words of letters, digits, -, _ and dots, with a slash before each, such as " + RPCPath}
}

// The bounds of metadata, of a guest or of the host.
const (
	MaxMetadata      = 256      // entries
	MaxMetadataKey   = 256      // bytes
	MaxMetadataValue = 64 << 10 // bytes
	MaxMetadataBytes = 512 << 10
)

// CheckMetadataKey checks the key of an entry: any text on one line.
func CheckMetadataKey(key string) error {
	if key != "" && len(key) <= MaxMetadataKey && utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl) {
		return nil
	}
	return &NameError{What: "metadata's key", Given: key, Want: "1 to 256 bytes of text without control characters"}
}

// plain reports whether text is 1 to limit letters and digits of ASCII and
// characters of more, a letter or digit first.
func plain(text string, limit int, more string) bool {
	if text == "" || len(text) > limit || strings.IndexByte(more, text[0]) >= 0 {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return !wordRune(r, more) })
}

func wordRune(r rune, more string) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(more, r) && r != utf8.RuneError
}
