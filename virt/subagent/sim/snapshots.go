package sim

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// place is what a request about snapshots is about.
type place struct {
	guest   virt.Guest
	dataset string
	disk    int // -1 is the guest with all of its disks
	name    string
}

// find reads the ID of a request and lets the host take its time and fail. The
// disk is named by its number or its device.
func (a *Agent) find(ctx context.Context, id string, named bool) (place, error) {
	s, err := mistify.ParseSnapshotID(id)
	if err != nil {
		return place{}, err
	}
	if named && s.Name == "" {
		return place{}, fmt.Errorf("%w: %.200q names no snapshot: it must end in @NAME", virt.ErrInvalid, id)
	}
	a.mu.Lock()
	v, known := a.guests[s.Guest]
	a.mu.Unlock()
	if !known {
		v = virt.Guest{ID: s.Guest, UUID: s.Guest, Name: s.Guest}
	}
	if _, err := a.driver.Info(ctx, a.host, v); err != nil {
		return place{}, err
	}
	if !known {
		return place{}, fmt.Errorf("%w: the simulated host has forgotten the disks of guest %s: define it again", virt.ErrConflict, s.Guest)
	}
	p := place{guest: v, dataset: "guests/" + s.Guest, disk: -1, name: s.Name}
	if s.Disk == "" {
		return p, nil
	}
	for i, d := range v.Definition.Disks {
		if s.Disk == strconv.Itoa(i) || s.Disk == d.Device {
			p.disk, p.dataset = i, datasetOf(v.UUID, i)
			return p, nil
		}
	}
	return place{}, fmt.Errorf("%w: disk %.32q of guest %s", virt.ErrNotFound, s.Disk, s.Guest)
}

func datasetOf(guest string, disk int) string {
	return fmt.Sprintf("guests/%s/disk-%d", guest, disk)
}

// onShelf runs a function on the guest's snapshots and answers what it finds.
func (a *Agent) onShelf(p place, do func(*shelf) ([]snapshot, error)) (*mistify.SnapshotResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.shelves[p.guest.UUID]
	if s == nil {
		s = &shelf{}
		a.shelves[p.guest.UUID] = s
	}
	found, err := do(s)
	if err != nil {
		return nil, err
	}
	out := &mistify.SnapshotResponse{Snapshots: make([]mistify.Snapshot, len(found))}
	for i, one := range found {
		out.Snapshots[i] = mistify.Snapshot{ID: one.id(), Size: uint64(max(0, one.size))}
	}
	return out, nil
}

// ListSnapshots lists the snapshots of a guest with those of its disks, or of
// one disk.
func (a *Agent) ListSnapshots(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	p, err := a.find(ctx, r.ID, false)
	if err != nil {
		return nil, err
	}
	return a.onShelf(p, func(s *shelf) ([]snapshot, error) { return s.list(p.dataset, p.name), nil })
}

// GetSnapshot looks at one snapshot.
func (a *Agent) GetSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	p, err := a.find(ctx, r.ID, true)
	if err != nil {
		return nil, err
	}
	return a.onShelf(p, func(s *shelf) ([]snapshot, error) {
		one, err := s.get(p.dataset, p.name)
		return []snapshot{one}, err
	})
}

// CreateSnapshot makes a snapshot of a disk, or of a guest and its disks.
func (a *Agent) CreateSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	p, err := a.find(ctx, r.ID, false)
	if err != nil {
		return nil, err
	}
	name := p.name
	if name == "" {
		name = r.Dest
	}
	if err := mistify.CheckSnapshotName(name); err != nil {
		return nil, err
	}
	taken := []snapshot{}
	if p.disk < 0 {
		taken = append(taken, snapshot{dataset: p.dataset, name: name, disk: -1})
	}
	for i, d := range p.guest.Definition.Disks {
		if i != p.disk && (p.disk >= 0 || !r.Recursive) || d.Source != "" {
			continue
		}
		text, err := a.content(d.Volume)
		if err != nil {
			return nil, err
		}
		taken = append(taken, snapshot{dataset: datasetOf(p.guest.UUID, i), name: name, disk: i, size: d.Size, text: text})
	}
	if len(taken) == 0 {
		return nil, fmt.Errorf("%w: disk %d of guest %s was not made here: there are no snapshots of it", virt.ErrUnsupported, p.disk, p.guest.UUID)
	}
	return a.onShelf(p, func(s *shelf) ([]snapshot, error) {
		a.number++
		for i := range taken {
			taken[i].number = a.number
		}
		return taken, s.add(taken)
	})
}

