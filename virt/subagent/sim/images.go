package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// image is an image that was fetched, or is being fetched.
type image struct {
	id     string
	source string
	at     time.Time // when it is complete
	sent   int64     // bytes, of one that was sent
	text   string    // what a disk holds that it becomes
}

// gallery has the images of one type. The caller holds the lock.
type gallery map[string]image

// list returns them ordered by ID.
func (g gallery) list() []image {
	return slices.SortedFunc(maps.Values(g), func(a, b image) int { return strings.Compare(a.id, b.id) })
}

func (g gallery) get(id string) (image, error) {
	one, ok := g[id]
	if !ok {
		return image{}, fmt.Errorf("%w: no such image: %s", virt.ErrNotFound, id)
	}
	return one, nil
}

// fetch begins to fetch an image. One that is there from the same source stays.
func (g gallery) fetch(one image) (image, error) {
	old, ok := g[one.id]
	switch {
	case ok && old.source == one.source:
		return old, nil
	case ok:
		return image{}, fmt.Errorf("%w: the image %s is there already, from another source: delete it first", virt.ErrConflict, one.id)
	case len(g) >= maxImages:
		return image{}, fmt.Errorf("%w: there are %d images, which is the limit: delete some", virt.ErrConflict, maxImages)
	}
	g[one.id] = one
	return one, nil
}

// free refuses a name that an image has, to one that is sent.
func (g gallery) free(id string) error {
	if _, ok := g[id]; ok {
		return fmt.Errorf("%w: the image %s is there already: delete it first", virt.ErrConflict, id)
	}
	return nil
}

// usable reports why nothing can be made of an image.
func (g gallery) usable(id string, now time.Time) error {
	one, err := g.get(id)
	if err != nil {
		return fmt.Errorf("%w: the image %s is not here: fetch it first", virt.ErrConflict, id)
	}
	if now.Before(one.at) {
		return fmt.Errorf("%w: the image %s is still being fetched: try again", virt.ErrConflict, id)
	}
	return nil
}

func (i image) status(now time.Time) string {
	if now.Before(i.at) {
		return "pending"
	}
	return "complete"
}

// size is made up from the ID, and the same for ever: 64 MB to 1 GB. One that was
// sent has what was sent.
func (i image) size() uint64 {
	if i.sent > 0 {
		return uint64(i.sent+1<<20-1) >> 20
	}
	return 64 + hash(i.id)%961
}

// hash is FNV-1a: the same in every process.
func hash(s string) uint64 {
	sum := uint64(14695981039346656037)
	for i := range len(s) {
		sum = (sum ^ uint64(s[i])) * 1099511628211
	}
	return sum
}
