package sim

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// snapshot is what a guest's volumes held at one time.
type snapshot struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	Held []held    `json:"held"`
}

// held is one volume in a snapshot.
type held struct {
	Device string `json:"device"`
	Volume string `json:"volume"`
	Size   int64  `json:"size"` // MB
	Text   string `json:"text,omitempty"`
}

func (s snapshot) named(name string) bool { return s.Name == name }

// shot finds a snapshot of a guest.
func (s *state) shot(uuid, name string) (int, error) {
	i := slices.IndexFunc(s.Snapshots[uuid], func(one snapshot) bool { return one.named(name) })
	if i < 0 {
		return 0, fmt.Errorf("%w: snapshot %s of guest %s", virt.ErrNotFound, name, uuid)
	}
	return i, nil
}

// setShots replaces a guest's snapshots, with a list of its own.
func (s *state) setShots(uuid string, list []snapshot) {
	all := make(map[string][]snapshot, len(s.Snapshots)+1)
	for u, l := range s.Snapshots {
		all[u] = l
	}
	if all[uuid] = list; len(list) == 0 {
		delete(all, uuid)
	}
	s.Snapshots = all
}

// Snapshots lists those of a guest, oldest first.
func (d *Driver) Snapshots(ctx context.Context, h virt.Host, vg virt.Guest) (list []virt.Snapshot, err error) {
	err = d.onGuest(ctx, h, vg, "snapshots", func(s *state, _ *guest, _ time.Time) (bool, error) {
		list = make([]virt.Snapshot, 0, len(s.Snapshots[vg.UUID]))
		for _, one := range s.Snapshots[vg.UUID] {
			v := virt.Snapshot{Name: one.Name, Created: one.At}
			for _, disk := range one.Held {
				v.Size += disk.Size
				v.Disks = append(v.Disks, disk.Device)
			}
			list = append(list, v)
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// onSnapshot is onGuest for a snapshot with a name that can be one.
func (d *Driver) onSnapshot(ctx context.Context, h virt.Host, vg virt.Guest, op, name string, deed func(*state, *guest, time.Time) (bool, error)) error {
	if err := virt.CheckSnapshotName(name); err != nil {
		return err
	}
	return d.onGuest(ctx, h, vg, op, deed)
}

// CreateSnapshot keeps what the guest's volumes hold.
func (d *Driver) CreateSnapshot(ctx context.Context, h virt.Host, vg virt.Guest, name string) error {
	return d.onSnapshot(ctx, h, vg, "snapshot", name, func(s *state, _ *guest, now time.Time) (bool, error) {
		old := s.Snapshots[vg.UUID]
		switch {
		case slices.ContainsFunc(old, func(one snapshot) bool { return one.named(name) }):
			return false, fmt.Errorf("%w: there is a snapshot %s already", virt.ErrConflict, name)
		case len(old) >= virt.MaxSnapshots:
			return false, fmt.Errorf("%w: it has %d snapshots, which is the limit: delete some", virt.ErrConflict, len(old))
		}
		one := snapshot{Name: name, At: now}
		for _, want := range vg.Definition.Disks {
			if want.Source != "" {
				continue
			}
			has, ok := s.Disks[want.Volume]
			if !ok {
				return false, fmt.Errorf("%w: the volume %s is not there: provision it first", virt.ErrConflict, want.Volume)
			}
			one.Held = append(one.Held, held{Device: want.Device, Volume: want.Volume, Size: has.Size, Text: has.Text})
		}
		if len(one.Held) == 0 {
			return false, fmt.Errorf("%w: it has no disk that was made here", virt.ErrUnsupported)
		}
		s.setShots(vg.UUID, append(slices.Clone(old), one))
		return true, nil
	})
}

// DeleteSnapshot removes a snapshot.
func (d *Driver) DeleteSnapshot(ctx context.Context, h virt.Host, vg virt.Guest, name string) error {
	return d.onSnapshot(ctx, h, vg, "delete snapshot", name, func(s *state, _ *guest, _ time.Time) (bool, error) {
		i, err := s.shot(vg.UUID, name)
		if err != nil {
			return false, err
		}
		s.setShots(vg.UUID, slices.Delete(slices.Clone(s.Snapshots[vg.UUID]), i, i+1))
		return true, nil
	})
}

// RollbackSnapshot puts the guest's volumes back to what they held.
func (d *Driver) RollbackSnapshot(ctx context.Context, h virt.Host, vg virt.Guest, name string, destroyMoreRecent bool) error {
	return d.onSnapshot(ctx, h, vg, "roll back", name, func(s *state, g *guest, _ time.Time) (bool, error) {
		i, err := s.shot(vg.UUID, name)
		if err != nil {
			return false, err
		}
		if g.active() {
			return false, fmt.Errorf("%w: %s is %s: stop it before its disks go back", virt.ErrBusy, g.Name, g.State)
		}
		list := s.Snapshots[vg.UUID]
		if newer := list[i+1:]; len(newer) > 0 && !destroyMoreRecent {
			return false, fmt.Errorf("%w: %d snapshots are newer than %s and would be lost, %s is one", virt.ErrConflict, len(newer), name, newer[0].Name)
		}
		for _, was := range list[i].Held {
			if s.Disks[was.Volume].Owner != vg.UUID {
				return false, fmt.Errorf("%w: the volume %s is not there any more", virt.ErrConflict, was.Volume)
			}
		}
		for _, was := range list[i].Held {
			now := s.Disks[was.Volume]
			now.Text = was.Text
			s.Disks[was.Volume] = now
		}
		s.setShots(vg.UUID, slices.Clone(list[:i+1]))
		return true, nil
	})
}

// downloaded is how long a simulated download is at least, and the piece in
// which it comes.
const downloaded = 64 << 10

// DownloadSnapshot opens what a volume held: its text, and nothing after it.
func (d *Driver) DownloadSnapshot(ctx context.Context, h virt.Host, vg virt.Guest, name, device string) (*virt.Stream, error) {
	var content string
	err := d.onSnapshot(ctx, h, vg, "download", name, func(s *state, _ *guest, _ time.Time) (bool, error) {
		i, err := s.shot(vg.UUID, name)
		if err != nil {
			return false, err
		}
		for _, was := range s.Snapshots[vg.UUID][i].Held {
			if was.Device == device {
				content = was.Text
				return false, nil
			}
		}
		return false, fmt.Errorf("%w: disk %.16q in the snapshot %s", virt.ErrNotFound, device, name)
	})
	if err != nil {
		return nil, err
	}
	if short := downloaded - len(content); short > 0 {
		content += strings.Repeat("\x00", short)
	}
	return &virt.Stream{ReadCloser: io.NopCloser(untilDone{ctx, strings.NewReader(content)}), Format: "raw", Length: int64(len(content))}, nil
}

// untilDone reads until ctx has ended.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
