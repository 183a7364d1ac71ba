package drivertest

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/vagoth/vagoth/virt"
)

// snapshots are the calls of a Snapshotter about one guest.
type snapshots struct {
	*bench
	s virt.Snapshotter
	g virt.Guest
}

// keeper makes a guest with disks, of a driver that is a Snapshotter.
func (b *bench) keeper() *snapshots {
	b.Helper()
	s, ok := b.d.(virt.Snapshotter)
	if !ok {
		b.Skip("the driver is no Snapshotter")
	}
	return &snapshots{bench: b, s: s, g: b.defined()}
}

func (s *snapshots) create(name string) error {
	return s.call(func(ctx context.Context) error { return s.s.CreateSnapshot(ctx, s.h, s.g, name) })
}

func (s *snapshots) remove(name string) error {
	return s.call(func(ctx context.Context) error { return s.s.DeleteSnapshot(ctx, s.h, s.g, name) })
}

func (s *snapshots) back(name string, destroy bool) error {
	return s.call(func(ctx context.Context) error { return s.s.RollbackSnapshot(ctx, s.h, s.g, name, destroy) })
}

// names checks which snapshots there are, in this order.
func (s *snapshots) names(want ...string) {
	s.Helper()
	var list []virt.Snapshot
	s.must("list the snapshots", s.call(func(ctx context.Context) (err error) { list, err = s.s.Snapshots(ctx, s.h, s.g); return err }))
	got := []string{}
	for _, one := range list {
		got = append(got, one.Name)
		if len(one.Disks) == 0 || slices.ContainsFunc(one.Disks, func(device string) bool {
			return !slices.ContainsFunc(s.g.Definition.Disks, func(d virt.Disk) bool { return d.Device == device })
		}) {
			s.Errorf("the snapshot %s is of the disks %q, the guest has %+v", one.Name, one.Disks, s.g.Definition.Disks)
		}
	}
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		s.Errorf("the snapshots are %q, want %q", got, want)
	}
}

// without ends a test whose guests have disks of which there are no snapshots.
func (s *snapshots) without() bool {
	if s.NoSnapshots {
		s.is("snapshot of a disk that has none", s.create("a"), virt.ErrUnsupported)
		s.names()
	}
	return s.NoSnapshots
}

func snapshotCreate(b *bench) {
	s := b.keeper()
	s.names()
	if s.without() {
		return
	}
	s.must("create", s.create("b"))
	s.is("create under a name that is taken", s.create("b"), virt.ErrConflict)
	s.must("create another", s.create("a"))
	s.names("b", "a")
	s.state(s.g, virt.Stopped)
}

func snapshotRollback(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	s.mark(s.g, "then")
	s.must("create", s.create("a"))
	s.mark(s.g, "now")
	s.must("start", s.power(s.g, virt.PowerStart))
	s.is("roll back what runs", s.back("a", true), virt.ErrBusy)
	s.must("stop", s.power(s.g, virt.PowerStop))
	s.must("roll back", s.back("a", false))
	s.marked(s.g, "then")
	s.state(s.g, virt.Stopped)
	s.names("a")
	s.mark(s.g, "later")
	s.must("roll back again", s.back("a", false))
	s.marked(s.g, "then")
	s.is("roll back to what never was", s.back("none", true), virt.ErrNotFound)
}

func snapshotNewer(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	for _, name := range []string{"a", "b", "c"} {
		s.mark(s.g, "as of "+name)
		s.must("create", s.create(name))
	}
	s.mark(s.g, "now")
	s.is("roll back past newer ones", s.back("a", false), virt.ErrConflict)
	s.marked(s.g, "now")
	s.names("a", "b", "c")
	s.must("roll back to the newest", s.back("c", false))
	s.marked(s.g, "as of c")
	s.must("roll back past newer ones that may be lost", s.back("a", true))
	s.marked(s.g, "as of a")
	s.names("a")
}