// content reads a volume.
func (a *Agent) content(volume string) (string, error) {
	if a.disks == nil {
		return "", nil
	}
	text, ok, err := a.disks.Disk(a.name(), volume)
	if err == nil && !ok {
		err = fmt.Errorf("%w: volume %.128q: provision it first", virt.ErrNotFound, volume)
	}
	return text, err
}

// DeleteSnapshot removes a snapshot.
func (a *Agent) DeleteSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	p, err := a.find(ctx, r.ID, true)
	if err != nil {
		return nil, err
	}
	return a.onShelf(p, func(s *shelf) ([]snapshot, error) { return s.remove(p.dataset, p.name, r.Recursive) })
}

// RollbackSnapshot puts the disks of a guest that does not run back to what they
// held. Newer snapshots are in its way unless they may be destroyed.
func (a *Agent) RollbackSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
	p, err := a.find(ctx, r.ID, true)
	if err != nil {
		return nil, err
	}
	info, err := a.driver.Info(ctx, a.host, p.guest)
	if err != nil {
		return nil, err
	}
	if info.State == virt.Running || info.State == virt.Paused {
		return nil, fmt.Errorf("%w: guest %s is %s: stop it before its disks go back", virt.ErrBusy, p.guest.UUID, info.State)
	}
	return a.onShelf(p, func(s *shelf) ([]snapshot, error) {
		to, newer, err := s.back(p.dataset, p.name)
		if err != nil {
			return nil, err
		}
		if len(newer) > 0 && !r.DestroyMoreRecent {
			return nil, fmt.Errorf("%w: %d snapshots are newer than %s and would be lost, %s is one: say destroyMoreRecent", virt.ErrConflict, len(newer), to[0].id(), newer[0].id())
		}
		for _, one := range to {
			if one.disk < 0 || a.disks == nil {
				continue
			}
			if one.disk >= len(p.guest.Definition.Disks) {
				return nil, fmt.Errorf("%w: guest %s has no disk %d any more", virt.ErrConflict, p.guest.UUID, one.disk)
			}
			if err := a.disks.WriteDisk(a.name(), p.guest.Definition.Disks[one.disk].Volume, one.text); err != nil {
				return nil, err
			}
		}
		s.drop(newer)
		return to[:1], nil
	})
}

// DownloadSnapshot opens the content of a snapshot: what the disk held, and made
// up bytes up to its size or the bound of the options. They follow from what it
// held, so that a disk that becomes of them what this one was has them again. That
// of a guest is the contents of its disks, one after the other.
func (a *Agent) DownloadSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (content io.Reader, length int64, err error) {
	p, err := a.find(ctx, r.ID, true)
	if err != nil {
		return nil, 0, err
	}
	var found []snapshot
	if _, err := a.onShelf(p, func(s *shelf) ([]snapshot, error) {
		found, _, err = s.back(p.dataset, p.name)
		return nil, err
	}); err != nil {
		return nil, 0, err
	}
	var parts []io.Reader
	for _, one := range found {
		if one.disk < 0 {
			continue
		}
		n := min(one.size<<20, a.opts.Download)
		parts = append(parts, io.LimitReader(io.MultiReader(strings.NewReader(one.text), padding(one.text)), n))
		length += n
	}
	return io.MultiReader(parts...), length, nil
}
