package hosts

import (
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt/mistify"
)

// A guest's life on real libvirt through the agent's REST interface.
func TestLife(t *testing.T) {
	t.Parallel()
	h := newHost(t, "host")
	ctx := t.Context()
	for _, argv := range [][]string{{"ip", "link", "add", "br0", "type", "bridge"}, {"ip", "addr", "add", "10.9.0.1/24", "dev", "br0"}, {"ip", "link", "set", "br0", "up"}} {
		if out, err := h.daemon.Exec(ctx, argv...); err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	folder, url := web(t)
	image(t, filepath.Join(folder, "counted.img"), 8, 41)
	h.done(h.client.FetchImage(ctx, mistify.ImageRequest{ID: "counted", Source: url + "/counted.img"}))

	g := h.guest("vagoth.ip=10.9.0.2/24 vagoth.id=web", mistify.Disk{Image: "counted"}, mistify.Disk{Size: 4})
	g.NICs = []mistify.NIC{{Name: "front", Type: "bridge", Network: "br0"}}
	g = h.create(g)
	if g.State != "running" || g.VNC < 5900 || g.NICs[0].Device == "" || g.NICs[0].MAC == "" || g.Disks[0].Source == "" || g.Disks[0].Device != "vda" {
		t.Errorf("the guest that was made is %+v", g)
	}
	h.said(g.ID, "vagoth-guest: boots 42", 1)
	h.said(g.ID, testbed.GuestUp, 1)

	// It can be asked, and what it does is counted.
	if !testbed.Eventually(t, patience, func() bool {
		out, err := h.daemon.Exec(ctx, "curl", "-s", "--max-time", "5", "http://10.9.0.2/id")
		return err == nil && out == "web"
	}) {
		t.Error("the guest does not answer on its bridge")
	}
	metrics := func() (cpu float64, disk mistify.DiskMetrics, nic mistify.NICMetrics) {
		t.Helper()
		c, err := h.client.CPUMetrics(ctx, g.ID)
		h.must("measure CPUs", err)
		d, err := h.client.DiskMetrics(ctx, g.ID)
		h.must("measure disks", err)
		n, err := h.client.NICMetrics(ctx, g.ID)
		h.must("measure NICs", err)
		if len(c) != 1 || len(d) != 2 || len(n) != 1 {
			t.Fatalf("a guest with a CPU, 2 disks and a NIC has the metrics %+v, %+v, %+v", c, d, n)
		}
		return c[0].CPUTime, d["vda"], n["front"]
	}
	cpu, disk, nic := metrics()
	if cpu <= 0 || disk.WriteOps <= 0 || disk.ReadBytes <= 0 || nic.TxPackets <= 0 || nic.RxBytes <= 0 {
		t.Errorf("after its boot the metrics are %v, %+v, %+v", cpu, disk, nic)
	}
	if out, err := h.daemon.Exec(ctx, "curl", "-s", "--max-time", "20", "http://10.9.0.2/id"); err != nil {
		t.Errorf("curl: %v: %s", err, out)
	}
	cpu2, _, nic2 := metrics()
	if cpu2 <= cpu || nic2.RxPackets <= nic.RxPackets {
		t.Errorf("the metrics stand still: %v and %v, %+v and %+v", cpu, cpu2, nic, nic2)
	}

	// All disks while it runs, without its memory.
	of := func(name string) mistify.SnapshotID { return mistify.SnapshotID{Guest: g.ID, Name: name} }
	h.done(h.client.CreateSnapshot(ctx, of("first")))
	if all, err := h.client.Snapshots(ctx, of("")); err != nil || len(all) != 3 {
		t.Errorf("the snapshots are %+v (%v), want one of the guest and of both disks", all, err)
	}
	job, err := h.client.CreateSnapshot(ctx, of("first"))
	h.must("ask", err)
	if j, err := h.client.WaitJob(ctx, job); err != nil || j.Status != mistify.JobError {
		t.Errorf("a second one of that name: %+v (%v)", j, err)
	}
	h.done(h.client.CreateSnapshot(ctx, of("gone")))
	h.done(h.client.DeleteSnapshot(ctx, of("gone")))
	if all, err := h.client.Snapshots(ctx, of("")); err != nil || len(all) != 3 {
		t.Errorf("after a removal the snapshots are %+v (%v)", all, err)
	}
	if g := h.act(g.ID, "restart"); g.State != "running" {
		t.Errorf("restarted, it is %s", g.State)
	}
	h.said(g.ID, "vagoth-guest: boots 43", 1)
	h.said(g.ID, testbed.GuestUp, 2)

	// What it held is copied out while it runs, and boots as another guest.
	h.download(mistify.SnapshotID{Guest: g.ID, Disk: "0", Name: "first"}, filepath.Join(folder, "first.qcow2"))
	h.done(h.client.FetchImage(ctx, mistify.ImageRequest{ID: "first", Source: url + "/first.qcow2"}))

	// Back to it.
	if job, err = h.client.Rollback(ctx, of("first"), false); err == nil {
		if j, err := h.client.WaitJob(ctx, job); err != nil || j.Status != mistify.JobError {
			t.Errorf("a rollback of what runs: %+v (%v)", j, err)
		}
	}
	if g := h.act(g.ID, "suspend"); g.State != "paused" {
		t.Errorf("suspended, it is %s", g.State)
	}
	if g := h.act(g.ID, "resume"); g.State != "running" {
		t.Errorf("resumed, it is %s", g.State)
	}
	h.act(g.ID, "shutdown")
	h.said(g.ID, testbed.GuestDown, 1)
	if !testbed.Eventually(t, patience, func() bool {
		s, err := h.client.GuestStatus(ctx, g.ID)
		return err == nil && len(s.Guests) == 1 && s.Guests[0].State == "stopped"
	}) {
		t.Fatal("it never shut down")
	}
	if g := h.act(g.ID, "poweroff"); g.State != "shutoff" {
		t.Errorf("off, it is %s", g.State)
	}
	h.done(h.client.Rollback(ctx, of("first"), false))
	h.act(g.ID, "start")
	h.said(g.ID, "vagoth-guest: boots 43", 2)
	h.said(g.ID, testbed.GuestUp, 3)
	if h.says(g.ID, "vagoth-guest: boots 44") {
		t.Error("after the rollback it has the new content")
	}
	other := h.create(h.guest("", mistify.Disk{Image: "first"}))
	h.said(other.ID, "vagoth-guest: boots 43", 1)

	for _, id := range []string{g.ID, other.ID} {
		h.done(h.client.DeleteGuest(ctx, id))
	}
	if left := h.files(); len(left) > 0 {
		t.Errorf("the disks %v are left", left)
	}
	if left := h.daemon.Virsh(t, "list", "--all", "--name"); left != "" {
		t.Errorf("the domains %q are left", left)
	}
	for _, id := range []string{"first", "counted"} {
		h.done(h.client.DeleteImage(ctx, id))
	}
}
