package virt

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Imager is a Driver whose hosts keep images: what disks are cloned from and
// containers are made of. Each host has its own.
type Imager interface {
	// Images lists those of a host, ordered by ID, at most MaxImages: complete
	// ones, and those that are being fetched.
	Images(ctx context.Context, h Host) ([]Image, error)
	// Image looks at one.
	Image(ctx context.Context, h Host, id string) (Image, error)
	// FetchImage gets an image onto a host and returns when it is complete. One
	// that is there from the same source succeeds; from another it is
	// ErrConflict. Nothing is visible as complete before its size and sum have
	// been checked, and of a fetch that failed nothing is left. progress, if it is
	// not nil, is called as often as the host says something new, by one goroutine
	// at a time and none after the return; total is 0 while it is not known.
	FetchImage(ctx context.Context, h Host, r ImageRequest, progress func(done, total int64)) (Image, error)
	// DeleteImage removes one: ErrConflict while disks or containers need it.
	DeleteImage(ctx context.Context, h Host, id string) error
}

// MaxImages bounds the images of a host that are listed.
const MaxImages = 10_000

// Image is one image of a host.
type Image struct {
	ID     string `json:"id"`
	Type   string `json:"type,omitempty"` // TypeContainer; of disks otherwise
	Status string `json:"status"`         // ImageComplete, ImagePending, or the host's own word
	Size   int64  `json:"size"`           // MB
	Volume string `json:"volume,omitempty"`

	// Of one that is being fetched, in bytes; 0 where the host does not say.
	Fetched int64 `json:"fetched,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

// The statuses of an image.
const (
	ImageComplete = "complete"
	ImagePending  = "pending"
)

// ImageRequest says what is to be fetched.
type ImageRequest struct {
	ID     string `json:"id"`
	Type   string `json:"type,omitempty"`   // TypeContainer, or of disks
	Source string `json:"source,omitempty"` // URL; where the host has a gallery of its own it can be empty
	Size   int64  `json:"size,omitempty"`   // bytes that Source must have
	SHA256 string `json:"sha256,omitempty"` // that Source must have, in hex
}

// Check refuses a request that no host can be asked. Its error is an ErrInvalid.
func (r ImageRequest) Check() error {
	if r.Type != "" && r.Type != "vm" && r.Type != TypeContainer {
		return fmt.Errorf("%w: the image's type %.32q: it is vm or container", ErrInvalid, r.Type)
	}
	if err := CheckImageID(r.ID); err != nil {
		return err
	}
	if r.Source != "" {
		u, err := url.Parse(r.Source)
		if _, bad := hidden(r.Source); err != nil || bad || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(r.Source) > 2048 {
			return fmt.Errorf("%w: the image's source is no URL such as https://images.example.org/debian-12.qcow2", ErrInvalid)
		}
		if u.User != nil {
			return fmt.Errorf("%w: the image's source has a user or a password in it, which would be kept and shown: leave them out", ErrInvalid)
		}
	}
	if r.Size < 0 {
		return fmt.Errorf("%w: the image's size is %d bytes", ErrInvalid, r.Size)
	}
	if sum, err := hex.DecodeString(r.SHA256); r.SHA256 != "" && (err != nil || len(sum) != 32) {
		return fmt.Errorf("%w: the image's sha256 %.80q is not 64 hexadecimal digits", ErrInvalid, r.SHA256)
	}
	return nil
}

// CheckImageID checks the ID of an image; that of a container's can be a
// reference such as library/busybox:1.36. Its error is an ErrInvalid.
func CheckImageID(id string) error {
	ok := id != "" && len(id) <= 255
	for part := range strings.SplitSeq(id, "/") {
		ok = ok && wordOf(part, 255, "_-.:@") && !strings.Contains(part, "..")
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%w: the image's ID %.64q: use 1 to 255 letters, digits, -, _, :, @ and single dots, a letter or digit first (and slashes between such words in a container's)", ErrInvalid, id)
}
