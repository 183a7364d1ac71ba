package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// Limits of what the sub-agent remembers.
const (
	maxSnapshots = 1000 // of one guest
	maxImages    = 10_000
)

// snapshot is one dataset's content at one moment. A guest's own dataset has
// no content; it is there so that the guest has snapshots as its disks do.
type snapshot struct {
	dataset string // guests/ID or guests/ID/disk-N
	name    string
	number  uint64 // grows; the greater is the newer
	disk    int    // -1 for the guest itself
	size    int64  // MB
	text    string // what the disk held
}

func (s snapshot) id() string { return s.dataset + "@" + s.name }

// shelf has the snapshots of one guest, oldest first.
type shelf struct{ all []snapshot }

// within reports whether a dataset is the other one or below it.
func within(dataset, below string) bool {
	return dataset == below || strings.HasPrefix(dataset, below+"/")
}

// list returns the snapshots of a dataset and what is below it; of one name if
// it is not empty.
func (s *shelf) list(dataset, name string) (found []snapshot) {
	for _, one := range s.all {
		if within(one.dataset, dataset) && (name == "" || one.name == name) {
			found = append(found, one)
		}
	}
	return found
}

// get returns one snapshot of exactly that dataset.
func (s *shelf) get(dataset, name string) (snapshot, error) {
	for _, one := range s.all {
		if one.dataset == dataset && one.name == name {
			return one, nil
		}
	}
	return snapshot{}, fmt.Errorf("%w: snapshot %s@%s", virt.ErrNotFound, dataset, name)
}

// add takes snapshots of one moment: all of them or none.
func (s *shelf) add(taken []snapshot) error {
	for _, one := range taken {
		if _, err := s.get(one.dataset, one.name); err == nil {
			return fmt.Errorf("%w: the snapshot %s is there already: delete it, or choose another name", virt.ErrConflict, one.id())
		}
	}
	if len(s.all)+len(taken) > maxSnapshots {
		return fmt.Errorf("%w: the guest has %d snapshots and may have %d: delete some", virt.ErrConflict, len(s.all), maxSnapshots)
	}
	s.all = append(s.all, taken...)
	return nil
}

// remove forgets a snapshot, with those of that name below it if it is
// recursive, and returns them.
func (s *shelf) remove(dataset, name string, recursive bool) ([]snapshot, error) {
	if _, err := s.get(dataset, name); err != nil {
		return nil, err
	}
	gone := func(one snapshot) bool {
		return one.name == name && (one.dataset == dataset || recursive && within(one.dataset, dataset))
	}
	var removed []snapshot
	for _, one := range s.all {
		if gone(one) {
			removed = append(removed, one)
		}
	}
	s.all = slices.DeleteFunc(s.all, gone)
	return removed, nil
}

// back returns the snapshots to go back to, and those that are newer and would
// be lost by it. It changes nothing: the disks come first.
func (s *shelf) back(dataset, name string) (to, newer []snapshot, err error) {
	at, err := s.get(dataset, name)
	if err != nil {
		return nil, nil, err
	}
	touched := map[string]bool{}
	for _, one := range s.list(dataset, name) {
		to = append(to, one)
		touched[one.dataset] = true
	}
	for _, one := range s.all {
		if touched[one.dataset] && one.number > at.number {
			newer = append(newer, one)
		}
	}
	return to, newer, nil
}

// drop forgets the given snapshots.
func (s *shelf) drop(gone []snapshot) {
	s.all = slices.DeleteFunc(s.all, func(one snapshot) bool { return slices.Contains(gone, one) })
}
