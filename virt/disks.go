package virt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// Detached is a disk that was made for a VM and is none of its disks any more. It
// is on the host that has the others, holds what it held, and is wiped with them.
type Detached struct {
	Disk
	Job string `json:"job,omitempty"` // that took it away
}

// DetachedOf are the disks of a VM that are detached.
func DetachedOf(n *registry.Node) []Detached {
	list, _ := metadata[[]Detached](n, MetaDetached)
	return list
}

// SnapshotBegun is the snapshot that a job began to make.
type SnapshotBegun struct {
	Name string `json:"name"`
	Job  string `json:"job"`
}

// SnapshotBegunOf is the one that was begun last.
func SnapshotBegunOf(n *registry.Node) (SnapshotBegun, bool) {
	return metadata[SnapshotBegun](n, MetaSnapshotting)
}

// DiskRef finds the disk of a filled definition that people call by its device,
// volume, source or number; -1 if there is none.
func DiskRef(disks []Disk, ref string) int {
	for _, is := range []func(Disk) bool{
		func(d Disk) bool { return d.Device == ref },
		func(d Disk) bool { return d.Volume == ref },
		func(d Disk) bool { return d.Source == ref },
	} {
		if i := slices.IndexFunc(disks, is); i >= 0 && ref != "" {
			return i
		}
	}
	for i := range disks {
		if ref == fmt.Sprint(i) {
			return i
		}
	}
	return -1
}

// WithDisk is the definition of n with one disk more. What the disk leaves out is
// filled in: of a disk without a volume or a source the volume's name follows from
// seed, so that the same seed is the same disk. A disk that it has already, by
// volume or source, is given back as it is, and the definition unchanged.
func WithDisk(n *registry.Node, disk Disk, seed string) (Definition, Disk, error) {
	d, err := ParseDefinition(n.Definition())
	if err != nil {
		return d, disk, fmt.Errorf("node %s: %w", n.ID(), err)
	}
	if disk.Source == "" && disk.Volume == "" {
		sum := sha256.Sum256([]byte(seed))
		disk.Volume = n.ID() + "-disk-" + hex.EncodeToString(sum[:4])
	}
	if disk.Source == "" && disk.Size == 0 {
		for _, o := range DetachedOf(n) {
			if o.Volume == disk.Volume {
				disk.Size, disk.Format, disk.Image = o.Size, orElse(disk.Format, o.Format), o.Image
			}
		}
	}
	filled := Filled(n.ID(), d).Disks
	for _, o := range filled {
		if disk.Source != "" && o.Source == disk.Source || disk.Source == "" && o.Source == "" && o.Volume == disk.Volume {
			return d, o, nil
		}
	}
	d.Disks = append(slices.Clone(d.Disks), disk)
	filled = Filled(n.ID(), d).Disks
	disk = filled[len(filled)-1]
	d.Disks[len(d.Disks)-1] = disk
	doc, err := registry.NewDocument(d)
	if err == nil {
		_, err = ParseDefinition(doc)
	}
	return d, disk, err
}

// WithoutDisk is the definition of n without the disk that ref names, and that
// disk. The others are called as they were, whatever follows from their order.
func WithoutDisk(n *registry.Node, ref string) (Definition, Disk, error) {
	d, err := ParseDefinition(n.Definition())
	if err != nil {
		return d, Disk{}, fmt.Errorf("node %s: %w", n.ID(), err)
	}
	filled := Filled(n.ID(), d).Disks
	i := DiskRef(filled, ref)
	if i < 0 {
		names := make([]string, len(filled))
		for i, o := range filled {
			names[i] = o.Device
		}
		return d, Disk{}, fmt.Errorf("%w: %s has no disk %.64q: there is %s", ErrNotFound, n.Name(), ref, orElse(strings.Join(names, ", "), "none"))
	}
	gone := filled[i]
	kept := slices.Clone(d.Disks)
	for j := range kept {
		if j > i && kept[j].Source == "" {
			kept[j].Volume = filled[j].Volume
		}
		kept[j].Device = filled[j].Device
	}
	d.Disks = slices.Delete(kept, i, i+1)
	return d, gone, nil
}
