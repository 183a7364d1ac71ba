package mistify

import (
	"fmt"
	"slices"

	"github.com/vagoth/vagoth/virt"
)

// VirtSnapshots gathers what is listed disk by disk: each name once, in the order
// of the list, with the disks that are in it, as device calls them. A list that is
// too long or of another guest is an error.
func VirtSnapshots(guest string, wire []Snapshot, device func(disk string) string) ([]virt.Snapshot, error) {
	list := []virt.Snapshot{}
	for _, one := range wire {
		id, err := ParseSnapshotID(one.ID)
		if err != nil || id.Guest != guest || id.Name == "" {
			return nil, fmt.Errorf("the listed snapshot %.200q is none of the guest %s", one.ID, guest)
		}
		i := slices.IndexFunc(list, func(s virt.Snapshot) bool { return s.Name == id.Name })
		if i < 0 {
			if len(list) == virt.MaxSnapshots {
				return nil, fmt.Errorf("more than %d snapshots are listed", virt.MaxSnapshots)
			}
			i = len(list)
			list = append(list, virt.Snapshot{Name: id.Name, Disks: []string{}})
		}
		if id.Disk == "" {
			continue // all of them: their sizes follow
		}
		list[i].Size += int64(min(one.Size, 1<<40))
		if name := device(id.Disk); !slices.Contains(list[i].Disks, name) {
			list[i].Disks = append(list[i].Disks, name)
		}
	}
	return list, nil
}
