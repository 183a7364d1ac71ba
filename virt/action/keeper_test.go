package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// keeper is a fake that is a Snapshotter, DiskAttacher and Imager too.
type keeper struct{ *fake }

func (f keeper) Snapshots(ctx context.Context, h virt.Host, g virt.Guest) (list []virt.Snapshot, err error) {
	err = f.do(ctx, "snapshots", h, func() error {
		for _, name := range f.kept[g.UUID] {
			list = append(list, virt.Snapshot{Name: name})
		}
		return nil
	})
	return list, err
}

func (f keeper) CreateSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	return f.do(ctx, "snapshot", h, func() error {
		if slices.Contains(f.kept[g.UUID], name) {
			return virt.ErrConflict
		}
		f.kept[g.UUID] = append(f.kept[g.UUID], name)
		return nil
	})
}

func (f keeper) index(g virt.Guest, name string) (int, error) {
	i := slices.Index(f.kept[g.UUID], name)
	if i < 0 {
		return i, virt.ErrNotFound
	}
	return i, nil
}

func (f keeper) DeleteSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string) error {
	return f.do(ctx, "delete snapshot", h, func() error {
		i, err := f.index(g, name)
		if err == nil {
			f.kept[g.UUID] = slices.Delete(slices.Clone(f.kept[g.UUID]), i, i+1)
		}
		return err
	})
}

func (f keeper) RollbackSnapshot(ctx context.Context, h virt.Host, g virt.Guest, name string, destroy bool) error {
	return f.do(ctx, "roll back", h, func() error {
		i, err := f.index(g, name)
		if err == nil && i+1 < len(f.kept[g.UUID]) && !destroy {
			err = virt.ErrConflict
		}
		if err == nil {
			f.kept[g.UUID] = f.kept[g.UUID][:i+1]
		}
		return err
	})
}

func (f keeper) DownloadSnapshot(context.Context, virt.Host, virt.Guest, string, string) (*virt.Stream, error) {
	return &virt.Stream{ReadCloser: io.NopCloser(strings.NewReader("x")), Length: 1}, nil
}

func (f keeper) AttachDisk(ctx context.Context, h virt.Host, g virt.Guest, d virt.Disk) error {
	return f.do(ctx, "attach", h, func() error {
		switch {
		case f.refuse != nil:
			return f.refuse
		case f.volumes[h.ID+" "+d.Volume] != g.UUID && d.Source == "":
			return fmt.Errorf("%w: there is no volume %s", virt.ErrConflict, d.Volume)
		case virt.DiskRef(g.Definition.Disks, d.Device) < 0:
			return fmt.Errorf("%w: the definition has no %s", virt.ErrInvalid, d.Device)
		}
		if !slices.Contains(f.holds[g.UUID], d.Device) {
			f.holds[g.UUID] = append(f.holds[g.UUID], d.Device)
		}
		return nil
	})
}

func (f keeper) DetachDisk(ctx context.Context, h virt.Host, g virt.Guest, d virt.Disk) error {
	return f.do(ctx, "detach", h, func() error {
		f.holds[g.UUID] = slices.DeleteFunc(slices.Clone(f.holds[g.UUID]), func(o string) bool { return o == d.Device })
		return nil
	})
}

func (f keeper) Images(context.Context, virt.Host) ([]virt.Image, error) { return nil, nil }

func (f keeper) Image(context.Context, virt.Host, string) (virt.Image, error) {
	return virt.Image{}, virt.ErrNotFound
}

func (f keeper) FetchImage(ctx context.Context, h virt.Host, r virt.ImageRequest, progress func(int64, int64)) (virt.Image, error) {
	err := f.do(ctx, "fetch "+r.ID, h, func() error { return nil })
	progress(1<<20, 4<<20)
	return virt.Image{ID: r.ID, Status: virt.ImageComplete, Size: 4}, err
}

func (f keeper) DeleteImage(ctx context.Context, h virt.Host, _ string) error {
	return f.do(ctx, "delete image", h, func() error { return virt.ErrNotFound })
}

func keeping(t *testing.T) *world {
	w := newWorld(t)
	w.host("h1", `{"driver":"keeper","cpu":8,"memory":4096,"disk":1000}`)
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	return w
}

func (w *world) fails(want error, name string, p virt.Params) {
	w.t.Helper()
	p.VM = "web1"
	if _, err := w.run(context.Background(), name, p); !errors.Is(err, want) {
		w.t.Errorf("%s %+v: got error %v, want one that is %q", name, p, err, want)
	}
}

// A snapshot that somebody else made is not taken for one's own, in whichever
// attempt, and one of an attempt without an answer is.
func TestSnapshotOfAnother(t *testing.T) {
	w := keeping(t)
	u := virt.NodeUUID(w.node("web1"))
	w.driver.kept[u] = []string{"s1"}
	w.fails(virt.ErrConflict, virt.ActionSnapshot, virt.Params{Snapshot: "s1"})
	w.attempt = 2
	w.fails(virt.ErrConflict, virt.ActionSnapshot, virt.Params{Snapshot: "s1"})
	w.set("web1", func(d *registry.Draft) {
		var err error
		if d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaSnapshotting: virt.SnapshotBegun{Name: "s1", Job: "other"}}); err != nil {
			t.Fatal(err)
		}
	})
	w.fails(virt.ErrConflict, virt.ActionSnapshot, virt.Params{Snapshot: "s1"})
	w.set("web1", func(d *registry.Draft) {
		var err error
		if d.Metadata, err = d.Metadata.Merge(map[string]any{virt.MetaSnapshotting: virt.SnapshotBegun{Name: "s1", Job: "job"}}); err != nil {
			t.Fatal(err)
		}
	})
	w.must(virt.ActionSnapshot, virt.Params{VM: "web1", Snapshot: "s1"})
	w.fails(virt.ErrInvalid, virt.ActionSnapshot, virt.Params{Snapshot: "../x"})
	w.fails(virt.ErrBusy, virt.ActionRollback, virt.Params{Snapshot: "s1"})
}

