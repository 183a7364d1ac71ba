package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// volume is one as the wire has it. There is no device: what stands there is the
// file.
func (s *Store) volume(d disk) (mistify.Volume, error) {
	size, err := s.size(d)
	id := strings.TrimPrefix(strings.TrimSuffix(d.name, "."+d.format), volumes+"/")
	return mistify.Volume{ID: id, Size: store.Megabytes(size), Device: s.path(d.name)}, err
}

// ListVolumes lists the volumes, and the disks of guests as guests/ID/disk-N.
func (s *Store) ListVolumes(_ context.Context, _ *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	out := &mistify.VolumeResponse{Volumes: []mistify.Volume{}}
	var found []disk
	ids, err := s.list(guests)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		of, err := s.disks(id)
		if err != nil {
			return nil, err
		}
		found = append(found, of...)
	}
	names, err := fs.Glob(s.root.FS(), volumes+"/*.qcow2")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		found = append(found, disk{name: name, format: qcow2})
	}
	for _, d := range found {
		v, err := s.volume(d)
		if there, gone := s.there(d.name); err != nil && gone == nil && !there {
			continue // it was just removed
		}
		if err != nil {
			return nil, err
		}
		out.Volumes = append(out.Volumes, v)
	}
	return out, nil
}

// find looks a volume up by its id.
func (s *Store) find(id string) (disk, error) {
	if strings.HasPrefix(id, guests+"/") {
		at, err := mistify.ParseSnapshotID(id)
		if err != nil {
			return disk{}, err
		}
		have, err := s.disks(at.Guest)
		if err != nil {
			return disk{}, err
		}
		i := slices.IndexFunc(have, func(d disk) bool { return fmt.Sprint(d.n) == at.Disk })
		if i < 0 || at.Name != "" {
			return disk{}, store.NoVolume(id)
		}
		return have[i], nil
	}
	if err := store.CheckVolume(id); err != nil {
		return disk{}, err
	}
	d := disk{name: path.Join(volumes, id+".qcow2"), format: qcow2}
	there, err := s.there(d.name)
	if err == nil && !there {
		err = store.NoVolume(id)
	}
	return d, err
}

// GetVolume looks at one volume.
func (s *Store) GetVolume(_ context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	d, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	v, err := s.volume(d)
	if err != nil {
		return nil, err
	}
	return &mistify.VolumeResponse{Volumes: []mistify.Volume{v}}, nil
}

// CreateVolume makes a blank volume. One of this size that is there stays.
func (s *Store) CreateVolume(ctx context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	if err := store.CheckVolume(r.ID); err != nil {
		return nil, err
	}
	if r.Size == 0 || r.Size > s.o.MaxSize {
		return nil, fmt.Errorf("%w: the volume %s would have %d MB: it must have 1 to %d", virt.ErrInvalid, r.ID, r.Size, s.o.MaxSize)
	}
	out, err := s.volumeOf(ctx, r.ID, store.DiskSpec{Format: qcow2, Size: int64(r.Size) << 20})
	if err == nil && out.Volumes[0].Size != r.Size {
		return nil, fmt.Errorf("%w: the volume %s is there already, with %d MB", virt.ErrConflict, r.ID, out.Volumes[0].Size)
	}
	return out, err
}

// volumeOf makes a volume if it is not there.
func (s *Store) volumeOf(ctx context.Context, id string, spec store.DiskSpec) (*mistify.VolumeResponse, error) {
	d := disk{name: path.Join(volumes, id+".qcow2"), format: qcow2}
	release, err := s.locks.Hold(ctx, d.name)
	if err != nil {
		return nil, err
	}
	defer release()
	there, err := s.there(d.name)
	if err == nil && !there {
		if err = s.room(spec.Size); err == nil {
			_, err = s.makeDisk(ctx, d.name, spec)
		}
	}
	if err == nil && there && spec.Image != "" {
		var h *qemuimg.Header
		if h, err = s.header(d.name); err == nil && !s.cloneOf(h, spec.Image) {
			err = fmt.Errorf("%w: the volume %s is there already, and no clone of the image %s", virt.ErrConflict, id, spec.Image)
		}
	}
	if err != nil {
		return nil, err
	}
	v, err := s.volume(d)
	if err != nil {
		return nil, err
	}
	return &mistify.VolumeResponse{Volumes: []mistify.Volume{v}}, nil
}

// DeleteVolume removes a volume of no guest. One that is in use is a
// virt.ErrBusy, one that is not there a virt.ErrNotFound.
func (s *Store) DeleteVolume(ctx context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	if err := store.CheckVolume(r.ID); err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, path.Join(volumes, r.ID+".qcow2"))
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	v, err := s.volume(d)
	if err != nil {
		return nil, err
	}
	if busy, err := s.busy(d.name); err != nil || busy {
		return nil, errors.Join(err, fmt.Errorf("%w: the volume %s is in use", virt.ErrBusy, r.ID))
	}
	if err := s.remove(d.name); err != nil {
		return nil, err
	}
	return &mistify.VolumeResponse{Volumes: []mistify.Volume{v}}, nil
}
