package zfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// wire is a volume as the wire has it.
func (s *Store) wire(d dataset) mistify.Volume {
	return mistify.Volume{ID: strings.TrimPrefix(d.name, volumes+"/"), Size: store.Megabytes(d.size), Device: zvolLinks + s.full(d.name)}
}

func (s *Store) oneVolume(d dataset) *mistify.VolumeResponse {
	return &mistify.VolumeResponse{Volumes: []mistify.Volume{s.wire(d)}}
}

// ListVolumes lists the volumes, and the disks of guests as guests/ID/disk-N.
func (s *Store) ListVolumes(ctx context.Context, _ *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	out := &mistify.VolumeResponse{Volumes: []mistify.Volume{}}
	list, err := s.list(ctx, "", 0, volume)
	if err != nil {
		return nil, err
	}
	for _, folder := range [...]string{guests, volumes} {
		for _, d := range list {
			if strings.HasPrefix(d.name, folder+"/") {
				out.Volumes = append(out.Volumes, s.wire(d))
			}
		}
	}
	return out, nil
}

// volumeName checks a volume's id and returns its dataset.
func (s *Store) volumeName(id string) (string, error) {
	if !strings.HasPrefix(id, guests+"/") {
		if err := store.CheckVolume(id); err != nil {
			return "", err
		}
		name := volumes + "/" + id
		if n := len(s.full(name)); n > maxName {
			return "", fmt.Errorf("%w: the volume's id %.50s... is %d bytes too long for the pool", virt.ErrInvalid, id, n-maxName)
		}
		return name, nil
	}
	at, err := mistify.ParseSnapshotID(id)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(at.Disk)
	if err != nil || at.Name != "" || store.DiskName(at.Guest, n) != id {
		return "", store.NoVolume(id)
	}
	return id, nil
}

// GetVolume looks at one volume.
func (s *Store) GetVolume(ctx context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	name, err := s.volumeName(r.ID)
	if err != nil {
		return nil, err
	}
	d, err := s.volume(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.oneVolume(*d), nil
}

func (s *Store) volume(ctx context.Context, name string) (*dataset, error) {
	d, err := s.get(ctx, name)
	if err == nil && (d == nil || d.kind != volume) {
		err = store.NoVolume(strings.TrimPrefix(name, volumes+"/"))
	}
	return d, err
}

// CreateVolume makes a blank volume. One of this size that is there stays.
func (s *Store) CreateVolume(ctx context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	if err := store.CheckVolume(r.ID); err != nil {
		return nil, err
	}
	if r.Size == 0 || r.Size > s.o.MaxSize {
		return nil, fmt.Errorf("%w: the volume %s would have %d MB: it must have 1 to %d", virt.ErrInvalid, r.ID, r.Size, s.o.MaxSize)
	}
	out, err := s.volumeOf(ctx, r.ID, store.DiskSpec{Size: int64(r.Size) << 20}) //nolint:gosec // at most MaxSize
	if err == nil && out.Volumes[0].Size != r.Size {
		return nil, fmt.Errorf("%w: the volume %s is there already, with %d MB", virt.ErrConflict, r.ID, out.Volumes[0].Size)
	}
	return out, err
}

// volumeOf makes a volume if it is not there.
func (s *Store) volumeOf(ctx context.Context, id string, spec store.DiskSpec) (*mistify.VolumeResponse, error) {
	name, err := s.volumeName(id)
	if err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, name)
	if err != nil {
		return nil, err
	}
	defer release()
	old, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if old == nil {
		var image *dataset
		if spec.Image != "" {
			if image, err = s.imageFor(ctx, spec.Image); err != nil {
				return nil, err
			}
		}
		if err := s.room(spec.Size); err != nil {
			return nil, err
		}
		if _, err := s.makeDisk(ctx, name, spec, image, ""); err != nil {
			return nil, err
		}
		if old, err = s.volume(ctx, name); err != nil {
			return nil, err
		}
	} else if spec.Image != "" && old.origin != s.full(imageSnapshot(spec.Image)) {
		return nil, fmt.Errorf("%w: the volume %s is there already, and no clone of the image %s", virt.ErrConflict, id, spec.Image)
	}
	if _, err := s.device(ctx, name); err != nil {
		return nil, err
	}
	return s.oneVolume(*old), nil
}

// DeleteVolume removes a volume of no guest, with its snapshots. One that is in use
// is a virt.ErrBusy, one that is not there a virt.ErrNotFound.
func (s *Store) DeleteVolume(ctx context.Context, r *mistify.VolumeRequest) (*mistify.VolumeResponse, error) {
	if err := store.CheckVolume(r.ID); err != nil {
		return nil, err
	}
	name, err := s.volumeName(r.ID)
	if err != nil {
		return nil, err
	}
	release, err := s.locks.Hold(ctx, name)
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := s.volume(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.idle([]dataset{*d}); err != nil {
		return nil, err
	}
	if err := s.removeWhole(ctx, name); err != nil {
		return nil, err
	}
	return s.oneVolume(*d), nil
}
