package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// The folders of a store, on the wire too.
const (
	ImagesFolder  = "images"
	GuestsFolder  = "guests"
	VolumesFolder = "volumes"
)

// The words of an image's status.
const (
	Pending  = "pending"
	Complete = "complete"
)

// MaxSnapshots bounds those of one disk.
const MaxSnapshots = 1000

// CheckName refuses what is no single word. It is stricter than the wire, which
// has references of containers too.
func CheckName(what, id string) error {
	if err := mistify.CheckImageID("", id); err != nil || strings.Contains(id, "@") || len(id) > 200 {
		return &mistify.NameError{What: what, Given: id, Want: "1 to 200 letters, digits, -, _, : and single dots, a letter or digit first"}
	}
	return nil
}

// CheckImage reports why id is not the name of an image.
func CheckImage(id string) error { return CheckName("image's id", id) }

// CheckVolume reports why id is not the name of a volume.
func CheckVolume(id string) error { return CheckName("volume's id", id) }

// CheckFetch checks the request for an image from elsewhere and returns its id:
// without one the last word of the source is it.
func CheckFetch(r *mistify.ImageRequest) (id string, err error) {
	if id = r.ID; id == "" {
		id = nameOf(r.Source)
	}
	return id, checkNew(id, r)
}

// CheckPut checks the request for an image that is sent, which must say its id.
func CheckPut(r *mistify.ImageRequest) error {
	if r.Source != "" {
		return fmt.Errorf("%w: the image %.200q is sent and has a source too", virt.ErrInvalid, r.ID)
	}
	return checkNew(r.ID, r)
}

func checkNew(id string, r *mistify.ImageRequest) error {
	if err := CheckImage(id); err != nil {
		return err
	}
	if r.Type == mistify.TypeContainer {
		return fmt.Errorf("%w: images of containers are not kept here", virt.ErrUnsupported)
	}
	if r.Size > 1<<62 {
		return fmt.Errorf("%w: the image %s would have %d bytes", virt.ErrInvalid, id, r.Size)
	}
	return nil
}

// nameOf is what an image is called after its source.
func nameOf(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	name := path.Base(u.Path)
	for _, suffix := range [...]string{".gz", ".xz", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// Hashed is what is kept of a source: a URL can hold secrets.
func Hashed(source string) string {
	sum := sha256.Sum256([]byte(source))
	return hex.EncodeToString(sum[:])
}

// Image is one as the wire has it, with the bytes of its disk once it is whole.
func Image(id string, whole bool, size int64) mistify.Image {
	i := mistify.Image{ID: id, Type: "vm", Status: Pending}
	if whole {
		i.Volume, i.Snapshot, i.Size, i.Status = ImagesFolder+"/"+id, ImagesFolder+"/"+id+"@"+id, Megabytes(size), Complete
	}
	return i
}

// Megabytes rounds bytes up.
func Megabytes(size int64) uint64 { return uint64(max(0, size)+1<<20-1) >> 20 }

// GuestFolder is where the disks of a guest are.
func GuestFolder(guest string) string { return GuestsFolder + "/" + guest }

// DiskName is the name of a disk on the wire.
func DiskName(guest string, n int) string { return GuestFolder(guest) + "/disk-" + strconv.Itoa(n) }

// The errors that every store has in the same words.

// NoImage is that an image is not there.
func NoImage(id string) error { return fmt.Errorf("%w: no such image: %s", virt.ErrNotFound, id) }

// NoImageYet is that a disk cannot be made for it.
func NoImageYet(id string) error {
	return fmt.Errorf("%w: the image %s is not here: fetch it first", virt.ErrConflict, id)
}

// OtherImage is that another image has the name.
func OtherImage(id string) error {
	return fmt.Errorf("%w: the image %s is there already, from another source: delete it first", virt.ErrConflict, id)
}

// ImageFree is the error for an image that is to be made, after who looked for it was
// told err: none if it is not there.
func ImageFree(id string, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("%w: the image %s is there already: delete it first", virt.ErrConflict, id)
	case errors.Is(err, virt.ErrNotFound):
		return nil
	}
	return err
}

// HasClones is that an image cannot be removed, or taken.
func HasClones(id string, clones []string) error {
	return fmt.Errorf("%w: the image %s has %d clones, %s is one: delete them first", virt.ErrConflict, id, len(clones), clones[0])
}

// NoVolume is that a volume is not there.
func NoVolume(id string) error { return fmt.Errorf("%w: no such volume: %s", virt.ErrNotFound, id) }

// NoSnapshot is that a snapshot is not there.
func NoSnapshot(at mistify.SnapshotID) error {
	return fmt.Errorf("%w: snapshot %s", virt.ErrNotFound, at)
}

// NoDisks is that a guest has none.
func NoDisks(guest string) error {
	return fmt.Errorf("%w: guest %s has no disks here", virt.ErrNotFound, guest)
}

// SnapshotTaken is that the name is.
func SnapshotTaken(at mistify.SnapshotID) error {
	return fmt.Errorf("%w: the snapshot %s is there already: delete it, or choose another name", virt.ErrConflict, at)
}

// NewerSnapshots is that they are in the way of a rollback.
func NewerSnapshots(at mistify.SnapshotID, newer []string) error {
	return fmt.Errorf("%w: %d snapshots are newer than %s and would be lost, @%s is one: say destroyMoreRecent", virt.ErrConflict, len(newer), at, newer[0])
}
