package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// record is of an image that came from a URL. It is written before dockerd is given
// the image, without Image: after a crash between it is known whose it is.
type record struct {
	Source string `json:"source"`          // sha256 of the URL, which can hold secrets
	SHA256 string `json:"sha256"`          // of what was sent
	Image  string `json:"image,omitempty"` // dockerd's id of it
}

const maxRecord = 4096

// key is a word of its own for a reference, for files.
func key(r reference) string {
	sum := sha256.Sum256([]byte(r.String()))
	return hex.EncodeToString(sum[:])
}

func recordFile(r reference) string { return sources + "/" + key(r) + ".json" }

// noted is the record of an image; nil if there is none.
func (d *Docker) noted(r reference) (*record, error) {
	f, err := d.dir.Open(recordFile(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // it was not loaded from a URL
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := mistify.ReadBody(f, maxRecord)
	got := &record{}
	if err == nil {
		err = json.Unmarshal(data, got)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", filepath.Join(d.o.Dir, recordFile(r)), err)
	}
	return got, nil
}

// note writes a record, as a whole and on disk.
func (d *Docker) note(r reference, what record) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return d.put(recordFile(r), data)
}

func (d *Docker) unnote(r reference) error {
	err := d.dir.Remove(recordFile(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, d.syncRecords())
}

func (d *Docker) syncRecords() error {
	f, err := d.dir.Open(sources)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// same refuses a request for an image that is here from elsewhere. A registry is a
// source too, that of all that has no record.
func (d *Docker) same(r reference, asked *mistify.ImageRequest, id string) error {
	is, err := d.noted(r)
	if err != nil {
		return err
	}
	if is != nil && is.Image != "" && is.Image != id {
		is = nil // somebody gave the name to another image since
	}
	switch {
	case is == nil && asked.Source == "":
		return nil
	case is == nil || asked.Source == "":
		return store.OtherImage(asked.ID)
	case is.Source != store.Hashed(asked.Source) && (asked.SHA256 == "" || strings.ToLower(asked.SHA256) != is.SHA256):
		return store.OtherImage(asked.ID)
	case is.Image == "":
		is.Image = id
		return d.note(r, *is)
	}
	return nil
}