// A disk that the host refuses is in no definition and is not forgotten.
func TestAttachRefused(t *testing.T) {
	w := keeping(t)
	before := w.node("web1").Definition()
	w.fails(virt.ErrConflict, virt.ActionAttachDisk, virt.Params{Disk: &virt.Disk{Size: 1 << 30}}) // more than the host has
	w.driver.refuse = virt.ErrBusy
	w.fails(virt.ErrBusy, virt.ActionAttachDisk, virt.Params{Disk: &virt.Disk{Size: 50}})
	n := w.node("web1")
	if got := virt.DetachedOf(n); len(got) != 1 || got[0].Size != 50 {
		t.Errorf("the volume that was made for it is noted as %+v", got)
	}
	d, err := virt.ParseDefinition(n.Definition())
	if err != nil || len(d.Disks) != 1 {
		t.Errorf("its disks are %+v (%v), and were those of %s", d.Disks, err, before)
	}
	// The same volume can be attached, and is wiped with the others.
	w.driver.refuse = nil
	w.must(virt.ActionAttachDisk, virt.Params{VM: "web1", Disk: &virt.Disk{Volume: virt.DetachedOf(n)[0].Volume}})
	if got := virt.DetachedOf(w.node("web1")); len(got) != 0 {
		t.Errorf("attached, and noted as detached: %+v", got)
	}
	w.must(virt.ActionDetachDisk, virt.Params{VM: "web1", Device: "vdb"})
	w.fails(virt.ErrNotFound, virt.ActionDetachDisk, virt.Params{Device: "vdq"})
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	w.must(virt.ActionDeprovision, virt.Params{VM: "web1"})
	if len(w.driver.volumes) != 0 || len(virt.DetachedOf(w.node("web1"))) != 0 {
		t.Errorf("after deprovision there are %v, noted are %+v", w.driver.volumes, virt.DetachedOf(w.node("web1")))
	}
}

// The disks that stay are called as before, whichever is taken away.
func TestDetachKeepsNames(t *testing.T) {
	w := newWorld(t)
	w.host("h1", `{"driver":"keeper","cpu":8,"memory":4096,"disk":1000}`)
	w.vm("web1", `{"cpu":1,"memory":256,"disks":[{"size":10},{"size":20},{"size":30}]}`)
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	before, err := virt.GuestOf(w.node("web1"))
	if err != nil {
		t.Fatal(err)
	}
	w.must(virt.ActionDetachDisk, virt.Params{VM: "web1", Device: "1"})
	w.must(virt.ActionAttachDisk, virt.Params{VM: "web1", Disk: &virt.Disk{Size: 40}})
	after, err := virt.GuestOf(w.node("web1"))
	if err != nil {
		t.Fatal(err)
	}
	all := after.Definition.Disks
	if len(all) != 3 || all[0] != before.Definition.Disks[0] || all[1] != before.Definition.Disks[2] {
		t.Fatalf("the disks were %+v and are %+v", before.Definition.Disks, all)
	}
	if all[2].Volume == before.Definition.Disks[1].Volume || all[2].Size != 40 {
		t.Errorf("the new disk is %+v: what another held would come back", all[2])
	}
}

// A driver that cannot do it says what it is.
func TestUnable(t *testing.T) {
	w := newWorld(t, "h1")
	w.vm("web1", small)
	w.must(virt.ActionStart, virt.Params{VM: "web1"})
	w.fails(virt.ErrUnsupported, virt.ActionSnapshot, virt.Params{Snapshot: "s1"})
	w.fails(virt.ErrBusy, virt.ActionAttachDisk, virt.Params{Disk: &virt.Disk{Size: 50}})
	if d, err := virt.ParseDefinition(w.node("web1").Definition()); err != nil || len(d.Disks) != 1 {
		t.Errorf("a refused disk is in the definition: %+v (%v)", d.Disks, err)
	}
}

// progressTask notes how far the attempt was.
type progressTask struct {
	fakeTask
	said []string
}

func (p *progressTask) Progress(percent int, text string) {
	p.said = append(p.said, fmt.Sprintf("%d %s", percent, text))
}

func TestImages(t *testing.T) {
	w := keeping(t)
	do := func(action string, attempt int) (any, []string, error) {
		p := virt.HostParams{Hypervisor: "h1", ImageRequest: virt.ImageRequest{ID: "debian"}}
		task := &progressTask{fakeTask: fakeTask{job: scheduler.Job{ID: "j", Queue: "h1", Action: action, Params: scheduler.MustParams(p)}}}
		task.job.Trail.Attempt = attempt
		res, err := w.actions[action].Run(context.Background(), task)
		return res, task.said, err
	}
	res, said, err := do(virt.ActionFetchImage, 1)
	if got, _ := res.(ImageResult); err != nil || got.Image.Size != 4 || got.Hypervisor != "h1" || !slices.Contains(said, "25 1 of 4 MB") {
		t.Errorf("%+v, %q, %v", res, said, err)
	}
	if _, _, err := do(virt.ActionDeleteImage, 1); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, _, err := do(virt.ActionDeleteImage, 2); err != nil {
		t.Errorf("an image that an earlier attempt has deleted: %v", err)
	}
}
