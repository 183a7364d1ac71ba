package libvirtdir_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirtdir"
)

const patience = 90 * time.Second // for what a guest does under emulation, on a busy machine

// A guest whose disk begins as an image, with Linux in it: its console is read and
// typed at, a disk is plugged in and let go of while it runs, and its image stays
// as long as it does.
func TestReal(t *testing.T) {
	t.Parallel()
	kernel, initrd := testbed.Guest(t)
	daemon, url := testbed.Libvirt(t), images(t)
	d, h := open(t, config(daemon)), virt.Host{ID: "hv1"}
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	def := virt.Filled("web1", virt.Definition{
		CPU: 1, Memory: 128, Disks: []virt.Disk{{Image: "debian"}}, NICs: []virt.NIC{{Type: "user"}},
		Boot: virt.Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 vagoth.id=web1"},
	})
	g := virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
	if err := d.Provision(ctx, h, g); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "fetch it first") {
		t.Errorf("a disk of an image that is not here: %v", err)
	}
	_, err := d.FetchImage(ctx, h, virt.ImageRequest{ID: "debian", Source: url + "/debian"}, nil)
	must("fetch", err)
	must("provision", d.Provision(ctx, h, g))
	must("provision again", d.Provision(ctx, h, g))
	if text, ok := read(t, file(daemon, g, 0), "qcow2"); !ok || text != "image" {
		t.Errorf("the disk begins as %q (there: %v)", text, ok)
	}
	if err := d.DeleteImage(ctx, h, "debian"); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("deleting an image with a clone: %v", err)
	}
	must("define", d.Define(ctx, h, g))
	must("start", d.Power(ctx, h, g, virt.PowerStart))

	console, err := d.Console(ctx, h, g)
	must("attach to the console", err)
	lines := bufio.NewReader(console)
	waitFor := func(text string) {
		t.Helper()
		stop := time.AfterFunc(patience, func() { _ = console.Close() })
		defer stop.Stop()
		for {
			line, err := lines.ReadString('\n')
			if strings.Contains(line, text) {
				return
			}
			must("wait for "+text, err)
		}
	}
	waitFor(testbed.GuestUp)
	// Its terminal repeats what is typed, once it is open: what came before is lost.
	typed := make(chan error, 1)
	done, again := make(chan struct{}), time.NewTicker(5*time.Second)
	go func() {
		for {
			if _, err := io.WriteString(console, "is anybody there?\n"); err != nil {
				typed <- err
				return
			}
			select {
			case <-done:
				typed <- nil
				return
			case <-again.C:
			}
		}
	}()
	waitFor("is anybody there?")
	again.Stop()
	close(done)
	must("type", <-typed)

	// A disk more, while it runs.
	more := virt.Filled("web1", virt.Definition{Disks: []virt.Disk{g.Definition.Disks[0], {Size: 2, Volume: "web1-more", Device: "vdb"}}}).Disks[1]
	with := g
	with.Definition.Disks = append(slices.Clone(g.Definition.Disks), more)
	must("make the disk", d.Provision(ctx, h, with))
	must("attach", d.AttachDisk(ctx, h, with, more))
	must("attach again", d.AttachDisk(ctx, h, with, more))
	must("define as it is now", d.Define(ctx, h, with))
	m, err := d.Metrics(ctx, h, with)
	must("measure", err)
	if len(m.Disks) != 2 {
		t.Errorf("with another disk it has %+v", m.Disks)
	}
	must("snapshot both while it runs", d.CreateSnapshot(ctx, h, with, "both"))
	list, err := d.Snapshots(ctx, h, with)
	must("list the snapshots", err)
	if len(list) != 1 || !slices.Equal(list[0].Disks, []string{"vda", "vdb"}) {
		t.Errorf("the snapshots are %+v", list)
	}
	must("detach", d.DetachDisk(ctx, h, g, more))
	must("detach again", d.DetachDisk(ctx, h, g, more))
	must("define as it was", d.Define(ctx, h, g))
	if xml := daemon.Virsh(t, "dumpxml", "web1"); strings.Contains(xml, "web1-more") {
		t.Error("it has the disk still")
	}
	if xml := daemon.Virsh(t, "dumpxml", "--inactive", "web1"); strings.Contains(xml, "web1-more") {
		t.Error("it would have the disk again when it starts")
	}
	must("stop", d.Power(ctx, h, g, virt.PowerStop))
	if _, err := io.Copy(io.Discard, console); err != nil {
		t.Errorf("the console of a guest that stopped: %v", err)
	}
	must("close the console", console.Close())
	if _, err := d.Console(ctx, h, g); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("the console of what is off: %v", err)
	}

	// One of the snapshot's disks is not the guest's now.
	if err := d.RollbackSnapshot(ctx, h, g, "both", false); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("rolling half of a snapshot back: %v", err)
	}
	must("attach while it is off", d.AttachDisk(ctx, h, with, more))
	must("roll back", d.RollbackSnapshot(ctx, h, with, "both", false))
	must("undefine", d.Undefine(ctx, h, with))
	must("deprovision", d.Deprovision(ctx, h, with))
	must("delete the image", d.DeleteImage(ctx, h, "debian"))
	for _, name := range []string{"", "guests", "images"} {
		entries, err := os.ReadDir(filepath.Join(daemon.File("disks"), name))
		must("list", err)
		for _, e := range entries {
			if !slices.Contains([]string{"guests", "half", "images", "incoming", "lock", "volumes"}, e.Name()) {
				t.Errorf("left in the disks' directory: %s/%s", name, e.Name())
			}
		}
	}
}

// A libvirtd elsewhere is refused before anybody is asked, with what to do.
func TestElsewhere(t *testing.T) {
	cfg := libvirtdir.Defaults()
	cfg.Disks = filepath.Join(t.TempDir(), "disks")
	d, h := open(t, cfg), virt.Host{ID: "far", Address: "qemu+tls://far.example.org/system"}
	def := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 64, Disks: []virt.Disk{{Image: "debian"}}})
	g := virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, do := range map[string]func() error{
		"snapshots": func() error { _, err := d.Snapshots(ctx, h, g); return err },
		"create":    func() error { return d.CreateSnapshot(ctx, h, g, "a") },
		"delete":    func() error { return d.DeleteSnapshot(ctx, h, g, "a") },
		"roll back": func() error { return d.RollbackSnapshot(ctx, h, g, "a", true) },
		"download":  func() error { _, err := d.DownloadSnapshot(ctx, h, g, "a", "vda"); return err },
		"images":    func() error { _, err := d.Images(ctx, h); return err },
		"image":     func() error { _, err := d.Image(ctx, h, "debian"); return err },
		"fetch": func() error {
			_, err := d.FetchImage(ctx, h, virt.ImageRequest{ID: "debian", Source: "https://images.example.org/debian"}, nil)
			return err
		},
		"delete image": func() error { return d.DeleteImage(ctx, h, "debian") },
		"provision":    func() error { return d.Provision(ctx, h, g) },
	} {
		if err := do(); !errors.Is(err, virt.ErrUnsupported) || !strings.Contains(err.Error(), "vagoth agent") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Console(ctx, h, g); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("console: %v", err)
	}
	if _, err := os.Stat(cfg.Disks); !os.IsNotExist(err) {
		t.Errorf("a directory was made for a host elsewhere (%v)", err)
	}
}
