package template

import (
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// imaged gives the image of a new virtual machine a disk to stand on: the first
// one that is new and empty, or, if it has no disk, one of its own that is as large
// as the image. A machine that has a disk of an image already, or only disks that
// exist, keeps them; a container runs from its image. What is none of these, or
// wrong, is left to the checks of its type.
func imaged(doc registry.Document) (registry.Document, error) {
	d, err := virt.ParseDefinition(doc)
	if err != nil || d.Image == "" || d.Type == "container" {
		return doc, nil //nolint:nilerr // the class tells of all that is wrong
	}
	m, err := doc.Map()
	if err != nil {
		return doc, err
	}
	list, _ := m["disks"].([]any)
	empty := -1
	for i, disk := range d.Disks {
		if disk.Image != "" {
			return doc, nil
		}
		if disk.Source == "" && empty < 0 {
			empty = i
		}
	}
	switch {
	case len(d.Disks) == 0:
		m["disks"] = []any{map[string]any{"image": d.Image}}
	case empty < 0:
		return doc, nil
	default:
		disk, _ := list[empty].(map[string]any)
		disk["image"] = d.Image
	}
	return registry.NewDocument(m)
}