func snapshotDelete(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	s.is("delete what never was", s.remove("a"), virt.ErrNotFound)
	for _, name := range []string{"a", "b", "c"} {
		s.mark(s.g, "as of "+name)
		s.must("create", s.create(name))
	}
	s.mark(s.g, "now")
	s.must("delete the one in the middle", s.remove("b"))
	s.names("a", "c")
	s.is("delete it again", s.remove("b"), virt.ErrNotFound)
	s.marked(s.g, "now")
	s.must("create it again", s.create("b"))
	s.names("a", "c", "b")
	s.must("roll back to what stayed", s.back("a", true))
	s.marked(s.g, "as of a")
}

func snapshotRunning(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	s.must("start", s.power(s.g, virt.PowerStart))
	s.mark(s.g, "then")
	err := s.create("a")
	if s.NoLiveSnapshots {
		s.is("snapshot of what runs", err, virt.ErrBusy)
		s.names()
		return
	}
	s.must("snapshot of what runs", err)
	s.state(s.g, virt.Running)
	s.names("a")
	s.mark(s.g, "now")
	s.must("stop", s.power(s.g, virt.PowerStop))
	s.must("roll back", s.back("a", false))
	s.state(s.g, virt.Stopped)
	s.marked(s.g, "then")
	s.must("start afterwards", s.power(s.g, virt.PowerStart))
	s.state(s.g, virt.Running)
}

func snapshotDownload(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	s.mark(s.g, "marked-then")
	s.must("create", s.create("a"))
	s.mark(s.g, "marked-now")
	open := func(name, device string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
		defer cancel()
		stream, err := s.s.DownloadSnapshot(ctx, s.h, s.g, name, device)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(stream)
		if err == nil && stream.Length >= 0 && stream.Length != int64(len(data)) {
			s.Errorf("%d bytes came of %d", len(data), stream.Length)
		}
		if closed := stream.Close(); err == nil {
			err = closed
		}
		return data, err
	}
	device := s.g.Definition.Disks[0].Device
	data, err := open("a", device)
	s.must("download", err)
	if len(data) == 0 {
		s.Error("the download is empty")
	}
	if s.Disks != nil && (!bytes.Contains(data, []byte("marked-then")) || bytes.Contains(data, []byte("marked-now"))) {
		s.Error("the download does not hold what the disk held then")
	}
	s.marked(s.g, "marked-now")
	_, err = open("none", device)
	s.is("download of a snapshot that never was", err, virt.ErrNotFound)
	_, err = open("a", "vdzz")
	s.is("download of a disk that is not in it", err, virt.ErrNotFound)
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := s.s.DownloadSnapshot(ctx, s.h, s.g, "a", device)
	s.must("download once more", err)
	cancel()
	_, _ = io.Copy(io.Discard, stream) // it may be all there already; what counts is that it ends
	s.must("close a download that was cut off", stream.Close())
}

func snapshotGone(b *bench) {
	s := b.keeper()
	if s.without() {
		return
	}
	s.must("create", s.create("a"))
	s.must("deprovision", s.deprovision(s.g))
	s.must("provision", s.provision(s.g))
	s.must("define", s.define(s.g))
	s.names()
	s.must("create it on new disks", s.create("a"))
}

func snapshotRefused(b *bench) {
	s := b.keeper()
	for _, name := range append(HostileNames(), "a..b", "-a", "a/b", "a@b") {
		for _, v := range []verb{
			{"create", func(context.Context, virt.Host, virt.Guest) error { return s.create(name) }},
			{"delete", func(context.Context, virt.Host, virt.Guest) error { return s.remove(name) }},
			{"roll back to", func(context.Context, virt.Host, virt.Guest) error { return s.back(name, true) }},
		} {
			s.is(v.name+" a snapshot of a hostile name", v.do(context.Background(), s.h, s.g), virt.ErrInvalid)
		}
	}
	s.names()
	s.g = s.guest()
	s.is("snapshot of a guest that never was", s.create("a"), virt.ErrNotFound)
}
